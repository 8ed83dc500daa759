"""The loops of decoding: a few new queries attend to many kept keys and values, which are read once (flash decoding).

A stretch is a fixed number of tokens of one row and one head of keys: a job for one thread. It widens keys to float32 a
block at a time, takes their scores, then exponentials against the greatest of the stretch, then sums the values by
these. The stretches of a row are joined in order, so that no bit depends on how many threads there are.
Everything was checked above.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import carray, njit, prange, types
from numba.extending import register_jitable

from numba_kernels import arithmetic
from numba_kernels.arithmetic import exponential
from numba_kernels.cache import compiled
from numba_kernels.cpu import EVERY, NARROW, WIDEN, place
from numba_kernels.intrinsics import exchange, pointer

# Where numbers stand in a plan: sizes, then steps along batch, heads and tokens. The two widths are constants
# of a kernel too, but where rows are copied: unrolled, a copy of rows that may overlap becomes no vector code.
(BATCH, KV_HEADS, GROUP, NEW, WINDOW, STRETCHES, HEAD_DIM, VALUE_DIM,
 Q_BATCH, Q_HEAD, Q_TOKEN, K_BATCH, K_HEAD, K_TOKEN, V_BATCH, V_HEAD, V_TOKEN, WORDS) = range(18)  # fmt: skip

STRETCH = 256  # tokens
BLOCK = 16  # tokens that are widened at a time: their keys stay in the first cache
Number = np.float32
LEAST = Number(-3e38)  # below any score: taken off where all are -inf


class Form(NamedTuple):
    """What a kernel is compiled for."""

    kind: str
    head_dim: int
    value_dim: int

    def __str__(self) -> str:
        return f"attend-{self.kind}-{self.head_dim}-{self.value_dim}"


@njit(inline="always")
def copy_block(stored, at, step, left, dim, rows, widen):  # type: ignore[no-untyped-def]
    """A block of rows of `dim` numbers, which begin at `at` and lie `step` apart, as float32 side by side.

    Where fewer are left, the last is repeated, whose other copies have no weight.
    """
    for j in range(BLOCK):
        row, to = place(at + min(j, left - 1) * step), place(j * dim)
        for d in range(dim):
            i = place(d)
            rows[to + i] = widen(stored[row + i])


@njit(error_model="numpy")
def cap_scores(s, first, cap):  # type: ignore[no-untyped-def]
    """s = c tanh(s / c)"""
    for j in range(STRETCH):
        a = s[first + place(j)]
        s[first + place(j)] = math.copysign(cap * capped(abs(a) / cap), a)


@njit(error_model="numpy")
def hide(s, first, begin, end):  # type: ignore[no-untyped-def]
    for j in range(max(0, begin), end):
        s[first + place(j)] = Number(-np.inf)


@register_jitable
def capped(a):  # type: ignore[no-untyped-def]
    """tanh a for a >= 0, within 1e-7"""
    e = exponential(Number(-2) * a)
    return (Number(1) - e) / (Number(1) + e)


@njit(error_model="numpy")
def exponentials(s, first, top):  # type: ignore[no-untyped-def]
    for j in range(STRETCH):
        s[first + place(j)] = exponential(s[first + place(j)] - top)


@njit(error_model="numpy")
def greatest(s, first, room):  # type: ignore[no-untyped-def]
    """The greatest score of a stretch: that of two halves, element by element, until one is left."""
    half = STRETCH // 2
    for j in range(half):
        a, b = s[first + place(j)], s[first + place(j + half)]
        room[place(j)] = a if a > b else b
    while half > 1:
        half //= 2
        for j in range(half):
            a, b = room[place(j)], room[place(j + half)]
            room[place(j)] = a if a > b else b
    return room[0]


@njit(error_model="numpy", fastmath={"nsz", "reassoc"})
def total(s, first):  # type: ignore[no-untyped-def]
    sum_ = Number(0)
    for j in range(STRETCH):
        sum_ += s[first + place(j)]
    return sum_


@njit(error_model="numpy", fastmath={"reassoc", "contract", "nsz"})
def dots(a, at, rows, dim, s, to):  # type: ignore[no-untyped-def]
    """Scalar products of a row with those of a block."""
    for k in range(0, BLOCK, 4):
        s0 = s1 = s2 = s3 = Number(0)
        r0, r1, r2, r3 = place(k * dim), place((k + 1) * dim), place((k + 2) * dim), place((k + 3) * dim)
        for d in range(dim):
            i = place(d)
            x = a[at + i]
            s0 += x * rows[r0 + i]
            s1 += x * rows[r1 + i]
            s2 += x * rows[r2 + i]
            s3 += x * rows[r3 + i]
        s[to + place(k)], s[to + place(k + 1)], s[to + place(k + 2)], s[to + place(k + 3)] = s0, s1, s2, s3


@njit(error_model="numpy", fastmath={"contract"})
def add_weighted(sums, at, p, weights, rows, dim):  # type: ignore[no-untyped-def]
    """sums += p_0 row_0 + p_1 row_1 + ..., the rows of a block."""
    for d in range(dim):
        total = sums[at + place(d)]
        for k in range(BLOCK):
            total += p[weights + place(k)] * rows[place(k * dim) + place(d)]
        sums[at + place(d)] = total


@register_jitable
def aligned(count):  # type: ignore[no-untyped-def]
    """Numbers that begin at a cache line."""
    numbers = np.empty(count + 16, Number)
    first = (64 - numbers.ctypes.data % 64) % 64 // 4
    return numbers[first : first + count]


@njit(error_model="numpy")
def attend_stretch(  # type: ignore[no-untyped-def]
    p, job, queries, keys, values, begin, length, scale, cap, q, s, block, tops, totals, sums, dim, width, widen
):
    """One job: the greatest score of each row of queries, its sum of exponentials, its weighted sum of values."""
    rows, new, unit, stretch = p[GROUP] * p[NEW], p[NEW], job // p[STRETCHES], job % p[STRETCHES]
    b, h = unit // p[KV_HEADS], unit % p[KV_HEADS]
    first = max(begin, length - new - p[WINDOW] + 1) + stretch * STRETCH
    count = min(STRETCH, length - first)
    if count <= 0:
        for r in range(rows):
            tops[place(job * rows + r)] = Number(-np.inf)
        return
    for r in range(rows):
        at = place(b * p[Q_BATCH] + (h * p[GROUP] + r // new) * p[Q_HEAD] + r % new * p[Q_TOKEN])
        for d in range(dim):
            q[place(r * dim + d)] = widen(queries[at + place(d)]) * scale
    at, step = b * p[K_BATCH] + h * p[K_HEAD] + first * p[K_TOKEN], p[K_TOKEN]
    for j in range(0, count, BLOCK):
        copy_block(keys, at + j * step, step, count - j, p[HEAD_DIM], block, widen)
        for r in range(rows):
            dots(q, place(r * dim), block, dim, s, place(r * STRETCH + j))
    for r in range(rows):
        row, last = place(r * STRETCH), length - new + r % new - first  # the last token that it sees
        if cap > 0:
            cap_scores(s, row, cap)
        hide(s, row, 0, min(STRETCH, last - p[WINDOW] + 1))
        hide(s, row, min(count, last + 1), STRETCH)
        top = greatest(s, row, block)
        exponentials(s, row, max(top, LEAST))
        tops[place(job * rows + r)], totals[place(job * rows + r)] = top, total(s, row)
        for d in range(width):
            sums[place((job * rows + r) * width + d)] = Number(0)
    at, step = b * p[V_BATCH] + h * p[V_HEAD] + first * p[V_TOKEN], p[V_TOKEN]
    for j in range(0, count, BLOCK):
        copy_block(values, at + j * step, step, count - j, p[VALUE_DIM], block, widen)
        for r in range(rows):
            add_weighted(sums, place((job * rows + r) * width), s, place(r * STRETCH + j), block, width)


@njit(error_model="numpy")
def join(p, unit, r, sink, tops, totals, sums, o, result, width, narrow):  # type: ignore[no-untyped-def]
    """The stretches of one row of queries, in order, as if they had been one."""
    rows, stretches = p[GROUP] * p[NEW], p[STRETCHES]
    top = sink
    for stretch in range(stretches):
        top = max(top, tops[place((unit * stretches + stretch) * rows + r)])
    calm = max(top, LEAST)
    whole = exponential(sink - calm)
    for d in range(width):
        o[place(d)] = Number(0)
    for stretch in range(stretches):
        mine = place((unit * stretches + stretch) * rows + r)
        share = exponential(tops[mine] - calm)
        if share != 0:  # a NaN too
            whole += share * totals[mine]
            for d in range(width):
                o[place(d)] += share * sums[mine * place(width) + place(d)]
    to = place((unit * rows + r) * width)
    for d in range(width):
        result[to + place(d)] = narrow(Number(0) if whole == 0 else o[place(d)] / whole)


@cache
def kernel(form: Form, parallel: bool) -> Callable[..., bool]:
    """The compiled loops: (plan, query, key, value, out, sinks, starts, lengths, scale, cap, parts, lock) -> bool.

    From query to lengths all are addresses; parts, lock and what is returned are as in ``cpu``. A cap of 0 is none.
    """
    kind, head_dim, value_dim = form
    widen, narrow = WIDEN[kind], NARROW[kind]
    stored, word = arithmetic.STORED[kind], np.int64(0)

    def attend(plan, query, key, value, out, sinks, starts, lengths, scale, cap, parts, lock):  # type: ignore[no-untyped-def]
        p = carray(pointer(plan, word), WORDS)
        queries, keys = carray(pointer(query, stored(0)), EVERY), carray(pointer(key, stored(0)), EVERY)
        values, result = carray(pointer(value, stored(0)), EVERY), carray(pointer(out, stored(0)), EVERY)
        begins, ends = carray(pointer(starts, word), EVERY), carray(pointer(lengths, word), EVERY)
        logits = carray(pointer(sinks, Number(0)), EVERY)
        rows, units = p[GROUP] * p[NEW], p[BATCH] * p[KV_HEADS]
        jobs = units * p[STRETCHES]
        tops, totals = np.empty(jobs * rows, Number), np.empty(jobs * rows, Number)
        sums = np.empty(jobs * rows * value_dim, Number)
        if parallel and exchange(lock, 1):
            return False
        for part in prange(parts):
            q, s = aligned(rows * head_dim), aligned(rows * STRETCH)
            block = aligned(max(BLOCK * max(head_dim, value_dim), STRETCH))
            for job in range(part * jobs // parts, (part + 1) * jobs // parts):
                b = place(job // (p[KV_HEADS] * p[STRETCHES]))
                attend_stretch(p, job, queries, keys, values, begins[b], ends[b], Number(scale), Number(cap),
                               q, s, block, tops, totals, sums, head_dim, value_dim, widen)  # fmt: skip
        for part in prange(parts):
            o = np.empty(value_dim, Number)
            for unit in range(part * units // parts, (part + 1) * units // parts):
                for r in range(rows):
                    sink = logits[place(unit % p[KV_HEADS] * p[GROUP] + r // p[NEW])]
                    join(p, unit, r, sink, tops, totals, sums, o, result, value_dim, narrow)
        if parallel:
            exchange(lock, 0)
        return True

    signature = types.boolean(*8 * (types.int64,), types.float64, types.float64, types.int64, types.int64)
    name, options = str(form) + "-parallel" * parallel, {"nogil": True, "error_model": "numpy"}
    return compiled(attend, signature, name, parallel=parallel, **options)  # type: ignore[no-any-return]
