"""The loops: every row of x, and every pair of a row, turned. Everything was checked above.

Compiled code takes addresses, and a plan (see ``plan``) that says where rows lie. What makes LLVM turn these
loops into the vector code that one would write by hand:

- the number of pairs is a constant of the kernel, within its `prange`, so that a row is unrolled whole
- x, out and the tables are one-dimensional arrays that begin with the lowest address, and places in them are unsigned:
  a signed index may be negative, and the test for that keeps a loop from being vectorised
- within `prange` Numba lets LLVM assume that arrays do not overlap. In place, x and out are one array
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding
from numba import carray, config, njit, prange, types
from numba.extending import register_jitable

from numba_kernels import arithmetic
from numba_kernels.arithmetic import turn
from numba_kernels.cache import compiled
from numba_kernels.intrinsics import LINE, exchange, narrow_half, pointer, prefetch, stream, widen_half

# Where numbers stand in a plan: first those of the whole call, then those of each axis, the one of a run first.
(ROWS, BLOCK, PAIRS, START, WIDTH, SIGN, TABLE_STEP, LOW_X, LOW_OUT, LOW_TABLE, LOW_INDEX, AXES, AXIS) = range(13)
SIZE, X, OUT, TABLE, INDEX, STEPS = range(6)

AHEAD = 4096  # bytes between a row and what is asked of memory: a page
PARTIAL = 16  # sums of squares: those of channels k, k + 16, k + 32, ...
NORMED_BLOCK = 32  # rows that are normalised, and then turned while they are in the first cache
EVERY = 1 << 60  # numbers of an array whose end is not looked at
place = np.uintp


class Form(NamedTuple):
    """What a kernel is compiled for."""

    kind: str  # how x is stored
    interleaved: bool
    pairs: int  # 0 for any number
    width: int  # channels of a row; 0 for any number
    in_place: bool
    beyond: bool  # the cache: ask for rows ahead, and stream what is written apart
    gathers: bool  # rows of the tables by number
    normed: bool

    def __str__(self) -> str:
        """As in float32-interleaved-64-of-128-in-place.

        >>> str(Form("float32", True, 64, 128, True, False, False, False))
        'float32-interleaved-64-of-128-in-place'
        """
        pairing = "interleaved" if self.interleaved else "half-split"
        width = f"{self.pairs}-of-{self.width}" if self.pairs else "any-width"
        way = ("in-place" if self.in_place else "apart", "beyond-cache" * self.beyond)
        words = (self.kind, pairing, width, *way, "gathered" * self.gathers, "normalised" * self.normed)
        return "-".join(word for word in words if word)


@register_jitable
def widen_float16(stored: Any) -> Any:
    return widen_half(stored)


@register_jitable
def narrow_float16(number: Any) -> Any:
    return narrow_half(number)


def converts_float16() -> bool:
    """Whether the processor that is compiled for has x86's instructions for float16, which give the same bits."""
    features = config.CPU_FEATURES
    if features is None:
        features = "" if config.CPU_NAME else binding.get_host_cpu_features().flatten()
    return "+f16c" in features.split(",")


WIDEN, NARROW = dict(arithmetic.WIDEN), dict(arithmetic.NARROW)
if converts_float16():
    WIDEN["float16"], NARROW["float16"] = widen_float16, narrow_float16


# Inlined before anything is compiled, so that what is constant in the kernel, or does not overlap, is so in these.


@njit(inline="always")
def turn_row(  # type: ignore[no-untyped-def]
    source, row, target, to, cosines, sines, table, sign, count, step, gap, widen, narrow
):
    """Turn every pair of a row: channels step i and step i + gap by row `table` of the tables."""
    for pair in range(count):
        i = place(pair)
        a, b = widen(source[row + step * i]), widen(source[row + step * i + gap])
        a, b = turn(a, b, cosines[table + i], sines[table + i] * sign)
        target[to + step * i], target[to + step * i + gap] = narrow(a), narrow(b)


@njit(inline="always")
def turn_normed_row(  # type: ignore[no-untyped-def]
    source, row, target, to, cosines, sines, table, sign, count, step, gap, widen, narrow, scale, weights, first
):
    """The same of x scale weight, whose weights begin at `first`."""
    for pair in range(count):
        i = place(pair)
        a = widen(source[row + step * i]) * scale * weights[first + step * i]
        b = widen(source[row + step * i + gap]) * scale * weights[first + step * i + gap]
        a, b = turn(a, b, cosines[table + i], sines[table + i] * sign)
        target[to + step * i], target[to + step * i + gap] = narrow(a), narrow(b)


