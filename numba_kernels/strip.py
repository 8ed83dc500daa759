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

from numba_kernels.pair import ARITHMETIC, STORED, converts_float16, narrow, turn, widen

I64, BYTE = ir.IntType(64), ir.IntType(8)
LINE = 64  # bytes of a cache line, the unit of a streaming store
AHEAD = 4096  # bytes between what is rotated and what is asked of memory: what hardware fetches ahead stops at pages
ROOM = 54
TAGS: dict[str, np.generic] = {
    "float64": np.float64(0), "float32": np.float32(0), "float16": np.int16(0), "bfloat16": np.uint16(0)
}  # fmt: skip
WIDTHS = {"float64": (8, 1), "float32": (16, 4, 1), "float16": (32, 8, 1), "bfloat16": (32, 8, 1)}


def whole(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


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
    x: Any, out: Any, cos: Any, sin: Any, index: Any, x_step: Any, out_step: Any, table_step: Any, index_step: Any,
) -> Any:  # fmt: skip
    """Rotate `rows` rows; addresses and steps are in bytes.

    tag         a number whose type says how x is stored: see TAGS
    form        1 if interleaved, + 2 to stream past the cache (out aligned to lines)
    before      bytes of a row ahead of the pairs, `after` bytes behind: copied where out is not x
    index       address of the table row of each row, or 0 where table rows are `table_step` apart
    """

    kind = next(k for k, t in TAGS.items() if typeof(t) == tag)
    size = TAGS[kind].itemsize

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        _, form, inverse, pairs, before, after, rows, x, out, cos, sin, index, *steps = args
        x_step, out_step, table_step, index_step = steps
        gather = build.icmp_unsigned("!=", index, whole(0))
        apart = build.icmp_unsigned("!=", x, out)
        back = build.icmp_unsigned("!=", inverse, whole(0))
        for code in range(4):
            interleaved, stream = bool(code & 1), code >= 2
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
                    with build.if_then(apart, likely=False):
                        rest = build.add(before, build.mul(pairs, whole(2 * size)))
                        _copy(build, target, source, before)
                        _copy(build, build.add(target, rest), build.add(source, rest), after)
                    tables = (build.add(cos, offset), build.add(sin, offset), back)
                    ends = (build.add(source, before), build.add(target, before))
                    _row(build, kind, size, interleaved, stream, converts_float16(context), pairs, ends, tables)
        return context.get_dummy_value()

    names = (form, inverse, pairs, before, after, rows, x, out, cos, sin, index)
    return types.void(tag, *(types.int64 for _ in (*names, x_step, out_step, table_step, index_step))), emit


def _copy(build: Any, target: Any, source: Any, size: Any) -> None:
    with build.if_then(build.icmp_unsigned("!=", size, whole(0)), likely=False):
        pointer = BYTE.as_pointer()
        cgutils.raw_memcpy(build, build.inttoptr(target, pointer), build.inttoptr(source, pointer), size, 1)


def _row(
    build: Any, kind: str, size: int, interleaved: bool, stream: bool, hardware: bool,
    pairs: Any, ends: Any, tables: Any,
) -> None:  # fmt: skip
    """All pairs of one row, first in vectors as wide as a line, then in narrower ones."""
    stored, element = STORED[kind], ARITHMETIC[kind]
    wide = 8 if kind == "float64" else 4  # bytes of a table's numbers
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

    for lanes in WIDTHS[kind]:
        nontemporal = stream and lanes == WIDTHS[kind][0]
        count = build.udiv(build.sub(pairs, done), whole(lanes))

        def load(address: Any, item: int, element: Any, offset: Any, lanes: int = lanes) -> Any:
            kind = ir.VectorType(element, lanes) if lanes > 1 else element
            pointer = build.inttoptr(build.add(address, build.mul(offset, whole(item))), kind.as_pointer())
            return build.load(pointer, align=1)

        def store(value: Any, offset: Any, nontemporal: bool = nontemporal) -> None:
            pointer = build.inttoptr(build.add(target, build.mul(offset, whole(size))), value.type.as_pointer())
            done = build.store(value, pointer, align=LINE if nontemporal else 1)
            if nontemporal:
                done.set_metadata("nontemporal", build.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

        def split(both: Any, lanes: int = lanes) -> list[Any]:
            """First and second channels of pairs that lie side by side, as they are rotated."""
            order = [range(k, 2 * lanes, 2) for k in (0, 1)]
            if kind == "float16":  # cheaper to convert as it lies in memory; others, once sorted
                both = widened(both)
                return [_pick(build, both, every) for every in order]
            return [widened(_pick(build, both, every)) for every in order]

        def joined(u: Any, v: Any, lanes: int = lanes) -> Any:
            order = [k // 2 + lanes * (k % 2) for k in range(2 * lanes)]
            if kind == "float16":
                return narrowed(_pick(build, u, order, v))
            return _pick(build, narrowed(u), order, narrowed(v))

        with cgutils.for_range(build, count) as loop:
            i = build.add(done, build.mul(loop.index, whole(lanes)))
            if lanes == WIDTHS[kind][0]:
                at = build.add(source, build.mul(i, whole(2 * size if interleaved else size)))
                for offset in (whole(LINE), whole(0)) if interleaved else (build.mul(pairs, whole(size)), whole(0)):
                    _fetch(build, build.add(at, build.add(offset, whole(AHEAD))))
            c, s = load(cos, wide, element, i), load(sin, wide, element, i)
            s = build.fmul(s, _splat(build, sign, lanes)) if interleaved else s
            if interleaved and lanes > 1:
                two = build.mul(i, whole(2))
                a, b = split(load(source, size, stored, two, 2 * lanes))
                store(joined(*turn(build, a, b, c, s)), two)
            else:
                beside = build.mul(i, whole(2))
                each = (build.add(beside, whole(k)) if interleaved else build.add(i, halves[k]) for k in (0, 1))
                first, second = each
                a, b = (widened(load(source, size, stored, place)) for place in (first, second))
                u, v = turn(build, a, b, c, s)
                store(narrowed(u), first)
                store(narrowed(v), second)
        done = build.add(done, build.mul(count, whole(lanes)))


def _fetch(build: Any, address: Any) -> None:
    """Ask for the line at an address, which need not be ours."""
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), flag, flag, flag])
    function = cgutils.get_or_insert_function(build.module, kind, "llvm.prefetch.p0i8")
    to_read, keep, data = (ir.Constant(flag, number) for number in (0, 3, 1))
    build.call(function, [build.inttoptr(address, BYTE.as_pointer()), to_read, keep, data])


def _splat(build: Any, value: Any, lanes: int) -> Any:
    if lanes == 1:
        return value
    vector = ir.VectorType(value.type, lanes)
    one = build.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return _pick(build, one, [0] * lanes)


def _pick(build: Any, first: Any, order: Any, second: Any = None) -> Any:
    """The lanes of `first` and `second` in the given order."""
    second = ir.Constant(first.type, ir.Undefined) if second is None else second
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(list(order))), list(order))
    return build.shuffle_vector(first, second, mask)
