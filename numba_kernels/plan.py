"""Which loops a rotation takes, from shapes and strides alone: no memory is touched here."""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numba_kernels import cpu

TABLE_CACHE = 1 << 18  # bytes of tables that stay in cache while other axes pass over them
LAST_LEVEL = 1 << 24  # bytes written from which streaming past the cache pays


class Axis(NamedTuple):
    """A leading axis of x: its size and its steps in bytes; a table or index step of 0 shares a row."""

    size: int
    x: int
    out: int
    table: int
    index: int


class Plan(NamedTuple):
    """`words`, the array that the loops read, and the offsets (x, out, table, index) to start them at."""

    words: NDArray[np.int64]
    starts: tuple[tuple[int, int, int, int], ...]
    items: int


@lru_cache(maxsize=4096)
def make(
    kind: str, interleaved: bool, inverse: bool, start: int, pairs: int, rows: int, in_place: bool,
    shape: tuple[int, ...], x: tuple[int, ...], out: tuple[int, ...], table: tuple[int, ...], index: tuple[int, ...],
) -> Plan:  # fmt: skip
    """The loops for x of `shape` with the given steps in bytes.

    table  steps of the leading axes in the tables; with `rows` >= 0, the step of a table row alone
    index  steps of the leading axes in an array of row numbers, where rows >= 0
    """
    size = {"float64": 8, "float32": 4}.get(kind, 2)
    gather = rows >= 0
    steps = (0,) * (len(shape) - 1) if gather else table
    places = index if gather else (0,) * (len(shape) - 1)
    axes = [Axis(*a) for a in zip(shape[:-1], x[:-1], out[:-1], steps, places, strict=True) if a[0] != 1]
    own, shared = _merged([a for a in axes if a.table or a.index]), _merged([a for a in axes if not a.table | a.index])
    if math.prod(a.size for a in own) < 16 and len(own) < 2 and shared:  # too few items to split: share one out
        own = [shared.pop(0), *own]
    extra = own[:-2] + shared[:-2]
    single = Axis(1, 0, 0, 0, 0)
    m0, m1 = ([single, single] + own)[-2:]
    r0, r1 = ([single, single] + shared)[-2:]
    inside = r1.size == 1 or (m1.size > 1 and abs(m1.x) < abs(r1.x))
    words = np.zeros(cpu.LENGTH, np.int64)
    words[cpu.FORM] = interleaved
    words[[cpu.INVERSE, cpu.PAIRS, cpu.ROWS, cpu.INSIDE]] = inverse, pairs, rows, inside
    words[cpu.BEFORE] = start * size
    words[cpu.AFTER] = (shape[-1] - start - 2 * pairs) * size
    wide = 8 if kind == "float64" else 4
    words[cpu.BLOCK] = max(1, TABLE_CACHE // (2 * wide * max(pairs, 1))) if inside else 1
    words[cpu.STREAM] = not in_place and math.prod(shape) * size >= LAST_LEVEL
    words[cpu.ALIGN] = out[-1] | start * size | pairs * size | _union(a.out for a in own + shared)
    for place, axis in ((cpu.M0, m0), (cpu.M1, m1), (cpu.R0, r0), (cpu.R1, r1)):
        words[place], words[place + 4], words[place + 8] = axis.size, axis.x, axis.out
    words[[cpu.TABLE_M0, cpu.TABLE_M1]] = m0.table, m1.table
    words[cpu.TABLE_STEP] = table[-1] if gather else m1.table
    words[[cpu.INDEX_M0, cpu.INDEX_M1]] = m0.index, m1.index
    starts = [(0, 0, 0, 0)]
    for axis in extra:
        starts = [tuple(s + i * step for s, step in zip(start, axis[1:], strict=True)) for start in starts
                  for i in range(axis.size)]  # fmt: skip
    return Plan(words, tuple(starts), m0.size * m1.size)


def _merged(axes: list[Axis]) -> list[Axis]:
    """The axes from the widest step to the narrowest; two that continue each other become one."""
    result: list[Axis] = []
    for axis in sorted(axes, key=lambda a: -abs(a.x)):
        outer = result[-1] if result else None
        if outer and all(o == i * axis.size for o, i in zip(outer[1:], axis[1:], strict=True)):
            result[-1] = Axis(outer.size * axis.size, *axis[1:])
        else:
            result.append(axis)
    return result


def _union(steps):
    bits = 0
    for step in steps:
        bits |= step
    return bits
