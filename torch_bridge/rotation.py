"""Rotation of torch tensors: the kernels on the CPU, plain torch everywhere else."""

import torch
from torch import _C, Tensor
from torch.autograd import forward_ad

from torch_bridge import direct, operators
from torch_bridge.operators import KERNEL_DTYPES, array
from torch_bridge.plain import arithmetic, broadcasts, check, plain

compiling, grad_enabled, any_requires_grad = torch.compiler.is_compiling, torch.is_grad_enabled, _C._any_requires_grad
modes_of_functions, modes_of_dispatch = _C._len_torch_function_stack, _C._len_torch_dispatch_stack
transforms, tracing = _C._are_functorch_transforms_active, _C._get_tracing_state

__all__ = ["KERNEL_DTYPES", "arithmetic", "array", "broadcasts", "plain", "rotate", "rotate_qk", "takes_kernel"]


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0, inverse: bool = False, inplace: bool = False
) -> Tensor:
    """Turn the pairs of x (..., head_dim) by tables (..., pairs), differentiably.

    cos and sin broadcast against the leading axes of x and hold any magnitude. Half types are
    rotated in float32 and rounded once. Gradients of any order reach x, cos and sin. `inverse`
    turns by the opposite angle; `inplace` writes to x and returns it. All three may be DTensors,
    x whole along head_dim and the tables split as it is. Raises TypeError for a
    tensor that is not floating point, ValueError for shapes or devices that do not fit.

    >>> rotate(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")
    tensor([[-1.,  1.]])
    """
    if at_hand(x, cos, sin):
        form = direct.code(pairing, start, inverse)
        at_once = direct.rotated_(x, cos, sin, form) if inplace else direct.rotated(x, cos, sin, form)
        if at_once is not None:
            return at_once
    cos, sin = as_arithmetic(cos, sin, x=x)
    if inplace:
        operators.rotate_(x, cos, sin, pairing, start, inverse)
        return x
    turned: Tensor = operators.rotate(x, cos, sin, pairing, start, inverse)
    return turned


def rotate_qk(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *,
    pairing: str, start: int = 0, inverse: bool = False, inplace: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`rotate` for query and key at once: the same tables, any numbers of heads.

    >>> query, key = torch.ones(4, 1, 2), torch.ones(2, 1, 2)
    >>> [t.shape for t in rotate_qk(query, key, torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")]
    [torch.Size([4, 1, 2]), torch.Size([2, 1, 2])]
    """
    if at_hand(query, key, cos, sin):
        form = direct.code(pairing, start, inverse)
        at_once = (direct.rotated_qk_ if inplace else direct.rotated_qk)(query, key, cos, sin, form)
        if at_once is not None:
            return at_once
    cos, sin = as_arithmetic(cos, sin, query=query, key=key)
    if inplace:
        if eager():  # all of it before query is touched
            check_in_place(query, key, cos, sin, pairing, start)
        operators.rotate_(query, cos, sin, pairing, start, inverse)
        operators.rotate_(key, cos, sin, pairing, start, inverse)
        return query, key
    turned: tuple[Tensor, Tensor] = operators.rotate_qk(query, key, cos, sin, pairing, start, inverse)
    return turned


def as_arithmetic(cos: Tensor, sin: Tensor, **tensors: Tensor) -> tuple[Tensor, Tensor]:
    """The tables in the type of the arithmetic, once it is sure that all are tensors and tables are real."""
    for name, t in {**tensors, "cos": cos, "sin": sin}.items():
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}; expected a tensor")
    for name, t in (("cos", cos), ("sin", sin)):
        if t.is_complex():
            raise TypeError(f"{name} has dtype {t.dtype}; expected real numbers")
    dtype = arithmetic(next(iter(tensors.values())).dtype)
    return cos.to(dtype), sin.to(dtype)


def check_in_place(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int) -> None:
    """Raise for what would be an error of key after query has been rotated."""
    if query is key:
        raise ValueError("key is query; expected another tensor, or it would be rotated twice")
    for name, x in (("query", query), ("key", key)):
        check(x, cos, sin, pairing, start, name)
        if torch._debug_has_internal_overlap(x) == 1:
            raise ValueError(f"{name} has strides {x.stride()}; expected no element to be written twice")


def at_hand(*tensors: Tensor) -> bool:
    """Whether these are memory, with no gradient to record and no mode to be told: nothing an operator would add."""
    if not eager() or modes_of_functions():
        return False
    for t in tensors:
        if type(t) is not Tensor or t.is_neg():
            return False
    return not (grad_enabled() and any_requires_grad(*tensors))


def eager() -> bool:
    """Whether no compiler, no tracer and no transform of functions is at work."""
    return not (
        compiling() or forward_ad._current_level >= 0 or modes_of_dispatch() or transforms() or tracing() is not None
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
