"""Several axes, layers, and magnitudes that depend on position: MROPE, AXIAL, XPOS, LAYER."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.wrong.mrope import cells, half_split, ids_of, time_index
from tests.conformance.wrong.plain import (
    TORCH,
    adjacent,
    angles,
    apply_rotary,
    halves,
    inverse_frequencies,
    rope,
    rotate_every_two,
    rotate_half,
)

SECTION = [16, 24, 24]


@wrong("MROPE")
def height_before_time(broken):
    """The sections are read as height, time, width."""
    inv_freq = inverse_frequencies(128, 1000000.0)
    order = (1, 0, 2) if broken else (0, 1, 2)

    def apply(x, positions):
        parts = (positions.float()[..., None] * inv_freq).split(SECTION, dim=-1)
        return half_split(x, torch.cat([part[..., axis, :] for axis, part in zip(order, parts, strict=True)], dim=-1))

    return Implementation(apply=apply, **TORCH), rr.variants.mrope(128, SECTION, theta=1000000.0)


@wrong("MROPE")
def sections_doubled_one_by_one(broken):
    """The list of sections times two, for both halves of the table, became each section times two."""
    inv_freq = inverse_frequencies(128, 1000000.0)
    sections = [2 * s for s in SECTION] if broken else SECTION * 2

    def apply(x, positions):
        freqs = positions.float()[..., None] * inv_freq
        emb = torch.cat((freqs, freqs), dim=-1)
        emb = torch.cat([part[..., i % 3, :] for i, part in enumerate(emb.split(sections, dim=-1))], dim=-1)
        emb = emb[:, None] if emb.ndim == 3 else emb
        x_ = x.float()
        return (x_ * emb.cos() + rotate_half(x_) * emb.sin()).type_as(x)

    return Implementation(apply=apply, **TORCH), rr.variants.mrope(128, SECTION, theta=1000000.0)


@wrong("MROPE")
def text_after_all_tokens(broken):
    """Text after an image starts at the number of tokens so far, not after the largest id."""

    def vision(part, t, h, w):
        return cells(time_index(part, t), torch.arange(h), torch.arange(w))

    def position_ids(parts):
        if not broken:
            return ids_of(parts, vision)
        blocks, start = [torch.zeros(0, 3, dtype=torch.long)], 0
        for part in parts:
            block = ids_of([part], vision)
            blocks.append(start + block)
            start += len(block)
        return torch.cat(blocks)

    return Implementation(position_ids=position_ids, arrays="torch"), rr.variants.mrope(128, SECTION)


@wrong("AXIAL")
def row_by_height(broken):
    """Patch n stands in row n // height, column n % height; the divisor is the width."""

    def grid(height, width):
        n = torch.arange(height * width)
        divisor = max(height if broken else width, 1)
        return torch.stack((n // divisor, n % divisor), dim=-1)

    return Implementation(grid=grid, arrays="torch"), rr.vision.pixtral(64)


@wrong("AXIAL")
def rows_for_columns_too(broken):
    """Both blocks of channels turn by the row: an index was copied with its line."""
    inv_freq = inverse_frequencies(32)

    def apply(x, positions):
        row, column = positions[..., 0].float(), positions[..., 0 if broken else 1].float()
        freqs = torch.cat((row[..., None] * inv_freq, column[..., None] * inv_freq), dim=-1)
        return apply_rotary(x, *adjacent(freqs[:, None] if freqs.ndim == 3 else freqs), rotate_every_two)

    return Implementation(apply=apply, **TORCH), rr.vision.eva02(64)


@wrong("THETA")
def frequencies_of_the_whole_head(broken):
    """Each axis has d/4 pairs, with exponents over d as in text: the slow half of them is missing.

    No answer tells this from theta = 100 in the place of 10,000.
    """
    dim = 64
    inv_freq = inverse_frequencies(dim)[: dim // 4] if broken else inverse_frequencies(dim // 2)

    def apply(x, positions):
        freqs = (positions.float()[..., None] * inv_freq).flatten(-2)
        return apply_rotary(x, *adjacent(freqs[:, None] if freqs.ndim == 3 else freqs), rotate_every_two)

    return Implementation(apply=apply, **TORCH), rr.vision.eva02(dim)


DECAY = (torch.arange(0, 64, 2) + 0.4 * 64) / (1.4 * 64)


def xpos(x, positions, power, inv_freq):
    scale = (DECAY ** power[..., None]).repeat_interleave(2, dim=-1)
    scale = scale[:, None] if scale.ndim == 3 else scale
    cos, sin = adjacent(angles(positions, inv_freq))
    return apply_rotary(x, cos * scale, sin * scale, rotate_every_two)


@wrong("XPOS")
def exponent_in_whole_steps(broken):
    """The exponent is position // 512, a whole number: the magnitude goes in steps."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        power = (positions // 512).float() if broken else positions.float() / 512
        return xpos(x, positions, power, inv_freq)

    return Implementation(apply=apply, fractional=False, **TORCH), rr.variants.xpos(64, pairing="interleaved")


@wrong("XPOS")
def keys_grow_too(broken):
    """Keys take the magnitude of queries, not its inverse."""
    inv_freq = inverse_frequencies(64)

    def apply_qk(q, k, q_positions, k_positions):
        sign = 1 if broken else -1
        q = xpos(q, q_positions, q_positions.float() / 512, inv_freq)
        return q, xpos(k, k_positions, sign * k_positions.float() / 512, inv_freq)

    def scores(q, k, q_positions, k_positions):
        q, k = apply_qk(q, k, q_positions, k_positions)
        return q.float() @ k.float().mT / math.sqrt(64)

    return Implementation(apply_qk=apply_qk, scores=scores, **TORCH), rr.variants.xpos(64, pairing="interleaved")


@wrong("LAYER")
def pattern_one_layer_early(broken):
    """Layer 0, 6, ... is global in the place of layer 5, 11, ..."""
    local, far = inverse_frequencies(64, 10000.0), inverse_frequencies(64, 1000000.0)

    def apply(x, positions, layer):
        is_global = layer % 6 == 0 if broken else (layer + 1) % 6 == 0
        return rope(x, positions, far if is_global else local)

    kinds = [rr.variants.default(64, theta=1000000.0 if (i + 1) % 6 == 0 else 10000.0) for i in range(12)]
    return Implementation(apply=apply, **TORCH), kinds


@wrong("LAYER")
def shared_table(broken):
    """Layers share a table, made by the first of them with its own base."""
    bases = (10000.0, 1000000.0, 10000.0, 1000000.0)
    kept = {}

    def apply(x, positions, layer):
        base = bases[layer]
        key = "inv_freq" if broken else base
        if key not in kept:
            kept[key] = inverse_frequencies(64, base)
        freqs = angles(positions, kept[key])
        return apply_rotary(x, *halves(freqs))

    return Implementation(apply=apply, **TORCH), [rr.variants.default(64, theta=base) for base in bases]
