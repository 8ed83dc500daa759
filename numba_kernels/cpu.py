"""The loops. x is (outer, rows, head_dim), tables are (rows of a table, pairs).

Row t of every outer block takes table row index[o, t]; indices were checked by the layer
above. Offsets are unsigned so that the compiler need not provide for negative ones.
"""

import numpy as np
from numba import njit, prange

from numba_kernels.pair import narrow, turn, widen

BLOCK = 64  # rows whose tables stay in the first-level cache while the outer blocks pass


@njit(cache=True, nogil=True)
def span(x, cos, sin, index, start, interleaved, sign, low, high):
    """Rotate rows low to high of every outer block of x in place."""
    half = np.uintp(cos.shape[1])
    one, two, first = np.uintp(1), np.uintp(2), np.uintp(start)
    for begin in range(low, high, BLOCK):
        for outer in range(x.shape[0]):
            for t in range(begin, min(begin + BLOCK, high)):
                row = index[outer, t]
                if interleaved:
                    for i in range(half):
                        a, b = first + two * i, first + two * i + one
                        u, v = turn(widen(x[outer, t, a]), widen(x[outer, t, b]), cos[row, i], sign * sin[row, i])
                        x[outer, t, a], x[outer, t, b] = narrow(u, x[outer, t, a]), narrow(v, x[outer, t, b])
                else:
                    for i in range(half):
                        a, b = first + i, first + half + i
                        u, v = turn(widen(x[outer, t, a]), widen(x[outer, t, b]), cos[row, i], sign * sin[row, i])
                        x[outer, t, a], x[outer, t, b] = narrow(u, x[outer, t, a]), narrow(v, x[outer, t, b])


@njit(cache=True, nogil=True, parallel=True)
def split(x, cos, sin, index, start, interleaved, sign, chunks):
    """The same over `chunks` equal spans of rows at once: no number depends on how many."""
    rows = x.shape[1]
    for chunk in prange(chunks):
        low, high = rows * chunk // chunks, rows * (chunk + 1) // chunks
        span(x, cos, sin, index, start, interleaved, sign, low, high)
