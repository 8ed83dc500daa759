"""Whether a model's own rotation, and ours in its place, is what the specification says of its config."""

import copy
import functools
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rope_ref as rr
from rope_ref.exactness import UNIT, budget
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from torch_bridge.exact import Exact
from torch_bridge.models import BOTH, COMPLEX, EXPECTED, LAST, ONE, Call, version

PLACES = (0, 1, 2, 3, 5, 8, 13, 21, 100)


def verify(module: nn.Module, exact: Exact, dtype: torch.dtype, functions: dict[str, tuple[Any, Call]]) -> None:
    """Raise ValueError where the rotary module, or our tables, with each function that attention may call, is wrong.

    Both are asked for the same few positions, and for one beyond the trained length where frequencies depend on it.
    The bound of the original adds up its roundings, in the coarsest type that its frequencies were in: 25 units for
    a frequency (theta^(2i/r) by a vector library, exponents up to 17, eight more), one for what a cast may have
    done to it and one for the angle; and 8 for cos, sin, magnitude and the rounding of each.
    """
    model_type = exact.config.model_type
    if not functions:
        raise ValueError(
            f"{model_type} of {version()} turns {exact.pairing} pairs; expected "
            f"{' or '.join(EXPECTED)} beside its {type(module).__name__}"
        )
    limit = getattr(module, "max_positions", 1 << 40)
    # GPT-J computes its frequencies in whatever type is torch's default when the model is made: that of the model
    types = [dtype] if hasattr(module, "embed_positions") else [buffer.dtype for buffer in module.buffers()]
    unit = max(torch.finfo(each).eps / 2 for each in (torch.float32, *types))
    for kind, name in exact.types.items():
        longer = (int(exact.config.max_position_embeddings) + 1,) if name in ("dynamic", "longrope") else ()
        for places in (PLACES, *((*PLACES, place) for place in longer)):
            ids = torch.tensor([[place for place in places if place < limit]], device="cpu")
            theirs, ours = apart(module), copy.deepcopy(exact)
            new = ours(ids, torch.float32, kind)
            rope = ours._tables(kind, ours._length(ids, kind)).rope
            each = ids if rope.axes is None else ids.expand(rope.axes, 1, -1)
            options = {} if kind is None else {"layer_type": kind}
            x = torch.zeros(1, dtype=torch.float32, device=next(iter(module.buffers())).device)
            made = theirs.forward(x, each.to(x.device), **options)
            original = tuple(t.cpu() for t in ((made,) if isinstance(made, Tensor) else made))
            angle = rr.angles(rope, spread(ids, rope)) * 27 * unit + 8 * unit
            for named, (there, call) in functions.items():
                ask = f"{named} of {model_type}, layer type {kind}" if kind else f"{named} of {model_type}"
                if call.sections:
                    there = functools.partial(there, mrope_section=exact.config.rope_parameters["mrope_section"])
                compare(there, call, original, ids, rope, angle, f"{ask}, as it was")
                tables = new[::-1] if call.takes == LAST else new
                compare(call.ours, call, tables, ids, rope, 4 * UNIT["float64"], f"our {ask}")


def apart(module: nn.Module) -> nn.Module:
    """A module that may change its buffers without changing this one, whose hooks may hold what cannot be copied."""
    other = copy.copy(module)
    vars(other).update({name: copy.copy(value) for name, value in vars(module).items() if isinstance(value, dict)})
    return other


def compare(function: Any, call: Call, tables: Any, ids: Tensor, rope: Rope, angle: Any, name: str) -> None:
    """Raise ValueError unless the function turns by the tables as the Rope does."""
    part = slice(rope.start, rope.start + 2 * rope.pairs)
    x = np.random.default_rng(0).standard_normal((ids.shape[-1], rope.head_dim)).astype(np.float32)
    expected = rr.rotate(x, spread(ids, rope), rope)[:, part]
    bound = budget(x, spread(ids, rope), rope, store="float32", arithmetic="float32", table="float32", angle=angle)
    q = torch.from_numpy(x[:, part].copy())[None, None]
    if call.takes == COMPLEX and call.heads == 2:
        y = function(q.transpose(1, 2), q.transpose(1, 2), *tables)[0].transpose(1, 2)
    elif call.takes in (BOTH, COMPLEX):
        y = function(q, q, *tables)[0]
    elif call.takes == ONE:
        y = function(q, *tables)
    else:
        y = function(q.transpose(1, 2), *tables).transpose(1, 2)
    if call.sorts:
        order = np.concatenate(channels("interleaved", rope.pairs))
        y = torch.empty_like(y).index_copy(-1, torch.from_numpy(order), y)
    wrong = np.abs(y[0, 0].double().numpy() - expected) - bound[:, part]
    if not (wrong <= 0).all():
        at = int(np.nanargmax(wrong.max(-1)))
        raise ValueError(
            f"{name}, does not rotate as its config says: at position {int(ids[0, at])} it is off by more than its "
            f"roundings, by {wrong[at].max():.3g}; expected {replace(rope, inv_freq=None) if rope.axes else rope!r}"
        )


def spread(ids: Tensor, rope: Rope) -> Any:
    """The positions (seq,) of a text, or (seq, axes)."""
    places = ids[0].numpy()
    return places if rope.axes is None else np.repeat(places[:, None], rope.axes, 1)
