"""Rotation in torch's own operations, for every device and every transform; and what all forms check."""

import torch
from torch import Tensor

from numba_kernels.plan import PAIRINGS


def arithmetic(dtype: torch.dtype) -> torch.dtype:
    """The type in which tensors of `dtype` are rotated: float64 for itself, float32 for all others."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def plain(
    x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False, name: str = "x"
) -> Tensor:
    """(a cos - b sin, b cos + a sin) of every pair (a, b) of x, the inverse with -sin; other channels pass through."""
    check(x, cos, sin, pairing, start, name)
    pairs, wide = cos.shape[-1], cos.dtype
    sin = -sin if inverse else sin
    a, b = (half.to(wide) for half in split(x, pairing, start, pairs))
    turned = (a * cos - b * sin, b * cos + a * sin)
    middle = torch.stack(turned, -1).flatten(-2) if pairing == "interleaved" else torch.cat(turned, -1)
    return torch.cat((x[..., :start], middle.to(x.dtype), x[..., start + 2 * pairs :]), -1)


def normalised(x: Tensor, weight: Tensor, wide: torch.dtype, epsilon: float) -> Tensor:
    """x by its root mean square and times the weight, in the type of the arithmetic."""
    check_weight(x, weight)
    number = x.to(wide)
    return number * (1 / (number.square().mean(-1, keepdim=True) + epsilon).sqrt()) * weight.to(wide)


def check_weight(x: Tensor, weight: Tensor, name: str = "x") -> None:
    if weight.shape != x.shape[-1:] or not weight.is_floating_point():
        found = f"{tuple(weight.shape)}, {weight.dtype}"
        raise ValueError(f"{name}_weight is {found}; expected floating point ({x.shape[-1]},), as channels of {name}")
    if weight.device != x.device:
        raise ValueError(f"{name}_weight is on {weight.device}; expected {x.device}, as {name}")


def split(x: Tensor, pairing: str, start: int, pairs: int) -> tuple[Tensor, Tensor]:
    """The first and the second channel of every pair, each (..., pairs)."""
    middle = x[..., start : start + 2 * pairs]
    if pairing == "interleaved":
        return middle[..., ::2], middle[..., 1::2]
    return middle[..., :pairs], middle[..., pairs:]


def broadcasts(table: Tensor, x: Tensor) -> bool:
    """Whether the leading axes of a table broadcast to those of x."""
    if table.ndim > x.ndim:
        return False
    sizes = [(table.shape[axis], x.shape[axis]) for axis in range(-table.ndim, -1)]
    return all(ours == 1 or ours == theirs for ours, theirs in sizes)  # the compiler of torch 2.6 finds none with `in`


def check_all(tensors: tuple[tuple[str, Tensor], ...], cos: Tensor, sin: Tensor, pairing: str, start: int = 0) -> None:
    """`check` each of the tensors, by the name that the caller gives it."""
    for name, x in tensors:
        check(x, cos, sin, pairing, start, name)


def check(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int, name: str = "x") -> None:
    """Refuse what cannot be rotated, from shapes, dtypes and devices alone."""
    if not x.is_floating_point():
        raise TypeError(f"{name} has dtype {x.dtype}; expected floating point")
    for what, tensor in ((name, x), ("cos", cos), ("sin", sin)):
        if tensor.layout is not torch.strided:
            raise TypeError(f"{what} has layout {tensor.layout}; expected torch.strided")
    if x.ndim < 1 or cos.ndim < 1 or sin.shape != cos.shape or not broadcasts(cos, x):
        shapes = f"{tuple(cos.shape)} and {tuple(sin.shape)}"
        raise ValueError(f"cos and sin have shapes {shapes}; expected one that broadcasts to {name}, {tuple(x.shape)}")
    for table, tensor in (("cos", cos), ("sin", sin)):
        if tensor.dtype != arithmetic(x.dtype):
            wanted = f"{arithmetic(x.dtype)}, in which {name} of {x.dtype} is rotated"
            raise TypeError(f"{table} has dtype {tensor.dtype}; expected {wanted}")
        if tensor.device != x.device:
            raise ValueError(f"{table} is on {tensor.device}; expected {x.device}, as {name}")
    if start < 0 or start + 2 * cos.shape[-1] > x.shape[-1]:
        raise ValueError(
            f"start is {start} with {cos.shape[-1]} pairs; expected a range within {x.shape[-1]} channels"
        )
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(map(repr, PAIRINGS))}")
