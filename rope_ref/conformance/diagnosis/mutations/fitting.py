"""Which values of a variant's parameters give the frequencies and the magnitude that were read off.

Each number that the variant was given is fitted by itself, then two of them together. What comes out is a guess at
the value that the author wrote: the plainest number that fits as well as any.
"""

import math
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, rounded
from rope_ref.conformance.diagnosis.mutations.parameters import LEFT_ALONE, THETAS, Wrong, made, wrong_value
from rope_ref.conformance.diagnosis.mutations.rules import PARAMETERS, rule
from rope_ref.conformance.diagnosis.reading import FAR
from rope_ref.rope import Rope

FITS = 0.02  # radians at the farthest position that is read: what `reading` takes for one line
NEAR = 1e-3  # relative error of a frequency or a magnitude
WHOLE = ("max_position_embeddings", "rotary_dim")  # endings of the names of whole numbers
SAME = 0.05  # of these errors is what rounding makes
Score = Callable[[dict[str, float]], float]


def fitted(rope: Rope, seen: Array, scale: float | None) -> Wrong:
    """The variant with other values that give these frequencies, in the shape of `one_head`, and this magnitude.

    seen is 0 where a pair was not seen to turn.
    """
    if rope.origin is None:
        return
    numbers = {name: float(value) for name, value in rope.origin.given.items() if is_number(name, value)}

    def score(values: dict[str, float]) -> float:
        other = made(rope, values)
        return math.inf if other is None else distance(other, seen, scale)

    if score({}) <= SAME:
        return
    singles = [fit for name in numbers if (fit := one(name, numbers[name], score))]
    pairs: Iterator[dict[str, float]] = (
        fit for a, b in combinations(numbers, 2) if (fit := two({a: numbers[a], b: numbers[b]}, score))
    )
    plainest = sorted(singles, key=lambda fit: digits(*fit.values()))
    for fit in plainest or list(pairs):
        other = made(rope, fit)
        bugs = {PARAMETERS.get(name, rule(rope) or "FORMULA") for name in fit}
        if other is not None and any(fit[name] != numbers[name] for name in fit):
            text = " and ".join(wrong_value(name, fit[name], numbers[name]) for name in fit)
            yield "+".join(sorted(bugs)), text, other


def one_head(rope: Rope) -> Array:
    """The frequencies that are read off, (pairs,) or (pairs, axes): those of the first head, where each has its own."""
    return rope.omega if rope.heads is None else rope.omega[0]


def is_number(name: str, value: Any) -> bool:
    kind = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return kind and name not in LEFT_ALONE and value > 0 and math.isfinite(value)


def distance(other: Rope, seen: Array, scale: float | None) -> float:
    """The largest error as a part of what it may be; 1 and more where the numbers do not fit."""
    w = one_head(other)
    if w.shape != seen.shape:
        return math.inf
    read = seen != 0
    off = np.abs(w - seen)
    far = off[read].max(initial=0.0) * FAR / FITS
    near = (off[read] / np.abs(seen[read])).max(initial=0.0) / NEAR
    still = np.abs(w[~read]).max(initial=0.0) * FAR / FITS  # as slow as not to be seen
    magnitude = 0.0 if scale is None else abs(scale / other.attention_scale - 1) / NEAR
    return float(max(far, near, still, magnitude))


def one(name: str, value: float, score: Score) -> dict[str, float] | None:
    """The value of one parameter that fits, as plain as it can be said; None where none fits."""
    tried = sorted(plausible(name, value))
    scores = [score({name: v}) for v in tried]
    best = int(np.argmin(scores))
    v, low, high = tried[best], tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]
    if not math.isfinite(scores[best]):
        return None
    least = scores[best]
    for _ in range(60 if least > 1e-2 else 0):  # between its neighbours the error falls and then grows
        a, b = low + (high - low) * 0.382, low + (high - low) * 0.618
        errors = score({name: a}), score({name: b})
        v, least = min((v, least), (a, errors[0]), (b, errors[1]), key=lambda one: one[1])
        low, high = (low, b) if errors[0] < errors[1] else (a, high)
    if least >= 1:
        return None
    enough = max(2 * least, SAME)
    halves = (float(rounded(value, dtype)) for dtype in ("bfloat16", "float16") if value < 6e4 or dtype == "bfloat16")
    known = [u for u in (*usual(name), *halves) if u != value and score({name: u}) <= enough]
    return {name: known[0] if known else plainly(v, lambda plain: score({name: plain}) <= enough)}


def two(values: dict[str, float], score: Score) -> dict[str, float] | None:
    """Plausible values of two parameters that fit together, both other than given."""
    (a, x), (b, y) = values.items()
    for v in plausible(a, x, few=True):
        for w in plausible(b, y, few=True):
            if v != x and w != y and score({a: v, b: w}) < 0.5:
                return {a: v, b: w}
    return None


def plausible(name: str, value: float, few: bool = False) -> list[float]:
    """Numbers that a parameter may have been given in place of a value, the usual ones first."""
    steps = [] if few else [value * 2 ** (k / 2) for k in range(-16, 17)]
    every = [*usual(name), value / 2, value * 2, value, *steps]
    return list(dict.fromkeys(round(v) if name.endswith(WHOLE) else v for v in every))


def usual(name: str) -> tuple[float, ...]:
    """Numbers that configs give."""
    if name.endswith(WHOLE):
        return tuple(float(2**k) for k in range(9, 21))
    return THETAS if name == "theta" else (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 40.0, 0.5, 0.25)


def plainly(value: float, fits: Callable[[float], bool]) -> float:
    """The number with the fewest digits near a value that fits as well."""
    for n in range(1, 8):
        plain = float(f"{value:.{n}g}")
        if fits(plain):
            return plain
    return value


def digits(*values: float) -> int:
    """How many digits it takes to say these numbers."""
    return sum(len(f"{value:.9g}".replace(".", "").strip("0")) for value in values)


