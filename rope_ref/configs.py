"""The Rope of a model, read from its config: which family, which layers, how wide a head.

One reader serves all families; what is special about one stands in `families`. Nothing that
concerns rotation is passed over in silence: an unknown key, an unknown value and a
contradiction are ValueErrors.
"""

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rope_ref import formats, frequencies, special, towers
from rope_ref.families import FAMILIES
from rope_ref.family import Family
from rope_ref.kinds import bases, head_dims, layer_types
from rope_ref.overrides import overridden
from rope_ref.pairing import check
from rope_ref.parameters import MROPE, Layer, read_layer
from rope_ref.rope import Rope
from rope_ref.settings import Settings, agreed, size

LLAMA = {"hidden_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 32}
SIZES: dict[str, Settings] = {"llama": LLAMA, "mistral": LLAMA}  # what the text_config of a wrapper may leave out
WRAPPED = ("text_config", "llm_config", "language_config")  # where a model that is not known holds one that is
ABOUT_ROTATION = re.compile("rope|rotary|theta|yarn|alibi")


def from_config(
    config: object, layer: int | None = None, *, length: int | None = None, angle_dtype: str = "float64",
    like: str | None = None, pairing: str | None = None, part: str = "text",
    overrides: Mapping[str, Any] | None = None,
) -> Rope:  # fmt: skip
    """The Rope of one layer, or of all layers if they agree.

    config     a dict, the path to a config.json or its folder, or an object with `to_dict` (a transformers config);
               or what `rope_ref.formats` reads: GGUF, ONNX, params.json, engines' and diffusers' configs, tables
    layer      index of the layer; without it all layers must have the same Rope
    length     for dynamic NTK and LongRoPE, the length of the sequence or the capacity, whichever the
               implementation switches by; without it, a sequence within the trained length
    like       the model_type to read a config of transformers as, where its own is not known
    pairing    the pairing of the checkpoint, where it is another than that family's
    part       "text", or "vision" for the tower that reads images, whose positions are (row, column)
    overrides  keys laid over a config of transformers, as vLLM and SGLang do where they serve it

    Raises ValueError for what it does not understand, naming the key, TypeError for a config of the
    wrong type, IndexError for a layer that the model does not have. A layer that does not rotate has
    rotary_dim 0.

    >>> config = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 2, "rope_theta": 500000.0}
    >>> from_config(config)
    Rope(head_dim=64, theta=500000.0)
    """
    each = layers(
        config, length=length, angle_dtype=angle_dtype, like=like, pairing=pairing, part=part, overrides=overrides
    )
    check_layer(layer, len(each))
    if layer is None and len({one.rope for one in each}) > 1:
        names = ", ".join(sorted({one.kind for one in each}))
        raise ValueError(f"layer is None, but the layers differ ({names}); name one of the {len(each)}")
    return each[layer or 0].rope


def layers(
    config: object, *, length: int | None = None, angle_dtype: str = "float64", like: str | None = None,
    pairing: str | None = None, part: str = "text", overrides: Mapping[str, Any] | None = None,
) -> list[Layer]:  # fmt: skip
    """Every layer of a model; arguments and errors as in `from_config`."""
    if part not in ("text", "vision"):
        raise ValueError(f"part is {part!r}; expected 'text' or 'vision'")
    if pairing is not None:
        check(pairing)
    if isinstance(config, (str, os.PathLike)):
        config = formats.found(Path(config))
    other = formats.read(config, length, angle_dtype)
    if other is not None:
        for name, value, usual in (("like", like, None), ("overrides", overrides, None), ("part", part, "text")):
            if value != usual:
                raise ValueError(f"{name} is {value!r}; expected {usual!r} for what is no config of transformers")
        return other if pairing is None else [one.settled(pairing=pairing) for one in other]
    whole = load(config) | ({} if like is None else {"model_type": like})
    whole = whole if overrides is None else overridden(whole, overrides)
    if part == "vision" or whole.get("model_type") in towers.SCHEMES:
        return towers.layers(whole, angle_dtype)
    if whole.get("model_type") in special.MODELS:
        fields = {"angle_dtype": angle_dtype} | ({} if pairing is None else {"pairing": pairing})
        return special.MODELS[whole["model_type"]](whole, length, fields)
    settings, family = language_model(whole)
    family = family if pairing is None else replace(family, pairing=pairing)
    check_names(settings, family)
    alike = not family.by_type and not family.kinds and family.still is None and family.other == "sliding_attention"
    count = size(settings, "num_hidden_layers", 1 if alike else None)  # where all are alike, one stands for all
    check_whole("length", length)
    if length is not None:
        frequencies.check_length("length", length)
    kinds = layer_types(settings, family, count)
    which = list(zip(kinds, head_dims(settings, family, kinds), bases(settings, family, kinds), strict=True))
    made = {each: read_layer(settings, family, *each, length, angle_dtype) for each in dict.fromkeys(which)}
    return [made[each] for each in which]


def check_layer(layer: int | None, count: int) -> None:
    """Raise TypeError or IndexError unless `layer` is None or the index of one of `count` layers."""
    check_whole("layer", layer)
    if layer is not None and not 0 <= layer < count:
        raise IndexError(f"layer is {layer}; expected 0 to {count - 1}")


def check_whole(name: str, value: int | None) -> None:
    """Raise TypeError unless the value is a whole number or None."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
        raise TypeError(f"{name} is {value!r}; expected a whole number or None")


def load(config: object) -> Settings:
    """The config as a dict."""
    if isinstance(config, (str, os.PathLike)):
        config = formats.from_json(Path(config))
    if not isinstance(config, Mapping) and hasattr(config, "to_dict"):
        config = config.to_dict()
    if not isinstance(config, Mapping):
        raise TypeError(f"config is a {type(config).__name__}; expected a dict, a path or an object with to_dict")
    return dict(config)


def language_model(settings: Settings) -> tuple[Settings, Family]:
    """The settings of the language model and its family; defaults and usual names filled in."""
    name = settings.get("model_type")
    for key in WRAPPED if name not in FAMILIES else ():
        inner = settings.get(key)
        if isinstance(inner, Mapping) and inner.get("model_type") in FAMILIES:
            return language_model(dict(inner))
    if not isinstance(name, str) or name not in FAMILIES:
        near = difflib.get_close_matches(str(name), FAMILIES, 3)
        meant = f", perhaps {' or '.join(near)}" if near else ""
        raise ValueError(
            f"model_type is {name!r}; expected one of the {len(FAMILIES)} that are known{meant}; another that turns "
            f"like one of them is read with like={near[0] if near else 'llama'!r}"
        )
    if name == "deepseek_v2" and settings.get("use_mla") is False:  # its small models, and those that read pages
        plain = {key: value for key, value in settings.items() if not key.startswith("qk_")}
        return plain | {"model_type": "llama"}, FAMILIES["llama"]
    family = FAMILIES[name]
    if family.text is not None:
        inner = settings.get(family.within)
        if inner is None and family.flat:
            return language_model(settings | {"model_type": family.text})
        if not isinstance(inner, Mapping):
            raise ValueError(f"{family.within} is {inner!r}; expected a dict")
        for key, value in settings.items():
            if ABOUT_ROTATION.search(key) and value is not None and inner.get(key) != value:
                here = f"{key} is {value!r} beside {family.within}, {inner.get(key)!r} in it"
                raise ValueError(f"{here}; expected one value")
        return language_model({"model_type": family.text} | SIZES.get(str(inner.get("model_type")), {}) | dict(inner))
    settings = dict(family.defaults) | settings
    for alias, key in family.aliases.items():
        if ABOUT_ROTATION.search(alias) and settings.get(key) is not None:
            raise ValueError(f"{key} is {settings[key]!r}; a {name} config calls it {alias}")
        value = agreed(key, settings.pop(alias, None), settings.get(key))
        settings |= {} if value is None else {key: value}
    return settings, family


def check_names(settings: Settings, family: Family) -> None:
    """Raise ValueError for a key about rotation that this family does not have."""
    known = set(family.defaults)
    known |= set() if family.fixed else {"rope_parameters"}
    known |= set() if family.fixed or family.silent else {"rope_theta", "rope_scaling", "partial_rotary_factor"}
    known |= {"rope_local_base_freq"} if family.local is not None and not family.silent else set()
    known |= {"no_rope_layers", "no_rope_layer_interval"} if family.still == "no_rope_layers" else set()
    known |= {"layer_rope_theta"} if family.still == "layer_rope_theta" else set()
    known |= {"rotary_dim"} if family.narrowed else set()
    known |= {"alibi"} if settings["model_type"] == "falcon" else set()
    for key, value in settings.items():
        absent = value is None or value is False  # as `use_mrope: false`
        if (ABOUT_ROTATION.search(key) or key in MROPE) and key not in known and not absent:
            raise ValueError(f"{key} is {value!r}; a {settings['model_type']} config has {', '.join(sorted(known))}")
    if family.fixed and settings["rotary"] is not True:
        raise ValueError(f"rotary is {settings['rotary']!r}; expected true")
