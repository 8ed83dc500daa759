"""The kernel: a thread turns one vector of pairs in one row, then in the rows that share its angles.

A block is (units, rows). A unit is a vector of pairs, or one of channels that pass through. Rows are
numbered over the leading axes, those of queries first and then those of keys. Everything was
checked above; addresses and steps are 64-bit and in bytes.
"""

import math
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import cuda
from numba.extending import register_jitable

from numba_kernels.arithmetic import ARITHMETIC, NARROW, STORED, WIDEN, product, turn
from numba_kernels.cuda.memory import SIMULATED, load, store

# Where numbers stand in a plan: first those of the launch, then those of each side and its axes.
(COS, SIN, PLACES, TABLE_ROWS, COS_ROW, SIN_ROW, COS_STEP, SIN_STEP, PAIRS, START, WIDTH, TURNING, UNITS, SIGN,
 LAUNCH) = range(15)  # fmt: skip
X, OUT, WEIGHT, X_STEP, OUT_STEP, WEIGHT_STEP, ROWS, TIMES, EACH, X_TIMES, OUT_TIMES, SIDE = range(12)
SIZE, X_AXIS, OUT_AXIS, COS_AXIS, SIN_AXIS, PLACE_AXIS, AXIS = range(7)

BLOCK = 4 if SIMULATED else 256  # threads; each of the simulator's is a thread of Python


class Form(NamedTuple):
    """What a kernel is compiled for."""

    kind: str  # how x is stored
    table: str  # how cos and sin are
    weight: str | None  # how the weights of the normalisation are, if there is one
    place: str | None  # the dtype of positions, if rows are gathered
    interleaved: bool
    lanes: int  # pairs in a vector
    axes: int  # leading axes, but the one whose rows a thread turns one after another
    both: bool  # queries and keys


@register_jitable
def flat(block: int, size: int, thread: int) -> Any:
    """The number of a row over all blocks, which may pass 2^31.

    >>> int(flat(np.int32(2**31 - 1), np.int32(256), np.int32(255))) == 2**39 - 1
    True
    """
    return np.int64(block) * np.int64(size) + np.int64(thread)


