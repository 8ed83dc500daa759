"""Too few bits: in positions, frequencies, angles or tables."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, rounded
from rope_ref.conformance.properties.model import Context, Mutation, fixed
from rope_ref.rope import Rope

Changes = dict[str, Callable[[Any, Context], Any]]
OWN = "the dtype of x"
HALVES = ("bfloat16", "float16", OWN)


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every value in every dtype that is too narrow for it."""
    for half in HALVES:
        at: Changes = {"positions": fixed(lambda p, c, d: to_dtype(p, d, c), half)}
        of: Changes = {"rope": fixed(lambda r, c, d: narrow(r, which(d, c)), half)}
        to: Changes = {"angles": fixed(lambda phi, c, d: to_dtype(phi, d, c), half)}
        table: Changes = {"tables": fixed(lambda t, c, d: (to_dtype(t[0], d, c), to_dtype(t[1], d, c)), half)}
        yield Mutation("TABDT", f"cos and sin are rounded to {half}", table)
        yield Mutation("POSDT", f"positions are rounded to {half}", at)
        yield Mutation("INVDT", f"inv_freq is rounded to {half}", of)
        if of_pi(rope):
            before: Changes = {"rope": fixed(lambda r, c, d: narrow(r, which(d, c), np.pi), half)}
            yield Mutation("INVDT", f"inv_freq is rounded to {half} before it is multiplied by pi", before)
        yield Mutation(
            "POSDT", f"tokens are counted in {half} and added to an offset in {half}",
            {"positions": fixed(counted, half)},
        )  # fmt: skip
        made: Changes = {"rope": fixed(lambda r, c, d: computed_in(r, which(d, c)), half)}
        yield Mutation("INVDT", f"inv_freq is computed in {half}", made)
        yield Mutation("POSDT", f"inv_freq, positions and angles are computed in {half}", made | at | to)
        yield Mutation(
            "POSDT", f"inv_freq, positions, angles, cos and sin are computed in {half}", made | at | to | table
        )
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
        yield Mutation("POSDT", f"positions, inv_freq, angles, cos and sin are rounded to {half}", at | of | to | table)
    yield Mutation("ANGDT", "positions and inv_freq are rounded to TF32, as in a matrix product", {
        "positions": lambda p, c: tf32(p), "rope": lambda r, c: replace(r, inv_freq=tf32(r.omega)),
    })  # fmt: skip
    for levels in (15, 31, 63, 64, 100, 127, 128, 255, 256, 512, 1000, 1024, 4096, 32767):
        yield Mutation(
            "TABDT", f"cos and sin are rounded to 1/{levels}",
            {"tables": fixed(lambda t, c, n: (np.rint(t[0] * n) / n, np.rint(t[1] * n) / n), levels)}, alone=True,
        )  # fmt: skip
    for count in (*(2**k for k in range(8, 17)), 360, 720, 1000, 3600):
        for text, cut in (("", np.rint), (", the next one below", np.floor)):
            yield Mutation(
                "ANGDT", f"cos and sin come from a table of {count} angles{text}",
                {"angles": fixed(lambda phi, c, s, cut: cut(phi / s) * s, 2 * np.pi / count, cut)}, alone=True,
            )  # fmt: skip
    for bits in (8, 16):
        yield Mutation(
            "POSDT", f"positions wrap around in uint{bits}",
            {"positions": fixed(lambda p, c, n: np.mod(p, n), 2**bits)},
        )  # fmt: skip
        low = -(2 ** (bits - 1))
        yield Mutation(
            "POSDT", f"positions wrap around in int{bits}",
            {"positions": fixed(lambda p, c, low: np.mod(p - low, -2 * low) + low, low)},
        )  # fmt: skip
        yield Mutation(
            "POSDT",
            f"positions stop at the largest int{bits}",
            {"positions": fixed(lambda p, c, low: np.minimum(p, -low - 1), low)},
        )


def which(dtype: str, context: Context) -> str:
    return context.probe.dtype if dtype == OWN else dtype


def to_dtype(value: Array, dtype: str, context: Context) -> Array:
    return rounded(value, which(dtype, context))


def tf32(x: Array) -> Array:
    """Rounded to 11 significant bits, ties away from 0, as CUDA converts what tensor cores multiply."""
    fraction, exponent = np.frexp(np.asarray(x, np.float64))
    return np.asarray(np.ldexp(np.copysign(np.floor(np.abs(fraction) * 2**11 + 0.5), fraction), exponent - 11))


def counted(p: Array, context: Context, dtype: str) -> Array:
    """Positions as an offset and a count, each rounded, and their sum."""
    d = which(dtype, context)
    return rounded(rounded(p - p[:, :1], d) + rounded(p[:, :1], d), d)


def computed_in(rope: Rope, dtype: str) -> Rope:
    """The Rope with the frequencies of theta computed step by step in a dtype, if they are those of theta."""
    if rope.inv_freq is not None or rope.pairs == 0:
        return narrow(rope, dtype)
    exponent = rounded(rounded(2 * np.arange(rope.pairs), dtype) / (2 * rope.pairs), dtype)
    return replace(rope, inv_freq=rounded(1 / rounded(rope.theta**exponent, dtype), dtype), theta=10000.0)


def narrow(rope: Rope, dtype: str, unit: float = 1.0) -> Rope:
    """The Rope with its frequencies rounded, as multiples of a unit."""
    omega: Array = unit * rounded(rope.omega / unit, dtype)
    return replace(rope, inv_freq=omega)


def of_pi(rope: Rope) -> bool:
    """Whether its frequencies look like multiples of pi: those of pixels, and of coordinates from -1 to 1."""
    times = np.abs(rope.omega).max(initial=0) / np.pi
    return bool(times > 0.5 and abs(times - round(times)) < 1e-6)
