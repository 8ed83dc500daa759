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
    dense: bool  # whether channels are next to each other everywhere, so that their steps are known
    axes: int  # leading axes, but the one whose rows a thread turns one after another
    both: bool  # queries and keys
    rest: bool  # whether channels that pass through are copied
    once: bool  # whether a block is as wide as a row, so that each thread has one unit
    far: bool  # whether rows are numbered beyond 2^31


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
    interleaved, dense, rest, once, far = form.interleaved, form.dense, form.rest, form.once, form.far
    key, heavy = SIDE + AXIS * axes, form.weight or form.kind
    stored, widen, narrow = STORED[form.kind], WIDEN[form.kind], NARROW[form.kind]
    tabled, widen_table = STORED[form.table], WIDEN[form.table]
    weighed, widen_weight = STORED[heavy], WIDEN[heavy]
    placed, number = np.dtype(form.place or "int64").type, ARITHMETIC[form.kind]
    nan, zero, one = number(np.nan), number(0), number(1)
    item, item_of_table, item_of_weight = (np.dtype(kind).itemsize for kind in (stored, tabled, weighed))
    # a unit's vectors lie behind each other: channels k and k + lanes of them pair, or 2k and 2k + 1
    two_lanes, wide, stride, apart = (2 * lanes, 2 * lanes, 2, 1) if interleaved else (2 * lanes, lanes, 1, lanes)

    @register_jitable
    def of(plan: Any, place: int, second: bool) -> Any:
        """A number of the side that a row belongs to."""
        if both:
            return plan[LAUNCH + key + place] if second else plan[LAUNCH + place]
        return plan[LAUNCH + place]

    @register_jitable
    def divided(a: int, b: int) -> Any:
        """a / b, rounded down; with few rows in 32 bits, which takes a tenth of the instructions."""
        return a // b if far else np.int64(np.uint32(a) // np.uint32(b))

    @register_jitable
    def remainder(a: int, above: int, b: int) -> Any:
        return a - above * b if far else np.int64(np.uint32(a - above * b))

    @register_jitable
    def first_of(plan: Any, unit: int) -> Any:
        """The channel where a unit begins that turns."""
        return plan[START] + unit * wide

    @register_jitable
    def apart_by(plan: Any) -> Any:
        """How many channels its second vector is behind the first."""
        return lanes if interleaved else plan[PAIRS]

    @register_jitable
    def passing(plan: Any, unit: int) -> Any:
        """The channel where a unit begins that passes through."""
        first = (unit - plan[TURNING]) * lanes
        return first if first < plan[START] else first + 2 * plan[PAIRS]

    @register_jitable
    def tabulate(numbers: Any, raw: Any, address: int, step: int, unit: int, inside: bool, sign: Any) -> None:
        """A unit's numbers of a table; NaN where the position is no row of it."""
        if inside or not gathers:
            load(address + unit * lanes * (item_of_table if dense else step), raw, 0, lanes)
        for i in range(lanes):
            numbers[i] = number(widen_table(raw[i])) * sign if inside or not gathers else nan

    @register_jitable
    def squares(plan: Any, vector: Any, address: int, step: int) -> Any:
        """This thread's part of the sum of squares of a row."""
        total, unit = zero, np.int64(cuda.threadIdx.x)
        while unit < plan[TURNING]:
            at = address + first_of(plan, unit) * step
            load(at, vector, 0, lanes)
            load(at + apart_by(plan) * step, vector, lanes, lanes)
            for i in range(two_lanes):
                total += product(widen(vector[i]), widen(vector[i]))
            unit += cuda.blockDim.x
        if rest:
            while unit < plan[UNITS]:
                load(address + passing(plan, unit) * step, vector, 0, lanes)
                for i in range(lanes):
                    total += product(widen(vector[i]), widen(vector[i]))
                unit += cuda.blockDim.x
        return total

    @register_jitable
    def turn_vector(vector: Any, cos: Any, sin: Any, scale: Any, weight: Any) -> None:
        for k in range(lanes):
            a, b = widen(vector[stride * k]), widen(vector[stride * k + apart])
            if normed:
                a = a * scale * number(widen_weight(weight[stride * k]))
                b = b * scale * number(widen_weight(weight[stride * k + apart]))
            a, b = turn(a, b, cos[k], sin[k])
            vector[stride * k], vector[stride * k + apart] = narrow(a), narrow(b)

    @register_jitable
    def turn_unit(
        plan: Any, second: bool, unit: int, x: int, out: int, times: int, cos: Any, sin: Any, scale: Any
    ) -> None:
        """A unit that turns, in one row of a thread after another."""
        vector, weight = cuda.local.array(two_lanes, stored), cuda.local.array(two_lanes, weighed)
        x_step, out_step = item if dense else of(plan, X_STEP, second), item if dense else of(plan, OUT_STEP, second)
        x_times, out_times = of(plan, X_TIMES, second), of(plan, OUT_TIMES, second)
        channel, behind = first_of(plan, unit), apart_by(plan)
        source, target = x + channel * x_step, out + channel * out_step
        x_behind, out_behind = behind * x_step, behind * out_step
        if normed:
            heavy_step = item_of_weight if dense else of(plan, WEIGHT_STEP, second)
            at = of(plan, WEIGHT, second) + channel * heavy_step
            load(at, weight, 0, lanes)
            load(at + behind * heavy_step, weight, lanes, lanes)
        while times > 0:
            load(source, vector, 0, lanes)
            load(source + x_behind, vector, lanes, lanes)
            turn_vector(vector, cos, sin, scale, weight)
            store(target, vector, 0, lanes)
            store(target + out_behind, vector, lanes, lanes)
            source, target, times = source + x_times, target + out_times, times - 1

    @register_jitable
    def pass_unit(plan: Any, second: bool, unit: int, x: int, out: int, times: int, scale: Any) -> None:
        """A unit that passes through, normalised or not."""
        vector, weight = cuda.local.array(lanes, stored), cuda.local.array(lanes, weighed)
        x_step, out_step = item if dense else of(plan, X_STEP, second), item if dense else of(plan, OUT_STEP, second)
        channel = passing(plan, unit)
        source, target = x + channel * x_step, out + channel * out_step
        if normed:
            heavy_step = item_of_weight if dense else of(plan, WEIGHT_STEP, second)
            load(of(plan, WEIGHT, second) + channel * heavy_step, weight, 0, lanes)
        while times > 0:
            load(source, vector, 0, lanes)
            if normed:
                for k in range(lanes):
                    vector[k] = narrow(widen(vector[k]) * scale * number(widen_weight(weight[k])))
            store(target, vector, 0, lanes)
            source, target = source + of(plan, X_TIMES, second), target + of(plan, OUT_TIMES, second)
            times -= 1

    def rotate_rows(plan: Any, epsilon: float) -> None:
        row = flat(cuda.blockIdx.x, cuda.blockDim.y, cuda.threadIdx.y)
        second = both and row >= plan[LAUNCH + ROWS]
        if second:
            row -= plan[LAUNCH + ROWS]
        live = row < of(plan, ROWS, second)
        if not (normed or live):  # threads of a normalisation meet first
            return
        x, out = of(plan, X, second), of(plan, OUT, second)
        cos_row, sin_row, place, inside = plan[COS], plan[SIN], plan[PLACES], True
        left = row
        for axis in range(axes - 1, -1, -1):
            own = SIDE + AXIS * axis
            above = divided(left, of(plan, own + SIZE, second))
            i, left = remainder(left, above, of(plan, own + SIZE, second)), above
            x, out = x + i * of(plan, own + X_AXIS, second), out + i * of(plan, own + OUT_AXIS, second)
            if gathers:
                place += i * of(plan, own + PLACE_AXIS, second)
            else:
                cos_row += i * of(plan, own + COS_AXIS, second)
                sin_row += i * of(plan, own + SIN_AXIS, second)
        begin = left * of(plan, EACH, second)
        times = min(of(plan, EACH, second), of(plan, TIMES, second) - begin)
        x, out = x + begin * of(plan, X_TIMES, second), out + begin * of(plan, OUT_TIMES, second)
        if gathers and live:
            spot = cuda.local.array(1, placed)
            load(place, spot, 0, 1)
            at = np.int64(spot[0])
            inside = 0 <= at < plan[TABLE_ROWS]
            cos_row, sin_row = cos_row + at * plan[COS_ROW], sin_row + at * plan[SIN_ROW]
        scale = one
        if normed:  # one row a thread: see `plan`
            vector, partial = cuda.local.array(two_lanes, stored), cuda.shared.array(BLOCK, number)
            line = cuda.threadIdx.y * cuda.blockDim.x
            step = item if dense else of(plan, X_STEP, second)
            partial[line + cuda.threadIdx.x] = squares(plan, vector, x, step) if live else zero
            cuda.syncthreads()
            if not live:
                return
            total = zero
            for i in range(cuda.blockDim.x):
                total += partial[line + i]
            scale = one / number(math.sqrt(total / number(plan[WIDTH]) + number(epsilon)))
        cos, sin = cuda.local.array(lanes, number), cuda.local.array(lanes, number)
        raw = cuda.local.array(lanes, tabled)
        unit = np.int64(cuda.threadIdx.x)
        if once:
            if not rest or unit < plan[TURNING]:
                tabulate(cos, raw, cos_row, plan[COS_STEP], unit, inside, one)
                tabulate(sin, raw, sin_row, plan[SIN_STEP], unit, inside, number(plan[SIGN]))
                turn_unit(plan, second, unit, x, out, times, cos, sin, scale)
            else:
                pass_unit(plan, second, unit, x, out, times, scale)
        else:
            while unit < plan[TURNING]:
                tabulate(cos, raw, cos_row, plan[COS_STEP], unit, inside, one)
                tabulate(sin, raw, sin_row, plan[SIN_STEP], unit, inside, number(plan[SIGN]))
                turn_unit(plan, second, unit, x, out, times, cos, sin, scale)
                unit += cuda.blockDim.x
            while unit < plan[UNITS]:
                pass_unit(plan, second, unit, x, out, times, scale)
                unit += cuda.blockDim.x

    return cuda.jit(rotate_rows)
