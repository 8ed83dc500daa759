"""Rotation of torch tensors: the kernels on the CPU, plain torch everywhere else."""

from typing import Any

import torch
from torch import Tensor

import numba_kernels as nk

KERNEL_DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, start: int = 0) -> Tensor:
    """Turn the interleaved pairs of x (..., head_dim) by tables (..., pairs), differentiably.

    Half types are rotated in float32 and rounded once. Gradients reach x, cos and sin,
    of any order.
    """
    if not x.is_floating_point():
        raise TypeError(f"t has dtype {x.dtype}; expected floating point")
    if start < 0 or start + 2 * cos.shape[-1] > x.shape[-1]:
        raise ValueError(f"start_index is {start} with {cos.shape[-1]} pairs; expected to fit {x.shape[-1]} channels")
    compiled = torch.compiler.is_compiling() or type(x) is not Tensor and type(x) is not torch.nn.Parameter
    if compiled or x.device.type != "cpu" or x.dtype not in KERNEL_DTYPES:
        return plain(x, cos, sin, start)
    return Rotation.apply(x, cos, sin, start)


def plain(x: Tensor, cos: Tensor, sin: Tensor, start: int) -> Tensor:
    """The same in torch operations, for any device and for the compiler."""
    stop = start + 2 * cos.shape[-1]
    arithmetic = torch.float64 if x.dtype == torch.float64 else torch.float32
    a, b = x[..., start:stop].to(arithmetic).unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos.to(arithmetic), sin.to(arithmetic)
    turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    return torch.cat((x[..., :start], turned.to(x.dtype), x[..., stop:]), -1)


class Rotation(torch.autograd.Function):
    """The kernel, whose gradient is the rotation by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, start: int) -> Tensor:
        ctx.save_for_backward(x, cos, sin)
        ctx.start = start
        out = torch.empty(x.shape, dtype=x.dtype)
        arrays = [_array(t) for t in (x, cos, sin, out)]
        nk.rotate(*arrays[:3], pairing="interleaved", start=start, out=arrays[3])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, cos, sin = ctx.saved_tensors
        start, stop = ctx.start, ctx.start + 2 * cos.shape[-1]
        to_x = Rotation.apply(grad, cos, -sin, start) if ctx.needs_input_grad[0] else None
        if not (ctx.needs_input_grad[1] or ctx.needs_input_grad[2]):
            return to_x, None, None, None
        a, b = x[..., start:stop].to(cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)
        u, v = grad[..., start:stop].to(cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)
        return to_x, (u * a + v * b).sum_to_size(cos.shape), (v * a - u * b).sum_to_size(sin.shape), None


def _array(t: Tensor) -> Any:
    t = t.detach()
    return t.view(torch.uint16).numpy() if t.dtype == torch.bfloat16 else t.numpy()
