"""Numbers too coarse: POSDT, INVDT, ANGDT, TABDT."""

import numpy as np

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.unseen.loops import NUMPY, inverse_frequencies, phases, rope, turn_halves
from tests.conformance.wrong import plain
from tests.conformance.wrong.plain import TORCH


@wrong("POSDT")
def positions_of_16_bits(broken):
    """Positions are stored as int16 and come out negative from 32,768 on."""
    inv_freq = inverse_frequencies(64, 500000.0)

    def apply(x, positions):
        return rope(x, positions.astype(np.int16) if broken else positions, inv_freq)

    return Implementation(apply=apply, fractional=False, **NUMPY), rr.variants.default(64, theta=500000.0)


@wrong("POSDT")
def positions_of_half_precision(broken):
    """Positions are float16 whatever x is: odd ones are lost from 2,049 on."""
    inv_freq = plain.inverse_frequencies(128)

    def apply(x, positions):
        if positions.numel() and positions.max() >= 65504:
            raise IndexError(f"position {positions.max()} is beyond the range of 65504")
        return plain.rope(x, positions.half() if broken else positions, inv_freq)

    return Implementation(apply=apply, max_position=65504, negative=False, **TORCH), rr.variants.default(128)


@wrong("POSDT")
def positions_of_8_bits(broken):
    """A quantized graph holds positions as uint8: 256 is 0 again."""
    inv_freq = inverse_frequencies(32)

    def apply(x, positions):
        return rope(x, positions.astype(np.uint8) if broken else positions, inv_freq)

    declared = NUMPY | {"negative": False, "fractional": False}
    return Implementation(apply=apply, **declared), rr.variants.default(32)


@wrong("INVDT")
def frequencies_through_a_checkpoint(broken):
    """inv_freq was saved as float16 and is used as float32."""
    inv_freq = plain.inverse_frequencies(64)
    inv_freq = inv_freq.half().float() if broken else inv_freq

    def apply(x, positions):
        return plain.rope(x, positions, inv_freq)

    return Implementation(apply=apply, frequencies=lambda: inv_freq, **TORCH), rr.variants.default(64)


@wrong("ANGDT")
def short_pi(broken):
    """Angles are reduced by 2 pi with pi = 3.14159: each turn leaves 5 millionths."""
    inv_freq = inverse_frequencies(64)
    two_pi = 2 * (3.14159 if broken else np.pi)

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        phi = phi - two_pi * np.floor(phi / two_pi)
        return turn_halves(x, np.cos(phi), np.sin(phi))

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("ANGDT")
def sine_from_a_table(broken):
    """Sine and cosine are read from 1,024 steps of a circle, without interpolation."""
    inv_freq = inverse_frequencies(64)
    circle = np.sin(2 * np.pi * np.arange(1024) / 1024)

    def sine(phi):
        return circle[np.round(phi / (2 * np.pi) * 1024).astype(np.int64) % 1024] if broken else np.sin(phi)

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        return turn_halves(x, sine(phi + np.pi / 2), sine(phi))

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("ANGDT")
def angle_added_up(broken):
    """Each token's angle is that of the one before plus the frequency, in float32, from the start of the table."""
    inv_freq = inverse_frequencies(64).astype(np.float32)
    length = 32768
    steps = np.broadcast_to(inv_freq, (length - 1, 32))
    added = np.concatenate((np.zeros((1, 32), np.float32), np.cumsum(steps, axis=0, dtype=np.float32)))
    exact = np.arange(length)[:, None] * inverse_frequencies(64)
    table = added if broken else exact

    def apply(x, positions):
        phi = table[positions]
        phi = phi[:, None] if phi.ndim == 3 else phi
        return turn_halves(x, np.cos(phi), np.sin(phi))

    declared = NUMPY | {"negative": False, "fractional": False, "max_position": length}
    return Implementation(apply=apply, **declared), rr.variants.default(64)


@wrong("TABDT")
def tables_of_8_bits(broken):
    """Cosines and sines are quantized to int8 with one scale."""
    inv_freq = inverse_frequencies(64)

    def table(values):
        return np.round(values * 127).astype(np.int8) / np.float32(127) if broken else values

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        return turn_halves(x, table(np.cos(phi)), table(np.sin(phi)))

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("TABDT")
def always_half(broken):
    """The result is float16 in a model of bfloat16, and in one of float32."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        y = plain.rope(x.float(), positions, inv_freq)
        return y.half() if broken else y.type_as(x)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64)
