"""Models whose config says rotation in words of its own: each is read by a function.

qwen         modeling_qwen.py of Qwen/Qwen-7B: NTK-aware beyond seq_length, by 2^ceil(log2(n / seq_length) + 1) - 1;
             queries beyond it are scaled by ln n / ln seq_length
chatglm      modeling_chatglm.py of THUDM/chatglm2-6b to glm-4-9b: the first half of a head, neighbours, 10,000
             times rope_ratio
baichuan     modeling_baichuan.py: 7B rotates, 13B has ALiBi; told apart by hidden_size, as vLLM does
internlm     modeling_internlm.py of internlm/internlm-7b: rotary = {base, type, scaling_factor}
dbrx         transformers: attn_config holds rope_theta
deepseek_v4  transformers: the last qk_rope_head_dim channels; layers that compress have a base and a scaling of
             their own, without a magnitude
nemotron_h   transformers: attention without rotation
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from rope_ref import variants
from rope_ref.family import Family
from rope_ref.parameters import Layer, read_layer, still
from rope_ref.settings import Settings, listed, number, size

Reader = Callable[[Settings, int | None, dict[str, Any]], list[Layer]]


def qwen(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    width, theta = size(given, "kv_channels", 128), float(number(given, "rotary_emb_base", 10000.0))
    trained = number(given, "seq_length", 8192, whole=True)
    alpha = 1
    if given.get("use_dynamic_ntk", True) and length is not None and length > trained:
        alpha = 2 ** math.ceil(math.log2(length / trained) + 1) - 1
    turning = int(width * number(given, "rotary_pct", 1.0))
    rope = variants.ntk(width, float(alpha), theta, None if turning == width else turning, **fields)
    logn = f"times ln(n) / ln({trained:,}) for a query that is the n-th, beyond {trained:,}"
    beside = (logn,) if given.get("use_logn_attn", True) else ()
    return [Layer("full_attention", "ntk_alpha", theta, rope, beside)] * size(given, "num_hidden_layers", 1)


def chatglm(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    if given.get("position_encoding_2d"):
        raise ValueError("position_encoding_2d is true; expected ChatGLM 2 or later, which count on one axis")
    width, theta = size(given, "kv_channels", 128), 10000.0 * number(given, "rope_ratio", 1.0)
    rope = variants.default(width, theta, **{"pairing": "interleaved"} | fields, rotary_dim=width // 2)
    return [Layer("full_attention", "default", theta, rope)] * size(given, "num_layers", 1)


def baichuan(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    hidden, heads = (number(given, key, whole=True) for key in ("hidden_size", "num_attention_heads"))
    width, count = size({"head_dim": hidden // heads}, "head_dim"), size(given, "num_hidden_layers", 1)
    if hidden != 4096:
        return [still(width)] * count
    theta = float(number(given, "rope_theta", 10000.0))
    return [Layer("full_attention", "default", theta, variants.default(width, theta, **fields))] * count


def internlm(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    rotary = given.get("rotary")
    rotary = rotary if isinstance(rotary, Mapping) else {}
    kind = rotary.get("type", "origin")
    if kind not in ("origin", "dynamic"):
        raise ValueError(f"type of rotary is {kind!r}; expected 'origin' or 'dynamic'")
    scaling = {"rope_type": "dynamic", "factor": rotary.get("scaling_factor", 1.0)} if kind == "dynamic" else None
    words = {"rope_theta": float(number(rotary, "base", 10000.0)), "rope_scaling": scaling}
    return like_llama(given | words, length, fields, size(given, "num_hidden_layers", 1))


def dbrx(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    attention = given.get("attn_config")
    theta = float(number(attention if isinstance(attention, Mapping) else {}, "rope_theta", 10000.0))
    words = {"hidden_size": given.get("d_model"), "num_attention_heads": given.get("n_heads"), "rope_theta": theta}
    return like_llama(given | words, length, fields, size(given, "n_layers", 1))


def deepseek_v4(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    width, count = size(given, "head_dim", 512), size(given, "num_hidden_layers")
    turning = given.get("qk_rope_head_dim") or int(width * number(given, "partial_rotary_factor", 0.125))
    parameters = given.get("rope_parameters") or given.get("rope_scaling") or {}
    nested = all(isinstance(parameters.get(name), Mapping) for name in ("main", "compress"))
    bases = (number(given, "rope_theta", 10000.0), number(given, "compress_rope_theta", 160000.0))
    no_scaling: Mapping[str, Any] = {}
    plain, compressed = (parameters["main"], parameters["compress"]) if nested else (no_scaling, parameters)
    kinds = compress_kinds(given, count)
    made = {}
    for kind, inner, base in (("sliding_attention", plain, bases[0]), ("compressed", compressed, bases[1])):
        inner = {"rope_theta": base} | {key: value for key, value in inner.items() if key != "partial_rotary_factor"}
        inner |= {"attention_factor": 1.0} if inner.get("rope_type", inner.get("type")) == "yarn" else {}
        words = {"model_type": "deepseek_v4", "max_position_embeddings": given.get("max_position_embeddings")}
        words |= {"rope_parameters": inner, "qk_rope_head_dim": turning, "qk_nope_head_dim": width - turning}
        family = Family(**{"pairing": "interleaved"} | {k: v for k, v in fields.items() if k == "pairing"}, latent=True)
        one = read_layer(words, family, "full_attention", width, None, length, fields["angle_dtype"])
        made[kind] = one._replace(kind=kind)
    return [made["sliding_attention" if kind == "sliding_attention" else "compressed"] for kind in kinds]


def compress_kinds(given: Settings, count: int) -> list[str]:
    """What layers are called: by layer_types, by compress_ratios (0 slides), or those of transformers' class."""
    names = ("sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention")
    if given.get("layer_types") is not None:
        return listed("layer_types", given["layer_types"], count, names)
    if given.get("compress_ratios") is not None:
        ratios = listed("compress_ratios", given["compress_ratios"], count, (0, 4, 128))
        return [names[(0, 4, 128).index(ratio)] for ratio in ratios]
    return [names[1 if i >= 2 and i % 2 else 2] for i in range(count)]


def nemotron_h(given: Settings, length: int | None, fields: dict[str, Any]) -> list[Layer]:
    return [still(size(given, "head_dim", 128))] * size(given, "num_hidden_layers", 1)


def like_llama(given: Settings, length: int | None, fields: dict[str, Any], count: int) -> list[Layer]:
    hidden, heads = (number(given, key, whole=True) for key in ("hidden_size", "num_attention_heads"))
    width, family = size({"head_dim": hidden // heads}, "head_dim"), Family(fields.get("pairing", "half-split"))
    return [read_layer(given, family, "full_attention", width, None, length, fields["angle_dtype"])] * count


MODELS: dict[str, Reader] = {
    one.__name__: one for one in (qwen, chatglm, baichuan, internlm, dbrx, deepseek_v4, nemotron_h)
}
