"""The numbers of the interactive page, as rope_ref computes them from published configs: tables.js."""

import json
from typing import Any

import numpy as np

from book.related import CONFIGS, NAMES
from rope_ref.configs import layers
from rope_ref.parameters import Layer
from rope_ref.spectrum import spans, speeds

EDITABLE = ("default", "linear", "ntk", "dynamic_ntk", "llama3", "yarn", "longrope", "proportional")


def script() -> str:
    """Every config's layers of the same Rope together."""
    return f'"use strict";\nconst TABLES = {json.dumps(tables(), separators=(",", ":"))};\n'


def tables() -> list[dict[str, Any]]:
    return [
        {"name": name, "model": file["model"], "layers": rows(layers(file["config"])), "length": length(file["config"])}
        for name, file in CONFIGS.items()
    ]


def length(config: dict[str, Any]) -> Any:
    """The longest length that a config names, or None."""
    return config.get("text_config", config).get("max_position_embeddings")


def rows(every: list[Layer]) -> list[dict[str, Any]]:
    groups: dict[Layer, list[int]] = {}
    for index, layer in enumerate(every):
        groups.setdefault(layer, []).append(index)
    return [row(layer, which) for layer, which in groups.items()]


def row(layer: Layer, which: list[int]) -> dict[str, Any]:
    """One Rope: what it was made of, where that can be edited, and its numbers."""
    rope = layer.rope
    made = rope.origin if rope.origin and rope.pairs else None
    variant = NAMES[made.make] if made else None
    given = {key: value for key, value in made.given.items() if value is not None} if made else {}
    given |= {"rotary_dim": 2 * rope.pairs} if variant in EDITABLE and variant != "proportional" else {}
    axis = np.abs(rope.omega).argmax(-1).tolist() if rope.axes else None
    return {
        "layers": spans(which), "variant": variant if variant in EDITABLE else None, "type": layer.rope_type,
        "theta": layer.theta, "given": given, "inv_freq": speeds(rope).tolist() if rope.pairs else [],
        "magnitude": rope.attention_scale, "axis": axis, "head_dim": rope.head_dim, "pairing": rope.pairing,
    }  # fmt: skip
