"""LONG and DYN: frequencies that depend on how long the sequence is."""

import math

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies, rope

SHORT = [float(f) for f in np.linspace(1.0, 1.5, 16)]
LONG = [float(f) for f in np.geomspace(1.0, 48.0, 16)]
FACTOR = 32.0


def reach(positions):
    """The length of a sequence that has these positions."""
    return int(positions.max()) + 1 if positions.numel() else 1


def su_scaled(x, positions, length, original):
    """LongRoPE of a sequence of this length."""
    ext_factors = torch.tensor(LONG if length > original else SHORT)
    scale = math.sqrt(1 + math.log(FACTOR) / math.log(original))
    cos, sin = halves(angles(positions, inverse_frequencies(32) / ext_factors))
    return apply_rotary(x, cos * scale, sin * scale)


def longrope(original):
    """What a sequence of a length should be rotated by."""
    return lambda length: rr.variants.longrope(32, SHORT, LONG, original, length=length, factor=FACTOR)


@case("ggml-org/llama.cpp#24875", bug="LONG")
def factors_by_context(broken):
    """The list of factors is chosen by the context that was configured, not by the length at hand."""
    n_ctx, original = 131072, 4096

    def apply(x, positions):
        return su_scaled(x, positions, n_ctx if broken else reach(positions), original)

    return Implementation(apply=apply, negative=False, **TORCH), longrope(original)


@case("trymirai/uzu#604", bug="LONG")
def factors_by_chunk(broken):
    """Each chunk of a prefill chooses its list by where it ends: early keys hold the short one, later the long."""
    original = 256

    class Cache:
        def __init__(self):
            self.keys = []

        def length(self):
            return sum(k.shape[-2] for k, _ in self.keys)

        def append(self, k):
            self.keys.append((k, self.length() + torch.arange(k.shape[-2])))

        def scores(self, q):
            n = self.length()
            rotated = [
                su_scaled(k, at, int(at[-1]) + 1 if broken else n, original) for k, at in self.keys if k.shape[-2]
            ]
            k = torch.cat(rotated, dim=-2).float()
            q = su_scaled(q, torch.tensor([n - 1]), n, original).float()
            return q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])

    return Implementation(cache=Cache, **TORCH), longrope(original)


@case("NVIDIA/TensorRT-LLM#1299", bug="DYN")
def always_rescaled(broken):
    """The base is rescaled at every length; below the trained one it shrinks, and far below it is no number."""
    head_dim, max_positions, scale = 128, 2048, 4.0

    def apply(x, positions):
        kv_seqlen, base = reach(positions), 10000.0
        if broken or kv_seqlen > max_positions:
            stretch = torch.tensor(scale * kv_seqlen / max_positions - (scale - 1), dtype=torch.float64)
            base = float(base * stretch ** (head_dim / (head_dim - 2)))
        return rope(x, positions, inverse_frequencies(head_dim, base))

    return Implementation(apply=apply, negative=False, **TORCH), dynamic_ntk(head_dim, max_positions, scale)


@case("vllm-project/vllm#5093", bug="DYN")
def static_base(broken):
    """The base is that of the longest sequence, max_position times the factor, at every length."""
    head_dim, max_position, factor = 64, 4096, 2.0
    max_len = int(max_position * factor)

    def inv_freq_of(length):
        stretch = factor * length / max_position - (factor - 1) if length > max_position else 1.0
        return inverse_frequencies(head_dim, 10000.0 * stretch ** (head_dim / (head_dim - 2)))

    def apply(x, positions):
        return rope(x, positions, inv_freq_of(max_len if broken else reach(positions)))

    one = Implementation(apply=apply, max_position=max_len, negative=False, **TORCH)
    return one, dynamic_ntk(head_dim, max_position, factor)


def dynamic_ntk(head_dim, trained, factor):
    """What a sequence of a length should be rotated by."""
    return lambda length: rr.variants.dynamic_ntk(head_dim, factor, max_position_embeddings=trained, length=length)
