"""The arithmetic of one pair and the conversion of half types, on single numbers, for every target.

Plain Python on NumPy scalars, which Numba compiles for the CPU and for CUDA alike and which the CUDA
simulator runs as it stands. Products and sums carry no fast-math flags: nothing is contracted or reordered.
Only where two NaN meet is it the machine's choice which of them is carried on.
"""

import math
from typing import Any

import numpy as np
from numba.extending import register_jitable

HALF, SIXTEEN, ONE = np.uint32(0x7FFF), np.uint32(16), np.uint32(1)
ODD, ABOVE = np.uint32(0x10000), np.uint32(0x8000)  # the last bit that a bfloat16 keeps; half of it
QUIET = np.uint32(0x400000)  # the bit that makes a NaN quiet
INFINITY = np.uint32(0x7F800000)
NORMAL = np.uint32(0x38800000)  # 2^-14, the least normal float16
ROUNDER = np.float32(1.5 * 2**23)  # added and taken off again, it rounds a float32 to a whole number
LN2_HIGH, LN2_LOW = np.float32(355 / 512), np.float32(np.log(2) - 355 / 512)  # n LN2_HIGH is exact
PER_LN2 = np.float32(1 / np.log(2))
E1, E2, E3, E4, E5, E6, E7 = (np.float32(1 / math.factorial(k)) for k in range(1, 8))  # the series of e^r


@register_jitable
def product(a: Any, b: Any) -> Any:
    """a b, rounded: not to be fused with the sum that follows, which NVVM has to be told (see ``cuda.memory``)."""
    return a * b


@register_jitable
def turn(a: Any, b: Any, cos: Any, sin: Any) -> Any:
    """(a cos - b sin, b cos + a sin)

    >>> [float(u) for u in turn(1.0, 2.0, 0.0, 1.0)]
    [-2.0, 1.0]
    """
    return product(a, cos) - product(b, sin), product(b, cos) + product(a, sin)


@register_jitable
def same(number: Any) -> Any:
    """float32 and float64 are stored as they are rotated."""
    return number


@register_jitable
def widen_bfloat16(stored: Any) -> Any:
    """A bfloat16 is the upper half of a float32.

    >>> float(widen_bfloat16(np.uint16(0x3F80)))
    1.0
    """
    return np.uint32(np.uint32(stored) << SIXTEEN).view(np.float32)


@register_jitable
def narrow_bfloat16(number: Any) -> Any:
    """Round to nearest even; a NaN is made quiet rather than carried into infinity.

    >>> hex(narrow_bfloat16(np.float32(1 + 2**-8)))
    '0x3f80'
    """
    word = np.float32(number).view(np.uint32)
    rounded = np.uint32(word + (ABOVE if word & ODD else HALF))  # of two constants: cheap as vector code
    word = np.uint32(word | QUIET) if number != number else rounded
    return np.uint16(word >> SIXTEEN)


@register_jitable
def widen_float16(stored: Any) -> Any:
    """Shift the exponent into place and scale by 2^112, which is exact for subnormals too.

    >>> float(widen_float16(np.uint16(0x3C00))), float(widen_float16(np.uint16(1))) == 2.0**-24
    (1.0, True)
    """
    half = np.uint32(stored)
    size = np.uint32((half & HALF) << np.uint32(13))
    word = np.float32(size.view(np.float32) * np.float32(2.0**112)).view(np.uint32)
    word = np.uint32(word | INFINITY) if size >= np.uint32(0x0F800000) else word
    return np.uint32(word | np.uint32((half & np.uint32(0x8000)) << SIXTEEN)).view(np.float32)


@register_jitable
def narrow_float16(number: Any) -> Any:
    """Subnormals are rounded by adding 0.5 in float32, normals by their bits.

    >>> hex(narrow_float16(np.float32(2.0**-24))), hex(narrow_float16(np.float32(1e6)))
    ('0x1', '0x7c00')
    """
    word = np.float32(number).view(np.uint32)
    sign = np.uint32((word >> SIXTEEN) & np.uint32(0x8000))
    size = np.uint32(word & np.uint32(0x7FFFFFFF))
    small, large = np.uint32(min(size, NORMAL)), np.uint32(max(size, NORMAL))
    shifted = np.float32(small.view(np.float32) + np.float32(0.5))
    subnormal = np.uint32(shifted.view(np.uint32) - np.uint32(0x3F000000))
    odd = np.uint32((large >> np.uint32(13)) & ONE)
    normal = np.uint32(np.uint32(np.uint32(large - np.uint32(0x37FFF001)) + odd) >> np.uint32(13))
    half = subnormal if size < NORMAL else normal
    half = np.uint32(0x7C00) if size >= np.uint32(0x47800000) else half
    half = np.uint32(0x7E00 | ((size >> np.uint32(13)) & np.uint32(0x3FF))) if size > INFINITY else half
    return np.uint16(half | sign)


@register_jitable
def exponential(x: Any) -> Any:
    """e^x of a float32 x <= 0, within two units in the last place; 0 below -87, where it would be subnormal.

    x = n ln 2 + r with a whole number n and |r| <= ln 2 / 2: e^x = 2^n e^r, e^r by its series. Without branches and
    calls, so that a loop of these becomes vector code, which one of `math.exp` does not.

    >>> float(exponential(np.float32(0))), float(exponential(np.float32(-np.inf)))
    (1.0, 0.0)
    >>> abs(float(exponential(np.float32(-1))) * np.e - 1) < 2**-22
    True
    """
    t = x if x > np.float32(-87) else np.float32(-87)
    n = np.float32(np.float32(t * PER_LN2) + ROUNDER) - ROUNDER
    r = np.float32(t - n * LN2_HIGH) - n * LN2_LOW
    series = np.float32(np.float32(np.float32(E7 * r + E6) * r + E5) * r + E4)
    series = np.float32(np.float32(np.float32(series * r + E3) * r + E2) * r + E1) * r + E1
    power = np.uint32(np.uint32(np.int32(n) + np.int32(127)) << np.uint32(23)).view(np.float32)
    return np.float32(0) if x < np.float32(-87) else np.float32(series * power + (x - x))  # x - x: a NaN stays one


WIDEN: dict[str, Any] = {"float64": same, "float32": same, "float16": widen_float16, "bfloat16": widen_bfloat16}
NARROW: dict[str, Any] = {"float64": same, "float32": same, "float16": narrow_float16, "bfloat16": narrow_bfloat16}
STORED: dict[str, Any] = {"float64": np.float64, "float32": np.float32, "float16": np.uint16, "bfloat16": np.uint16}
ARITHMETIC: dict[str, Any] = {kind: np.float64 if kind == "float64" else np.float32 for kind in STORED}