@cache
def compiled(form: Form) -> Any:
    """The kernel of this form: it takes a plan and the epsilon of the normalisation."""
    lanes, axes, both, gathers, normed = form.lanes, form.axes, form.both, bool(form.place), bool(form.weight)
    interleaved, key, heavy = form.interleaved, SIDE + AXIS * axes, form.weight or form.kind
    stored, widen, narrow = STORED[form.kind], WIDEN[form.kind], NARROW[form.kind]
    tabled, widen_table = STORED[form.table], WIDEN[form.table]
    weighed, widen_weight = STORED[heavy], WIDEN[heavy]
    placed, number = np.dtype(form.place or "int64").type, ARITHMETIC[form.kind]
    nan, zero, one = number(np.nan), number(0), number(1)
    # a unit's vectors lie behind each other: channels k and k + lanes of them pair, or 2k and 2k + 1
    two_lanes, wide, stride, apart = (2 * lanes, 2 * lanes, 2, 1) if interleaved else (2 * lanes, lanes, 1, lanes)

    @register_jitable
    def of(plan: Any, place: int, second: bool) -> Any:
        """A number of the side that a row belongs to."""
        if both:
            return plan[LAUNCH + key + place] if second else plan[LAUNCH + place]
        return plan[LAUNCH + place]

    @register_jitable
    def channels(plan: Any, unit: int) -> Any:
        """The channels where the two vectors of a unit begin, or the one channel of a unit that passes through."""
        if unit < plan[TURNING]:
            first = plan[START] + unit * wide
            return first, first + (lanes if interleaved else plan[PAIRS])
        first = (unit - plan[TURNING]) * lanes
        first = first if first < plan[START] else first + 2 * plan[PAIRS]
        return first, first

    @register_jitable
    def fetch(vector: Any, address: int, step: int, ends: Any) -> None:
        """Both vectors of a unit, the second behind the first."""
        load(address + ends[0] * step, vector, 0, lanes)
        if ends[1] != ends[0]:
            load(address + ends[1] * step, vector, lanes, lanes)

    @register_jitable
    def put(vector: Any, address: int, step: int, ends: Any) -> None:
        store(address + ends[0] * step, vector, 0, lanes)
        if ends[1] != ends[0]:
            store(address + ends[1] * step, vector, lanes, lanes)

    @register_jitable
    def tabulate(numbers: Any, raw: Any, address: int, step: int, unit: int, inside: bool, sign: Any) -> None:
        """A unit's numbers of a table; NaN where the position is no row of it."""
        if inside:
            load(address + unit * lanes * step, raw, 0, lanes)
        for i in range(lanes):
            numbers[i] = number(widen_table(raw[i])) * sign if inside else nan

    @register_jitable
    def squares(plan: Any, vector: Any, address: int, step: int) -> Any:
        """This thread's part of the sum of squares of a row."""
        total = zero
        for unit in range(cuda.threadIdx.x, plan[UNITS], cuda.blockDim.x):
            fetch(vector, address, step, channels(plan, unit))
            for i in range(lanes):
                total += product(widen(vector[i]), widen(vector[i]))
                if unit < plan[TURNING]:
                    total += product(widen(vector[lanes + i]), widen(vector[lanes + i]))
        return total

    def rotate_rows(plan: Any, epsilon: float) -> None:
        vector, weight = cuda.local.array(two_lanes, stored), cuda.local.array(two_lanes, weighed)
        cos, sin = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        raw = cuda.local.array(lanes, tabled)
        row = flat(cuda.blockIdx.x, cuda.blockDim.y, cuda.threadIdx.y)
        second = both and row >= plan[LAUNCH + ROWS]
        if second:
            row -= plan[LAUNCH + ROWS]
        live = row < of(plan, ROWS, second)
        x, out = of(plan, X, second), of(plan, OUT, second)
        cos_row, sin_row, place, inside = plan[COS], plan[SIN], plan[PLACES], live
        left = row  # divided in 64 bits, which NVVM does in 32 where that is enough
        for axis in range(axes - 1, -1, -1):
            own = SIDE + AXIS * axis
            above = left // of(plan, own + SIZE, second)
            i, left = left - above * of(plan, own + SIZE, second), above
            x, out = x + i * of(plan, own + X_AXIS, second), out + i * of(plan, own + OUT_AXIS, second)
            cos_row += i * of(plan, own + COS_AXIS, second)
            sin_row += i * of(plan, own + SIN_AXIS, second)
            place += i * of(plan, own + PLACE_AXIS, second)
        begin = left * of(plan, EACH, second)
        stop = min(begin + of(plan, EACH, second), of(plan, TIMES, second))
        if gathers and live:
            spot = cuda.local.array(1, placed)
            load(place, spot, 0, 1)
            at = np.int64(spot[0])
            inside = 0 <= at < plan[TABLE_ROWS]
            cos_row, sin_row = cos_row + at * plan[COS_ROW], sin_row + at * plan[SIN_ROW]
        x_step, out_step = of(plan, X_STEP, second), of(plan, OUT_STEP, second)
        scale = one
        if normed:  # one row a thread: see `plan`
            partial = cuda.shared.array(BLOCK, number)
            line = cuda.threadIdx.y * cuda.blockDim.x
            partial[line + cuda.threadIdx.x] = (
                squares(plan, vector, x + begin * of(plan, X_TIMES, second), x_step) if live else zero
            )
            cuda.syncthreads()
            total = zero
            for i in range(cuda.blockDim.x):
                total += partial[line + i]
            scale = one / number(math.sqrt(total / number(plan[WIDTH]) + number(epsilon)))
        for unit in range(cuda.threadIdx.x, plan[UNITS] if live else 0, cuda.blockDim.x):
            turns, ends = unit < plan[TURNING], channels(plan, unit)
            if turns:
                tabulate(cos, raw, cos_row, plan[COS_STEP], unit, inside, one)
                tabulate(sin, raw, sin_row, plan[SIN_STEP], unit, inside, number(plan[SIGN]))
            if normed:
                fetch(weight, of(plan, WEIGHT, second), of(plan, WEIGHT_STEP, second), ends)
            for i in range(begin, stop):
                fetch(vector, x + i * of(plan, X_TIMES, second), x_step, ends)
                if turns:
                    for k in range(lanes):
                        a, b = widen(vector[stride * k]), widen(vector[stride * k + apart])
                        if normed:
                            a = a * scale * number(widen_weight(weight[stride * k]))
                            b = b * scale * number(widen_weight(weight[stride * k + apart]))
                        a, b = turn(a, b, cos[k], sin[k])
                        vector[stride * k], vector[stride * k + apart] = narrow(a), narrow(b)
                elif normed:
                    for k in range(lanes):
                        a = widen(vector[k]) * scale * number(widen_weight(weight[k]))
                        vector[k] = narrow(a)
                put(vector, out + i * of(plan, OUT_TIMES, second), out_step, ends)

    return cuda.jit(rotate_rows)
