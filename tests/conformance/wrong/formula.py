"""FORMULA: what is computed is no rotation."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, inverse_frequencies, rotate_every_two


@case("xiangking/ark-nlp#47", bug="FORMULA")
def global_pointer(broken):
    """Tables are tiled where adjacent channels need each entry twice in a row; x is (batch, seq, heads, head_dim)."""
    inner_dim = 64

    def sinusoidal_position_embedding(positions):
        indices = torch.pow(10000.0, -2 * torch.arange(inner_dim // 2).float() / inner_dim)
        embeddings = positions.float()[..., None] * indices
        return torch.stack((embeddings.sin(), embeddings.cos()), dim=-1).flatten(-2)

    def apply(x, positions):
        pos_emb = sinusoidal_position_embedding(positions)[..., None, :]
        cos, sin = pos_emb[..., 1::2], pos_emb[..., 0::2]
        if broken:
            cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((sin, sin), dim=-1)
        else:
            cos, sin = cos.repeat_interleave(2, dim=-1), sin.repeat_interleave(2, dim=-1)
        return (x * cos + rotate_every_two(x) * sin).to(x.dtype)

    def scores(q, k, q_positions, k_positions):
        qw, kw = apply(q, q_positions), apply(k, k_positions)
        return torch.einsum("bmhd,bnhd->bhmn", qw.float(), kw.float()) / inner_dim**0.5

    one = Implementation(apply=apply, scores=scores, layout="bshd", **TORCH)
    return one, rr.variants.default(inner_dim, pairing="interleaved")


@case("NVIDIA/ngpt#10", bug="FORMULA")
def missing_term(broken):
    """A table of sin and cos in turn is split in the middle, and x cos is never added."""
    dim = 64

    def sinusoidal_embeddings(positions):
        div_term = torch.exp(torch.arange(0, dim, 2).float() * (-math.log(10000.0) / dim))
        angle = positions.float()[..., None] * div_term
        return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)

    def rotate(x, positions):
        sinusoidal_pos = sinusoidal_embeddings(positions)
        if sinusoidal_pos.ndim == 3:
            sinusoidal_pos = sinusoidal_pos[:, None]
        crossed = torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).float()
        if broken:
            sin, cos = sinusoidal_pos.chunk(2, dim=-1)
            y = crossed * torch.stack((cos, sin), dim=-1)
        else:
            sin, cos = sinusoidal_pos[..., 0::2], sinusoidal_pos[..., 1::2]
            y = x.unflatten(-1, (-1, 2)).float() * cos[..., None] + crossed * sin[..., None]
        return y.flatten(-2).type_as(x)

    def apply_rotary_position_embeddings(q, k, q_positions, k_positions):
        return rotate(q, q_positions), rotate(k, k_positions)

    # the exponential of a logarithm is a few float32 roundings away from the power
    declared = TORCH | {"angle": "float32"}
    one = Implementation(apply_qk=apply_rotary_position_embeddings, **declared)
    return one, rr.variants.default(dim, pairing="interleaved")


@case("facebookresearch/vjepa2#15", bug="FORMULA")
def video_tiled(broken):
    """Three axes, adjacent channels; the angles of each block are tiled, so that the two of a pair differ."""
    width, pieces = 64, 3
    block = 2 * (width // pieces // 2)

    def rotate_queries_or_keys(x, pos):
        omega = 1.0 / 10000 ** (torch.arange(block // 2).float() / (block / 2.0))
        freq = pos.float()[..., None] * omega
        if freq.ndim == 3:
            freq = freq[:, None]
        emb = torch.cat((freq, freq), dim=-1) if broken else freq.repeat_interleave(2, dim=-1)
        return x.float() * emb.cos() + rotate_every_two(x.float()) * emb.sin()

    def apply(x, positions):
        parts = [
            rotate_queries_or_keys(x[..., axis * block : (axis + 1) * block], positions[..., axis])
            for axis in range(pieces)
        ]
        return torch.cat((*parts, x[..., pieces * block :].float()), dim=-1).type_as(x)

    return Implementation(apply=apply, **TORCH), rr.video.v_jepa_2(width)


@case("raiyanyahya/how-to-train-your-gpt#6", bug="FORMULA")
def repeated_for_halves(broken):
    """The angles are repeated for adjacent channels, the channels are halves: two angles in one pair."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        freqs = angles(positions, inv_freq)
        emb = freqs.repeat_interleave(2, dim=-1) if broken else torch.cat((freqs, freqs), dim=-1)
        return apply_rotary(x, emb.cos(), emb.sin())

    return Implementation(apply=apply, **TORCH), rr.variants.default(64)
