"""Too few bits: in positions, frequencies, angles or tables."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_ref.conformance.arrays import Array, rounded
from rope_ref.conformance.model import Mutation
from rope_ref.rope import Rope

HALVES = ("bfloat16", "float16")


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every value in every dtype that is too narrow for it."""
    for half in HALVES:
        at = {"positions": lambda p, c, d=half: rounded(p, d)}
        of = {"rope": lambda r, c, d=half: narrow(r, d)}
        to = {"angles": lambda phi, c, d=half: rounded(phi, d)}
        table = {"tables": lambda t, c, d=half: (rounded(t[0], d), rounded(t[1], d))}
        yield Mutation("TABDT", f"cos and sin are rounded to {half}", table)
        yield Mutation("POSDT", f"positions are rounded to {half}", at)
        yield Mutation("INVDT", f"inv_freq is rounded to {half}", of)
        yield Mutation(
            "POSDT", f"tokens are counted in {half} and added to an offset in {half}",
            {"positions": lambda p, c, d=half: rounded(rounded(p - p[:, :1], d) + rounded(p[:, :1], d), d)},
        )  # fmt: skip
        yield Mutation("ANGDT", f"angles are rounded to {half}", to)
        yield Mutation("POSDT", f"positions and inv_freq are rounded to {half}", at | of)
        yield Mutation("ANGDT", f"positions and angles are rounded to {half}", at | to)
        yield Mutation("ANGDT", f"inv_freq and angles are rounded to {half}", of | to)
        yield Mutation("POSDT", f"positions, inv_freq and angles are rounded to {half}", at | of | to)
        yield Mutation("POSDT", f"positions, cos and sin are rounded to {half}", at | table)
        yield Mutation("INVDT", f"inv_freq, cos and sin are rounded to {half}", of | table)
        yield Mutation("ANGDT", f"angles, cos and sin are rounded to {half}", to | table)
        yield Mutation("POSDT", f"positions, inv_freq, cos and sin are rounded to {half}", at | of | table)
        yield Mutation("ANGDT", f"inv_freq, angles, cos and sin are rounded to {half}", of | to | table)
        yield Mutation(
            "POSDT", f"positions, inv_freq, angles, cos and sin are rounded to {half}", at | of | to | table
        )
    for bits in (8, 16):
        low = -(2 ** (bits - 1))
        yield Mutation(
            "POSDT", f"positions wrap around in int{bits}",
            {"positions": lambda p, c, low=low: np.mod(p - low, -2 * low) + low},
        )  # fmt: skip
        yield Mutation(
            "POSDT", f"positions stop at the largest int{bits}", {"positions": lambda p, c, low=low: np.minimum(p, -low - 1)}
        )


def narrow(rope: Rope, dtype: str) -> Rope:
    """The Rope with its frequencies rounded."""
    omega: Array = rounded(rope.omega, dtype)
    return replace(rope, inv_freq=omega)


