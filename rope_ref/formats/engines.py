"""What engines write: the config.json of TensorRT-LLM, and the arguments of Megatron and NeMo.

TensorRT-LLM  rotary_base, rotary_pct, rotary_embedding_dim, rotary_scaling (as rope_scaling of transformers),
              position_embedding_type: rope_gpt_neox turns halves, rope_gptj neighbours
Megatron      rotary_base, rotary_percent, rotary_interleaved, rotary_seq_len_interpolation_factor or
              seq_len_interpolation_factor; use_rope_scaling is Llama 3's, by rope_scaling_factor
"""

from collections.abc import Mapping
from typing import Any

from rope_ref import variants
from rope_ref.family import Family
from rope_ref.parameters import Layer, read_layer
from rope_ref.settings import agreed, number, size

PAIRINGS = {"rope_gpt_neox": "half-split", "rope_gptj": "interleaved", "long_rope": "half-split", "yarn": "half-split"}
PLACES = {"rope", "learned_absolute", "none"}


def recognises(given: Mapping[str, Any]) -> bool:
    return "model_type" not in given and ("rotary_base" in given or "rotary_percent" in given)


def layers(given: Mapping[str, Any], length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a model."""
    names = ("num_hidden_layers", "num_layers")
    count = size({names[0]: agreed(names[0], *(given.get(n) for n in names))}, names[0], 1)
    width = agreed("head_dim", *(given.get(n) for n in ("head_size", "kv_channels")))
    width = width or number(given, "hidden_size", whole=True) // number(given, "num_attention_heads", whole=True)
    width = size({"head_dim": width}, "head_dim")
    part = float(agreed("rotary_percent", *(given.get(n) for n in ("rotary_percent", "rotary_pct"))) or 1.0)
    turning = int(given.get("rotary_embedding_dim") or width * part)
    theta = float(number(given, "rotary_base", 10000.0))
    place = given.get("position_embedding_type")
    if place in PAIRINGS:
        pairing = PAIRINGS[place]
    elif place is None or place in PLACES:
        pairing = "interleaved" if given.get("rotary_interleaved") else "half-split"
    else:
        raise ValueError(f"position_embedding_type is {place!r}; expected one of {', '.join([*PAIRINGS, *PLACES])}")
    fields: dict[str, Any] = {"pairing": pairing, "angle_dtype": angle_dtype}
    fields |= {} if turning == width else {"rotary_dim": turning}
    if given.get("rotary_scaling") is not None:
        settings = dict(given) | {"rope_theta": theta, "rope_scaling": given["rotary_scaling"], "model_type": "llama"}
        family = Family(pairing, partial=1.0)
        settings |= {} if part == 1 else {"partial_rotary_factor": part}
        return [read_layer(settings, family, "full_attention", width, None, length, angle_dtype)] * count
    names = ("seq_len_interpolation_factor", "rotary_seq_len_interpolation_factor")
    stretch = agreed("seq_len_interpolation_factor", *(given.get(n) for n in names))
    if given.get("use_rope_scaling") or given.get("scale_factor"):
        factor = float(number(given, "rope_scaling_factor", number(given, "scale_factor", 8.0)))
        rope = variants.llama3(width, factor, theta=theta, **fields)
        return [Layer("full_attention", "llama3", theta, rope)] * count
    if stretch:
        rope = variants.linear(width, float(stretch), theta, **fields)
        return [Layer("full_attention", "linear", theta, rope)] * count
    return [Layer("full_attention", "default", theta, variants.default(width, theta, **fields))] * count
