"""Wrong widths: how many channels turn, which, and what divides the exponent."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.diagnosis.mutations.parameters import Wrong
from rope_ref.frequencies import geometric
from rope_ref.rope import Rope


def widths(rope: Rope) -> Wrong:
    """Another number of channels, another place for them, another denominator of the exponent."""
    if rope.axes is not None:
        return
    d, r, w = rope.head_dim, 2 * rope.pairs, rope.omega
    theta = float(rope.origin.given.get("theta") or rope.theta) if rope.origin else rope.theta
    whole = geometric(d - d % 2, theta) if d > 1 else w

    def made(inv_freq: Array, start: int = rope.start) -> Iterator[Rope]:
        if start >= 0 and start + 2 * len(inv_freq) <= d and len(inv_freq):
            yield replace(rope, inv_freq=inv_freq, rotary_dim=None, start=start, theta=10000.0)

    narrow: dict[str, tuple[Array, int]] = {
        "the exponent is divided by head_dim, not rotary_dim": (whole[: rope.pairs], rope.start),
        "the exponent is divided by rotary_dim, not head_dim": (geometric(r, theta), rope.start),
        "all of the head turns, with frequencies for all of it": (whole, 0),
        "all of the head turns, the exponent divided by rotary_dim": (
            theta ** (-2.0 * np.arange(d // 2) / max(r, 1)),
            0,
        ),
        "pairs reach over the whole head, those beyond rotary_dim stand still": (
            np.concatenate([w, np.zeros(d // 2 - len(w))]),
            0,
        ),
        "pairs reach over the whole head, the exponent divided by head_dim, those beyond rotary_dim stand still": (
            np.concatenate([whole[: len(w)], np.zeros(d // 2 - len(w))]),
            0,
        ),
    }
    tried: dict[str, tuple[Array, int]] = (narrow if r < d else {}) | {
        "the first channels turn, not those from `start`": (w, 0),
        "the last channels turn": (w, d - r),
        "two channels turn where none should": (np.ones(1), 0),
        "half as many channels turn": (geometric(r // 2 - (r // 2) % 2, theta), rope.start),
        "half as many channels turn, with the same frequencies": (w[: rope.pairs // 2], rope.start),
        "one pair is missing": (w[:-1], rope.start),
        "one pair too many turns": (np.append(w, w[-1:] ** 2 / w[-2:-1] if len(w) > 1 else w), rope.start),
        "the width is rounded up to a power of two": (
            theta ** (-2.0 * np.arange(_power_of_two(r) // 2) / max(r, 1)), rope.start,
        ),
        "twice as many channels turn": (geometric(2 * r, theta), rope.start),
        "twice as many channels turn, the exponent divided by rotary_dim": (
            theta ** (-2.0 * np.arange(r) / max(r, 1)), rope.start,
        ),
    }  # fmt: skip
    turning = w[w != 0]
    if 0 < len(turning) < len(w):
        tried |= {
            "the channels that turn are paired among themselves, the exponent divided by their number": (
                geometric(2 * len(turning), theta), rope.start,
            ),
            "the channels that turn are paired among themselves, as in a head of their own": (turning, rope.start),
        }  # fmt: skip
    for text, (inv_freq, start) in tried.items():
        yield from (("ROTDIM", text, each) for each in made(inv_freq, start))


def _power_of_two(n: int) -> int:
    return 1 << max(n - 1, 1).bit_length()