@njit(inline="always")
def squares(source, row, channels, sums, at, zero, widen):  # type: ignore[no-untyped-def]
    """The sum of the squares of a row, in one order on every machine: sixteen sums, halved four times, and the rest.

    sums, at   where the sixteen may be kept
    """
    for lane in range(PARTIAL):
        total = zero
        for group in range(channels // PARTIAL):
            a = widen(source[row + place(group * PARTIAL + lane)])
            total += a * a
        sums[at + place(lane)] = total
    for lane in range(8):
        sums[at + place(lane)] += sums[at + place(8 + lane)]
    for lane in range(4):
        sums[at + place(lane)] += sums[at + place(4 + lane)]
    for lane in range(2):
        sums[at + place(lane)] += sums[at + place(2 + lane)]
    total = sums[at] + sums[at + place(1)]
    for channel in range(channels // PARTIAL * PARTIAL, channels):
        a = widen(source[row + place(channel)])
        total += a * a
    return total


@register_jitable
def begin_of(p, unit):  # type: ignore[no-untyped-def]
    """Where the rows of a unit begin: in x, in out, in the tables, among the numbers of their rows."""
    x, out, table, index, rest = p[LOW_X], p[LOW_OUT], p[LOW_TABLE], p[LOW_INDEX], place(unit)
    for axis in range(AXIS + STEPS, AXIS + STEPS * p[AXES], STEPS):
        size = place(p[axis + SIZE])
        i, rest = np.int64(rest % size), rest // size
        x, out = x + i * p[axis + X], out + i * p[axis + OUT]
        table, index = table + i * p[axis + TABLE], index + i * p[axis + INDEX]
    return x, out, table, index


@cache
def kernel(form: Form, parallel: bool) -> Callable[..., bool]:
    """The compiled loops: (plan, x, out, cos, sin, index, weight, epsilon, parts, lock) -> whether rows were turned.

    Down to weight all are addresses; those of index and weight are only read where rows are gathered or normalised.

    parts   even shares of the rows, each for a thread; no number depends on how many there are
    lock    of a parallel kernel: a word that is 1 while one runs, when another turns nothing

    A unit is all rows along the first axis of the plan, at one place of all others. Its rows come in blocks, whose
    tables stay in a cache while the blocks of other units pass over them.
    """
    kind, interleaved, pairs, width, in_place, beyond, gathers, normed = form
    widen, narrow = WIDEN[kind], NARROW[kind]
    stored, number = arithmetic.STORED[kind], arithmetic.ARITHMETIC[kind]
    itemsize, wide, word = stored(0).itemsize, number(0).itemsize, np.int64(0)
    streams, line = beyond and not in_place, LINE // itemsize

    def rotate(plan, x, out, cos, sin, index, weight, epsilon, parts, lock):  # type: ignore[no-untyped-def]
        p = carray(pointer(plan, word), EVERY)
        x, out, index = x - p[LOW_X] * itemsize, out - p[LOW_OUT] * itemsize, index - p[LOW_INDEX] * 8
        cos, sin = cos - p[LOW_TABLE] * wide, sin - p[LOW_TABLE] * wide
        source, rows = carray(pointer(x, stored(0)), EVERY), carray(pointer(index, word), EVERY)
        turned = np.empty(parts * p[WIDTH] if streams else 0, stored)
        target = source if in_place else turned if streams else carray(pointer(out, stored(0)), EVERY)
        cosines, sines = carray(pointer(cos, number(0)), EVERY), carray(pointer(sin, number(0)), EVERY)
        weights = carray(pointer(weight, number(0)), EVERY)
        sums = np.empty(parts * (PARTIAL + NORMED_BLOCK) if normed else 0, number)
        if parallel and exchange(lock, 1):
            return False
        for part in prange(parts):
            count, channels = (pairs, width) if pairs else (p[PAIRS], p[WIDTH])
            step, gap = (place(2), place(1)) if interleaved else (place(1), place(count))
            start, sign, run, block = place(p[START]), number(p[SIGN]), p[AXIS + SIZE], p[BLOCK]
            lanes, scales = place(part * (PARTIAL + NORMED_BLOCK)), place(part * (PARTIAL + NORMED_BLOCK) + PARTIAL)
            low, high = part * p[ROWS] // parts, (part + 1) * p[ROWS] // parts
            for first in range(0, run, block):
                for unit in range(low // run, (high + run - 1) // run):
                    begin, end = max(first, low - unit * run), min(first + block, run, high - unit * run)
                    x_unit, out_unit, table_unit, index_unit = begin_of(p, unit)
                    if normed:
                        for i in range(begin, end):
                            row = place(x_unit + i * p[AXIS + X])
                            if beyond:
                                for channel in range(0, channels, line):
                                    prefetch(x + (np.int64(row) + channel) * itemsize + AHEAD)
                            total = squares(source, row, channels, sums, lanes, number(0), widen)
                            sums[scales + place(i - begin)] = total
                        for j in range(end - begin):
                            mean = sums[scales + place(j)] / number(channels)
                            sums[scales + place(j)] = number(1) / number(math.sqrt(mean + number(epsilon)))
                    for i in range(begin, end):
                        row, away = place(x_unit + i * p[AXIS + X]), out_unit + i * p[AXIS + OUT]
                        to = row if in_place else place(part * channels) if streams else place(away)
                        table = place(table_unit + i * p[AXIS + TABLE])
                        if gathers:
                            table = place(rows[place(index_unit + i * p[AXIS + INDEX])] * p[TABLE_STEP])
                        if beyond and not normed:
                            for channel in range(0, 2 * count, line):
                                prefetch(x + (np.int64(row + start) + channel) * itemsize + AHEAD)
                        scale = sums[scales + place(i - begin)] if normed else number(1)
                        for other in range(channels - 2 * count if normed or not in_place else 0):  # channels that pass
                            at = place(other) if other < p[START] else place(other + 2 * count)
                            if normed:
                                target[to + at] = narrow(widen(source[row + at]) * scale * weights[at])
                            else:
                                target[to + at] = source[row + at]
                        if normed:
                            turn_normed_row(source, row + start, target, to + start, cosines, sines, table, sign, count,
                                            step, gap, widen, narrow, scale, weights, start)
                        else:
                            turn_row(source, row + start, target, to + start, cosines, sines, table, sign, count,
                                     step, gap, widen, narrow)
                        if streams:
                            for channel in range(0, channels, line):
                                here = turned.ctypes.data + (part * channels + channel) * itemsize
                                stream(out + (away + channel) * itemsize, here)
        if parallel:
            exchange(lock, 0)
        return True

    signature = types.boolean(*7 * (types.int64,), types.float64, types.int64, types.int64)
    name, options = str(form) + "-parallel" * parallel, {"nogil": True, "error_model": "numpy"}
    return compiled(rotate, signature, name, parallel=parallel, **options)  # type: ignore[no-any-return]
