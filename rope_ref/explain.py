"""A model's rotary embedding in words, equations and wavelengths: what `rope-ref explain` prints."""

import inspect
import re
import textwrap
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from rope_ref import frequencies
from rope_ref.configs import check_layer, layers
from rope_ref.multimodal import Vision, position_ids
from rope_ref.parameters import TYPES, Layer
from rope_ref.rope import Rope
from rope_ref.spectrum import banded, bands, exact_to, limits, off_by, rounded_angles, spans, speeds

# where the equation of each rope type stands
EQUATIONS = {
    "default": frequencies.geometric,
    "linear": frequencies.linear,
    "dynamic": frequencies.dynamic_factor,
    "yarn": frequencies.yarn,
    "longrope": frequencies.geometric,
    "llama3": frequencies.by_parts,
    "proportional": frequencies.proportional,
    "ntk_alpha": frequencies.ntk_theta,
}

# the symbols of those equations: by what name a variant was given each
SYMBOLS = {
    "L": ("original_max_position_embeddings", "max_position_embeddings"), "s": ("factor",),
    "low": ("low_freq_factor", "alpha"), "high": ("high_freq_factor", "beta"), "beta_fast": ("beta_fast",),
    "beta_slow": ("beta_slow",), "n": ("length",), "p": ("partial_rotary_factor",),
}  # fmt: skip

Groups = dict[Layer, list[int]]


def grouped(config: object, *, layer: int | None = None, **given: Any) -> Groups:
    """The layers of a model, or the one named, those of the same Rope together. Arguments as of `from_config`."""
    every = layers(config, **given)
    check_layer(layer, len(every))
    groups: Groups = {}
    for index in range(len(every)) if layer is None else [layer]:
        groups.setdefault(every[index], []).append(index)
    return groups


def parts(config: object, **given: Any) -> dict[str, Groups]:
    """The language model, and the tower that reads images where the model has one that is known."""
    found = {"text": grouped(config, **given)}
    if given.get("layer") is None:
        with suppress(ValueError):
            tower = grouped(config, **given | {"part": "vision"})
            found |= {"vision": tower} if tower != found["text"] else {}
    return found


def explain(groups: Groups, part: str = "text") -> str:
    """What each Rope of a model is, and which layers have it."""
    return "\n\n".join(_one(one, which, part) for one, which in groups.items())


def as_json(groups: Groups) -> list[dict[str, Any]]:
    """The same for programs, one dict for each Rope.

    layers, kind, rope_type, theta, parameters (of the variant); head_dim, channels (first, last), pairing, magnitude,
    axes, scores; inv_freq (pairs,) or (pairs, axes), bands [name, pairs, wavelengths, slowed]; off_by: radians -> the
    position from which on float32 angles are off by that; exact_to: dtype of a table -> the position up to which its
    angles are exact.

    >>> config = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 2, "rope_theta": 500000.0}
    >>> [(one["layers"], one["rope_type"], one["off_by"][0.01]) for one in as_json(grouped(config))]
    [([0, 1], 'default', 83887)]
    """
    return [_facts_of(one, which) for one, which in groups.items()]


def _facts_of(one: Layer, which: list[int]) -> dict[str, Any]:
    rope, theta = one.rope, one.theta if np.isfinite(one.theta) else None
    turns = speeds(rope).any()
    return {
        "layers": which, "kind": one.kind, "rope_type": one.rope_type, "theta": theta,
        "parameters": dict(rope.origin.given) if rope.origin else {}, "head_dim": rope.head_dim,
        "channels": [rope.start, rope.start + 2 * rope.pairs - 1] if turns else [], "pairing": rope.pairing,
        "magnitude": rope.attention_scale, "axes": rope.axes, "scores": list(one.beside),
        "inv_freq": rope.omega.tolist(), "bands": [list(band) for band in banded(rope, _base(one))] if turns else [],
        "off_by": off_by(rope) if turns else {}, "exact_to": exact_to(rope) if turns else {},
    }  # fmt: skip


def _one(one: Layer, which: list[int], part: str) -> str:
    kind = "" if one.kind in ("full_attention", "still", "patches") else f", {one.kind}"
    title = f"{'Vision tower, layer' if part == 'vision' else 'Layer'}{'s' * (len(which) > 1)} {spans(which)}{kind}"
    title = f"{title}\n{'=' * len(title)}"
    if not speeds(one.rope).any():
        return f"{title}\nNo rotation."
    texts = [title, _words(one), _facts(one), bands(one.rope, _base(one)), rounded_angles(one.rope), limits(one.rope)]
    return "\n\n".join(texts)


