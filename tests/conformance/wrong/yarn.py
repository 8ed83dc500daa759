"""YBAND: which pairs YaRN stretches, and how far."""

import math

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies


def yarn_mscale(scale, mscale=1.0):
    return 0.1 * mscale * math.log(scale) + 1.0 if scale > 1 else 1.0


def find_correction_dim(num_rotations, dim, base, max_position_embeddings):
    return dim * math.log(max_position_embeddings / (num_rotations * 2 * math.pi)) / (2 * math.log(base))


def blend(dim, base, scale, low, high):
    """Pairs up to low as they are, from high on stretched, in between in proportion."""
    if low == high:
        high += 0.001
    ramp = torch.clamp((torch.arange(dim // 2).float() - low) / (high - low), 0, 1)
    inv_freq = inverse_frequencies(dim, base)
    return inv_freq / scale * ramp + inv_freq * (1 - ramp)


def yarn_frequencies(dim, base, scale, original_max_position_embeddings, beta_fast=32, beta_slow=1):
    low = math.floor(find_correction_dim(beta_fast, dim, base, original_max_position_embeddings))
    high = math.ceil(find_correction_dim(beta_slow, dim, base, original_max_position_embeddings))
    return blend(dim, base, scale, max(low, 0), min(high, dim - 1))


def scaled(x, positions, inv_freq, mscale):
    cos, sin = halves(angles(positions, inv_freq))
    return apply_rotary(x, cos * mscale, sin * mscale)


@case("panbanda/higgs#31", bug="YBAND")
def sixteen_bits(broken):
    """head_dim and the original length pass through i16 on their way to f32: 163840 becomes 32767."""
    head_dim, theta, factor, original = 128, 10000.0, 4.0, 163840

    def as_f32(number):
        return float(min(number, np.iinfo(np.int16).max)) if broken else float(number)

    inv_freq = yarn_frequencies(head_dim, theta, factor, as_f32(original))
    one = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, yarn_mscale(factor)), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=theta)


@case("pytorch/torchtitan#3787", bug="YBAND")
def betas_swapped(broken):
    """low comes from beta_slow and high from beta_fast; configs that swap the two values hid it."""
    head_dim, theta, factor, original = 64, 150000.0, 32.0, 4096
    beta_fast, beta_slow = 32.0, 1.0
    first, second = (beta_slow, beta_fast) if broken else (beta_fast, beta_slow)
    low = math.floor(find_correction_dim(first, head_dim, theta, original))
    high = math.ceil(find_correction_dim(second, head_dim, theta, original))
    inv_freq = blend(head_dim, theta, factor, max(low, 0), min(high, head_dim - 1))
    one = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, yarn_mscale(factor)), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=theta)


@case("rasbt/LLMs-from-scratch#940", bug="YBAND")
def positions_clamped(broken):
    """All positions are divided by the factor and clamped to the trained length; no pair is left as it is."""
    head_dim, theta, factor, original = 128, 500000.0, 8.0, 8192
    plain, stretched = inverse_frequencies(head_dim, theta), yarn_frequencies(head_dim, theta, factor, original)

    def apply(x, positions):
        if broken:
            positions = (positions / factor).clamp(max=original - 1)
        return scaled(x, positions, plain if broken else stretched, yarn_mscale(factor))

    return Implementation(apply=apply, **TORCH), rr.variants.yarn(head_dim, factor, original, theta=theta)
