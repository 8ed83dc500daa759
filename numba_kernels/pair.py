"""The arithmetic of one pair, and of half types: widened to float32, rounded once on store.

bfloat16 is stored as uint16 and float16 as int16, so that the storage type alone tells
the compiler which conversion to take. The conversions are bit arithmetic without
branches: they vectorise on any instruction set and give the same bits on each.
"""

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

I16, I32, F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()


def bits(value):
    return ir.Constant(I32, value)


@intrinsic
def widen_bfloat16(typing, value):
    """bfloat16 is the upper half of a float32."""

    def emit(context, build, signature, args):
        return build.bitcast(build.shl(build.zext(args[0], I32), bits(16)), F32)

    return types.float32(types.uint16), emit


@intrinsic
def narrow_bfloat16(typing, value):
    """Round to nearest even; NaN is made quiet rather than carried into infinity."""

    def emit(context, build, signature, args):
        word = build.bitcast(args[0], I32)
        odd = build.and_(build.lshr(word, bits(16)), bits(1))
        rounded = build.add(word, build.add(odd, bits(0x7FFF)))
        nan = build.fcmp_unordered("uno", args[0], args[0])
        word = build.select(nan, build.or_(word, bits(0x400000)), rounded)
        return build.trunc(build.lshr(word, bits(16)), I16)

    return types.uint16(types.float32), emit


@intrinsic
def widen_float16(typing, value):
    """Shift the exponent into place and scale by 2^112, which is exact for subnormals too."""

    def emit(context, build, signature, args):
        half = build.zext(args[0], I32)
        size = build.shl(build.and_(half, bits(0x7FFF)), bits(13))
        word = build.bitcast(build.fmul(build.bitcast(size, F32), ir.Constant(F32, 2.0**112)), I32)
        special = build.icmp_unsigned(">=", size, bits(0x0F800000))
        word = build.select(special, build.or_(word, bits(0x7F800000)), word)
        sign = build.shl(build.and_(half, bits(0x8000)), bits(16))
        return build.bitcast(build.or_(word, sign), F32)

    return types.float32(types.int16), emit


@intrinsic
def narrow_float16(typing, value):
    """Round to nearest even: subnormals by adding 0.5 in float32, normals by bits."""

    def emit(context, build, signature, args):
        word = build.bitcast(args[0], I32)
        sign = build.and_(word, bits(0x80000000))
        size = build.xor(word, sign)
        shifted = build.fadd(build.bitcast(size, F32), ir.Constant(F32, 0.5))
        subnormal = build.sub(build.bitcast(shifted, I32), bits(0x3F000000))
        odd = build.and_(build.lshr(size, bits(13)), bits(1))
        normal = build.lshr(build.add(build.add(size, bits(0xC8000FFF)), odd), bits(13))
        half = build.select(build.icmp_unsigned("<", size, bits(0x38800000)), subnormal, normal)
        half = build.select(build.icmp_unsigned(">=", size, bits(0x47800000)), bits(0x7C00), half)
        half = build.select(build.icmp_unsigned(">", size, bits(0x7F800000)), bits(0x7E00), half)
        return build.trunc(build.or_(half, build.lshr(sign, bits(16))), I16)

    return types.int16(types.float32), emit


def widen(value):
    """A stored number as the type it is rotated in."""
    raise NotImplementedError("compiled only")


def narrow(value, like):
    """A rotated number as stored, in the storage type of `like`."""
    raise NotImplementedError("compiled only")


@overload(widen)
def widen_stored(value):
    if value == types.uint16:
        return lambda value: widen_bfloat16(value)
    if value == types.int16:
        return lambda value: widen_float16(value)
    return lambda value: value


@overload(narrow)
def narrow_to(value, like):
    if like == types.uint16:
        return lambda value, like: narrow_bfloat16(value)
    if like == types.int16:
        return lambda value, like: narrow_float16(value)
    return lambda value, like: value


@njit(cache=True, nogil=True)
def turn(a, b, cos, sin):
    """The pair (a, b) turned by the angle of cos and sin."""
    return a * cos - b * sin, b * cos + a * sin
