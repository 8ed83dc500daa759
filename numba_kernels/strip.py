"""A strip of rows, equally spaced in memory, as vector code.

Written as instructions rather than as a Numba loop, because a loop must prove that rows do
not overlap before it may use vectors, and cannot where x is rotated in place. Here every
vector is loaded before it is stored, so x and out may be the same memory.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from numba import typeof, types
from numba.core import cgutils
from numba.extending import intrinsic

from numba_kernels.norm import begin, normalised, room_for
from numba_kernels.pair import ARITHMETIC, STORED, converts_float16, narrow, turn, widen
from numba_kernels.vector import AHEAD, BYTE, I64, LINE, SIZE, WIDE, WIDTHS, fetch, load, pick, splat, store, whole

ROOM = 54
TAGS: dict[str, np.generic] = {
    "float64": np.float64(0), "float32": np.float32(0), "float16": np.int16(0), "bfloat16": np.uint16(0)
}  # fmt: skip

IN_PLACE, APART, STREAM = range(3)  # how out is written


@intrinsic
def peek(typing: Any, address: Any, place: Any) -> Any:
    """The 64-bit integer at `place` of the array at `address`."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        return build.load(build.inttoptr(build.add(args[0], build.mul(args[1], whole(8))), I64.as_pointer()))

    return types.int64(types.int64, types.int64), emit


@intrinsic
def poke(typing: Any, address: Any, place: Any, value: Any) -> Any:
    """Write the 64-bit integer at `place` of the array at `address`."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        at = build.add(args[0], build.mul(args[1], whole(8)))
        build.store(args[2], build.inttoptr(at, I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def room(typing: Any) -> Any:
    """The address of ROOM 64-bit integers that last as long as the call."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        return build.ptrtoint(cgutils.alloca_once(build, ir.ArrayType(I64, ROOM)), I64)

    return types.int64(), emit


