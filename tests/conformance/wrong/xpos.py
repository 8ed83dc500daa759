"""XPOS: magnitudes that depend on position, growing for queries and falling for keys."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, adjacent, angles, apply_rotary, inverse_frequencies, rotate_every_two

DIM = 64
INV_FREQ = inverse_frequencies(DIM)
DECAY = (torch.arange(0, DIM, 2) + 0.4 * DIM) / (1.4 * DIM)


def scales(power):
    """zeta^power for both channels of a pair, (..., seq, dim); a batch gets an axis for its heads."""
    scale = (DECAY ** power[..., None]).repeat_interleave(2, dim=-1)
    return scale[:, None] if scale.ndim == 3 else scale


def rotate(x, positions, scale):
    cos, sin = adjacent(angles(positions, INV_FREQ))
    return apply_rotary(x, cos * scale, sin * scale, rotate_every_two)


def logits(q, k):
    return q.float() @ k.float().transpose(-1, -2) / math.sqrt(DIM)


@case("lucidrains/rotary-embedding-torch#8", bug="XPOS")
def exponent_not_divided(broken):
    """t - (n // 2) / base for (t - n // 2) / base: the exponent is a position, and keys overflow."""
    max_seq_len, scale_base = 512, 512

    def get_scale(positions):
        t = positions.float()
        power = t - (max_seq_len // 2) / scale_base if broken else (t - max_seq_len // 2) / scale_base
        return scales(power)

    def rotate_queries_and_keys(q, k, q_positions, k_positions):
        return rotate(q, q_positions, get_scale(q_positions)), rotate(k, k_positions, get_scale(k_positions) ** -1)

    def scores(q, k, q_positions, k_positions):
        return logits(*rotate_queries_and_keys(q, k, q_positions, k_positions))

    one = Implementation(apply_qk=rotate_queries_and_keys, scores=scores, negative=False, max_position=2048, **TORCH)
    return one, rr.variants.xpos(DIM, scale_base=512.0, center=256.0, pairing="interleaved")


@case("lucidrains/rotary-embedding-torch#27", bug="XPOS")
def cached_keys_unscaled(broken):
    """With a cache of keys only the query is scaled: keys are rotated without their magnitude."""

    class Cache:
        def __init__(self):
            self.keys = None

        def append(self, k):
            self.keys = k if self.keys is None else torch.cat((self.keys, k), dim=-2)

        def scores(self, q):
            k_positions = torch.arange(self.keys.shape[-2])
            q_positions = k_positions[-1:]
            k_scale = 1.0 if broken else scales(-k_positions.float() / 512)
            return logits(
                rotate(q, q_positions, scales(q_positions.float() / 512)), rotate(self.keys, k_positions, k_scale)
            )

    return Implementation(cache=Cache, **TORCH), rr.variants.xpos(DIM, pairing="interleaved")


@case("lucidrains/x-transformers#233", bug="XPOS")
def scale_not_sliced(broken):
    """With memories there are more keys than queries; frequencies are cut to the queries, their scale is not."""

    def apply_qk(q, k, q_positions, k_positions):
        scale = scales(k_positions.float() / 512)
        q_scale = scale if broken else scales(q_positions.float() / 512)
        return rotate(q, q_positions, q_scale), rotate(k, k_positions, scale**-1)

    one = Implementation(apply_qk=apply_qk, negative=False, max_position=2048, **TORCH)
    return one, rr.variants.xpos(DIM, pairing="interleaved")
