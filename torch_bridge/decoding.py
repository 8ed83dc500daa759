"""How a patched model of transformers attends: by `attend` where a few new tokens meet a cache, else as it did.

The functions below are registered by the names of `NAMES` with `AttentionInterface`, beside masks as the
model's own attention makes them. A mask is taken for what it says: where each query sees a run of tokens that ends with
itself, the kernel needs no more than where runs begin and end. Any other mask, gradients, dropout, another device or
dtype, more than 16 new tokens, few numbers, arguments that are not known here, and what is compiled go to the model's
own attention.
"""

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from numba_kernels.decoding import NEW, WIDEST
from torch_bridge.attention import KINDS, attend
from torch_bridge.kernel import compiling, needs_gradient

NAMES = {"sdpa": "rope_ref_sdpa", "eager": "rope_ref_eager"}  # a model's own attention, and what takes its place
PASSED = {"s_aux", "position_ids", "cache_position"}  # tensors that are known: the others say nothing that masks do not
FEW = 1 << 17  # float32 numbers of keys and values that torch's own attention reads before ours has checked them

taken: Counter[tuple[str, str]] = Counter()  # (class of a module, path): how often, since it was last cleared


class Runs(NamedTuple):
    """Row b sees tokens starts[b] <= j < lengths[b], up to the query itself, in a window if there is one."""

    starts: Tensor | None = None
    lengths: Tensor | None = None
    window: int | None = None


def sdpa(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return attention(sdpa_attention_forward, module, *args, **options)


def eager(module: nn.Module, *args: Any, **options: Any) -> tuple[Tensor, Tensor | None]:
    return attention(eager_of(module), module, *args, **options)


def eager_of(module: nn.Module) -> Callable[..., Any]:
    """The eager attention of a model's file, or of that of the class which it extends."""
    files = (sys.modules[each.__module__] for each in type(module).__mro__)
    found: Callable[..., Any] = next(file.eager_attention_forward for file in files
                                     if hasattr(file, "eager_attention_forward"))  # fmt: skip
    return found


def attention(
    own: Callable[..., Any], module: nn.Module, query: Tensor, key: Tensor, value: Tensor,
    attention_mask: Tensor | None, **options: Any,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """(batch, new, heads, value_dim) and no weights, or what the model's own attention gives."""
    if compiling():  # sizes are not to be looked at, nor anything counted, or every size is compiled anew
        compiled: tuple[Tensor, Tensor | None] = own(module, query, key, value, attention_mask, **options)
        return compiled
    path = why_not(query, key, value, options)
    runs = runs_of(attention_mask, query.shape[2], key.shape[2]) if not path else None
    if not path and runs is None:
        path = "a mask that is no run of tokens"
    taken[type(module).__name__, path or "attend"] += 1
    if path or runs is None:
        result: tuple[Tensor, Tensor | None] = own(module, query, key, value, attention_mask, **options)
        return result
    out = attend(
        query, key, value, scale=options.get("scaling"), starts=runs.starts, lengths=runs.lengths, window=runs.window,
        soft_cap=options.get("softcap"), sinks=options.get("s_aux"),
    )  # fmt: skip
    return out.transpose(1, 2).contiguous(), None


def why_not(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> str:
    """What keeps the kernel from it, in words; nothing if nothing does."""
    if query.dtype == torch.float32 and key.numel() + value.numel() < FEW:
        return "few numbers"
    if query.shape[2] > NEW:
        return f"more than {NEW} new tokens"
    if not (query.is_cpu and key.is_cpu and value.is_cpu):
        return f"on {query.device.type}"
    if query.dtype not in KINDS or key.dtype != query.dtype or value.dtype != query.dtype:
        return f"{query.dtype} beside {key.dtype}"
    if query.shape[3] > WIDEST or value.shape[3] > WIDEST:
        return f"heads wider than {WIDEST}"
    if needs_gradient(query, key, value) or (options.get("s_aux") is not None and needs_gradient(options["s_aux"])):
        return "gradients"
    if options.get("dropout"):
        return "dropout"
    if options.get("output_attentions"):
        return "weights are asked for"
    for name, option in options.items():
        if isinstance(option, Tensor) and name not in PASSED:
            return f"an argument that is not known: {name}"
    return ""


def runs_of(mask: Tensor | None, new: int, tokens: int) -> Runs | None:
    """What a mask (batch or 1, 1, new, tokens) lets be seen, or None where that is not a run for each query.

    True, or 0 where masks are added to scores, is what is seen. No mask with more than one new token is
    a causal one of no known beginning.
    """
    if mask is None:
        return Runs() if new == 1 else None
    known: tuple[Runs | None] | None = getattr(mask, "runs", None)
    return known[0] if known else read(mask, new, tokens)


def noted(make: Callable[..., Any]) -> Callable[..., Any]:
    """A function that makes masks, where what a mask lets be seen is read once for all layers."""

    def mask(*args: Any, **kwargs: Any) -> Any:
        made = make(*args, **kwargs)
        if compiling() or not isinstance(made, Tensor) or not made.is_cpu:  # elsewhere `sdpa` reads no mask
            return made
        if made.dim() == 4 and made.shape[2] <= NEW:
            made.runs = (read(made, made.shape[2], made.shape[3]),)  # type: ignore[attr-defined]
        return made

    return mask


def read(mask: Tensor, new: int, tokens: int) -> Runs | None:
    if mask.dim() != 4 or mask.shape[1:] != (1, new, tokens):
        return None
    seen = mask[:, 0] if mask.dtype == torch.bool else mask[:, 0] == 0
    if mask.dtype != torch.bool and not (mask[:, 0][~seen] <= torch.finfo(mask.dtype).min / 2).all():
        return None  # a bias
    count, j = seen.sum(-1), torch.arange(tokens, device=mask.device)
    first = seen.to(torch.uint8).argmax(-1)
    if not ((j >= first[..., None]) & (j < (first + count)[..., None]) == seen).all():
        return None
    end = first + count
    if new == 1:
        return Runs(first[:, 0], end[:, 0])
    if not (count > 0).all() or not (end.diff(dim=1) == 1).all():
        return None
    if (first == first[:, :1]).all():
        return Runs(first[:, 0], end[:, -1])
    window = int(count.max())
    if not (first == torch.maximum(first[:, :1], end - window)).all():
        return None
    return Runs(first[:, 0], end[:, -1], window)


AttentionInterface.register(NAMES["sdpa"], sdpa)
AttentionInterface.register(NAMES["eager"], eager)
AttentionMaskInterface.register(NAMES["sdpa"], noted(sdpa_mask))
AttentionMaskInterface.register(NAMES["eager"], noted(eager_mask))
