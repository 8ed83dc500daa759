"""LLAMA3: the rule that slows the slow pairs of Llama 3.1 is missing, partly missing, or another."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope

THETA, FACTOR, LOW, HIGH, ORIGINAL = 500000.0, 8.0, 1.0, 4.0, 8192


def wavelengths_and_smooth(inv_freq):
    wavelen = 2 * math.pi / inv_freq
    return wavelen, (ORIGINAL / wavelen - LOW) / (HIGH - LOW)


def llama3_frequencies(dim, factor=FACTOR):
    inv_freq = inverse_frequencies(dim, THETA)
    wavelen, smooth = wavelengths_and_smooth(inv_freq)
    medium = (1 - smooth) * inv_freq / factor + smooth * inv_freq
    scaled = torch.where(wavelen > ORIGINAL / LOW, inv_freq / factor, inv_freq)
    return torch.where((wavelen <= ORIGINAL / LOW) & (wavelen >= ORIGINAL / HIGH), medium, scaled)


@case("ml-explore/mlx-swift-examples#152", bug="LLAMA3")
def wavelengths_blended(broken):
    """In the middle band wavelengths are blended, where frequencies should be."""
    inv_freq = llama3_frequencies(128)
    if broken:
        freqs = 1 / inverse_frequencies(128, THETA)
        wavelen, smooth = wavelengths_and_smooth(1 / freqs)
        medium = (wavelen < ORIGINAL / LOW) & (wavelen > ORIGINAL / HIGH)
        freqs = torch.where(wavelen > ORIGINAL / LOW, freqs * FACTOR, freqs)
        freqs = torch.where(medium, freqs * ((1 - smooth) * FACTOR + smooth), freqs)
        inv_freq = 1 / freqs
    one = Implementation(apply=lambda x, positions: rope(x, positions, inv_freq), **TORCH)
    return one, rr.variants.llama3(128, FACTOR)


@case("Xilinx/mlir-air#1948", bug="LLAMA3")
def prefill_unscaled(broken):
    """The table of prefill is made without scaling, that of decoding with it."""
    decode_table = llama3_frequencies(64, 32.0)
    prefill_table = inverse_frequencies(64, THETA) if broken else decode_table

    def prefill(x, positions):
        return rope(x, positions, prefill_table)

    def decode(x, offset):
        length = x.shape[-2]
        return rope(x, offset + torch.arange(length), decode_table if length == 1 else prefill_table)

    return Implementation(apply=prefill, decode=decode, **TORCH), rr.variants.llama3(64, 32.0)


@case("jmaczan/tiny-vllm#1", bug="LLAMA3")
def scaling_absent(broken):
    """Plain frequencies, whatever rope_scaling says."""
    inv_freq = inverse_frequencies(64, THETA) if broken else llama3_frequencies(64, 32.0)
    one = Implementation(apply=lambda x, positions: rope(x, positions, inv_freq), **TORCH)
    return one, rr.variants.llama3(64, 32.0)


@case("unslothai/unsloth#6197", bug="LLAMA3")
def fast_path_unscaled(broken):
    """The fast path makes its own rotary embedding from theta, without the scaling of the config."""
    slow = llama3_frequencies(128)
    fast = inverse_frequencies(128, THETA) if broken else llama3_frequencies(128)
    one = Implementation(
        apply=lambda x, positions: rope(x, positions, slow),
        paths={"fast_inference": lambda x, positions: rope(x, positions, fast)},
        **TORCH,
    )
    return one, rr.variants.llama3(128, FACTOR)
