"""YMAG: the magnitude of YaRN, in tables and in the scale of the softmax."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, adjacent, angles, apply_rotary, halves, rope, rotate_every_two
from tests.conformance.wrong.yarn import scaled, yarn_frequencies, yarn_mscale


@case("GaijinEntertainment/daScript#3479", bug="YMAG")
def one_pairing_scaled(broken):
    """The half-split loop multiplies by the magnitude, the one of adjacent pairs does not."""
    head_dim, theta, factor, original = 64, 150000.0, 32.0, 4096
    inv_freq, mscale = yarn_frequencies(head_dim, theta, factor, original), yarn_mscale(factor)

    def rope_rows(x, positions, neox):
        freqs = angles(positions, inv_freq)
        if neox:
            return apply_rotary(x, *(mscale * t for t in halves(freqs)))
        m = 1.0 if broken else mscale
        return apply_rotary(x, *(m * t for t in adjacent(freqs)), rotate_every_two)

    one = Implementation(apply=lambda x, positions: rope_rows(x, positions, neox=False), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=theta, pairing="interleaved")


@case("NVIDIA/TensorRT-LLM#16379", bug="YMAG")
def logarithm_twice(broken):
    """The final magnitude is handed over as mscale, of which 0.1 mscale ln s + 1 is taken once more."""
    head_dim, theta, factor, original = 64, 150000.0, 32.0, 4096
    inv_freq = yarn_frequencies(head_dim, theta, factor, original)
    attention_factor = yarn_mscale(factor)
    mscale = yarn_mscale(factor, attention_factor) if broken else attention_factor
    one = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, mscale), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=theta)


@case("guoqingbao/xinfer#329", bug="YMAG")
def second_attention_path(broken):
    """Tables hold no magnitude, the softmax scale its square; the attention beside the latent one forgets it."""
    head_dim, factor, original = 64, 40.0, 4096
    inv_freq, mscale = yarn_frequencies(head_dim, 10000.0, factor, original), yarn_mscale(factor)

    def softmax_scale(latent):
        square = mscale**2 if latent or not broken else 1.0
        return square / math.sqrt(head_dim)

    def scores(q, k, q_positions, k_positions):
        q, k = rope(q, q_positions, inv_freq), rope(k, k_positions, inv_freq)
        return softmax_scale(latent=False) * (q.float() @ k.float().transpose(-1, -2))

    return Implementation(scores=scores, **TORCH), rr.variants.yarn(head_dim, factor, original)


@case("ml-explore/mlx-lm#1507", bug="YMAG")
def explicit_factor_ignored(broken):
    """The config's attention_factor is not read; 0.1 ln s + 1 is computed always."""
    head_dim, factor, original, attention_factor = 128, 4.0, 32768, 1.0
    inv_freq = yarn_frequencies(head_dim, 1000000.0, factor, original)
    mscale = yarn_mscale(factor) if broken else attention_factor
    one = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, mscale), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=1000000.0, attention_factor=attention_factor)


@case("onnxruntime/mobius#548", bug="YMAG")
def softmax_part_missing(broken):
    """Of DeepSeek's two corrections the tables have theirs, which is 1; the softmax scale lacks its own."""
    head_dim, factor, original, mscale, mscale_all_dim = 64, 40.0, 4096, 1.0, 1.0
    inv_freq = yarn_frequencies(head_dim, 10000.0, factor, original)
    ratio = yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
    right = yarn_mscale(factor, mscale_all_dim) ** 2 / math.sqrt(head_dim)
    softmax_scale = 1 / math.sqrt(head_dim) if broken else right

    def apply(x, positions):
        return scaled(x, positions, inv_freq, ratio)

    def scores(q, k, q_positions, k_positions):
        q, k = apply(q, q_positions), apply(k, k_positions)
        return torch.softmax(softmax_scale * (q.float() @ k.float().transpose(-1, -2)), dim=-1)

    one = Implementation(apply=apply, scores=scores, logit_scale=right, **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, mscale=mscale, mscale_all_dim=mscale_all_dim)
