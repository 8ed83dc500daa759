"""How the models of transformers call their rotation: one table, keyed by the `model_type` of a language model.

Every one has a module that makes cos and sin once for all layers, and attention that hands them, with
its queries and keys, to a function of its file. What differs is that function's name, which
channels it pairs, and three habits, below.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from torch_bridge.deferred import Norm, rotate_both
from torch_bridge.rotation import rotate, rotate_qk

Pair = tuple[Tensor, Tensor]


def half_split(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """Turn q and k (batch, heads, seq, head_dim) by tables (batch, seq, pairs)."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return rotate_both(q, k, cos, sin, "half-split")


def interleaved(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """The same for neighbouring channels."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return rotate_qk(q, k, cos, sin, pairing="interleaved")


def interleaved_then_sorted(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, position_ids: Tensor | None = None, unsqueeze_dim: int = 1
) -> Pair:
    """The same, then the first channels of all pairs before the second ones: the order that caches hold."""
    q, k = interleaved(q, k, cos, sin, unsqueeze_dim)
    return q.unflatten(-1, (-1, 2)).mT.flatten(-2), k.unflatten(-1, (-1, 2)).mT.flatten(-2)


def one_interleaved(tensor: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Turn one tensor (batch, seq, heads, rotary_dim), sin before cos."""
    return rotate(tensor, cos.unsqueeze(2), sin.unsqueeze(2), pairing="interleaved")


class Call(NamedTuple):
    """What attention calls.

    ours     the function that takes its place
    pairing  which channels it turns together
    sorts    it leaves the first channels of all pairs before the second ones
    alone    it takes one tensor with heads after seq, and sin before cos
    """

    ours: Callable[..., Tensor | Pair]
    pairing: str
    sorts: bool = False
    alone: bool = False


Calls = dict[str, Call]
HALVES: Calls = {"apply_rotary_pos_emb": Call(half_split, "half-split")}
NEIGHBOURS: Calls = {"apply_rotary_pos_emb": Call(interleaved, "interleaved")}
SORTED = {"apply_rotary_pos_emb_interleave": Call(interleaved_then_sorted, "interleaved", sorts=True)}

ALIKE = (
    "apertus", "arcee", "bitnet", "cwm", "diffllama", "doge", "exaone4", "falcon", "falcon_h1", "flex_olmo", "gemma",
    "gemma2", "gemma3_text", "glm4_moe", "gpt_neox", "gpt_neox_japanese", "gpt_oss", "granite", "granitemoe",
    "granitemoeshared", "hyperclovax", "jais2", "llama", "mistral", "mixtral", "modernbert", "nemotron", "olmo",
    "olmo2", "olmo3", "olmoe", "persimmon", "phi", "phi3", "phimoe", "qwen2", "qwen2_5_vl_text", "qwen2_moe",
    "qwen2_vl_text", "qwen3", "qwen3_moe", "seed_oss", "smollm3", "stablelm", "starcoder2", "vaultgemma",
)  # fmt: skip
MODELS: dict[str, Calls] = {
    **dict.fromkeys(ALIKE, HALVES),
    **dict.fromkeys(("cohere", "cohere2", "ernie4_5", "ernie4_5_moe", "glm", "glm4", "helium"), NEIGHBOURS),
    "deepseek_v3": HALVES | SORTED,  # which of the two, its config says
    "gptj": {"apply_rotary_pos_emb": Call(one_interleaved, "interleaved", alone=True)},
}

# `q_norm` and `k_norm`, where they are over head_dim and right before the rotation
NORMS: dict[str, Norm] = {
    "qwen3": Norm("Qwen3RMSNorm", lambda norm: norm.weight, lambda norm: norm.variance_epsilon),
    "gemma3_text": Norm("Gemma3RMSNorm", lambda norm: 1.0 + norm.weight.float(), lambda norm: norm.eps),
}