def _base(one: Layer) -> float:
    """theta, where frequencies are those of text, which are compared with theta^(-2i/r)."""
    return one.theta if one.rope_type in EQUATIONS else float("nan")


def _words(one: Layer) -> str:
    """The first paragraph of the variant, the equation where it stands, and the value of each of its symbols here."""
    rope_type = one.rope_type
    if rope_type not in EQUATIONS:
        return f"{rope_type}: {_first(one.rope.origin.make) if one.rope.origin else 'read off a file'}"
    words, equation = f"{rope_type}: {_first(TYPES[rope_type][0])}", EQUATIONS[rope_type]
    text = re.split(r"\n+(?:Raises|>>>)", inspect.getdoc(equation) or "")[0]
    here = f"here: {values}" if (values := symbols(one)) else ""
    described = f"{words}\n\n{equation.__module__}.{equation.__name__}:\n{textwrap.indent(text, '    ')}"
    return f"{described}\n\n{here}" if here else described


def _first(function: Callable[..., Any]) -> str:
    """The first paragraph of what a function says of itself."""
    return (inspect.getdoc(function) or "").split("\n\n")[0]


def symbols(one: Layer) -> str:
    """The values that the symbols of the equation have in this model.

    >>> from rope_ref import variants
    >>> symbols(Layer("full_attention", "llama3", 500000.0, variants.llama3(64, 8.0)))
    'theta = 500,000, r = 64, L = 8,192, s = 8, low = 1, high = 4'
    """
    rope, given = one.rope, one.rope.origin.given if one.rope.origin else {}
    found = [f"theta = {one.theta:,.10g}", f"r = {2 * rope.pairs}"]
    for symbol, names in SYMBOLS.items():
        values = [given[name] for name in names if isinstance(given.get(name), (int, float))]
        found += [f"{symbol} = {values[0]:,.10g}"] if values else []
    return ", ".join(found)


def _facts(one: Layer) -> str:
    rope = one.rope
    stop = rope.start + 2 * rope.pairs
    rows = [
        ("theta", f"{one.theta:g}"),
        ("channels", f"{rope.start} to {stop - 1} of {rope.head_dim}, {rope.pairs} {rope.pairing} pairs"),
        ("magnitude", f"{rope.attention_scale:.9g}" + (" (squared in a score)" if rope.attention_scale != 1 else "")),
        ("angles", rope.angle_dtype),
    ]
    rows += [("scores", text) for text in one.beside]
    rows += _lists(rope) if one.rope_type == "longrope" else []
    if rope.axes is not None:
        of = [int((rope.omega[:, axis] != 0).sum()) for axis in range(rope.axes)]
        names = {2: ("row", "column"), 3: ("t", "h", "w")}.get(rope.axes, tuple(map(str, range(rope.axes))))
        each = ", ".join(f"{name} {count} pairs" for name, count in zip(names, of, strict=True))
        rows.append(("axes", f"{rope.axes}: {each}"))
    rows += _ten_tokens() if rope.axes == 3 and one.rope_type in EQUATIONS else []
    return "\n".join(f"{name:10} {text}".rstrip() for name, text in rows)


def _lists(rope: Rope) -> list[tuple[str, str]]:
    """Both lists of LongRoPE, and where it goes over from one to the other."""
    given = rope.origin.given if rope.origin else {}
    original = given.get("original_max_position_embeddings", 0)
    rows = []
    for name, when in (("short_factor", f"up to {original:,} tokens"), ("long_factor", "beyond")):
        values = ", ".join(f"{value:.4g}" for value in given.get(name, ()))
        rows.append((name.removesuffix("_factor"), f"{when}, frequencies divided by"))
        rows += [("", line) for line in textwrap.wrap(values, 100)]
    return rows


def _ten_tokens() -> list[tuple[str, str]]:
    """How positions are counted on three axes: two tokens of text, an image, one of text, a video of three frames."""
    ids = position_ids([2, Vision(1, 4, 4), 1, Vision(3, 2, 2)])
    rows = [("", "")] + [
        ("ids", "2 of text, an image of 2 x 2 (patches merged by twos), 1 of text, a video of 3 frames of one token:")
    ]
    rows += [(f"  {name}", " ".join(map(str, axis))) for name, axis in zip("thw", ids.T.tolist(), strict=True)]
    return [*rows, ("", "Qwen3-VL gives each frame a block of its own, with its time as text before it.")]
