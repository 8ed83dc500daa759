"""Wrong parameters of a variant: left out, taken from a default, or from a twin."""

import inspect
from collections.abc import Iterator
from typing import Any

from rope_ref.conformance.mutations.rules import PARAMETERS, rule
from rope_ref.rope import Rope

THETAS = (10000.0, 500000.0, 1000000.0, 100.0, 10.0, 1e5, 1e7, 1.5e5)

# The class of a mistake in the rule by which a variant makes its frequencies


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
            }
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
        for said, other in tried.items():
            yield from _made(rope, PARAMETERS.get(name, own), f"{name} is {said}; expected {value}", {name: other})
    for one, two in TWINS:
        if given.get(one) is not None and given.get(two) is not None:
            words = {one: given[two], two: given[one]}
            yield from _made(rope, PARAMETERS.get(one, own), f"{one} and {two} are exchanged", words)
    for one in ("short_factor", "long_factor"):
        if one in given:
            for name in ("short_factor", "long_factor"):
                yield from _made(rope, own, f"{one} is taken at every length", {name: given[one]})


def _made(rope: Rope, bug: str, text: str, changed: dict[str, Any]) -> Wrong:
    assert rope.origin is not None
    try:
        made = rope.origin.make(**rope.origin.given | changed)
    except (ValueError, TypeError, IndexError, OverflowError, ZeroDivisionError):  # the specification refuses it
        return
    if made.head_dim == rope.head_dim:
        yield bug, text, made
