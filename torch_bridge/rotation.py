"""Rotation of torch tensors: the kernels on the CPU, plain torch everywhere else."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

from torch_bridge import direct, operators
from torch_bridge.operators import KERNEL_DTYPES, array
from torch_bridge.plain import arithmetic, broadcasts, plain

__all__ = ["KERNEL_DTYPES", "arithmetic", "array", "broadcasts", "plain", "rotate", "rotate_qk", "takes_kernel"]


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0, inverse: bool = False, inplace: bool = False
) -> Tensor:
    """Turn the pairs of x (..., head_dim) by tables (..., pairs), differentiably.

    cos and sin broadcast against the leading axes of x and hold any magnitude. Half types are
    rotated in float32 and rounded once. Gradients of any order reach x, cos and sin. `inverse`
    turns by the opposite angle; `inplace` writes to x and returns it. Raises TypeError for a
    tensor that is not floating point, ValueError for shapes or devices that do not fit.

    >>> rotate(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")
    tensor([[-1.,  1.]])
    """
    if not inplace and at_hand(x, cos, sin):
        at_once = direct.rotated(x, cos, sin, direct.code(pairing, start, inverse))
        if at_once is not None:
            return at_once
    wide = arithmetic(x.dtype)
    cos, sin = cos.to(wide), sin.to(wide)
    if inplace:
        operators.rotate_(x, cos, sin, pairing, start, inverse)
        return x
    turned: Tensor = operators.rotate(x, cos, sin, pairing, start, inverse)
    return turned


def rotate_qk(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """`rotate` for query and key at once: the same tables, any numbers of heads.

    >>> query, key = torch.ones(4, 1, 2), torch.ones(2, 1, 2)
    >>> [t.shape for t in rotate_qk(query, key, torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")]
    [torch.Size([4, 1, 2]), torch.Size([2, 1, 2])]
    """
    if at_hand(query, key, cos, sin):
        at_once = direct.rotated_qk(query, key, cos, sin, direct.code(pairing, start, inverse))
        if at_once is not None:
            return at_once
    wide = arithmetic(query.dtype)
    turned: tuple[Tensor, Tensor] = operators.rotate_qk(
        query, key, cos.to(wide), sin.to(wide), pairing, start, inverse
    )
    return turned


def at_hand(*tensors: Tensor) -> bool:
    """Whether these are memory, with no gradient to record and no mode to be told: nothing an operator would add."""
    if not eager() or torch._C._len_torch_function_stack():
        return False
    for t in tensors:
        if type(t) is not Tensor or t.is_neg():
            return False
    return not (torch.is_grad_enabled() and torch._C._any_requires_grad(*tensors))


def eager() -> bool:
    """Whether no compiler, no tracer and no transform of functions is at work."""
    return (
        not torch.compiler.is_compiling()
        and forward_ad._current_level < 0
        and torch._C._len_torch_dispatch_stack() == 0
        and not torch._C._are_functorch_transforms_active()
        and torch._C._get_tracing_state() is None
    )


def takes_kernel(x: Tensor) -> bool:
    """Whether x is memory that a kernel may read, rather than a compiler's or a transform's stand-in for it."""
    return (
        eager()
        and type(x) in (Tensor, torch.nn.Parameter)
        and x.device.type == "cpu"
        and x.layout == torch.strided
        and x.dtype in KERNEL_DTYPES
        and not torch._C._functorch.is_legacy_batchedtensor(x)
    )
