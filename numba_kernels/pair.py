"""The arithmetic of a pair, as LLVM instructions on numbers or on vectors of any width.

Half types are widened to float32, rotated there and rounded once. The conversions are bit
arithmetic without branches, so they vectorise and give the same bits on every machine; x86 has
instructions for float16 that give them too. Those for bfloat16 lose subnormals, so they won't do.
Products and sums carry no fast-math flags: nothing is contracted or reordered. Only where two NaN meet
it is the machine's choice which of them is carried on.
"""

from typing import Any

from llvmlite import ir

I16, I32, F16, F32, F64 = ir.IntType(16), ir.IntType(32), ir.HalfType(), ir.FloatType(), ir.DoubleType()

STORED = {"float64": F64, "float32": F32, "float16": I16, "bfloat16": I16}
ARITHMETIC = {"float64": F64, "float32": F32, "float16": F32, "bfloat16": F32}


def like(value: Any, element: ir.Type) -> ir.Type:
    """`element`, in a vector as wide as `value`."""
    return ir.VectorType(element, value.type.count) if isinstance(value.type, ir.VectorType) else element


def constant(value: Any, element: ir.Type, number: Any) -> ir.Constant:
    """`number` in every lane of a vector as wide as `value`."""
    kind = like(value, element)
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def turn(build: ir.IRBuilder, a: Any, b: Any, cos: Any, sin: Any) -> tuple[Any, Any]:
    """(a cos - b sin, b cos + a sin)"""
    u = build.fsub(build.fmul(a, cos), build.fmul(b, sin))
    v = build.fadd(build.fmul(b, cos), build.fmul(a, sin))
    return u, v


def converts_float16(context: Any) -> bool:
    """Whether the machine that is compiled for has instructions for it."""
    return "+f16c" in context.codegen().magic_tuple()[2].split(",")


def widen(build: ir.IRBuilder, stored: Any, kind: str, hardware: bool) -> Any:
    """A stored number in the type it is rotated in; `hardware` is what ``converts_float16`` says."""
    if kind == "bfloat16":  # the upper half of a float32
        word = build.shl(build.zext(stored, like(stored, I32)), constant(stored, I32, 16))
        return build.bitcast(word, like(stored, F32))
    if kind == "float16" and hardware:
        return build.fpext(build.bitcast(stored, like(stored, F16)), like(stored, F32))
    return _widen_float16(build, stored) if kind == "float16" else stored


def narrow(build: ir.IRBuilder, number: Any, kind: str, hardware: bool) -> Any:
    """A rotated number as stored, rounded to nearest even."""
    if kind == "bfloat16":
        return _narrow_bfloat16(build, number)
    if kind == "float16" and hardware:
        return build.bitcast(build.fptrunc(number, like(number, F16)), like(number, I16))
    return _narrow_float16(build, number) if kind == "float16" else number


def _narrow_bfloat16(build: ir.IRBuilder, number: Any) -> Any:
    """NaN is made quiet rather than carried into infinity."""

    def bits(value: int) -> ir.Constant:
        return constant(number, I32, value)

    word = build.bitcast(number, like(number, I32))
    odd = build.icmp_unsigned("!=", build.and_(word, bits(0x10000)), bits(0))
    rounded = build.add(word, build.select(odd, bits(0x8000), bits(0x7FFF)))
    nan = build.fcmp_unordered("uno", number, number)
    word = build.select(nan, build.or_(word, bits(0x400000)), rounded)
    if not isinstance(number.type, ir.VectorType):
        return build.trunc(build.lshr(word, bits(16)), I16)
    lanes = number.type.count  # the upper halves picked out: cheaper than to shift and truncate
    halves = build.bitcast(word, ir.VectorType(I16, 2 * lanes))
    upper = ir.Constant(ir.VectorType(I32, lanes), list(range(1, 2 * lanes, 2)))
    return build.shuffle_vector(halves, ir.Constant(halves.type, ir.Undefined), upper)


def _widen_float16(build: ir.IRBuilder, stored: Any) -> Any:
    """Shift the exponent into place and scale by 2^112, which is exact for subnormals too."""

    def bits(value: int) -> ir.Constant:
        return constant(stored, I32, value)

    half = build.zext(stored, like(stored, I32))
    size = build.shl(build.and_(half, bits(0x7FFF)), bits(13))
    scaled = build.fmul(build.bitcast(size, like(stored, F32)), constant(stored, F32, 2.0**112))
    word = build.bitcast(scaled, like(stored, I32))
    special = build.icmp_unsigned(">=", size, bits(0x0F800000))
    word = build.select(special, build.or_(word, bits(0x7F800000)), word)
    sign = build.shl(build.and_(half, bits(0x8000)), bits(16))
    return build.bitcast(build.or_(word, sign), like(stored, F32))


def _narrow_float16(build: ir.IRBuilder, number: Any) -> Any:
    """Subnormals are rounded by adding 0.5 in float32, normals by their bits; NaN keeps its upper bits, made quiet."""

    def bits(value: int) -> ir.Constant:
        return constant(number, I32, value)

    word = build.bitcast(number, like(number, I32))
    sign = build.and_(word, bits(0x80000000))
    size = build.xor(word, sign)
    shifted = build.fadd(build.bitcast(size, like(number, F32)), constant(number, F32, 0.5))
    subnormal = build.sub(build.bitcast(shifted, like(number, I32)), bits(0x3F000000))
    odd = build.and_(build.lshr(size, bits(13)), bits(1))
    normal = build.lshr(build.add(build.add(size, bits(0xC8000FFF)), odd), bits(13))
    half = build.select(build.icmp_unsigned("<", size, bits(0x38800000)), subnormal, normal)
    half = build.select(build.icmp_unsigned(">=", size, bits(0x47800000)), bits(0x7C00), half)
    nan = build.or_(bits(0x7E00), build.and_(build.lshr(size, bits(13)), bits(0x3FF)))
    half = build.select(build.icmp_unsigned(">", size, bits(0x7F800000)), nan, half)
    return build.trunc(build.or_(half, build.lshr(sign, bits(16))), like(number, I16))
