"""Which loops a rotation takes, from shapes and strides alone: no memory is touched here."""

import math
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np

from numba_kernels import cpu, machine, threads
from numba_kernels.intrinsics import LINE

PAIRINGS = ("half-split", "interleaved")
CACHES, LAST = machine.caches(), machine.last_level()
WIDEST = 256  # pairs that a kernel is compiled for by number
FEW = 8  # rows of a run that would be too short beside what it takes to begin one

Ints = tuple[int, ...]


def options(pairing: Any, start: Any, inverse: Any) -> None:
    """Raise TypeError for options of the wrong kind."""
    if not isinstance(pairing, str):
        raise TypeError(f"pairing is {pairing!r}; expected a name")
    if not isinstance(inverse, (bool, np.bool_)):
        raise TypeError(f"inverse is {inverse!r}; expected True or False")
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
        raise TypeError(f"start is {start!r}; expected a whole number")


def small(epsilon: Any) -> float:
    """The epsilon of a normalisation, or TypeError or ValueError."""
    if isinstance(epsilon, bool) or not isinstance(epsilon, (int, float, np.integer, np.floating)):
        raise TypeError(f"epsilon is {epsilon!r}; expected a number")
    if not epsilon >= 0:
        raise ValueError(f"epsilon is {epsilon}; expected at least 0")
    return float(epsilon)


class Axis(NamedTuple):
    """A leading axis of x: its size and its steps in numbers; a table or place step of 0 shares a row."""

    size: int
    x: int
    out: int
    table: int
    place: int


A = TypeVar("A", bound=Any)  # a tuple like Axis: a size, then steps, those of x first


@lru_cache(maxsize=4096)
def make(
    kind: str, pairing: str, start: int, inverse: bool, in_place: bool, aligned: bool, normed: bool,
    shape: Ints, x: Ints, out_shape: Ints, out: Ints,
    cos: Ints, sin: Ints, table: Ints, index: tuple[Ints, Ints] | None,
) -> threads.Loops:  # fmt: skip
    """The loops for x of `shape`, or ValueError where shapes do not fit.

    aligned        whether out is memory that was there before and begins at a cache line
    x, out, table  steps, in numbers, of x, of the target, and of both tables, whose shapes are cos and sin
    index          shape and steps of the row numbers, if rows are gathered
    """
    check(pairing, start, shape, out_shape, cos, sin, index is not None)
    pairs, width, lead = cos[-1], shape[-1], shape[:-1]
    none = (0,) * len(lead)
    steps = spread("cos", cos[:-1], table[:-1], lead) if index is None else none
    places = none if index is None else spread("positions", *index, lead)
    axes = merged([Axis(*a) for a in zip(lead, x[:-1], out[:-1], steps, places, strict=True) if a[0] != 1])[::-1]
    if len(axes) > 1 and axes[0].size < FEW < axes[1].size:
        axes[:2] = axes[1], axes[0]
    run = axes[0] if axes else Axis(1, 0, 0, 0, 0)
    itemsize, wide = {"float64": (8, 8), "float32": (4, 4)}.get(kind, (2, 4))
    beyond = math.prod(shape) * itemsize >= LAST // 2
    if not in_place:  # whole lines are streamed
        beyond &= aligned and not any(step * itemsize % LINE for step in (width, *(a.out for a in axes)))
    fixed = pairs % 8 == 0 and pairs <= WIDEST
    form = cpu.Form(
        kind, pairing == "interleaved", pairs if fixed else 0, width if fixed else 0, in_place, beyond,
        index is not None, normed,
    )  # fmt: skip
    words = np.zeros(cpu.AXIS + cpu.STEPS * max(1, len(axes)), np.int64)
    words[cpu.ROWS], words[cpu.AXES], words[cpu.PAIRS] = math.prod(lead), max(1, len(axes)), pairs
    words[cpu.START], words[cpu.WIDTH], words[cpu.SIGN] = start, width, -1 if inverse else 1
    words[cpu.TABLE_STEP] = table[0]
    for place, own in ((cpu.LOW_X, 1), (cpu.LOW_OUT, 2), (cpu.LOW_TABLE, 3), (cpu.LOW_INDEX, 4)):
        words[place] = sum(max(0, -axis[own]) * (axis.size - 1) for axis in axes)  # below the first number
    # tables that stay in a cache while other axes pass over them: the first, or the second where x fits in none
    room = CACHES["L2"] // 2 if beyond else CACHES["L1"] // 3
    block = room // max(1, 2 * wide * pairs) if run.table or run.place else run.size
    words[cpu.BLOCK] = max(1, min(block, run.size, cpu.NORMED_BLOCK if normed else run.size))
    words[cpu.AXIS :] = np.array(axes or [run]).ravel()
    return threads.Loops(lambda parallel: cpu.kernel(form, parallel), words, math.prod(shape))


def check(pairing: str, start: int, shape: Ints, out_shape: Ints, cos: Ints, sin: Ints, gathers: bool) -> None:
    """Raise ValueError where x, out and tables of these shapes do not fit."""
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(map(repr, PAIRINGS))}")
    if out_shape != shape:
        raise ValueError(f"out has shape {out_shape}; expected {shape}, as x")
    if sin != cos:
        raise ValueError(f"sin has shape {sin}; expected that of cos, {cos}")
    if start < 0 or start + 2 * cos[-1] > shape[-1]:
        raise ValueError(f"start is {start} with {cos[-1]} pairs; expected a range within {shape[-1]} channels")
    if gathers and len(cos) != 2:
        raise ValueError(f"cos has shape {cos}; expected (rows, pairs) where positions are given")


def spread(name: str, shape: Ints, steps: Ints, lead: Ints) -> Ints:
    """The steps of an array of this shape along axes `lead` by NumPy's rules of broadcasting."""
    new = len(lead) - len(shape)
    if new < 0 or any(n not in (1, size) for n, size in zip(shape, lead[new:], strict=True)):
        raise ValueError(f"{name} has leading axes {shape}; expected to broadcast to those of x, {lead}")
    return (0,) * new + tuple(step if n > 1 else 0 for n, step in zip(shape, steps, strict=True))


def merged(axes: list[A]) -> list[A]:
    """The axes from the widest step to the narrowest; two that continue each other become one."""
    result: list[A] = []
    for axis in sorted(axes, key=lambda a: -abs(a.x)):
        outer = result[-1] if result else None
        if outer and all(o == i * axis.size for o, i in zip(outer[1:], axis[1:], strict=True)):
            result[-1] = axis._replace(size=outer.size * axis.size)
        else:
            result.append(axis)
    return result
