"""A context stretched wrongly: YBAND, YMAG, LLAMA3, LONG, DYN."""

import math

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.wrong import plain
from tests.conformance.wrong.lengths import longrope, reach, su_scaled
from tests.conformance.wrong.plain import TORCH, inverse_frequencies
from tests.conformance.wrong.yarn import blend, find_correction_dim, scaled, yarn_frequencies, yarn_mscale


@wrong("YBAND")
def bounds_made_whole(broken):
    """The bounds of the ramp are made whole numbers in a model (gpt-oss) whose bounds are not."""
    dim, theta, factor, original = 64, 150000.0, 32.0, 4096
    low, high = (find_correction_dim(beta, dim, theta, original) for beta in (32.0, 1.0))
    low, high = (math.floor(low), math.ceil(high)) if broken else (low, high)
    inv_freq = blend(dim, theta, factor, max(low, 0), min(high, dim - 1))
    adapter = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, yarn_mscale(factor)), **TORCH)
    return adapter, rr.variants.yarn(dim, factor, original, theta=theta, truncate=False)


@wrong("YBAND")
def bands_of_the_extended_length(broken):
    """The ramp is found with max_position_embeddings, the extended length, for the original one."""
    dim, factor, original = 128, 4.0, 32768
    inv_freq = yarn_frequencies(dim, 1000000.0, factor, original * factor if broken else original)
    adapter = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, yarn_mscale(factor)), **TORCH)
    return adapter, rr.variants.yarn(dim, factor, original, theta=1000000.0)


@wrong("YBAND")
def ramp_upside_down(broken):
    """Fast pairs are stretched and slow ones left: the mask was 1 - ramp and is used as the ramp."""
    dim, factor, original = 64, 8.0, 4096
    low = math.floor(find_correction_dim(32.0, dim, 10000.0, original))
    high = math.ceil(find_correction_dim(1.0, dim, 10000.0, original))
    ramp = torch.clamp((torch.arange(dim // 2).float() - low) / (high - low), 0, 1)
    ramp = 1 - ramp if broken else ramp
    w = inverse_frequencies(dim)
    inv_freq = w / factor * ramp + w * (1 - ramp)
    adapter = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, yarn_mscale(factor)), **TORCH)
    return adapter, rr.variants.yarn(dim, factor, original)


@wrong("YMAG")
def cosines_alone(broken):
    """The magnitude is multiplied onto the cosines and not onto the sines."""
    dim, factor, original = 64, 16.0, 4096
    inv_freq, m = yarn_frequencies(dim, 10000.0, factor, original), yarn_mscale(factor)

    def apply(x, positions):
        cos, sin = plain.halves(plain.angles(positions, inv_freq))
        return plain.apply_rotary(x, cos * m, sin if broken else sin * m)

    return Implementation(apply=apply, **TORCH), rr.variants.yarn(dim, factor, original)


@wrong("YMAG")
def common_logarithm(broken):
    """0.1 ln s + 1 with the logarithm to base 10."""
    dim, factor, original = 64, 16.0, 4096
    inv_freq = yarn_frequencies(dim, 10000.0, factor, original)
    m = 0.1 * (math.log10(factor) if broken else math.log(factor)) + 1.0
    adapter = Implementation(apply=lambda x, positions: scaled(x, positions, inv_freq, m), **TORCH)
    return adapter, rr.variants.yarn(dim, factor, original)


def llama3_frequencies(dim, old_context_len, flipped=False, factor=8.0, low=1.0, high=4.0):
    freqs = inverse_frequencies(dim, 500000.0)
    wavelen = 2 * math.pi / freqs
    smooth = (old_context_len / wavelen - low) / (high - low)
    smooth = 1 - smooth if flipped else smooth
    mid = (1 - smooth) * freqs / factor + smooth * freqs
    slow = torch.where(wavelen > old_context_len / low, freqs / factor, mid)
    return torch.where(wavelen < old_context_len / high, freqs, slow)


@wrong("LLAMA3")
def context_of_the_config(broken):
    """old_context_len is taken from max_position_embeddings, 131,072, for 8,192."""
    inv_freq = llama3_frequencies(128, 131072 if broken else 8192)
    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, inv_freq), **TORCH)
    return adapter, rr.variants.llama3(128, factor=8.0)


@wrong("LLAMA3")
def middle_band_flipped(broken):
    """Between the bands, smooth and 1 - smooth are exchanged."""
    inv_freq = llama3_frequencies(64, 8192, flipped=broken)
    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, inv_freq), **TORCH)
    return adapter, rr.variants.llama3(64, factor=8.0)


@wrong("LONG")
def long_at_the_original_length(broken):
    """A sequence of just the original length takes the long list: >= for >."""
    original = 512

    def apply(x, positions):
        return su_scaled(x, positions, reach(positions) + (1 if broken else 0), original)

    return Implementation(apply=apply, negative=False, **TORCH), longrope(original)


@wrong("LONG")
def lists_exchanged(broken):
    """Short sequences take the long list, long ones the short."""
    original = 1024

    def apply(x, positions):
        long = reach(positions) > original
        return su_scaled(x, positions, original + 1 if long != broken else original, original)

    return Implementation(apply=apply, negative=False, **TORCH), longrope(original)


def dynamic(stretch_of, dim, trained, factor):
    def apply(x, positions):
        stretch = stretch_of(reach(positions))
        base = 10000.0 * stretch ** (dim / (dim - 2))
        return plain.rope(x, positions, inverse_frequencies(dim, base))

    adapter = Implementation(apply=apply, negative=False, **TORCH)
    return adapter, lambda length: rr.variants.dynamic_ntk(dim, factor, max_position_embeddings=trained, length=length)


@wrong("DYN")
def length_of_the_allocation(broken):
    """The length is that of the cache that was allocated, a power of two, not of what is in it."""
    dim, trained, factor = 64, 1024, 2.0

    def stretch(length):
        length = 1 << (length - 1).bit_length() if broken else length
        return factor * length / trained - (factor - 1) if length > trained else 1.0

    return dynamic(stretch, dim, trained, factor)


@wrong("DYN")
def factor_unused(broken):
    """The stretch is n / L, whatever the factor."""
    dim, trained, factor = 128, 2048, 4.0

    def stretch(length):
        if length <= trained:
            return 1.0
        return length / trained if broken else factor * length / trained - (factor - 1)

    return dynamic(stretch, dim, trained, factor)


