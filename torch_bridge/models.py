"""How the models of transformers call their rotation.

Every one has a module that makes cos and sin once for all layers, and attention that hands them, with
its queries and keys, to a function of its file. What differs is that function's name, which
channels it pairs, and a few habits, below.
"""

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from torch_bridge.rotation import rotate, rotate_qk

Pair = tuple[Tensor, Tensor]
EXACT = "rope_ref_tables"  # the attribute of a table of the model's own that holds exact ones


def half_split(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """Turn q and k (batch, heads, seq, head_dim) by tables (batch, seq, pairs)."""
    return rotate_qk(q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim), pairing="half-split")


def interleaved(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Pair:
    """The same for neighbouring channels."""
    return rotate_qk(q, k, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim), pairing="interleaved")


def interleaved_then_sorted(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, position_ids: Tensor | None = None, unsqueeze_dim: int = 1
) -> Pair:
    """The same, then the first channels of all pairs before the second ones: the order that caches hold."""
    q, k = interleaved(q, k, cos, sin, unsqueeze_dim)
    return q.unflatten(-1, (-1, 2)).mT.flatten(-2), k.unflatten(-1, (-1, 2)).mT.flatten(-2)


def by_sections(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, mrope_section: Any, unsqueeze_dim: int = 1) -> Pair:
    """`half_split`, where the original puts the sections of its axes together and our tables are of one piece."""
    return half_split(q, k, cos, sin, unsqueeze_dim)


def one_interleaved(tensor: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Turn one tensor (batch, seq, heads, rotary_dim), sin before cos."""
    return rotate(tensor, cos.unsqueeze(2), sin.unsqueeze(2), pairing="interleaved")


class Call(NamedTuple):
    """What attention calls.

    ours      the function that takes its place
    pairing   which channels it turns together
    sorts     it leaves the first channels of all pairs before the second ones
    alone     it takes one tensor with heads after seq, and sin before cos
    sections  it takes the sections of M-RoPE after the tables
    """

    ours: Callable[..., Tensor | Pair]
    pairing: str
    sorts: bool = False
    alone: bool = False
    sections: bool = False

    def instead_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The original, but for tables that a patched module has marked: those it turns by as exact ones."""
        if self.alone:

            @functools.wraps(original)
            def one(tensor: Tensor, sin: Tensor, cos: Tensor) -> Any:
                exact = getattr(cos, EXACT, None)
                return original(tensor, sin, cos) if exact is None else self.ours(tensor, exact[1], exact[0])

            return one

        @functools.wraps(original)
        def both(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
            exact = getattr(cos, EXACT, None)
            if exact is None:
                return original(q, k, cos, sin, *args, **kwargs)
            return self.ours(q, k, *exact, *args, **kwargs)

        return both


Calls = dict[str, Call]
HALVES: Calls = {"apply_rotary_pos_emb": Call(half_split, "half-split")}
NEIGHBOURS: Calls = {"apply_rotary_pos_emb": Call(interleaved, "interleaved")}
SECTIONS: Calls = {"apply_multimodal_rotary_pos_emb": Call(by_sections, "half-split", sections=True)}
SORTED: Calls = {"apply_rotary_pos_emb_interleave": Call(interleaved_then_sorted, "interleaved", sorts=True)}
USUAL = {"half-split": HALVES, "interleaved": NEIGHBOURS}
SPECIAL: dict[str, Calls] = {
    "deepseek_v3": HALVES | SORTED,  # which of the two, its config says
    "gptj": {"apply_rotary_pos_emb": Call(one_interleaved, "interleaved", alone=True)},
    "qwen2_vl_text": HALVES | SECTIONS,  # which of the two, the version of transformers says
    "qwen2_5_vl_text": HALVES | SECTIONS,
}
EXPECTED = sorted({name for named in (HALVES, SECTIONS, SORTED) for name in named})


def calls(model_type: str, pairing: str, file: Any) -> Calls:
    """The functions by which a model of this type turns pairs of this kind, those that its file has."""
    named = SPECIAL.get(model_type, USUAL[pairing])
    return {name: call for name, call in named.items() if call.pairing == pairing and hasattr(file, name)}


def version() -> str:
    """That of transformers, where a model can be of one."""
    return f"transformers {getattr(sys.modules.get('transformers'), '__version__', '(not loaded)')}"