@intrinsic
def fence(typing: Any) -> Any:
    """Make streaming stores visible before anything that follows."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        build.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def strip(
    typing: Any, tag: Any, form: Any, inverse: Any, pairs: Any, before: Any, after: Any, rows: Any,
    x: Any, out: Any, cos: Any, sin: Any, index: Any, norm: Any,
    x_step: Any, out_step: Any, table_step: Any, index_step: Any,
) -> Any:  # fmt: skip
    """Rotate `rows` rows; addresses and steps are in bytes.

    tag         a number whose type says how x is stored: see TAGS
    form        1 if interleaved, + 2 for APART, where lines of out are asked ahead too, or + 4 for STREAM, past the
                cache (out aligned to lines)
    before      bytes of a row ahead of the pairs, `after` bytes behind: copied where out is not x, or normalised
    index       address of the table row of each row, or 0 where table rows are `table_step` apart
    norm        None, or the address of the weights by which rows are normalised: see ``norm``
    """

    kind = next(k for k, t in TAGS.items() if typeof(t) == tag)
    size = SIZE[kind]

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        _, form, inverse, pairs, before, after, rows, x, out, cos, sin, index, weights, *steps = args
        x_step, out_step, table_step, index_step = steps
        gather = build.icmp_unsigned("!=", index, whole(0))
        apart, hardware = build.icmp_unsigned("!=", x, out), converts_float16(context)
        back = build.icmp_unsigned("!=", inverse, whole(0))
        scales = None if norm == types.none else room_for(build, kind)
        for code in range(6):
            interleaved, way = bool(code & 1), code // 2
            with build.if_then(build.icmp_unsigned("==", form, whole(code))):
                with cgutils.for_range(build, rows) as loop:
                    place = loop.index
                    row = cgutils.alloca_once_value(build, place)
                    with build.if_then(gather):
                        at = build.add(index, build.mul(place, index_step))
                        build.store(build.load(build.inttoptr(at, I64.as_pointer())), row)
                    offset = build.mul(build.load(row), table_step)
                    source = build.add(x, build.mul(place, x_step))
                    target = build.add(out, build.mul(place, out_step))
                    if norm == types.none:
                        scaled = None
                        with build.if_then(apart, likely=False):
                            rest = build.add(before, build.mul(pairs, whole(2 * size)))
                            _copy(build, target, source, before)
                            _copy(build, build.add(target, rest), build.add(source, rest), after)
                    else:
                        scaled = begin(build, kind, hardware, x, x_step, rows, place, scales, target,
                                       (before, pairs, after), weights)  # fmt: skip
                    tables = (build.add(cos, offset), build.add(sin, offset), back)
                    ends = (build.add(source, before), build.add(target, before))
                    _row(build, kind, interleaved, way, hardware, pairs, ends, tables, scaled)
        return context.get_dummy_value()

    names, steps = (form, inverse, pairs, before, after, rows, x, out, cos, sin, index), 4 * (types.int64,)
    return types.void(tag, *(types.int64 for _ in names), norm, *steps), emit


def _copy(build: Any, target: Any, source: Any, size: Any) -> None:
    with build.if_then(build.icmp_unsigned("!=", size, whole(0)), likely=False):
        pointer = BYTE.as_pointer()
        cgutils.raw_memcpy(build, build.inttoptr(target, pointer), build.inttoptr(source, pointer), size, 1)


def _row(
    build: Any, kind: str, interleaved: bool, way: int, hardware: bool,
    pairs: Any, ends: Any, tables: Any, norm: Any,
) -> None:  # fmt: skip
    """All pairs of one row, first in vectors as wide as a line, then in narrower ones.

    norm        scale and weights of the pairs, first channels before second ones, or None
    """
    stored, element, size, wide = STORED[kind], ARITHMETIC[kind], SIZE[kind], WIDE[kind]
    source, target = ends
    cos, sin, back = tables
    # backwards is forwards with the channels of a pair exchanged, or with -sin where that is cheaper
    halves = build.select(back, pairs, whole(0)), build.select(back, whole(0), pairs)
    sign = build.select(back, ir.Constant(element, -1.0), ir.Constant(element, 1.0))
    done = whole(0)

    def widened(number: Any) -> Any:
        return widen(build, number, kind, hardware)

    def narrowed(number: Any) -> Any:
        return narrow(build, number, kind, hardware)

    def weighed(number: Any, place: Any, lanes: int) -> Any:
        if norm is None:
            return number
        return normalised(build, number, norm[0], load(build, norm[1], place, wide, element, lanes))

    for lanes in WIDTHS[kind]:
        nontemporal = way == STREAM and lanes == WIDTHS[kind][0]
        count = build.udiv(build.sub(pairs, done), whole(lanes))

        def split(both: Any, lanes: int = lanes) -> list[Any]:
            """First and second channels of pairs that lie side by side, as they are rotated."""
            order = [range(k, 2 * lanes, 2) for k in (0, 1)]
            if kind == "float16":  # cheaper to convert as it lies in memory; others, once sorted
                both = widened(both)
                return [pick(build, both, every) for every in order]
            return [widened(pick(build, both, every)) for every in order]

        def joined(u: Any, v: Any, lanes: int = lanes) -> Any:
            order = [k // 2 + lanes * (k % 2) for k in range(2 * lanes)]
            if kind == "float16":
                return narrowed(pick(build, u, order, v))
            return pick(build, narrowed(u), order, narrowed(v))

        with cgutils.for_range(build, count) as loop:
            i = build.add(done, build.mul(loop.index, whole(lanes)))
            if lanes == WIDTHS[kind][0] and norm is None:  # else the row was read before
                at = build.add(build.mul(i, whole(2 * size if interleaved else size)), whole(AHEAD))
                for offset in (whole(LINE), whole(0)) if interleaved else (build.mul(pairs, whole(size)), whole(0)):
                    for end in ends if way == APART else ends[:1]:
                        fetch(build, build.add(end, build.add(at, offset)))
            c, s = (load(build, table, i, wide, element, lanes) for table in (cos, sin))
            s = build.fmul(s, splat(build, sign, lanes)) if interleaved else s
            first, second = places = build.add(i, halves[0]), build.add(i, halves[1])
            if interleaved:
                first, places = build.mul(i, whole(2)), (i, build.add(i, pairs))
                second = build.add(first, whole(1))
            if interleaved and lanes > 1:
                a, b = split(load(build, source, first, size, stored, 2 * lanes))
            else:
                a, b = (widened(load(build, source, place, size, stored, lanes)) for place in (first, second))
            a, b = (weighed(number, place, lanes) for number, place in zip((a, b), places, strict=True))
            u, v = turn(build, a, b, c, s)
            if interleaved and lanes > 1:
                store(build, joined(u, v), target, first, size, nontemporal)
            else:
                store(build, narrowed(u), target, first, size, nontemporal)
                store(build, narrowed(v), target, second, size, nontemporal)
        done = build.add(done, build.mul(count, whole(lanes)))
