"""What a variant has to do with others: the functions that compute it, its parent, the models and bugs of its kind."""

import ast
import functools
import inspect
import json
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rope_ref import frequencies, magnitude, rotation
from rope_ref.catalogue import CATALOGUE
from rope_ref.configs import layers
from rope_ref.conformance.samples import ARGUMENTS
from rope_ref.conformance.samples import rope as sample
from rope_ref.parameters import Layer
from rope_ref.rope import Rope
from rope_ref.rotation import Array
from tests.conformance.wrong.case import Case, load

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "tests" / "rope_ref" / "configs").glob("*.json"))
CONFIGS = {file.stem: json.loads(file.read_text()) for file in FILES}
NAMES = {make: name for name, make in CATALOGUE.items()}

# where the parent is neither called by the variant nor `default`
PARENTS = {"yarn": "ntk_by_parts", "ntk_by_parts": "linear", "dynamic_ntk": "ntk", "mrope_interleaved": "mrope"} | {
    name: "axial" for name in ("eva02", "pixtral", "qwen2_vl_vision", "dinov3", "sam2", "moonvit", "mixed",
                               "wan", "hunyuan_video", "cogvideox", "flux", "v_jepa_2", "golden")}  # fmt: skip
HOUSEKEEPING = {"whole", "angle_dtype", "unscaled", "turning", "_quartered"}


def parent(name: str) -> str | None:
    """The variant that this one changes: the one it calls, the one named above, or `default`."""
    called = [NAMES[f] for f in calls(CATALOGUE[name]) if f in NAMES]
    return None if name == "default" else next(iter(called), PARENTS.get(name, "default"))


def siblings(name: str) -> tuple[Rope, Rope | None]:
    """The sample of a variant, and what its parent makes of the same arguments."""
    one, above = sample(name), parent(name)
    if above is None:
        return one, None
    taken = inspect.signature(CATALOGUE[above]).parameters
    shared = {"head_dim": one.head_dim} | {key: value for key, value in ARGUMENTS[name].items() if key in taken}
    given = ARGUMENTS[above] | {key: value for key, value in shared.items() if key in taken}
    if above == "axial":
        given.pop("pairing")
        axis = np.count_nonzero(one.omega, axis=0)
        given |= {"axis_dims": [2 * n for n in axis]} if axis.sum() == one.pairs else {}
    return one, CATALOGUE[above](**given)


def changes(one: Rope, other: Rope) -> list[tuple[str, str, str]]:
    """What differs between two Ropes: its name, and what it is in `other` and in `one`."""
    both = (other, one)
    rows: list[tuple[str, ...]] = [
        ("channels that turn", *(f"{r.start} to {r.start + 2 * r.pairs - 1} of {r.head_dim}" for r in both)),
        ("pairing", other.pairing, one.pairing),
        ("magnitude", *("by position" if r.xpos else f"{r.attention_scale:.6g}" for r in both)),
        ("axes of a position", *(str(r.axes or 1) for r in both)),
        ("heads with speeds of their own", *(str(r.heads or "none") for r in both)),
        ("axis of each pair", *(axes(r) for r in both)),
        ("frequencies in radians per position", *(spectrum(r) for r in both)),
        ("speed against the parent's", "1", speed(one.omega, other.omega)),
    ]
    return [(what, was, now) for what, was, now in rows if was != now and now]


def spectrum(rope: Rope) -> str:
    """The range of its speeds."""
    w = np.abs(rope.omega[rope.omega != 0])
    return f"{rope.pairs} pairs, {w.max():.4g} to {w.min():.4g}"


def axes(rope: Rope) -> str:
    """Which axis turns each pair."""
    if rope.axes is None:
        return ""
    if (np.count_nonzero(rope.omega, axis=-1) > 1).any():
        return "all of them"
    order = "".join(str(axis) for axis in np.abs(rope.omega).argmax(-1))
    return order if len(order) < 20 else f"{order[:12]} ... {order[-6:]}"


