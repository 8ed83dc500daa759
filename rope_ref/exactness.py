"""How far a correct implementation may be from the specification: the sum of its roundings."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rope_ref.pairing import channels
from rope_ref.rope import Rope
from rope_ref.rotation import aligned, tables

UNIT = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SMALLEST = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}


def budget(
    x: ArrayLike, positions: ArrayLike, rope: Rope, *, store: str, arithmetic: str, table: str, angle: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """A bound on |implementation - specification| for each number, in x's shape.

    With unit roundoffs u, a' = a c - b s is computed from c(1 + t), s(1 + t), |t| <= u_table,
    by two products and a difference, |d| <= u_arithmetic each, and stored with u_store:

        (|a c| + |b s|) ((1 + u_table)(1 + u_arithmetic)^2 (1 + u_store) - 1)

    plus `angle`, the error of the angle in radians (one number, or one for each of `angles`), times
    m |(a, b)|, since a rotation by d moves a vector by at most |d| of its length, with the same roundings
    on top; plus half the smallest number where the result, a product or a table is subnormal.
    """
    x = np.abs(np.asarray(x, np.float64))
    cos, sin = (aligned(np.abs(t), x, rope) for t in tables(rope, positions))
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    a, b = x[..., first], x[..., second]
    # float64 tables are themselves off by a few roundings of cos, sin and their magnitude
    growth = (1 + UNIT[table]) * (1 + UNIT[arithmetic]) ** 2 * (1 + UNIT[store]) * (1 + 4 * UNIT["float64"]) - 1
    off = aligned(np.abs(np.asarray(angle, np.float64)), x, rope)
    turned = off * np.hypot(a, b) * np.hypot(cos, sin) * (1 + growth)
    floor = SMALLEST[store] + 3 * SMALLEST[arithmetic] + (a + b) * SMALLEST[table] / 2
    bound = np.zeros_like(x)
    bound[..., first] = (a * cos + b * sin) * growth + turned + floor
    bound[..., second] = (a * sin + b * cos) * growth + turned + floor
    return bound
