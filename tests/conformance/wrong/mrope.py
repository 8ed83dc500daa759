"""MROPE: three ids (t, h, w) a token, and which pairs turn with which of them."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, apply_rotary, halves, inverse_frequencies

MERGE, TOKENS_PER_SECOND = 2, 2
SECTION = [12, 10, 10]  # of the 32 pairs of 64 channels


def ids_of(parts, vision):
    """Ids (seq, 3): text counts on all axes, vision from where the text before it ended."""
    blocks, start = [torch.zeros(0, 3, dtype=torch.long)], 0
    for part in parts:
        if "text" in part:
            block = torch.arange(part["text"])[:, None].expand(-1, 3)
        else:
            t, h, w = part["grid"]
            block = vision(part, t, h // MERGE, w // MERGE)
        blocks.append(start + block)
        start = int(blocks[-1].max()) + 1 if len(block) else start
    return torch.cat(blocks)


def cells(t_index, h_index, w_index):
    return torch.stack(torch.meshgrid(t_index, h_index, w_index, indexing="ij"), dim=-1).reshape(-1, 3)


def time_index(part, frames, truncated=False):
    """Temporal index of each frame; a second is worth TOKENS_PER_SECOND, frames without times are one apart."""
    second_per_grid = torch.tensor(float(part.get("seconds", 1 / TOKENS_PER_SECOND)))
    second_per_grid = second_per_grid.long() if truncated and "seconds" in part else second_per_grid
    return (torch.arange(frames) * (second_per_grid * TOKENS_PER_SECOND)).long()


def half_split(x, freqs):
    return apply_rotary(x, *halves(freqs[:, None] if freqs.ndim == 3 else freqs))


def in_turn(freqs, shift=0):
    """(..., 3, pairs) to (..., pairs): THWTHW...TT."""
    mixed = freqs[..., 0, :].clone()
    for axis in (1, 2):
        taken = slice(axis, 3 * SECTION[axis], 3)
        mixed[..., taken] = freqs[..., axis, taken].roll(shift, -1)
    return mixed


def in_blocks(freqs):
    """(..., 3, pairs) to (..., pairs): TTT...HHH...WWW."""
    return torch.cat([part[..., axis, :] for axis, part in enumerate(freqs.split(SECTION, dim=-1))], dim=-1)


@case("vllm-project/vllm#29425", bug="MROPE")
def height_zeroed(broken):
    """An image has one frame, so its temporal index is made zero; the code makes the height zero."""

    def vision(part, t, h, w):
        ids = cells(time_index(part, t), torch.arange(h), torch.arange(w))
        if t == 1:
            ids[:, 1 if broken else 0] = 0
        return ids

    one = Implementation(position_ids=lambda parts: ids_of(parts, vision), arrays="torch")
    return one, rr.variants.mrope(64, SECTION)  # where axes take turns, frames are images of their own


@case("alibaba/MNN#4133", bug="MROPE")
def blocks_for_turns(broken):
    """Sections are taken as blocks TTT..HHH..WWW of a model whose axes take turns."""
    inv_freq = inverse_frequencies(64, 5000000.0)

    def apply(x, positions):
        freqs = positions.float()[..., None] * inv_freq
        return half_split(x, in_blocks(freqs) if broken else in_turn(freqs))

    return Implementation(apply=apply, **TORCH), rr.variants.mrope_interleaved(64, SECTION, theta=5000000.0)


@case("huggingface/transformers#48669", bug="MROPE")
def seconds_truncated(broken):
    """The seconds between grids become a whole number before they are multiplied: half a second becomes none."""

    def vision(part, t, h, w):
        return cells(time_index(part, t, truncated=broken), torch.arange(h), torch.arange(w))

    one = Implementation(position_ids=lambda parts: ids_of(parts, vision), arrays="torch")
    return one, rr.variants.mrope(64, SECTION)


@case("vllm-project/vllm#40680", bug="MROPE")
def scatter_shifted(broken):
    """Compiled, the scatter by steps of three stores the values of height and width one place on, in a circle."""
    inv_freq = inverse_frequencies(64, 5000000.0)

    def rotary(x, positions, shift):
        return half_split(x, in_turn(positions.float()[..., None] * inv_freq, shift))

    def eager(x, positions):
        return rotary(x, positions, shift=0)

    def compiled(x, positions):
        return rotary(x, positions, shift=1 if broken else 0)

    one = Implementation(apply=eager, paths={"compiled": compiled}, **TORCH)
    return one, rr.variants.mrope_interleaved(64, SECTION, theta=5000000.0)
