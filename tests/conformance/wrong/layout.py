"""LAYOUT: which channels turn together, or where their results are written."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import (
    TORCH,
    adjacent,
    angles,
    apply_rotary,
    inverse_frequencies,
    rope,
    rope_adjacent,
)


@case("lucidrains/rotary-embedding-torch@204cb02", bug="LAYOUT")
def concatenated_pairs(broken):
    """rotate_half takes adjacent channels apart and lays the two halves end to end."""
    inv_freq = inverse_frequencies(64)

    def rotate_half(x):
        x1, x2 = x.unflatten(-1, (-1, 2)).unbind(dim=-1)
        return torch.cat((-x2, x1), dim=-1) if broken else torch.stack((-x2, x1), dim=-1).flatten(-2)

    def apply(x, positions):
        return apply_rotary(x, *adjacent(angles(positions, inv_freq)), rotate_half)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64, pairing="interleaved")


@case("huggingface/nanotron#214", bug="LAYOUT")
def interleaved_by_default(broken):
    """The flag for the layout is interleaved by default; the framework that weights come from is half-split."""

    class RotaryEmbedding:
        def __init__(self, dim, theta=10000.0, interleaved=broken):
            self.inv_freq, self.interleaved = inverse_frequencies(dim, theta), interleaved

        def __call__(self, x, positions):
            return (rope_adjacent if self.interleaved else rope)(x, positions, self.inv_freq)

    return Implementation(apply=RotaryEmbedding(128, theta=500000.0), **TORCH), rr.variants.default(128, theta=500000.0)


@case("rasbt/LLMs-from-scratch#747", bug="LAYOUT")
def unpermuted_weights(broken):
    """A half-split model loads weights of Meta's format, which pair adjacent channels, as they are."""
    head_dim = 64
    inv_freq = inverse_frequencies(head_dim, 500000.0)

    def apply(x, positions):
        return rope(x, positions, inv_freq)

    def permute(weight):
        if broken:
            return weight
        rows, hidden = weight.shape
        return weight.view(rows // head_dim, head_dim // 2, 2, hidden).transpose(1, 2).reshape(rows, hidden)

    return Implementation(apply=apply, convert=permute, **TORCH), rr.variants.default(head_dim, theta=500000.0)


@case("huggingface/nanotron#427", bug="LAYOUT")
def permutation_switched_off(broken):
    """The exporter permutes query and key rows by a constant flag, not by the flag of the model."""
    head_dim, rope_interleaved = 64, True
    inv_freq = inverse_frequencies(head_dim)

    def apply(x, positions):
        return rope_adjacent(x, positions, inv_freq)

    def permute_for_rotary(weight, interleaved):
        if not interleaved:
            return weight
        heads = weight.unflatten(0, (-1, head_dim))
        return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1)

    def convert(weight):
        return permute_for_rotary(weight, interleaved=False if broken else rope_interleaved)

    return Implementation(apply=apply, convert=convert, **TORCH), rr.variants.default(head_dim, pairing="interleaved")


@case("NeuraLegion/shainet#111", bug="LAYOUT")
def adjacent_pairs(broken):
    """Adjacent channels are turned, in plain loops, where the weights are half-split."""
    head_dim = 16

    def decode(x, offset):
        return apply(x, np.arange(offset, offset + x.shape[2]))

    def apply(x, positions):
        y, half = np.empty_like(x), head_dim // 2
        for i in range(half):
            angle = positions / np.float64(10000.0) ** (2 * i / head_dim)
            cos, sin = np.cos(angle), np.sin(angle)
            a, b = (2 * i, 2 * i + 1) if broken else (i, i + half)
            y[..., a] = x[..., a] * cos - x[..., b] * sin
            y[..., b] = x[..., a] * sin + x[..., b] * cos
        return y

    declared = {"arrays": "numpy", "dtypes": ("float32",), "rows": False}
    return Implementation(apply=apply, decode=decode, **declared), rr.variants.default(head_dim)
