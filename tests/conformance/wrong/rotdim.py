"""ROTDIM: how many channels turn, and what their frequencies are counted over."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, halves, inverse_frequencies, rope


@case("ggml-org/llama.cpp#14580", bug="ROTDIM")
def strided_rest(broken):
    """Channels that pass are read from the source with the strides of the destination."""
    head_dim, n_dims = 64, 32
    inv_freq = inverse_frequencies(n_dims)

    def rope_partial(src, positions):
        dst = torch.empty(src.shape, dtype=src.dtype)
        dst[..., :n_dims] = rope(src[..., :n_dims], positions, inv_freq)
        rest = src.as_strided(src.shape, dst.stride(), src.storage_offset()) if broken else src
        dst[..., n_dims:] = rest[..., n_dims:]
        return dst

    return Implementation(apply=rope_partial, strided=True, **TORCH), rr.variants.partial(head_dim, 0.5)


@case("aws-neuron/neuronx-distributed-inference#106", bug="ROTDIM")
def block_for_proportional(broken):
    """The global layers of Gemma 4 turn a quarter of the pairs of the whole head; here a block of a quarter turns."""
    head_dim, rotary_dim = 128, 32

    def frequencies():
        if broken:
            return inverse_frequencies(rotary_dim, 1000000.0)
        turning = inverse_frequencies(head_dim, 1000000.0)[: rotary_dim // 2]
        return torch.cat((turning, torch.zeros(head_dim // 2 - rotary_dim // 2)))

    def apply(x, positions):
        return rope(x, positions, frequencies())

    one = Implementation(apply=apply, frequencies=frequencies, **TORCH)
    return one, rr.variants.proportional(head_dim, 0.25, theta=1000000.0)


@case("huggingface/transformers#48672", bug="ROTDIM")
def table_of_the_head(broken):
    """The table is as wide as the head, the caller rotates rotary_dim channels of it: shapes do not match."""
    head_dim, rotary_pct = 64, 0.25
    rotary_ndims = int(head_dim * rotary_pct)
    inv_freq = inverse_frequencies(head_dim if broken else rotary_ndims)

    def apply(x, positions):
        cos, sin = halves(angles(positions, inv_freq))
        x_rot, x_pass = x[..., :rotary_ndims].float(), x[..., rotary_ndims:]
        x1, x2 = x_rot.chunk(2, dim=-1)
        x_rot = x_rot * cos + torch.cat((-x2, x1), dim=-1) * sin
        return torch.cat((x_rot.type_as(x), x_pass), dim=-1)

    return Implementation(apply=apply, **TORCH), rr.variants.partial(head_dim, rotary_pct)


@case("jagmarques/nexusquant#12", bug="ROTDIM")
def whole_head_restored(broken):
    """What a quantised key cache takes off and puts back is the rotation of a whole head: no partial_rotary_factor."""
    config = {"head_dim": 64, "rope_theta": 10000.0, "partial_rotary_factor": 0.5}

    def forward_rope(keys, positions):
        dim = config["head_dim"] if broken else int(config["head_dim"] * config["partial_rotary_factor"])
        return rope(keys, positions, inverse_frequencies(dim, config["rope_theta"]))

    return Implementation(apply=forward_rope, **TORCH), rr.variants.partial(64, 0.5)


@case("nntile/nntile#468", bug="ROTDIM")
def never_none(broken):
    """A rotary_pct of 0 is rounded up to one pair."""
    head_dim, rotary_pct = 32, 0.0
    rotary_dim = 2 * int(rotary_pct * head_dim / 2)
    if broken:
        rotary_dim = max(2, rotary_dim)

    def apply(x, positions):
        y = x.copy()
        for i in range(rotary_dim // 2):
            angle = positions * 10000.0 ** (-2 * i / rotary_dim)
            x1, x2 = x[..., i], x[..., i + rotary_dim // 2]
            y[..., i] = x1 * np.cos(angle) - x2 * np.sin(angle)
            y[..., i + rotary_dim // 2] = x1 * np.sin(angle) + x2 * np.cos(angle)
        return y

    one = Implementation(apply=apply, arrays="numpy", dtypes=("float32",), rows=False)
    return one, rr.variants.partial(head_dim, rotary_pct)


@case("pie-project/pie#603", bug="ROTDIM")
def head_dim_throughout(broken):
    """Both the exponent and the distance of a pair's channels count over head_dim, not over rotary_dim."""
    head_dim, rotary_dim = 128, 64
    span = head_dim if broken else rotary_dim

    def apply(x, positions):
        inv_freq = inverse_frequencies(span)[: rotary_dim // 2]
        freqs = angles(positions, inv_freq)
        first, second = slice(0, rotary_dim // 2), slice(span // 2, span // 2 + rotary_dim // 2)
        x1, x2, y = x[..., first].float(), x[..., second].float(), x.clone()
        y[..., first] = (x1 * freqs.cos() - x2 * freqs.sin()).type_as(x)
        y[..., second] = (x2 * freqs.cos() + x1 * freqs.sin()).type_as(x)
        return y

    return Implementation(apply=apply, **TORCH), rr.variants.partial(head_dim, 0.5)


@case("sgl-project/sglang#35096", bug="ROTDIM")
def unmasked_block(broken):
    """Blocks are a power of two wide and nothing masks the lanes beyond rotary_dim: they turn too, by what lies there.

    A row of the table is the cosines, then the sines; lanes that are too many read on.
    """
    head_dim, rotary_dim = 128, 96
    half = rotary_dim // 2
    lanes = 1 << (half - 1).bit_length() if broken else half

    def rotate_(x, positions):
        freqs = angles(positions, inverse_frequencies(rotary_dim))
        table = torch.cat((freqs.cos(), freqs.sin()), dim=-1)
        cos_sin_cache = torch.nn.functional.pad(table.flatten(), (0, rotary_dim))
        row = torch.arange(table[..., 0].numel()).view(table.shape[:-1])[..., None] * rotary_dim
        lane = torch.arange(lanes)
        cos, sin = cos_sin_cache[row + lane], cos_sin_cache[row + half + lane]
        x1, x2 = x[..., 0 : 2 * lanes : 2].float(), x[..., 1 : 2 * lanes : 2].float()
        turned = torch.stack((x1 * cos - x2 * sin, x2 * cos + x1 * sin), dim=-1)
        x[..., : 2 * lanes] = turned.flatten(-2).type_as(x)

    one = Implementation(in_place=rotate_, **TORCH)
    return one, rr.variants.partial(head_dim, 0.75, pairing="interleaved")
