"""The config.json of a transformer of diffusers, which says its class."""

from collections.abc import Callable, Mapping
from typing import Any

from rope_ref import video
from rope_ref.parameters import Layer
from rope_ref.rope import Rope
from rope_ref.settings import number, size

Given = Mapping[str, Any]


def still(given: Given, fields: dict[str, Any]) -> Rope:
    return Rope(size(given, "attention_head_dim", 64), rotary_dim=0)


def cogvideox(given: Given, fields: dict[str, Any]) -> Rope:
    if not given.get("use_rotary_positional_embeddings"):
        return still(given, fields)
    return video.cogvideox(size(given, "attention_head_dim", 64), **fields)


CLASSES: dict[str, Callable[[Given, dict[str, Any]], Rope]] = {
    "FluxTransformer2DModel": lambda c, f: video.flux(tuple(c.get("axes_dims_rope", (16, 56, 56))), **f),
    "Lumina2Transformer2DModel": lambda c, f: video.flux(tuple(c.get("axes_dim_rope", (32, 32, 32))), **f),
    "WanTransformer3DModel": lambda c, f: video.wan(size(c, "attention_head_dim", 128), **f),
    "HunyuanVideoTransformer3DModel": lambda c, f: video.hunyuan_video(
        tuple(c.get("rope_axes_dim", (16, 56, 56))), float(number(c, "rope_theta", 256.0)), **f),
    "CogVideoXTransformer3DModel": cogvideox,
    "SD3Transformer2DModel": still,
}  # fmt: skip


def recognises(given: Given) -> bool:
    return "model_type" not in given and "_class_name" in given


def layers(given: Given, length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a model. Raises ValueError for a class that is not known."""
    name = given["_class_name"]
    if name not in CLASSES:
        raise ValueError(f"_class_name is {name!r}; expected one of {', '.join(CLASSES)}")
    rope = CLASSES[name](given, {"angle_dtype": angle_dtype})
    counts = [size(given, key) for key in ("num_layers", "num_single_layers") if given.get(key)]
    theta = float(given.get("rope_theta") or rope.theta)
    kind = "full_attention" if rope.pairs else "still"
    return [Layer(kind, "default" if rope.pairs else "none", theta, rope)] * max(sum(counts), 1)
