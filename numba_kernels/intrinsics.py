"""What Numba cannot say, in a few lines of LLVM each. All but `pointer` and `exchange` only make the loops faster."""

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

LINE = 64  # bytes of a cache line
BYTES, SHORT, FLAG, WORD = ir.IntType(8).as_pointer(), ir.IntType(16), ir.IntType(32), ir.IntType(64)
HALF, SINGLE = ir.HalfType(), ir.FloatType()


@intrinsic
def pointer(typing: Any, address: Any, like: Any) -> Any:
    """An address as `numba.carray` takes it, of numbers of the type of `like`."""
    kind = types.CPointer(like)
    return kind(types.int64, like), lambda this, build, _, args: build.inttoptr(args[0], this.get_value_type(kind))


@intrinsic
def exchange(typing: Any, address: Any, number: Any) -> Any:
    """Write a number and return the one that was there, at once. It locks; no exception comes between."""
    return types.int64(types.int64, types.int64), lambda context, build, _, args: build.atomic_rmw(
        "xchg", build.inttoptr(args[0], WORD.as_pointer()), args[1], "seq_cst")  # fmt: skip


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Ask for the line at an address, which need not exist: `make bench`, 4096 tokens in place."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        shape = ir.FunctionType(ir.VoidType(), [BYTES, FLAG, FLAG, FLAG])  # address, to read, to keep, data
        function = build.module.declare_intrinsic("llvm.prefetch", (BYTES,), shape)
        build.call(function, [build.inttoptr(args[0], BYTES), FLAG(0), FLAG(3), FLAG(1)])

    return types.void(types.int64), emit


@intrinsic
def stream(typing: Any, target: Any, source: Any) -> Any:
    """Copy a line past the cache, so that the target is not read first: `make bench`, 4096 tokens into a buffer."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        to, line = (build.inttoptr(address, ir.VectorType(WORD, LINE // 8).as_pointer()) for address in args)
        build.store(build.load(line, align=1), to, align=LINE).set_metadata(
            "nontemporal", build.module.add_metadata([FLAG(1)]))  # fmt: skip

    return types.void(types.int64, types.int64), emit


@intrinsic
def widen_half(typing: Any, stored: Any) -> Any:
    """A float16 by the processor's conversion: `make bench`, float16."""
    return types.float32(types.uint16), lambda _, build, __, args: build.fpext(build.bitcast(args[0], HALF), SINGLE)


@intrinsic
def narrow_half(typing: Any, number: Any) -> Any:
    return types.uint16(types.float32), lambda _, build, __, args: build.bitcast(build.fptrunc(args[0], HALF), SHORT)
