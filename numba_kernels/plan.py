"""Which loops a rotation takes, from shapes and strides alone: no memory is touched here."""

import math
from functools import lru_cache, reduce
from operator import or_
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from numba_kernels import cpu

PAIRINGS = ("half-split", "interleaved")
TABLE_CACHE = 1 << 18  # bytes of tables that stay in cache while other axes pass over them
LAST_LEVEL = 1 << 26  # bytes written from which streaming past the cache pays


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
    """A leading axis of x: its size and its steps in bytes; a table or index step of 0 shares a row."""

    size: int
    x: int
    out: int
    table: int
    place: int


A = TypeVar("A", bound=Any)  # a tuple like Axis: a size, then steps, those of x first


class Plan(NamedTuple):
    """The array that the loops read and its address; the offsets (x, out, table, index) to start them at."""

    words: NDArray[np.int64]
    address: int
    starts: tuple[tuple[int, int, int, int], ...]
    items: int
    size: int


@lru_cache(maxsize=4096)
def make(
    kind: str, pairing: str, start: int, inverse: bool, in_place: bool,
    shape: Ints, x: Ints, out_shape: Ints, out: Ints,
    cos: Ints, sin: Ints, table: Ints, index: tuple[Ints, Ints] | None,
) -> Plan:  # fmt: skip
    """The loops for x of `shape`, or ValueError where shapes do not fit.

    x, out, table  steps in bytes of x, of the target, and of both tables, whose shapes are cos and sin
    index          shape and steps of the row numbers, if rows are gathered
    """
    pairs, lead = cos[-1], shape[:-1]
    check(pairing, start, shape, out_shape, cos, sin, index is not None)
    none = (0,) * len(lead)
    steps = spread("cos", cos[:-1], table[:-1], lead) if index is None else none
    places = none if index is None else spread("positions", *index, lead)
    axes = [Axis(*a) for a in zip(lead, x[:-1], out[:-1], steps, places, strict=True) if a[0] != 1]
    own, shared = merged([a for a in axes if a.table or a.place]), merged([a for a in axes if not a.table | a.place])
    if math.prod(a.size for a in own) < 16 and len(own) < 2 and shared:  # too few items to split: share one out
        own = [shared.pop(0), *own]
    extra = own[:-2] + shared[:-2]
    single = Axis(1, 0, 0, 0, 0)
    m0, m1 = ([single, single] + own)[-2:]
    r0, r1 = ([single, single] + shared)[-2:]
    inside = r1.size == 1 or (m1.size > 1 and abs(m1.x) < abs(r1.x))
    size, wide = {"float64": (8, 8), "float32": (4, 4)}.get(kind, (2, 4))
    words = np.zeros(cpu.LENGTH, np.int64)
    words[cpu.FORM] = pairing == "interleaved"
    words[[cpu.INVERSE, cpu.PAIRS, cpu.ROWS, cpu.INSIDE]] = inverse, pairs, cos[0], inside
    words[cpu.BEFORE] = start * size
    words[cpu.AFTER] = (shape[-1] - start - 2 * pairs) * size
    words[cpu.BLOCK] = max(1, TABLE_CACHE // (2 * wide * max(pairs, 1))) if inside else 1
    words[cpu.STREAM] = not in_place and math.prod(shape) * size >= LAST_LEVEL
    words[cpu.ALIGN] = start * size | pairs * size | reduce(or_, (a.out for a in own + shared), 0)
    for place, axis in ((cpu.M0, m0), (cpu.M1, m1), (cpu.R0, r0), (cpu.R1, r1)):
        words[place], words[place + 4], words[place + 8] = axis.size, axis.x, axis.out
    words[[cpu.TABLE_M0, cpu.TABLE_M1]] = m0.table, m1.table
    words[cpu.TABLE_STEP] = m1.table if index is None else table[0]
    words[[cpu.INDEX_M0, cpu.INDEX_M1]] = m0.place, m1.place
    outer = max(abs(r0.x), abs(r1.x) if inside else 0)  # whichever axis is outermost in memory is split among threads
    words[cpu.SHARED] = outer > max(abs(m0.x), abs(m1.x))
    starts = [(0, 0, 0, 0)]
    for axis in extra:
        starts = [(a + i * axis.x, b + i * axis.out, c + i * axis.table, d + i * axis.place)
                  for a, b, c, d in starts for i in range(axis.size)]  # fmt: skip
    return Plan(words, words.ctypes.data, tuple(starts), m0.size * m1.size, math.prod(shape))


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
