"""Rotation of torch tensors: the kernels on the CPU and on CUDA, plain torch everywhere else."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

import numba_kernels as nk
from numba_kernels.plan import PAIRINGS
from torch_bridge.cuda import by_cuda, installed

KERNEL_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type in which tensors of `dtype` are rotated: float64 for itself, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def rotate(x: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0) -> Tensor:
    """Turn the pairs of x (..., head_dim) by tables (..., pairs), differentiably.

    cos and sin broadcast against the leading axes of x and hold any magnitude. Half types are
    rotated in float32 and rounded once. Gradients of any order reach x, cos and sin. Raises
    TypeError for a tensor that is not floating point, ValueError for shapes that do not fit.

    >>> rotate(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")
    tensor([[-1.,  1.]])
    """
    if not x.is_floating_point():
        raise TypeError(f"x has dtype {x.dtype}; expected floating point")
    if x.ndim < 1 or cos.ndim < 1 or sin.shape != cos.shape or not broadcasts(cos, x):
        shapes = f"{tuple(cos.shape)} and {tuple(sin.shape)}"
        raise ValueError(f"cos and sin have shapes {shapes}; expected one that broadcasts to x, {tuple(x.shape)}")
    pairs, wide = cos.shape[-1], arithmetic(x.dtype)
    if start < 0 or start + 2 * pairs > x.shape[-1]:
        raise ValueError(f"start is {start} with {pairs} pairs; expected a range within {x.shape[-1]} channels")
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(map(repr, PAIRINGS))}")
    cos, sin = cos.to(wide), sin.to(wide)
    if not takes_kernel(x):
        return plain(x, cos, sin, pairing, start)
    if torch.is_grad_enabled() and (x.requires_grad or cos.requires_grad or sin.requires_grad):
        turned: Tensor = Rotation.apply(x, cos, sin, pairing, start)
        return turned
    return by_kernel(x, cos, sin, pairing, start)


def broadcasts(table: Tensor, x: Tensor) -> bool:
    """Whether the leading axes of a table broadcast to those of x."""
    sizes = zip(table.shape[-2::-1], x.shape[-2::-1], strict=False)
    return table.ndim <= x.ndim and all(ours in (1, theirs) for ours, theirs in sizes)


def takes_kernel(x: Tensor) -> bool:
    """Whether x is memory that a kernel may read, rather than a compiler's or a transform's stand-in for it."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (Tensor, torch.nn.Parameter)
        and (x.device.type == "cpu" or (x.is_cuda and installed()))
        and x.layout == torch.strided
        and x.dtype in KERNEL_DTYPES
        and not torch._C._are_functorch_transforms_active()
        and not torch._C._functorch.is_legacy_batchedtensor(x)
        and torch._C._len_torch_dispatch_stack() == 0
        and forward_ad._current_level < 0
    )


def split(x: Tensor, pairing: str, start: int, pairs: int) -> tuple[Tensor, Tensor]:
    """The first and the second channel of every pair, each (..., pairs)."""
    middle = x[..., start : start + 2 * pairs]
    a, b = middle.unflatten(-1, (-1, 2)).unbind(-1) if pairing == "interleaved" else middle.chunk(2, -1)
    return a, b


def plain(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int) -> Tensor:
    """The same in torch operations, for any device and for the compiler."""
    pairs, wide = cos.shape[-1], cos.dtype
    a, b = (half.to(wide) for half in split(x, pairing, start, pairs)) if pairs else (x[..., :0], x[..., :0])
    turned = (a * cos - b * sin, b * cos + a * sin)
    middle = torch.stack(turned, -1).flatten(-2) if pairing == "interleaved" else torch.cat(turned, -1)
    return torch.cat((x[..., :start], middle.to(x.dtype), x[..., start + 2 * pairs :]), -1)


def by_kernel(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int) -> Tensor:
    """The same by the kernel, into a new tensor.

    NumPy allocates it, because it asks the system for huge pages: at 64 MiB the first touch of
    memory otherwise takes longer than the rotation.
    """
    if x.is_cuda:
        return by_cuda(x.resolve_neg(), cos, sin, pairing, start)
    out = torch.from_numpy(nk.rotate(*map(array, (x, cos, sin)), pairing=pairing, start=start))
    return out.view(x.dtype)


class Rotation(torch.autograd.Function):
    """The kernel, whose gradient is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int) -> Tensor:
        learned = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.save_for_backward(x if learned else None, cos, sin)
        ctx.pairing, ctx.start = pairing, start
        return by_kernel(x, cos, sin, pairing, start)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), (x, cos, sin) = grads, ctx.saved_tensors
        to_x = rotate(grad, cos, -sin, pairing=ctx.pairing, start=ctx.start) if ctx.needs_input_grad[0] else None
        if x is None:
            return to_x, None, None, None, None
        a, b = (half.to(cos.dtype) for half in split(x, ctx.pairing, ctx.start, cos.shape[-1]))
        u, v = (half.to(cos.dtype) for half in split(grad, ctx.pairing, ctx.start, cos.shape[-1]))
        return to_x, (u * a + v * b).sum_to_size(cos.shape), (v * a - u * b).sum_to_size(sin.shape), None, None


def array(t: Tensor) -> Any:
    """The memory of a CPU tensor as the kernels take it: bfloat16 as uint16."""
    t = t.detach().resolve_neg()
    return t.view(torch.uint16).numpy() if t.dtype == torch.bfloat16 else t.numpy()
