"""Wrong magnitudes: of YaRN and LongRoPE, and of xPos."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.diagnosis.mutations.rules import magnified, rule
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Context, Mutation
from rope_ref.magnitude import yarn_scale
from rope_ref.rope import Rope


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every magnitude that is known to be taken for the right one."""
    m, given = rope.attention_scale, rope.origin.given if rope.origin else {}
    bug = "LONG" if rule(rope) == "LONG" else "YMAG"
    factor = float(given.get("factor") or 1.0)
    others = {
        f"the magnitude {m:.9g} is not applied": 1.0,
        "the magnitude is applied twice": m * m,
        "it is divided by the magnitude": 1 / m,
        f"the magnitude is computed as 0.1 ln {factor:g} + 1, whatever was given": yarn_scale(factor),
        "the final magnitude is fed into 0.1 m ln s + 1 again: the logarithm is taken twice": yarn_scale(factor, m),
        "the magnitude is 0.1 ln s, without the 1": 0.1 * np.log(factor) if factor > 1 else 1.0,
        "the magnitude is the square root of the right one": m**0.5,
        "the magnitude of the whole dimension is not divided out": yarn_scale(factor, float(given.get("mscale") or 1)),
        "the magnitude of the whole dimension is applied": yarn_scale(factor, float(given.get("mscale_all_dim") or 1)),
    }
    for text, other in others.items():
        if abs(other / m - 1) > 1e-9:
            yield Mutation(bug, text, {"magnitude": constant(other)})
    if m != 1:
        yield Mutation(bug, "the magnitude is on the cosines alone", {"tables": lambda t, c: (t[0], t[1] / m)})
        yield Mutation(bug, "the magnitude is on the sines alone", {"tables": lambda t, c: (t[0] / m, t[1])})
    if rope.xpos is None:
        return
    x = rope.xpos
    for text, wrong in {
        "xPos scales by the inverse: keys as queries": replace(x, power=-x.power),
        "the exponent of xPos is not divided by scale_base": replace(x, scale_base=1.0),
        "scale_base is 512": replace(x, scale_base=512.0),
        "xPos is centered at 0": replace(x, center=0.0),
        "gamma is 0": replace(x, gamma=1e-9),
        "xPos scales twice": replace(x, power=2 * x.power),
    }.items():
        yield Mutation("XPOS", text, {"magnitude": of_xpos(rope, wrong)})
    yield Mutation("XPOS", "xPos does not scale", {"magnitude": lambda m, c: np.asarray(c.rope.attention_scale)})
    yield Mutation("XPOS", "xPos is centered at the middle of the call", {"magnitude": centered})
    yield Mutation("XPOS", "xPos is centered at the middle of the call, and not divided", {"magnitude": undivided})
    yield Mutation("XPOS", "the exponent of xPos is p - center/scale_base, not (p - center)/scale_base", {
        "magnitude": partly_divided
    })  # fmt: skip
    yield Mutation("XPOS", "the exponent of xPos is cut to whole numbers", {"magnitude": whole})
    yield Mutation("XPOS", "xPos counts from the beginning of the call", {"magnitude": counted})
    yield Mutation("XPOS", "every pair takes the scale of the first", {"magnitude": lambda m, c: m[..., :1]})


def read(rope: Rope, reading: Reading) -> Iterator[Mutation]:
    """The constant magnitude that was read off."""
    if reading.scale is not None and rope.xpos is None and abs(reading.scale / rope.attention_scale - 1) > 1e-5:
        bug = "YMAG" if magnified(rope) or rope.attention_scale != 1 else "FORMULA"
        text = f"the magnitude is {reading.scale:.7g}; expected {rope.attention_scale:.7g}"
        yield Mutation(bug, text, {"magnitude": constant(reading.scale)})


def constant(value: float):  # type: ignore[no-untyped-def]
    return lambda m, c: np.asarray(m) * (value / c.rope.attention_scale)


def of_xpos(rope: Rope, xpos):  # type: ignore[no-untyped-def]
    def other(m: Array, context: Context) -> Array:
        with np.errstate(over="ignore", divide="ignore"):
            return np.asarray(rope.attention_scale * xpos(context.probe.rows(None), rope.pairs))[:, None]

    return other


def _power(context: Context, exponent: Array) -> Array:
    assert context.rope.xpos is not None
    x = context.rope.xpos
    with np.errstate(over="ignore"):
        return np.asarray(context.rope.attention_scale * x.zeta(context.rope.pairs) ** (x.power * exponent))[:, None]


def centered(m: Array, context: Context) -> Array:
    p, seq = context.probe.rows(None).astype(np.float64), context.probe.seq(None)
    return _power(context, (p - seq // 2)[..., None] / context.rope.xpos.scale_base)  # type: ignore[union-attr]


def whole(m: Array, context: Context) -> Array:
    p, x = context.probe.rows(None).astype(np.float64), context.rope.xpos
    return _power(context, np.floor((p - x.center) / x.scale_base)[..., None])  # type: ignore[union-attr]


def partly_divided(m: Array, context: Context) -> Array:
    p, x = context.probe.rows(None).astype(np.float64), context.rope.xpos
    return _power(context, (p - x.center / x.scale_base)[..., None])  # type: ignore[union-attr]


def undivided(m: Array, context: Context) -> Array:
    p, seq = context.probe.rows(None).astype(np.float64), context.probe.seq(None)
    return _power(context, (p - seq // 2 / context.rope.xpos.scale_base)[..., None])  # type: ignore[union-attr]


def counted(m: Array, context: Context) -> Array:
    p = context.probe.rows(None).astype(np.float64)
    count = np.broadcast_to(np.arange(p.shape[-1]), p.shape) - context.rope.xpos.center  # type: ignore[union-attr]
    return _power(context, count[..., None] / context.rope.xpos.scale_base)  # type: ignore[union-attr]
