"""The loops around strips. Everything was checked above.

A plan (see ``plan``) is an array of 64-bit integers in memory; x, out, cos, sin and index are
addresses. Sizes and steps of the axes: m0, m1 own a table row each, r0, r1 share it. A call is
such an array too: the kernel to run, a plan, the addresses to run it on (that of weights is read by
kernels that normalise), and whether out is memory
that was never touched, which the system is about to bring into the cache, so that nothing streams past it.
"""

import logging
from functools import cache
from typing import Any

from numba import types
from numba.core import event
from numba.extending import register_jitable

from numba_kernels import kept
from numba_kernels.strip import TAGS, fence, peek, strip

(FORM, INVERSE, PAIRS, BEFORE, AFTER, ROWS, INSIDE, BLOCK, STREAM, ALIGN,
 M0, M1, R0, R1, X_M0, X_M1, X_R0, X_R1, OUT_M0, OUT_M1, OUT_R0, OUT_R1,
 TABLE_M0, TABLE_M1, TABLE_STEP, INDEX_M0, INDEX_M1, SHARED, LENGTH) = range(29)  # fmt: skip
KERNEL, PLAN, X, OUT, COS, SIN, INDEX, NORM, ITEMS, FRESH = range(10)


@register_jitable
def span(
    tag: Any, plan: int, x: int, out: int, cos: int, sin: int, index: int, norm: Any, fresh: int,
    low: int, high: int, first: int, last: int,
) -> None:  # fmt: skip
    """Rotate items low to high, an item being a place along m0 and m1, of rows `first` to `last` that share tables."""
    form, inside, m1 = peek(plan, FORM), peek(plan, INSIDE), peek(plan, M1)
    if x != out:
        form += 4 if peek(plan, STREAM) and not fresh and (out | peek(plan, ALIGN)) & 63 == 0 else 2
    inverse, pairs, before, after = peek(plan, INVERSE), peek(plan, PAIRS), peek(plan, BEFORE), peek(plan, AFTER)
    table_step, index_step, block = peek(plan, TABLE_STEP), peek(plan, INDEX_M1), peek(plan, BLOCK)
    # a strip runs along m1 where rows are neighbours there, else along r1
    steps = (peek(plan, X_M1), peek(plan, OUT_M1)) if inside else (peek(plan, X_R1), peek(plan, OUT_R1))
    r1 = peek(plan, R1)
    item = low
    while item < high:
        i0 = item // m1
        i1 = item - i0 * m1
        stop = min(high, item + block, (i0 + 1) * m1)
        x_item = x + i0 * peek(plan, X_M0) + i1 * peek(plan, X_M1)
        out_item = out + i0 * peek(plan, OUT_M0) + i1 * peek(plan, OUT_M1)
        table = i0 * peek(plan, TABLE_M0) + i1 * peek(plan, TABLE_M1)
        at = index + i0 * peek(plan, INDEX_M0) + i1 * peek(plan, INDEX_M1) if index else 0
        if index and not inside:
            table, at = peek(at, 0) * table_step, 0
        rows = stop - item if inside else r1
        for j in range(first, last):
            j0, j1 = (j // r1, j % r1) if inside else (j, 0)
            x_row = x_item + j0 * peek(plan, X_R0) + j1 * peek(plan, X_R1)
            out_row = out_item + j0 * peek(plan, OUT_R0) + j1 * peek(plan, OUT_R1)
            strip(tag, form, inverse, pairs, before, after, rows, x_row, out_row, cos + table, sin + table, at, norm,
                  steps[0], steps[1], table_step if inside else 0, index_step)  # fmt: skip
        item = stop
    if form >= 4:
        fence()


@cache
def kernel(kind: str, normed: bool = False) -> int:
    """The address of the loops for numbers of this kind, normalised or not: (address of a call, part, parts) -> None.

    Parts are even, and far apart in memory where that can be: no number depends on how many there are.
    """
    tag = TAGS[kind]

    def part(call: int, number: int, parts: int) -> None:
        plan = peek(call, PLAN)
        items, shared = peek(call, ITEMS), peek(plan, R0) * (peek(plan, R1) if peek(plan, INSIDE) else 1)
        low, high, first, last = 0, items, 0, shared
        if peek(plan, SHARED) and (shared % parts == 0 or shared >= 8 * parts):
            first, last = shared * number // parts, shared * (number + 1) // parts
        else:
            low, high = items * number // parts, items * (number + 1) // parts
        span(tag, plan, peek(call, X), peek(call, OUT), peek(call, COS), peek(call, SIN), peek(call, INDEX),
             peek(call, NORM) if normed else None, peek(call, FRESH), low, high, first, last)  # fmt: skip

    with event.install_listener("numba:run_pass", Announcement(kind + ", normalised" * normed)):
        return kept.address(part, types.void(types.int64, types.int64, types.int64))


class Announcement(event.Listener):
    """Says that a kernel is being compiled, which takes a second, where it was not kept from another process."""

    def __init__(self, kind: str) -> None:
        self.kind: str | None = kind

    def on_start(self, happening: Any) -> None:
        if self.kind:
            logging.getLogger(__package__).warning("compiling the kernel for %s, once on this machine", self.kind)
        self.kind = None

    def on_end(self, happening: Any) -> None:
        pass


@kept.compiled(nogil=True)
def outside(plan: int, index: int) -> int:
    """1 if some index is not a row of the tables, else 0."""
    rows = peek(plan, ROWS)
    for i0 in range(peek(plan, M0)):
        for i1 in range(peek(plan, M1)):
            row = peek(index + i0 * peek(plan, INDEX_M0) + i1 * peek(plan, INDEX_M1), 0)
            if row < 0 or row >= rows:
                return 1
    return 0