def speed(one: Array, other: Array) -> str:
    """How many pairs keep their speed, and what the others do."""
    if one.shape != other.shape or one.ndim > 1 or np.array_equal(one, other):
        return ""
    rate = one / other
    moving = rate[(rate > 0) & ~np.isclose(rate, 1, rtol=1e-12)]
    words = [f"1 for {int(np.isclose(rate, 1, rtol=1e-12).sum())} of {len(one)} pairs"]
    words += [f"0 for {int((rate == 0).sum())}"] if (rate == 0).any() else []
    words += [f"{moving.min():.4g} to {moving.max():.4g} for {len(moving)}"] if moving.size else []
    return ", ".join(words)


def lines(name: str) -> list[Callable[..., Any]]:
    """The functions whose bodies compute a variant, itself first, each once, in the order of calls."""
    found: list[Callable[..., Any]] = []
    queue = [CATALOGUE[name]]
    while queue:
        function = queue.pop(0)
        if function not in found:
            found.append(function)
            queue += [f for f in calls(function) if f not in found]
    if sample(name).inv_freq is None:
        found.append(frequencies.geometric)
    return found + [rotation.angles, rotation.rotate] * (name == "default")


@functools.cache
def calls(function: Callable[..., Any]) -> list[Callable[..., Any]]:
    """The functions of rope_ref that a function calls by name, but those that check and pack."""
    plain = inspect.unwrap(function)
    if not inspect.isfunction(plain):
        return []
    return [f for f in _called(plain) if f.__name__ not in HOUSEKEEPING and not f.__name__.startswith("check")]


def _called(function: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    names = function.__globals__
    for node in ast.walk(ast.parse(textwrap.dedent(inspect.getsource(function)))):
        target = getattr(node, "func", None)
        if isinstance(target, ast.Name):
            value = names.get(target.id)
        elif isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name):
            value = getattr(names.get(target.value.id), target.attr, None)
        else:
            continue
        home = getattr(value, "__module__", None)
        same = value in CATALOGUE.values() or home in (frequencies.__name__, magnitude.__name__, function.__module__)
        if callable(value) and same and value is not Rope:
            yield value


@functools.cache
def models() -> dict[str, list[str]]:
    """The configs of each variant."""
    found: dict[str, list[str]] = {name: [] for name in CATALOGUE}
    for model, file in CONFIGS.items():
        for name in dict.fromkeys(n for layer in dict.fromkeys(layers(file["config"])) for n in variants_of(layer)):
            found[name].append(model)
    return found


def variants_of(layer: Layer) -> Iterator[str]:
    """What a layer's Rope is called in the catalogue, by its frequencies, its channels and its axes."""
    rope = layer.rope
    if rope.origin is not None and rope.pairs:
        yield NAMES[rope.origin.make]
    if rope.axes is not None:
        axis = np.abs(rope.omega).argmax(-1)
        yield "mrope" if (np.diff(axis) >= 0).all() else "mrope_interleaved"
    if rope.start:
        yield "decoupled"
    elif 0 < 2 * rope.pairs < rope.head_dim:
        yield "partial"


@functools.cache
def bugs() -> dict[str, list[Case]]:
    """The real bugs of each variant: what their mended forms are held against."""
    found: dict[str, list[Case]] = {name: [] for name in CATALOGUE}
    for case in sorted(load(), key=lambda case: (case.bug, case.link)):
        _, ropes = case.make(False)
        ropes = ropes if isinstance(ropes, (list, tuple)) else [ropes(8192) if callable(ropes) else ropes]
        for name in dict.fromkeys(NAMES[rope.origin.make] for rope in ropes if rope.origin):
            found[name].append(case)
    return found


def disagreements(name: str) -> list[str]:
    """What docs/peers.md says of published implementations where they differ on this variant."""
    word = name.removesuffix("_ntk")
    told = [line for line in (ROOT / "docs" / "peers.md").read_text().splitlines() if line.startswith("- ")]
    return [line for line in told if word in line.partition(" from ")[0].replace(",", " ").split()]
