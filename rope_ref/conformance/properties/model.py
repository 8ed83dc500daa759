"""What an implementation should compute, or would compute with one thing wrong, and how near it must come.

The computation of `rope_ref.rotation` cut into stages, so that a mutation can change the result of any one:

    rope -> positions -> angles -> magnitude -> tables -> turn -> result
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.exactness import UNIT, budget
from rope_ref.frequencies import geometric
from rope_ref.rope import Rope
from rope_ref.rotation import angles, magnitude, turn

STAGES = ("rope", "positions", "angles", "magnitude", "tables", "turn", "result")
SINGLE = UNIT["float32"]


@dataclass(frozen=True)
class Mutation:
    """One thing that can be wrong: the class it belongs to, in words, and what it makes of the values of stages.

    changes: stage -> change(value, context) -> value, with what the stage computes as value:

        rope        a Rope
        positions   (batch, seq) or (batch, seq, axes)
        angles      (batch, 1 or heads, seq, pairs)
        magnitude   broadcasts to the angles
        tables      (cos, sin), each like the angles
        turn        (x, cos, sin, rope) -> y, a function
        result      y, (batch, heads, seq, head_dim)

    everywhere: whether it is the same at every length and in every layer, whatever their Ropes
    alone: whether it is not looked for beside another: there are many like it, and few with another
    """

    bug: str
    text: str
    changes: Mapping[str, Callable[[Any, "Context"], Any]]
    everywhere: bool = False
    alone: bool = False


def fixed(change: Callable[..., Any], *more: Any) -> Callable[[Any, "Context"], Any]:
    """A change with its further arguments fixed: change(value, context, *more)."""
    return lambda value, context: change(value, context, *more)


class Context(NamedTuple):
    """What a mutation may look at beside the value it changes."""

    probe: Probe
    rope: Rope
    x: Array


@dataclass(frozen=True)
class Accuracy:
    """The roundings that an implementation makes, beside the last one on store."""

    angle: str = "exact"
    table: str = "float32"
    arithmetic: str = "float32"

    def angle_error(self, rope: Rope, positions: Array) -> Array:
        """How far angles may be off, radians, in the shape of the angles; for xPos also the magnitude, relatively.

        float32: w_i as a power, a reciprocal and a scaling, 4 units of 2^-24, or as an exponential of a number of
        the size |ln w_i| made by four roundings, magnified by `blend`; the position and the product round too;
        the library's cos and sin are within two units of the truth.
        recurrence: w_i by i multiplications with a rounded ratio, 3 units each.
        exact: the same in float64, four times, since the specification's own angles take part of it.
        """
        p = np.abs(positions)[..., None] if rope.axes is None else np.abs(positions)
        w = np.abs(rope.omega)[..., None] if rope.axes is None else np.abs(rope.omega)
        speed = np.linalg.norm(w, axis=-1, keepdims=True)  # of each pair, over the axes
        depth = np.abs(np.log(np.where(speed > 0, speed, 1)))
        units = 6 + 4 * depth
        if rope.angle_dtype == "float32":  # the specification itself has rounded
            units = 2 * units
        if self.angle == "recurrence":
            units = units + 3 * np.arange(rope.pairs)[:, None]
        units = units * blend(rope)[:, None]
        exact = self.angle == "exact"
        error = angle_sum(p, w * units * (4 * UNIT["float64"] if exact else SINGLE)) + (0 if exact else 2 * SINGLE)
        if rope.xpos is not None:
            exponent = np.abs((np.asarray(positions, np.float64) - rope.xpos.center) / rope.xpos.scale_base)[..., None]
            roundings = 3 + exponent * (1 + np.abs(np.log(rope.xpos.zeta(rope.pairs))))
            error = error + (roundings * UNIT[self.table if exact else "float32"])[:, None]
        return error


def blend(rope: Rope) -> Array:
    """By how much a ramp that depends on w magnifies a relative error of w, (pairs,): 1 where there is none.

    Llama 3 and NTK-by-parts: w' = w/s + t (w - w/s) with t = (rho - low)/(high - low), rho = L w / 2 pi, so
    dw'/w' is 1 + (1 - 1/s) (w/w') rho/(high - low) times dw/w inside the band.
    """
    one = np.ones(rope.pairs)
    make, given = rope.origin or (None, {})
    if make is None or make.__name__ not in ("llama3", "ntk_by_parts") or rope.axes is not None:
        return one
    low, high = (float(given[a] if a in given else given[b]) for a, b in (
        ("low_freq_factor", "alpha"), ("high_freq_factor", "beta")))  # fmt: skip
    w = geometric(2 * rope.pairs, given["theta"])
    rho = given["original_max_position_embeddings"] * w / (2 * np.pi)
    inside = (rho >= low * 0.999) & (rho <= high * 1.001)
    steep = (1 - 1 / given["factor"]) * (w / rope.omega) * rho / max(high - low, 1e-300)
    return np.where(inside, 1 + steep, one)


def lenient(dtype: str) -> Accuracy:
    """The accuracy at which a wrong computation is recognised: the least that a correct one may have."""
    if dtype == "float64":
        return Accuracy("recurrence", "float32", "float64")
    return Accuracy("recurrence", dtype, dtype)


def angle_sum(p: Array, weights: Array) -> Array:
    """sum over axes of p weights: p (batch, seq, axes), weights ([heads,] pairs, axes).

    The result is (batch, 1 or heads, seq, pairs).
    """
    if weights.ndim == 2:
        weights = weights[None]
    total: Array = np.einsum("bsa,hpa->bhsp", p, weights)
    return total


class Values(NamedTuple):
    """What comes of x (batch, heads, seq, head_dim), with the Rope, the positions and the magnitude that it came by."""

    y: Array
    rope: Rope
    positions: Array
    magnitude: Array


def values(probe: Probe, rope: Rope, mutations: Sequence[Mutation] = (), x: Array | None = None) -> Values:
    """Stage by stage, each changed by the mutations that change it."""
    x = probe.x(rope.head_dim, rope.axes) if x is None else x
    context = Context(probe, rope, x)

    def stage(name: str, value: Any) -> Any:
        for mutation in mutations:
            if name in mutation.changes:
                value = mutation.changes[name](value, context)
        return value

    rope = stage("rope", rope)
    p = np.asarray(stage("positions", probe.rows(rope.axes)))
    phi, m = angles(rope, p), np.asarray(magnitude(rope, p))
    if rope.heads is None:  # (batch, seq, pairs)
        phi, m = phi[:, None], m if m.ndim == 0 else m[:, None]
    phi, m = stage("angles", phi), stage("magnitude", m)
    cos, sin = stage("tables", (m * np.cos(phi), m * np.sin(phi)))
    y = probe.without_padding(stage("result", stage("turn", turn)(x, cos, sin, rope)))
    return Values(y, rope, p, m)


def computed(
    probe: Probe, rope: Rope, accuracy: Accuracy, mutations: Sequence[Mutation] = (), x: Array | None = None
) -> tuple[Array, Array]:
    """What comes out, and how far an implementation of this accuracy may be from it, in the shape of x."""
    x = probe.x(rope.head_dim, rope.axes) if x is None else x
    y, rope, p, m = values(probe, rope, mutations, x)
    bound = budget(
        x, p, rope, store=probe.dtype, arithmetic=accuracy.arithmetic, table=accuracy.table,
        angle=accuracy.angle_error(rope, np.asarray(p, np.float64)),
    )  # fmt: skip
    if mutations:  # which products and sums go into a wrong number is not known: as many as into the worst of its token
        scale = max(1.0, float(np.max(np.abs(m))) / max(float(np.max(np.abs(magnitude(rope, p)))), 1e-300))
        bound = np.broadcast_to(2 * scale * bound.max(-1, keepdims=True), y.shape)
    return y, bound
