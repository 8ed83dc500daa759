"""Wrong parameters of a variant: left out, taken from a default, or from a twin."""

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from rope_ref.conformance.diagnosis.mutations.rules import PARAMETERS, rule
from rope_ref.rope import Rope

THETAS = (10000.0, 500000.0, 1000000.0, 100.0, 10.0, 1e5, 1e7, 1.5e5)

FACTORS = (2.0, 4.0, 8.0, 16.0, 32.0, 40.0, 64.0)

LEFT_ALONE = (
    "head_dim",
    "inv_freq",
    "angle_dtype",
    "xpos",
    "length",
    "generator",
    "heads",
    "pairing",
    "attention_scale",
)

TWINS = (("short_factor", "long_factor"), ("mscale", "mscale_all_dim"))

Wrong = Iterator[tuple[str, str, Rope]]


def parameters(rope: Rope) -> Wrong:
    """Each parameter of the variant left out, taken from its default, or taken for its twin."""
    if rope.origin is None:
        return
    make, given = rope.origin
    own = rule(rope) or "FORMULA"
    signature = inspect.signature(make).parameters
    for name, value in given.items():
        if name in LEFT_ALONE:
            continue
        tried: dict[str, Any] = {}
        if name == "theta":
            tried |= {f"{t:g}": t for t in THETAS}
        elif isinstance(value, bool):
            tried[str(not value)] = not value
        elif name == "factor":
            tried |= {
                "1, so nothing is scaled": 1.0,
                "squared": value and value**2,
                "its square root": value and value**0.5,
            } | {f"{other:g}": other for other in FACTORS if other != value}
        elif name == "partial_rotary_factor":
            tried |= {f"{other:g}": other for other in (0.125, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0) if other != value}
        elif name == "exponent":
            tried |= {other: other for other in ("rotary_dim", "head_dim") if other != value}
        elif name.endswith("max_position_embeddings"):
            longer = value * (given.get("factor") or 1)
            tried |= {f"{n:g}": n for n in (longer, 32767, 2048, 4096, 8192, 16384, 32768, 65536, 131072)}
        elif name in ("mrope_section", "axis_dims", "axes_dim"):
            tried |= {"in reverse order": tuple(reversed(value)), "moved round": (*value[1:], value[0])}
        if name in signature and signature[name].default is not inspect.Parameter.empty:
            default = signature[name].default
            tried.setdefault(f"left at {default}", default)
        if name == "factor" and (unscaled := made(rope, {name: 1.0})) and np.array_equal(unscaled.omega, rope.omega):
            del tried["1, so nothing is scaled"]  # it makes no more than the magnitude, which is told as such
        for words, other in tried.items():
            text = f"{name} is {words}; expected {value_of(value)}"
            yield from _made(rope, PARAMETERS.get(name, own), text, {name: other})
    for one, two in TWINS:
        if given.get(one) is not None and given.get(two) is not None:
            exchanged = {one: given[two], two: given[one]}
            yield from _made(rope, PARAMETERS.get(one, own), f"{one} and {two} are exchanged", exchanged)
    for one in ("short_factor", "long_factor"):
        if one in given:
            for name in ("short_factor", "long_factor"):
                yield from _made(rope, own, f"{one} is taken at every length", {name: given[one]})


def factors(rope: Rope) -> Wrong:
    """Another factor, and nothing else: plainer than what also gives its angles, such as turning twice."""
    given = rope.origin.given if rope.origin else {}
    for other in FACTORS if given.get("factor") else ():
        if other != given["factor"]:
            text = wrong_value("factor", other, given["factor"])
            yield from _made(rope, rule(rope) or "FORMULA", text, {"factor": other})


def wrong_value(name: str, value: float, expected: Any) -> str:
    """
    >>> wrong_value("factor", 8.0, 32.0)
    'factor is 8; expected 32'
    """
    return f"{name} is {value_of(value)}; expected {value_of(expected)}"


def value_of(value: Any) -> str:
    return f"{value:.7g}" if isinstance(value, float) else f"{value}"


def made(rope: Rope, changed: dict[str, Any]) -> Rope | None:
    """The variant with other values of some parameters; None where the specification refuses them."""
    assert rope.origin is not None
    try:
        other = rope.origin.make(**rope.origin.given | changed)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):
        return None
    return other if other.head_dim == rope.head_dim else None


def _made(rope: Rope, bug: str, text: str, changed: dict[str, Any]) -> Wrong:
    other = made(rope, changed)
    if other is not None:
        yield bug, text, other
