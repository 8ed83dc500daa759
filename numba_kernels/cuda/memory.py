"""Loads and stores by address, up to 16 bytes at once: instructions on a GPU, the same steps on the simulator.

A vector is a small local array; its bytes are a power of two, and its address a multiple of
those or of 16.
"""

import ctypes
from typing import Any

import numpy as np
from llvmlite import ir
from numba import config
from numba.cuda import types

from numba_kernels import arithmetic

SIMULATED = bool(config.ENABLE_CUDASIM)
WORD = ir.IntType(32)
WIDEST = 16  # bytes of one load or store


def peek(address: int, vector: Any, first: int, count: int) -> None:
    """Fill `count` numbers of the vector from memory."""
    part = vector[first : first + count]
    part[:] = at(address, part)


def poke(address: int, vector: Any, first: int, count: int) -> None:
    """Write `count` numbers of the vector to memory."""
    part = vector[first : first + count]
    at(address, part)[:] = part


def at(address: int, part: Any) -> Any:
    """Memory of the host as the simulator sees it, which stands for that of the device."""
    block = (ctypes.c_char * part.nbytes).from_address(int(address))
    return np.frombuffer(block, part.dtype)


if SIMULATED:
    load, store = peek, poke
else:
    from numba.cuda.extending import intrinsic, overload

    GLOBAL = 1  # the address space of device memory

    def _pieces(build: Any, context: Any, signature: Any, args: Any) -> Any:
        """Pairs of pointers to the same piece, in device memory and in the vector, with the alignment of the first."""
        kind, first, count = signature.args[1], signature.args[2].literal_value, signature.args[3].literal_value
        vector = context.make_array(kind)(context, build, args[1])
        size = kind.dtype.bitwidth // 8
        piece = min(size * count, WIDEST)
        words = piece > 8 or piece == 8 and size == 4  # else NVVM takes vectors of half types apart in memory
        chunk = ir.VectorType(WORD, piece // 4) if words else ir.IntType(8 * piece)
        for offset in range(0, size * count, piece):
            address = build.add(args[0], ir.Constant(ir.IntType(64), offset))
            far = build.inttoptr(address, ir.PointerType(chunk, GLOBAL))
            near = build.gep(vector.data, [ir.Constant(WORD, first + offset // size)])
            yield far, build.bitcast(near, ir.PointerType(chunk)), piece, size

    @intrinsic
    def load(typing: Any, address: Any, vector: Any, first: Any, count: Any) -> Any:
        if not (isinstance(first, types.IntegerLiteral) and isinstance(count, types.IntegerLiteral)):
            return None  # asked again with the constants that they are

        def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
            for far, near, align, size in list(_pieces(build, context, signature, args)):
                build.store(build.load(far, align=align), near, align=size)
            return context.get_dummy_value()

        return types.void(types.int64, vector, first, count), emit

    @intrinsic
    def store(typing: Any, address: Any, vector: Any, first: Any, count: Any) -> Any:
        if not (isinstance(first, types.IntegerLiteral) and isinstance(count, types.IntegerLiteral)):
            return None  # asked again with the constants that they are

        def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
            for far, near, align, size in list(_pieces(build, context, signature, args)):
                build.store(build.load(near, align=size), far, align=align)
            return context.get_dummy_value()

        return types.void(types.int64, vector, first, count), emit

    def _builtin(build: Any, name: str, result: Any, args: Any) -> Any:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return build.call(build.module.globals.get(name) or ir.Function(build.module, kind, name), args)

    @intrinsic
    def _rounded_product(typing: Any, a: Any, b: Any) -> Any:
        def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
            name = "llvm.nvvm.mul.rn." + ("d" if args[0].type == ir.DoubleType() else "f")
            return _builtin(build, name, args[0].type, args)

        return a(a, b), emit

    @overload(arithmetic.product, target="cuda")
    def _product(a: Any, b: Any) -> Any:
        """NVVM fuses a product with a sum unless told that it is rounded."""

        def rounded(a: Any, b: Any) -> Any:  # annotated as above, or Numba passes it over
            return _rounded_product(a, b)

        return rounded

    @intrinsic
    def _half_of(typing: Any, number: Any) -> Any:
        def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
            return _builtin(build, "llvm.convert.to.fp16.f32", ir.IntType(16), args)

        return types.uint16(types.float32), emit

    @intrinsic
    def _number_of(typing: Any, half: Any) -> Any:
        def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
            return _builtin(build, "llvm.convert.from.fp16.f32", ir.FloatType(), args)

        return types.float32(types.uint16), emit

    @overload(arithmetic.narrow_float16, target="cuda")
    def _narrow(number: Any) -> Any:
        """One instruction in place of twenty. The NaN of a GPU has the same bits either way."""

        def narrowed(number: Any) -> Any:
            return _half_of(np.float32(number))

        return narrowed

    @overload(arithmetic.widen_float16, target="cuda")
    def _widen(stored: Any) -> Any:
        def widened(stored: Any) -> Any:
            return _number_of(np.uint16(stored))

        return widened
