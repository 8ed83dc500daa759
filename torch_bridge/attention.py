"""`attend` as an operator of torch: a few new tokens attend to many kept ones, on the CPU and without gradients."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numba_kernels import decoding
from torch_bridge import kernel
from torch_bridge.kernel import address, at_hand, dense, nbytes, needs_gradient

KINDS = {dtype: kind for dtype, kind in kernel.KINDS.items() if kind in decoding.KINDS}
LIBRARY = torch.library.Library("rope_ref", "FRAGMENT")
LIBRARY.define(
    "attend(Tensor query, Tensor key, Tensor value, float? scale=None, Tensor? starts=None, Tensor? lengths=None, "
    "int? window=None, float? soft_cap=None, Tensor? sinks=None) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, scale: float | None = None, starts: Tensor | None = None,
    lengths: Tensor | None = None, window: int | None = None, soft_cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The newest tokens attend to all before them and to themselves: `numba_kernels.attend` for tensors on the CPU.

    query     (batch, heads, new, head_dim), up to 16 new tokens, rotated; float32, float16 or bfloat16
    key       (batch, kv_heads, tokens, head_dim), rotated; value (batch, kv_heads, tokens, value_dim)
    scale     head_dim ** -0.5 unless given
    starts, lengths   (batch,) integers: row b holds tokens starts[b] <= j < lengths[b]
    window    tokens that a query sees, itself included; soft_cap   c, for scores c tanh(s / c)
    sinks     (heads,), one more logit of each head

    Returns (batch, heads, new, value_dim), contiguous. Nothing can be differentiated. Raises TypeError or ValueError as
    `numba_kernels.attend` does, and where storage was freed.

    >>> attend(torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0], [3.0]]]]))
    tensor([[[[2.]]]])
    """
    if needs_gradient(query, key, value) or (sinks is not None and needs_gradient(sinks)):
        raise ValueError("query, key, value or sinks require a gradient; expected none, as under torch.no_grad()")
    if at_hand(query, key, value):
        return on_cpu(query, key, value, scale, starts, lengths, window, soft_cap, sinks)
    result: Tensor = torch.ops.rope_ref.attend(query, key, value, scale, starts, lengths, window, soft_cap, sinks)
    return result


def on_cpu(
    query: Tensor, key: Tensor, value: Tensor, scale: float | None = None, starts: Tensor | None = None,
    lengths: Tensor | None = None, window: int | None = None, soft_cap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:  # fmt: skip
    check_dtypes(query, key, value)
    shape = decoding.check(tuple(query.shape), tuple(key.shape), tuple(value.shape))
    begins, ends = decoding.rows_of(tuple(query.shape), key.shape[2], numbers(starts), numbers(lengths))
    scale, wide, cap = decoding.options(tuple(query.shape), scale, window, soft_cap)
    out = query.new_empty(shape)
    if not out.numel():
        return out
    query, key, value = dense(query), dense(key), dense(value)
    places = [address(name, t, nbytes(t)) for name, t in (("query", query), ("key", key), ("value", value))]
    logits = decoding.no_sinks(shape[1]) if sinks is None else decoding.logits_of(sinks.float().numpy(), shape[1])
    lie = [(tuple(t.shape), t.stride()) for t in (query, key, value)]
    loops = decoding.plan(KINDS[query.dtype], lie[0], lie[1], lie[2], begins, ends, wide)
    loops(*places, out.data_ptr(), logits.ctypes.data, begins.ctypes.data, ends.ctypes.data, scale, cap)
    return out


def numbers(rows: Tensor | None) -> NDArray[Any] | None:
    """A few numbers as NumPy takes them, of whatever type and device."""
    return None if rows is None else np.array(rows.tolist(), float if rows.is_floating_point() else np.int64)


def check_dtypes(query: Tensor, key: Tensor, value: Tensor) -> None:
    """Raise TypeError unless all three have one dtype that there is a kernel for."""
    for name, t in (("query", query), ("key", key), ("value", value)):
        if t.dtype not in KINDS or t.dtype != query.dtype:
            expected = str(query.dtype) if query.dtype in KINDS else "float32, float16 or bfloat16"
            raise TypeError(f"{name} has dtype {t.dtype}; expected {expected}")


def shape_of(query: Tensor, key: Tensor, value: Tensor, *rest: Any) -> Tensor:
    check_dtypes(query, key, value)
    return query.new_empty((*query.shape[:3], value.shape[3]))


LIBRARY.impl("attend", on_cpu, "CPU")
LIBRARY.impl("attend", shape_of, "Meta")
