"""What models are published in by those who trained them: params.json of Meta and Mistral, DeepSeek's own config.

Meta      github.com/meta-llama/llama-models: rope_theta; use_scaled_rope is Llama 3.1's scaling with the constants of
          the code (8, 1, 4, 8192)
Mistral   github.com/mistralai/mistral-common and vLLM's reader of it: yarn {factor, original_max_position_embeddings,
          beta, alpha, apply_scale}, without a magnitude unless apply_scale
DeepSeek  github.com/deepseek-ai/DeepSeek-V3, inference/model.py: YaRN by rope_factor beyond original_seq_len, its
          magnitude in the scale of the softmax alone

All of them turn neighbours.
"""

from collections.abc import Mapping
from typing import Any

from rope_ref import variants
from rope_ref.parameters import Layer
from rope_ref.rope import Rope
from rope_ref.settings import number, size

YARN = {"factor", "original_max_position_embeddings", "beta", "alpha", "apply_scale"}
DEEPSEEK = {"rope_factor": 40.0, "original_seq_len": 4096, "max_seq_len": 16384, "beta_fast": 32, "beta_slow": 1}


def recognises(given: Mapping[str, Any]) -> bool:
    """Whether these are the names that Meta, Mistral and DeepSeek use."""
    return "model_type" not in given and {"dim", "n_layers", "n_heads"} <= set(given)


def layers(given: Mapping[str, Any], length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a model. Raises ValueError for a key about rotation that is none of these."""
    fields: dict[str, Any] = {"pairing": "interleaved", "angle_dtype": angle_dtype}
    count = size(given, "n_layers")
    theta = float(number(given, "rope_theta", 10000.0))
    if "qk_rope_head_dim" in given:
        return [deepseek(given, theta, fields)] * count
    dim, heads = (number(given, key, whole=True) for key in ("dim", "n_heads"))
    width = size(given, "head_dim", dim // heads)
    yarn = given.get("yarn")
    rope: Rope
    if yarn is not None:
        if not isinstance(yarn, Mapping) or not set(yarn) <= YARN:
            raise ValueError(f"yarn is {yarn!r}; expected a dict with {', '.join(sorted(YARN))}")
        m = None if yarn.get("apply_scale") else 1.0
        original = number(yarn, "original_max_position_embeddings", whole=True)
        fast, slow = float(yarn.get("beta", 32)), float(yarn.get("alpha", 1))
        rope = variants.yarn(
            width, float(number(yarn, "factor")), original, theta, fast, slow, attention_factor=m, **fields
        )
        return [Layer("full_attention", "yarn", theta, rope)] * count
    if given.get("use_scaled_rope"):
        factor = float(number(given, "rope_scaling_factor", 8.0))
        high = float(number(given, "rope_high_freq_factor", 4.0))
        rope = variants.llama3(width, factor, 1.0, high, 8192, theta, **fields)
        return [Layer("full_attention", "llama3", theta, rope)] * count
    return [Layer("full_attention", "default", theta, variants.default(width, theta, **fields))] * count


def deepseek(given: Mapping[str, Any], theta: float, fields: dict[str, Any]) -> Layer:
    turning = size(given, "qk_rope_head_dim")
    width = size(given, "qk_nope_head_dim", 128) + turning
    values = {key: number(given, key, value) for key, value in DEEPSEEK.items()}
    fields = fields | {"rotary_dim": turning, "start": width - turning}
    if values["max_seq_len"] <= values["original_seq_len"]:
        return Layer("full_attention", "default", theta, variants.default(width, theta, **fields))
    rope = variants.yarn(
        width, float(values["rope_factor"]), int(values["original_seq_len"]), theta, float(values["beta_fast"]),
        float(values["beta_slow"]), attention_factor=1.0, **fields,
    )  # fmt: skip
    return Layer("full_attention", "yarn", theta, rope)
