"""How the models of transformers call their rotation.

Every one has a module that makes cos and sin once for all layers, and attention that hands them, with
its queries and keys, to a function of its file. What differs is that function's name, which
channels it pairs, and a few habits, below.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rope_ref.rope import Rope
from torch_bridge.rotation import rotate, rotate_qk

Pair = tuple[Tensor, Tensor]
BOTH, ONE, LAST = ("q", "k", "cos", "sin"), ("x", "cos", "sin"), ("tensor", "sin", "cos")
COMPLEX = ("xq", "xk", "freqs_cis")
TABLES = ("cos", "sin", "freqs_cis")
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


def before_heads(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Pair:
    """`interleaved`, of q and k (batch, seq, heads, head_dim)."""
    return interleaved(q, k, cos, sin, unsqueeze_dim=2)


def by_sections(
    q: Tensor, k: Tensor, cos: Tensor, sin: Tensor, mrope_section: Any = None, unsqueeze_dim: int = 1
) -> Pair:
    """`half_split`, where the original puts the sections of its axes together and our tables are of one piece."""
    return half_split(q, k, cos, sin, unsqueeze_dim)


def one_half_split(x: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> Tensor:
    """Turn one tensor (batch, heads, seq, head_dim)."""
    return rotate(x, cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim), pairing="half-split")


def one_interleaved(tensor: Tensor, sin: Tensor, cos: Tensor) -> Tensor:
    """Turn one tensor (batch, seq, heads, rotary_dim), sin before cos."""
    return rotate(tensor, cos.unsqueeze(2), sin.unsqueeze(2), pairing="interleaved")


class Call(NamedTuple):
    """What attention calls.

    ours      the function that takes its place
    pairing   which channels it turns together
    takes     its first arguments: BOTH; ONE; LAST, which is one with heads after seq, and sin before cos; or COMPLEX,
              cos + i sin in one
    heads     where those of q and k stand
    sorts     it leaves the first channels of all pairs before the second ones
    sections  it takes the sections of M-RoPE after the tables
    """

    ours: Callable[..., Tensor | Pair]
    pairing: str
    takes: tuple[str, ...] = BOTH
    heads: int = 1
    sorts: bool = False
    sections: bool = False

    def instead_of(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """The original, but for tables that a patched module has marked: those it turns by as exact ones."""
        signature, at = inspect.signature(original), [i for i, name in enumerate(self.takes) if name in TABLES]
        backwards = -1 if self.takes == LAST else 1

        @functools.wraps(original)
        def turned(*args: Any, **kwargs: Any) -> Any:
            if len(args) < len(self.takes):  # some by name
                bound = signature.bind(*args, **kwargs)
                args, kwargs = bound.args, bound.kwargs
            exact = getattr(args[at[0]], EXACT, None)
            if exact is None:
                return original(*args, **kwargs)
            return self.ours(*args[: at[0]], *exact[::backwards], *args[at[-1] + 1 :], **kwargs)

        return turned

    def fits(self, function: Callable[..., Any]) -> bool:
        """Whether a function that takes complex tables has heads where this call has them."""
        if self.takes != COMPLEX:
            return True
        x = torch.zeros((1, 2, 3, 2) if self.heads == 1 else (1, 3, 2, 2), device="cpu", dtype=torch.float32)
        try:
            function(x, x, torch.ones(1, 3, 1, device="cpu", dtype=torch.complex64))
        except RuntimeError:  # two heads are not three tokens
            return False
        return True


PLAIN = "apply_rotary_pos_emb"
CALLS = (
    (PLAIN, Call(half_split, "half-split")),
    (PLAIN, Call(interleaved, "interleaved")),
    (PLAIN, Call(one_half_split, "half-split", ONE)),
    (PLAIN, Call(one_interleaved, "interleaved", LAST)),
    ("apply_rotary_emb", Call(interleaved, "interleaved", COMPLEX)),
    ("apply_rotary_emb", Call(before_heads, "interleaved", COMPLEX, heads=2)),
    ("apply_multimodal_rotary_pos_emb", Call(by_sections, "half-split", sections=True)),
    ("apply_rotary_pos_emb_interleave", Call(interleaved_then_sorted, "interleaved", sorts=True)),
)
EXPECTED = tuple(dict.fromkeys(name for name, _ in CALLS))


def calls(pairing: str, file: Any) -> dict[str, Call]:
    """The functions of a file by which a model turns pairs of this kind, known by their first arguments.

    Where one function turns neighbours and sorts them, another beside it is for something else.
    """
    each = [(name, call) for name, call in CALLS if call.pairing == pairing and call.takes == first(file, name, call)]
    found = {name: call for name, call in each if call.fits(getattr(file, name))}
    return {name: call for name, call in found.items() if call.sorts} or found


def first(file: Any, name: str, call: Call) -> tuple[str, ...]:
    """The first arguments of a function of a file, as many as a call has."""
    function = getattr(file, name, None)
    return tuple(inspect.signature(function).parameters)[: len(call.takes)] if function else ()


def in_caches(config: Any, rope: Rope) -> Rope:
    """The Rope of the keys that a model of this config keeps: of half-split pairs, where it sorts what it turns."""
    try:  # a cache may be made before its model, whose file nobody has imported then
        file = importlib.import_module(type(config).__module__.replace(".configuration_", ".modeling_"))
    except ModuleNotFoundError:
        return rope
    sorts = any(call.sorts for call in calls(rope.pairing, file).values())
    return replace(rope, pairing="half-split") if sorts else rope


def version() -> str:
    """That of transformers, where a model can be of one."""
    return f"transformers {getattr(sys.modules.get('transformers'), '__version__', '(not loaded)')}"
