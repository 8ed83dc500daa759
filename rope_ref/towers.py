"""The vision tower of a model: the scheme of `vision` that turns its patches, by the model_type of its config."""

from collections.abc import Callable, Mapping
from typing import Any

from rope_ref import vision
from rope_ref.parameters import Layer, still
from rope_ref.rope import Rope
from rope_ref.settings import Settings, number, size

ROWS_THEN_COLUMNS = (
    "qwen2_vl_vision", "qwen2_5_vl_vision", "qwen3_vl_vision", "qwen3_vl_moe_vision", "qwen3_5_vision",
    "qwen3_5_moe_vision", "qwen2_5_omni_vision_encoder", "qwen3_omni_moe_vision_encoder", "glm4v_vision",
    "glm4v_moe_vision", "glm_ocr_vision", "ernie4_5_vl_moe_vision", "exaone4_5_vision", "paddleocr_vl_vision",
    "video_llama_3_vision", "mlcd_vision_model",
)  # fmt: skip
SCHEMES: dict[str, Callable[..., Rope]] = {
    **dict.fromkeys(ROWS_THEN_COLUMNS, vision.qwen2_vl),
    "pixtral": vision.pixtral,
    "llama4_vision_model": vision.llama4,
    **dict.fromkeys(("dinov3_vit", "eomt_dinov3"), vision.dinov3),
    **dict.fromkeys(("sam2_video", "sam3_tracker_video", "edgetam_video", "sam3_vit_model"), vision.sam2),
    **dict.fromkeys(("moonvit", "kimi_k25_vision"), vision.moonvit),
}
STILL = (
    "clip_vision_model", "siglip_vision_model", "siglip2_vision_model", "intern_vit_6b", "internvl_vision",
    "mllama_vision_model", "idefics3_vision", "smolvlm_vision", "chinese_clip_vision_model", "dinov2",
)  # fmt: skip
# the model_type of a tower whose config names none, or names that of the whole, by the model_type of the whole
TOWERS = {
    **{name: f"{name}_vision" for name in (
        "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe", "glm4v", "glm4v_moe", "glm_ocr",
        "ernie4_5_vl_moe", "exaone4_5", "paddleocr_vl", "video_llama_3", "kimi_k25",
    )},
    "qwen2_5_omni": "qwen2_5_omni_vision_encoder", "qwen2_5_omni_thinker": "qwen2_5_omni_vision_encoder",
    "qwen3_omni_moe": "qwen3_omni_moe_vision_encoder", "qwen3_omni_moe_thinker": "qwen3_omni_moe_vision_encoder",
    "llama4": "llama4_vision_model", "llava": "clip_vision_model", "mllama": "mllama_vision_model",
    "gemma3": "siglip_vision_model", "paligemma": "siglip_vision_model", "internvl": "internvl_vision",
    "kimi_vl": "moonvit", "idefics3": "idefics3_vision", "smolvlm": "smolvlm_vision",
}  # fmt: skip
WIDTHS = (
    ("embed_dim", "num_heads"), ("hidden_size", "num_heads"), ("hidden_size", "num_attention_heads"),
    ("hidden_size", "attention_heads"), ("vt_hidden_size", "vt_num_attention_heads"),
    ("memory_attention_hidden_size", "memory_attention_num_attention_heads"),
)  # fmt: skip
LAYERS = ("depth", "num_hidden_layers", "num_layers", "vt_num_hidden_layers", "memory_attention_num_layers")


def tower(settings: Mapping[str, Any]) -> tuple[str, Settings] | None:
    """The model_type and the config of the vision tower; None where the model has none."""
    name = settings.get("model_type")
    if name in SCHEMES or name in STILL:
        return str(name), dict(settings)
    thinker = settings.get("thinker_config")
    inner = (thinker if isinstance(thinker, Mapping) else settings).get("vision_config")
    if not isinstance(inner, Mapping):
        return None
    own = inner.get("model_type")
    return str(own if own in SCHEMES or own in STILL else TOWERS.get(str(name), own)), dict(inner)


def layers(settings: Mapping[str, Any], angle_dtype: str) -> list[Layer]:
    """Every layer of the vision tower. Raises ValueError where there is none, or none that is known."""
    found = tower(settings)
    if found is None:
        raise ValueError(f"a {settings.get('model_type')} config has no vision_config, and so no part 'vision'")
    name, given = found
    count = next((size(given, key) for key in LAYERS if given.get(key)), 1)
    if name not in SCHEMES and name not in STILL:
        known = ", ".join([*SCHEMES, *STILL])
        raise ValueError(f"model_type of the vision_config is {name!r}; expected one of {known}")
    width = head_dim(given)
    if name in STILL:
        return [still(width)] * count
    make = SCHEMES[name]
    inner = given.get("rope_parameters") or {}
    default = 100.0 if make is vision.dinov3 else 10000.0
    theta = float(number(inner, "rope_theta", number(given, "rope_theta", default)))
    # Kimi's own code turns neighbours, that of transformers halves
    fields = {"pairing": "half-split"} if name == "kimi_k25_vision" and "vt_hidden_size" not in given else {}
    return [Layer("patches", make.__name__, theta, make(width, theta, angle_dtype=angle_dtype, **fields))] * count


def head_dim(given: Mapping[str, Any]) -> int:
    if given.get("head_dim") is not None:
        return size(given, "head_dim")
    for whole, heads in WIDTHS:
        if given.get(whole) is not None and given.get(heads) is not None:
            channels, count = (number(given, key, whole=True) for key in (whole, heads))
            if channels % count:
                raise ValueError(f"{whole} is {channels}; expected a multiple of the {count} heads")
            return size({"head_dim": channels // count}, "head_dim")
    raise ValueError("head_dim is missing in the vision_config; expected it, or hidden_size and num_attention_heads")
