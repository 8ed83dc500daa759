"""Vectors of numbers: loaded, stored and shuffled, as LLVM instructions."""

from typing import Any

from llvmlite import ir
from numba.core import cgutils

I64, BYTE = ir.IntType(64), ir.IntType(8)
LINE = 64  # bytes of a cache line, the unit of a streaming store
AHEAD = 4096  # bytes between what is rotated and what is asked of memory: what hardware fetches ahead stops at pages
SIZE = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}  # bytes of a number as it is stored
WIDE = {"float64": 8, "float32": 4, "float16": 4, "bfloat16": 4}  # and of one as it is rotated, as in the tables
WIDTHS = {"float64": (8, 1), "float32": (16, 4, 1), "float16": (32, 8, 1), "bfloat16": (32, 8, 1)}


def whole(value: int) -> ir.Constant:
    return ir.Constant(I64, value)


def load(build: Any, address: Any, place: Any, size: int, element: ir.Type, lanes: int) -> Any:
    """`lanes` numbers of `size` bytes from `place` of an array on."""
    kind = ir.VectorType(element, lanes) if lanes > 1 else element
    pointer = build.inttoptr(build.add(address, build.mul(place, whole(size))), kind.as_pointer())
    return build.load(pointer, align=1)


def store(build: Any, value: Any, address: Any, place: Any, size: int, nontemporal: bool = False) -> None:
    """Write a vector, past the cache if `nontemporal`: then the address is one of a line."""
    pointer = build.inttoptr(build.add(address, build.mul(place, whole(size))), value.type.as_pointer())
    done = build.store(value, pointer, align=LINE if nontemporal else 1)
    if nontemporal:
        done.set_metadata("nontemporal", build.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))


def fetch(build: Any, address: Any) -> None:
    """Ask for the line at an address, which need not be ours."""
    flag = ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [BYTE.as_pointer(), flag, flag, flag])
    function = cgutils.get_or_insert_function(build.module, kind, "llvm.prefetch.p0i8")
    to_read, keep, data = (ir.Constant(flag, number) for number in (0, 3, 1))
    build.call(function, [build.inttoptr(address, BYTE.as_pointer()), to_read, keep, data])


def splat(build: Any, value: Any, lanes: int) -> Any:
    if lanes == 1:
        return value
    vector = ir.VectorType(value.type, lanes)
    one = build.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return pick(build, one, [0] * lanes)


def pick(build: Any, first: Any, order: Any, second: Any = None) -> Any:
    """The lanes of `first` and `second` in the given order."""
    second = ir.Constant(first.type, ir.Undefined) if second is None else second
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(list(order))), list(order))
    return build.shuffle_vector(first, second, mask)
