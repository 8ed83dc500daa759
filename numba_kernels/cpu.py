"""The loops: every row of x, and every pair of a row, turned. Everything was checked above.

Compiled code takes addresses, and a plan (see ``plan``) that says where rows lie. What makes LLVM turn these
loops into the vector code that one would write by hand:

- the number of pairs is a constant, so that a row is unrolled whole
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
from numba import carray, config, prange, types
from numba.extending import register_jitable

from numba_kernels import arithmetic
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


@cache
def kernel(form: Form, parallel: bool) -> Callable[..., bool]:
    """The compiled loops: (plan, x, out, cos, sin, index, weight, epsilon, parts, lock) -> whether the rows
    were turned.

    Down to weight all are addresses; those of index and weight are only read where rows are gathered or normalised.

    parts   even shares of the rows, each for a thread; no number depends on how many there are
    lock    of a parallel kernel: a word that is 1 while one runs, when another turns nothing
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
            count, channels = (pairs, width) if pairs else (p[PAIRS], p[WIDTH])  # here they stay constants
            step, gap = (place(2), place(1)) if interleaved else (place(1), place(count))
            start, sign, run, block = place(p[START]), number(p[SIGN]), p[AXIS + SIZE], p[BLOCK]
            sum_, scale_ = place(part * (PARTIAL + NORMED_BLOCK)), place(part * (PARTIAL + NORMED_BLOCK) + PARTIAL)
            low, high = part * p[ROWS] // parts, (part + 1) * p[ROWS] // parts
            for first in range(0, run, block):
                for unit in range(low // run, (high + run - 1) // run):
                    begin, end = max(first, low - unit * run), min(first + block, run, high - unit * run)
                    rest, x_unit, out_unit = place(unit), p[LOW_X], p[LOW_OUT]
                    table_unit, index_unit = p[LOW_TABLE], p[LOW_INDEX]
                    for axis in range(AXIS + STEPS, AXIS + STEPS * p[AXES], STEPS):
                        size = place(p[axis + SIZE])
                        i, rest = np.int64(rest % size), rest // size
                        x_unit, out_unit = x_unit + i * p[axis + X], out_unit + i * p[axis + OUT]
                        table_unit, index_unit = table_unit + i * p[axis + TABLE], index_unit + i * p[axis + INDEX]
                    if normed:
                        for i in range(begin, end):
                            row = place(x_unit + i * p[AXIS + X])
                            if beyond:
                                for k in range(0, channels, line):
                                    prefetch(x + (np.int64(row) + k) * itemsize + AHEAD)
                            for k in range(PARTIAL):
                                column = number(0)
                                for group in range(channels // PARTIAL):
                                    a = widen(source[row + place(group * PARTIAL + k)])
                                    column += a * a
                                sums[sum_ + place(k)] = column
                            for k in range(8):
                                sums[sum_ + place(k)] += sums[sum_ + place(8 + k)]
                            for k in range(4):
                                sums[sum_ + place(k)] += sums[sum_ + place(4 + k)]
                            for k in range(2):
                                sums[sum_ + place(k)] += sums[sum_ + place(2 + k)]
                            total = sums[sum_] + sums[sum_ + place(1)]
                            for k in range(channels // PARTIAL * PARTIAL, channels):
                                a = widen(source[row + place(k)])
                                total += a * a
                            sums[scale_ + place(i - begin)] = total
                        for i in range(end - begin):
                            mean = sums[scale_ + place(i)] / number(channels)
                            sums[scale_ + place(i)] = number(1) / number(math.sqrt(mean + number(epsilon)))
                    for i in range(begin, end):
                        row = place(x_unit + i * p[AXIS + X])
                        to = row if in_place else place(part * channels if streams else out_unit + i * p[AXIS + OUT])
                        table = place(table_unit + i * p[AXIS + TABLE])
                        if gathers:
                            table = place(rows[place(index_unit + i * p[AXIS + INDEX])] * p[TABLE_STEP])
                        if beyond and not normed:
                            for k in range(0, 2 * count, line):
                                prefetch(x + (np.int64(row + start) + k) * itemsize + AHEAD)
                        scale = sums[scale_ + place(i - begin)] if normed else number(1)
                        for j in range(channels - 2 * count if normed or not in_place else 0):  # channels that pass
                            k = place(j) if j < p[START] else place(j + 2 * count)
                            if normed:
                                target[to + k] = narrow(widen(source[row + k]) * scale * weights[k])
                            else:
                                target[to + k] = source[row + k]
                        for pair in range(count):
                            k = place(pair)
                            i_a, i_b = start + step * k, start + step * k + gap
                            a, b = widen(source[row + i_a]), widen(source[row + i_b])
                            if normed:
                                a, b = a * scale * weights[i_a], b * scale * weights[i_b]
                            c, s = cosines[table + k], sines[table + k] * sign
                            target[to + i_a] = narrow(a * c - b * s)
                            target[to + i_b] = narrow(b * c + a * s)
                        if streams:
                            to_ = out + (out_unit + i * p[AXIS + OUT]) * itemsize
                            for k in range(0, channels, line):
                                stream(to_ + k * itemsize, turned.ctypes.data + (part * channels + k) * itemsize)
        if parallel:
            exchange(lock, 0)
        return True

    signature = types.boolean(*7 * (types.int64,), types.float64, types.int64, types.int64)
    name, options = str(form) + "-parallel" * parallel, {"nogil": True, "error_model": "numpy"}
    return compiled(rotate, signature, name, parallel=parallel, **options)  # type: ignore[no-any-return]
