"""Whether a model's own rotation, and ours in its place, is what the specification says of its config."""

import copy
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import rope_ref as rr
from rope_ref.exactness import UNIT, budget
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from torch_bridge.deferred import NAMES
from torch_bridge.exact import Exact
from torch_bridge.models import MODELS, NORMS, Call
from torch_bridge.rotation import rotate_qk_norm

PLACES = (0, 1, 2, 3, 5, 8, 13, 21, 100)


def verify(module: nn.Module, exact: Exact, model_type: str, dtype: torch.dtype) -> None:
    """Raise ValueError where the rotary module, or our tables, with each function that attention may call, is wrong.

    Both are asked for the same few positions, and for one beyond the trained length where frequencies depend on it.
    The bound of the original adds up its roundings, in the coarsest type that its frequencies were in: 25 units for
    a frequency (theta^(2i/r) by a vector library, exponents up to 17, eight more), one for what a cast may have
    done to it and one for the angle; and 8 for cos, sin, magnitude and the rounding of each.
    """
    if any(buffer.is_meta for buffer in module.buffers()):
        raise ValueError("model is on the meta device, where nothing can be checked; expected it to be in memory")
    most = getattr(module, "max_positions", 1 << 40)
    # GPT-J computes its frequencies in whatever type is torch's default when the model is made: that of the model
    types = [dtype] if hasattr(module, "embed_positions") else [buffer.dtype for buffer in module.buffers()]
    unit = max(torch.finfo(each).eps / 2 for each in (torch.float32, *types))
    for kind, name in exact.types.items():
        beyond = (int(exact.config.max_position_embeddings) + 1,) if name in ("dynamic", "longrope") else ()
        for places in (PLACES, *((*PLACES, place) for place in beyond)):
            ids = torch.tensor([[place for place in places if place < most]])
            theirs, ours = copy.deepcopy(module), copy.deepcopy(exact)
            words = {} if kind is None else {"layer_type": kind}
            x = torch.zeros(1, device=next(iter(module.buffers())).device)
            original = tuple(t.cpu() for t in theirs(x, ids.to(x.device), **words))
            new = ours(ids, torch.float32, kind)
            rope = ours._tables(kind, ours._length(ids, kind)).rope
            angle = rr.angles(rope, spread(ids, rope)) * 27 * unit + 8 * unit
            calls = {name: call for name, call in MODELS[model_type].items() if call.pairing == rope.pairing}
            if not calls:
                raise ValueError(f"config says {rope.pairing}; expected a function of {model_type} for that pairing")
            for function, call in calls.items():
                there = getattr(sys.modules[type(module).__module__], function)
                ask = f"{function} of {model_type}, layer type {kind}" if kind else f"{function} of {model_type}"
                compare(there, call, original, ids, rope, angle, f"{ask}, as it was")
                compare(call.ours, call, new[::-1] if call.alone else new, ids, rope, 4 * UNIT["float64"], f"our {ask}")


def compare(function: Any, call: Call, tables: Any, ids: Tensor, rope: Rope, angle: Any, name: str) -> None:
    """Raise ValueError unless the function turns by the tables as the Rope does."""
    part = slice(rope.start, rope.start + 2 * rope.pairs)
    x = np.random.default_rng(0).standard_normal((ids.shape[-1], rope.head_dim)).astype(np.float32)
    expected = rr.rotate(x, spread(ids, rope), rope)[:, part]
    bound = budget(x, spread(ids, rope), rope, store="float32", arithmetic="float32", table="float32", angle=angle)
    q = torch.from_numpy(x[:, part].copy())[None, None]
    y = function(q.transpose(1, 2), *tables).transpose(1, 2) if call.alone else function(q, q, *tables)[0]
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


def verify_norms(attention: list[Any], model_type: str) -> None:
    """Raise ValueError where a module that may be deferred to the rotation, or our form of it, is another function.

    Theirs is in float32 and rounds to its dtype up to three times. In units of float32, for n channels: the sum of
    squares, in any order, n halved by the root; mean, epsilon, root, its reciprocal and products, seven more.
    """
    if model_type not in NORMS:
        return
    how = NORMS[model_type]
    for module in attention:
        for name in NAMES:
            norm: Any = getattr(module, name, None)
            if not how.is_of(norm, type(module).__module__):
                continue
            weight, epsilon = how.weight(norm).detach(), how.epsilon(norm)
            n = weight.shape[0]
            x = torch.from_numpy(np.random.default_rng(0).standard_normal((len(PLACES), n))).to(norm.weight)
            none = torch.ones(1, 0, device=x.device)
            with torch.no_grad():
                theirs = norm(x)
                ours, _ = rotate_qk_norm(x, x, weight, weight, none, none, epsilon=epsilon, pairing="half-split")
            root = (x.double().square().mean(-1, keepdim=True) + epsilon).sqrt()
            right = x.double() / root * weight.double()
            unit = torch.finfo(x.dtype).eps / 2
            for y, whose, roundings in ((theirs, "as it was", 3), (ours, "as ours", 1)):
                allowed = right.abs() * ((n / 2 + 7) * UNIT["float32"] + roundings * unit) * 1.01
                if not ((y.double() - right).abs() <= allowed + torch.finfo(x.dtype).tiny).all():
                    raise ValueError(
                        f"{name} of {type(module).__name__}, {whose}, does not divide by the root mean square; "
                        f"expected x / sqrt(mean(x^2) + {epsilon}) times its weight"
                    )


def spread(ids: Tensor, rope: Rope) -> Any:
    """The positions (seq,) of a text, or (seq, axes)."""
    places = ids[0].numpy()
    return places if rope.axes is None else np.repeat(places[:, None], rope.axes, 1)
