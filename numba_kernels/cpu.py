"""The loops around strips, for one thread and for several. Everything was checked above.

A plan (see ``plan``) is an array of 64-bit integers in memory; x, out, cos, sin and index are
addresses. Sizes and steps of the axes: m0, m1 own a table row each, r0, r1 share it.
"""

from typing import Any

from numba import njit, prange

from numba_kernels.strip import fence, peek, strip

(FORM, INVERSE, PAIRS, BEFORE, AFTER, ROWS, INSIDE, BLOCK, STREAM, ALIGN,
 M0, M1, R0, R1, X_M0, X_M1, X_R0, X_R1, OUT_M0, OUT_M1, OUT_R0, OUT_R1,
 TABLE_M0, TABLE_M1, TABLE_STEP, INDEX_M0, INDEX_M1, LENGTH) = range(28)  # fmt: skip


@njit(cache=True, nogil=True)
def span(
    tag: Any, plan: int, x: int, out: int, cos: int, sin: int, index: int, low: int, high: int
) -> None:
    """Rotate items low to high, an item being a place along m0 and m1 with all of r0 and r1."""
    form, inside, m1 = peek(plan, FORM), peek(plan, INSIDE), peek(plan, M1)
    if peek(plan, STREAM) and (out | peek(plan, ALIGN)) & 63 == 0:
        form += 2
    inverse, pairs, before, after = peek(plan, INVERSE), peek(plan, PAIRS), peek(plan, BEFORE), peek(plan, AFTER)
    table_step, index_step, block = peek(plan, TABLE_STEP), peek(plan, INDEX_M1), peek(plan, BLOCK)
    r0, r1 = peek(plan, R0), peek(plan, R1)
    # a strip runs along m1 where rows are neighbours there, else along r1
    steps = (peek(plan, X_M1), peek(plan, OUT_M1)) if inside else (peek(plan, X_R1), peek(plan, OUT_R1))
    others = r1 if inside else 1
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
        for j0 in range(r0):
            for j1 in range(others):
                x_row = x_item + j0 * peek(plan, X_R0) + j1 * peek(plan, X_R1)
                out_row = out_item + j0 * peek(plan, OUT_R0) + j1 * peek(plan, OUT_R1)
                strip(tag, form, inverse, pairs, before, after, rows, x_row, out_row, cos + table, sin + table, at,
                      steps[0], steps[1], table_step if inside else 0, index_step)  # fmt: skip
        item = stop
    if form >= 2:
        fence()


@njit(cache=True, nogil=True, parallel=True)
def split(
    tag: Any, plan: int, x: int, out: int, cos: int, sin: int, index: int, items: int, chunks: int
) -> None:
    """The same in `chunks` equal spans at once: no number depends on how many."""
    for chunk in prange(chunks):
        span(tag, plan, x, out, cos, sin, index, items * chunk // chunks, items * (chunk + 1) // chunks)


@njit(cache=True, nogil=True)
def outside(plan: int, index: int) -> int:
    """1 if some index is not a row of the tables, else 0."""
    rows = peek(plan, ROWS)
    for i0 in range(peek(plan, M0)):
        for i1 in range(peek(plan, M1)):
            row = peek(index + i0 * peek(plan, INDEX_M0) + i1 * peek(plan, INDEX_M1), 0)
            if row < 0 or row >= rows:
                return 1
    return 0
