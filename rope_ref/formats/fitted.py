"""The variant that makes frequencies which were read off a table, with its parameters, if one does.

    geometric                    w_i = theta^(-2i/r): default; all divided by s: linear; the slowest zero: proportional
    1 to s times slower          the ratio to geometric ones is linear in w where it lies between: llama3, whose bands
                                 are told apart up to a common factor (low_freq_factor is taken for 1); linear in i:
                                 yarn, with beta_fast 32 and beta_slow 1

Of all numbers that fit, the one with the fewest digits is meant.
"""

from collections.abc import Iterator
from itertools import product

import numpy as np
from numpy.typing import NDArray

from rope_ref import variants
from rope_ref.frequencies import geometric
from rope_ref.magnitude import yarn_attention
from rope_ref.rope import Rope

Floats = NDArray[np.float64]
LENGTHS = [2**n * k for n in range(9, 21) for k in (1, 1.5)]


@np.errstate(all="ignore")  # tables may hold anything
def fitted(w: Floats, m: float, tolerance: Floats) -> Rope | None:
    """The Rope of the first variant whose frequencies are within `tolerance`, relative, of w; both (pairs,)."""
    still = int((w == 0).sum())
    if len(w) - still < 2 or (w[: len(w) - still] <= 0).any():
        return None
    for make in (plain, by_frequency, by_index) if not still else (plain,):
        for rope in make(w, m):
            if bool((np.abs(rope.omega - w) <= tolerance * w).all()):
                return rope
    return None


def plain(w: Floats, m: float) -> Iterator[Rope]:
    turning, d = w[w > 0], 2 * len(w)
    for theta, s in product(rounded(base(turning, d)), rounded(1 / turning[0])):
        if len(turning) < len(w):
            yield variants.proportional(d, len(turning) / len(w), theta, s, attention_scale=m)
        elif s == 1:
            yield variants.default(d, theta, attention_scale=m)
        else:
            yield variants.linear(d, s, theta, attention_scale=m)


def by_frequency(w: Floats, m: float) -> Iterator[Rope]:
    for theta, s, mixed in stretched(w):
        unscaled = geometric(2 * len(w), theta)
        between = (mixed > 1e-3) & (mixed < 1 - 1e-3)
        if between.sum() < 2:
            continue
        columns = np.stack([unscaled[between], np.ones(between.sum())], -1)
        slope, at_zero = np.linalg.lstsq(columns, mixed[between])[0]  # L / (2 pi (high - low)), low / (low - high)
        if at_zero >= 0:
            continue
        length = round(min(-2 * np.pi * slope / at_zero, 1e15))
        for high in rounded(1 - 1 / at_zero):
            if high > 1 and length > 0:
                yield variants.llama3(2 * len(w), s, 1.0, high, length, theta, attention_scale=m)


def by_index(w: Floats, m: float) -> Iterator[Rope]:
    for theta, s, _ in stretched(w):
        for length in LENGTHS:
            scale = None if abs(yarn_attention(s) / m - 1) < 1e-3 else m
            for truncate in (True, False):
                yield variants.yarn(2 * len(w), s, int(length), theta, truncate=truncate, attention_factor=scale)


def stretched(w: Floats) -> Iterator[tuple[float, float, Floats]]:
    """theta and s of frequencies that begin as geometric ones and end s times slower; how much of each is unscaled."""
    for theta in rounded(base(w[:2], 2 * len(w))):
        slower = geometric(2 * len(w), theta) / w
        for s in rounded(slower[-1]):
            if s > 1 + 1e-3:
                yield theta, s, (1 / slower - 1 / s) / (1 - 1 / s)


def base(w: Floats, d: int) -> float:
    """theta, of the first and last of geometric frequencies."""
    return float((w[0] / w[-1]) ** (d / (2 * (len(w) - 1))))


def rounded(value: float) -> Iterator[float]:
    """The value to 1, 2, ... 8 digits, each once."""
    yield from dict.fromkeys(float(f"{value:.{digits}g}") for digits in range(1, 9))
