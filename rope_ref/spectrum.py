"""How fast the pairs of a Rope turn, in wavelengths, and up to which position angles are right."""

from collections.abc import Iterable
from itertools import groupby
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rope_ref import frequencies
from rope_ref.exactness import UNIT
from rope_ref.rope import Rope


def speeds(rope: Rope) -> NDArray[np.float64]:
    """Radians per position of every pair, whichever axis it turns with and whichever way, shape (pairs,)."""
    w: NDArray[np.float64] = np.abs(rope.omega)
    return w if rope.axes is None else w.max(-1)


def bands(rope: Rope, theta: float) -> str:
    """A table of wavelengths, 2 pi / w positions, against those of w = theta^(-2i/r).

    A pair is unchanged, stretched (by the most of all), blended (by less), shortened, or still.

    >>> print(bands(Rope(8, inv_freq=(1.0, 0.1, 0.0, 0.0)), 10000.0))
    band           pairs   wavelength in positions    slowed by
    unchanged        0-1   6.28319 to 62.8319         1
    still            2-3   never turns
    """
    lines = [f"{'band':10} {'pairs':>9}   {'wavelength in positions':26} slowed by"]
    for band in banded(rope, theta):
        ranges = f"{_range(band.wavelengths):26} {_range(band.slowed)}" if band.wavelengths else "never turns"
        lines.append(f"{band.name:10} {spans(band.pairs):>9}   {ranges}")
    return "\n".join(lines)


class Band(NamedTuple):
    """Pairs that follow one another and are slowed alike: name, pairs, wavelengths, by how much each is slowed."""

    name: str
    pairs: list[int]
    wavelengths: list[float]
    slowed: list[float]


def banded(rope: Rope, theta: float) -> list[Band]:
    """The bands of a Rope against theta^(-2i/r); where theta is not known, of frequencies as they are."""
    w = speeds(rope)
    plain = frequencies.geometric(2 * rope.pairs, theta) if np.isfinite(theta) else w
    slowed = np.divide(plain, w, out=np.full(rope.pairs, np.inf), where=w > 0)
    slowest = slowed[np.isfinite(slowed)].max(initial=1.0)  # the 1 names no pair: those are unchanged
    close = 1e-5  # float32 frequencies differ by less from exact ones
    names = np.select(
        [~np.isfinite(slowed), slowed < 1 - close, slowed <= 1 + close, slowed >= slowest * (1 - close)],
        ["still", "shortened", "unchanged", "stretched"], "blended",
    )  # fmt: skip
    found = []
    for name, run in groupby(range(rope.pairs), key=lambda i: str(names[i])):
        i = list(run)
        turns = name != "still"
        found.append(Band(name, i, (2 * np.pi / w[i]).tolist() if turns else [], slowed[i].tolist() if turns else []))
    return found


def rounded_angles(rope: Rope) -> str:
    """From which position on angles that are computed in float32, as models' own code does, are off by how much.

    A frequency and a product that are rounded to float32 are off by at most 2^-24 of themselves each, so an angle
    p w by at most 2^-23 p w. Positions in bfloat16 have 8 bits: from 256 on neighbours coincide.

    >>> print(rounded_angles(Rope(64)))
    Angles in float32, as the code of most models has them, may be off
        by 0.01 radians from position 83,887 on
        by 0.1 radians from position 838,861 on
    Positions in bfloat16 coincide from 256 on, in float16 from 2,048 on.
    """
    lines = ["Angles in float32, as the code of most models has them, may be off"]
    lines += [f"    by {off:g} radians from position {p:,} on" for off, p in off_by(rope).items()]
    return "\n".join([*lines, "Positions in bfloat16 coincide from 256 on, in float16 from 2,048 on."])


def off_by(rope: Rope) -> dict[float, int]:
    """Radians -> the position from which on float32 angles may be off by that much."""
    fastest = float(speeds(rope).max(initial=0.0))
    return {off: int(np.ceil(off / (2 * UNIT["float32"] * fastest))) for off in (0.01, 0.1)}


def limits(rope: Rope) -> str:
    """Up to which position angles are as good as exact: their error stays below one rounding of a table.

    An angle p w is computed from a rounded frequency by a rounded product, each off by at most
    the unit roundoff u of angle_dtype, so that its error is at most 2 u p w, and that of cos and
    sin no more. A table rounds by its own unit, which the error reaches at p = unit / (2 u w).
    Whole positions end at 1/u, where neighbours become one; they are the only limit where no pair turns.
    """
    u = UNIT[rope.angle_dtype]
    lines = [f"Angles in {rope.angle_dtype}, as here, stay within one rounding of a table up to position"]
    lines += [f"    {table:9} {p:,}" for table, p in exact_to(rope).items()]
    return "\n".join([*lines, f"    and name whole positions up to {int(1 / u):,}"])


def exact_to(rope: Rope) -> dict[str, int]:
    """dtype of a table -> the position up to which its angles are as good as exact: see `limits`."""
    u, fastest = UNIT[rope.angle_dtype], float(speeds(rope).max(initial=0.0))
    tables = ("float32", "float16", "bfloat16")
    return {table: int(min(UNIT[table] / (2 * u * fastest) if fastest else np.inf, 1 / u)) for table in tables}


def decay(rope: Rope, distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score of equal query and key, all pairs of length one, against distance: m^2 mean_i cos(w_i d)."""
    score: NDArray[np.float64] = np.cos(distances[:, None] * speeds(rope)).mean(-1)
    return rope.attention_scale**2 * score


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in order, runs shortened.

    >>> spans([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _range(values: list[float]) -> str:
    ends = [f"{v:,.6g}" if v < 1e5 else f"{v:,.0f}" for v in (min(values), max(values))]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
