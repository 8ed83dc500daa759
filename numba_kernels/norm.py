"""The root mean square of a row, and the row divided by it, as vector code.

    y = x r w        r = 1 / sqrt(mean(x^2) + epsilon)        w the weights

All of it is in the type of the arithmetic, and every step is rounded as written. The sum has one
order, whatever the machine and the layout: channel k belongs to the partial sum k mod 16; these are
added by halves, 0 to 8, 1 to 9 and so on, then 0 to 4; channels behind the last whole sixteen come
last, one by one.

Weights lie in memory in the order in which rows are turned: channels ahead of the pairs, the first
of all pairs, the second of all pairs, channels behind; then epsilon.
"""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from numba_kernels.pair import ARITHMETIC, STORED, narrow, widen
from numba_kernels.vector import AHEAD, LINE, SIZE, WIDE, WIDTHS, fetch, load, pick, splat, store, whole

PARTIAL = 16  # sums
GROUP = 2  # rows whose sums are taken together, so that neither waits for the other's root; 4 are no faster


def begin(
    build: Any, kind: str, hardware: bool, x: Any, step: Any, rows: Any, place: Any, scales: Any,
    target: Any, parts: tuple[Any, Any, Any], weights: Any,
) -> tuple[Any, Any]:  # fmt: skip
    """Write the channels of a row that do not turn: r, and where the weights of those that do begin.

    scales      room for r of GROUP rows: of this one and those behind it, where it is the first of them
    parts       bytes ahead of the pairs, the number of pairs, bytes behind them
    """
    size, wide = SIZE[kind], WIDE[kind]
    before, after = (build.udiv(part, whole(size)) for part in (parts[0], parts[2]))
    behind = build.add(before, build.mul(parts[1], whole(2)))
    width = build.add(behind, after)
    number = build.urem(place, whole(GROUP))
    with build.if_then(build.icmp_unsigned("==", number, whole(0))):
        left = build.sub(rows, place)
        count = build.select(build.icmp_unsigned("<", left, whole(GROUP)), left, whole(GROUP))
        with cgutils.for_range(build, count) as loop:
            source = build.add(x, build.mul(build.add(place, loop.index), step))
            scale = _scale(build, kind, hardware, source, width, weights)
            build.store(scale, cgutils.gep(build, scales, 0, loop.index))
    scale, source = build.load(cgutils.gep(build, scales, 0, number)), build.add(x, build.mul(place, step))
    for first, count in ((whole(0), before), (behind, after)):
        with build.if_then(build.icmp_unsigned("!=", count, whole(0)), likely=False):
            _scaled(build, kind, hardware, source, target, first, count, scale, weights)
    return scale, build.add(weights, build.mul(before, whole(wide)))


def normalised(build: Any, number: Any, scale: Any, weight: Any) -> Any:
    """x r w, in this order."""
    lanes = getattr(number.type, "count", 1)
    return build.fmul(build.fmul(number, splat(build, scale, lanes)), weight)


def room_for(build: Any, kind: str) -> Any:
    """Where `begin` keeps the scales of a group of rows."""
    return cgutils.alloca_once(build, ir.ArrayType(ARITHMETIC[kind], GROUP))


def _scale(build: Any, kind: str, hardware: bool, source: Any, width: Any, weights: Any) -> Any:
    """r of a row."""
    element, wide = ARITHMETIC[kind], WIDE[kind]
    mean = build.fdiv(_squares(build, kind, hardware, source, width), build.uitofp(width, element))
    within = build.fadd(mean, load(build, weights, width, wide, element, 1))
    shape = ir.FunctionType(element, [element])
    root = cgutils.get_or_insert_function(build.module, shape, f"llvm.sqrt.f{8 * wide}")
    return build.fdiv(ir.Constant(element, 1.0), build.call(root, [within]))


def _squares(build: Any, kind: str, hardware: bool, source: Any, width: Any) -> Any:
    """The sum of the squares of a row."""
    size, element, stored = SIZE[kind], ARITHMETIC[kind], STORED[kind]
    many = ir.VectorType(element, PARTIAL)
    sums = cgutils.alloca_once_value(build, ir.Constant(many, [0.0] * PARTIAL))
    count = build.udiv(width, whole(PARTIAL))
    with cgutils.for_range(build, count) as loop:
        first = build.mul(loop.index, whole(PARTIAL))
        at = build.add(source, build.mul(first, whole(size)))
        for offset in range(0, PARTIAL * size, LINE):
            fetch(build, build.add(at, whole(AHEAD + offset)))
        x = widen(build, load(build, source, first, size, stored, PARTIAL), kind, hardware)
        build.store(build.fadd(build.load(sums), build.fmul(x, x)), sums)
    both, lanes = build.load(sums), PARTIAL
    while lanes > 1:
        lanes //= 2
        both = build.fadd(pick(build, both, range(lanes)), pick(build, both, range(lanes, 2 * lanes)))
    total = cgutils.alloca_once(build, element)
    build.store(build.extract_element(both, ir.Constant(ir.IntType(32), 0)), total)
    done = build.mul(count, whole(PARTIAL))
    with cgutils.for_range(build, build.sub(width, done)) as loop:
        x = widen(build, load(build, source, build.add(done, loop.index), size, stored, 1), kind, hardware)
        build.store(build.fadd(build.load(total), build.fmul(x, x)), total)
    return build.load(total)


def _scaled(
    build: Any, kind: str, hardware: bool, source: Any, target: Any, first: Any, count: Any, scale: Any, weights: Any
) -> None:
    """Write `count` channels from `first` on, normalised."""
    size, stored, done = SIZE[kind], STORED[kind], first
    for lanes in WIDTHS[kind]:
        whole_ones = build.udiv(build.sub(build.add(first, count), done), whole(lanes))
        with cgutils.for_range(build, whole_ones) as loop:
            place = build.add(done, build.mul(loop.index, whole(lanes)))
            x = widen(build, load(build, source, place, size, stored, lanes), kind, hardware)
            weight = load(build, weights, place, WIDE[kind], ARITHMETIC[kind], lanes)
            y = narrow(build, normalised(build, x, scale, weight), kind, hardware)
            store(build, y, target, place, size)
        done = build.add(done, build.mul(whole_ones, whole(lanes)))
