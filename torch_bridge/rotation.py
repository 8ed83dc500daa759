"""Rotation of torch tensors: the kernels on the CPU, plain torch everywhere else."""

from typing import Any

from torch import Tensor

from numba_kernels.plan import small
from torch_bridge import kernel, operators
from torch_bridge.kernel import KINDS, Named, at_hand, exporting, needs_gradient
from torch_bridge.plain import arithmetic, check_all, check_weight, plain


def rotate(
    x: Tensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0, inverse: bool = False, inplace: bool = False
) -> Tensor:
    """Turn the pairs of x (..., head_dim) by tables (..., pairs), differentiably.

    cos and sin broadcast against the leading axes of x and hold any magnitude. Half types are
    rotated in float32 and rounded once. Gradients of any order reach x, cos and sin. `inverse`
    turns by the opposite angle; `inplace` writes to x and returns it. All three may be DTensors,
    x whole along head_dim and the tables split as it is. Raises TypeError for a
    tensor that is not floating point, ValueError for shapes or devices that do not fit.

    >>> import torch
    >>> rotate(torch.ones(1, 2), torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")
    tensor([[-1.,  1.]])
    """
    tensors = (("x", x),)
    if inplace:
        turn(tensors, cos, sin, pairing, start, inverse)
        return x
    return turned(tensors, cos, sin, pairing, start, inverse)[0]


def rotate_qk(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *,
    pairing: str, start: int = 0, inverse: bool = False, inplace: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`rotate` for query and key at once: the same tables, any numbers of heads.

    In place, neither changes unless both can. Raises ValueError where they share memory.

    >>> import torch
    >>> query, key = torch.ones(4, 1, 2), torch.ones(2, 1, 2)
    >>> [t.shape for t in rotate_qk(query, key, torch.zeros(1, 1), torch.ones(1, 1), pairing="half-split")]
    [torch.Size([4, 1, 2]), torch.Size([2, 1, 2])]
    """
    tensors = (("query", query), ("key", key))
    if inplace:
        turn(tensors, cos, sin, pairing, start, inverse)
        return query, key
    query, key = turned(tensors, cos, sin, pairing, start, inverse)
    return query, key


def rotate_qk_norm(
    query: Tensor, key: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, *,
    epsilon: float, pairing: str, start: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """RMS normalisation of query and key over head_dim, then `rotate_qk`: differentiable, in one pass on the CPU.

    Every row x becomes x / sqrt(mean(x^2) + epsilon) * weight (arXiv:1910.07467), over all channels, with weights
    (head_dim,) of any floating type; then the pairs turn. All of it happens in float32, or float64 for
    itself, and is rounded once, where models that normalise half types apart round up to three times.
    Raises as `rotate_qk` does, and for weights of another shape or device.

    >>> import torch
    >>> query, key, weight = torch.full((4, 1, 2), 3.0), torch.full((2, 1, 2), 5.0), torch.ones(2)
    >>> tables = torch.zeros(1, 1), torch.ones(1, 1)
    >>> q, k = rotate_qk_norm(query, key, weight, 2 * weight, *tables, epsilon=0.0, pairing="half-split")
    >>> q[0], k[0]
    (tensor([[-1.,  1.]]), tensor([[-2.,  2.]]))
    """
    tensors, weights = (("query", query), ("key", key)), (query_weight, key_weight)
    cos, sin = in_arithmetic(tensors, cos, sin)
    for (name, x), weight in zip(tensors, weights, strict=True):
        check_weight(x, weight, name)
    epsilon, every = small(epsilon), (query, key, *weights, cos, sin)
    if at_hand(*every) and query.dtype in KINDS and key.dtype in KINDS and not needs_gradient(*every):
        query, key = kernel.turned(tensors, cos, sin, pairing, start, False, weights, epsilon)
        return query, key
    check_all(tensors, cos, sin, pairing, start)
    form = (cos, sin, epsilon, pairing, start)
    if exporting():
        return tuple(operators.plain_norm(x, w, *form) for (_, x), w in zip(tensors, weights, strict=True))  # type: ignore[return-value]
    return tuple(operators.normalise_and_rotate(x, w, *form) for (_, x), w in zip(tensors, weights, strict=True))


def turned(tensors: Named, cos: Tensor, sin: Tensor, *form: Any) -> list[Tensor]:
    """In new tensors: straight from the kernel where an operator would add nothing."""
    every = (*[x for _, x in tensors], cos, sin)
    if at_hand(*every) and every[0].dtype in KINDS and every[-3].dtype in KINDS:  # those of x, or query and key
        if not cos.dtype == sin.dtype == arithmetic(every[0].dtype):
            cos, sin = in_arithmetic(tensors, cos, sin)
        if not needs_gradient(*every):
            return kernel.turned(tensors, cos, sin, *form)
        check_all(tensors, cos, sin, *form[:2])
        return [operators.Rotation.apply(x, cos, sin, *form) for _, x in tensors]
    cos, sin = in_arithmetic(tensors, cos, sin)
    check_all(tensors, cos, sin, *form[:2])
    if exporting():
        return [plain(x, cos, sin, *form) for _, x in tensors]
    if len(tensors) == 2:
        return list(operators.rotate_qk(every[0], every[1], cos, sin, *form))
    return [operators.rotate(x, cos, sin, *form) for _, x in tensors]


def turn(tensors: Named, cos: Tensor, sin: Tensor, *form: Any) -> None:
    """In place, all or none."""
    every = (*[x for _, x in tensors], cos, sin)
    if at_hand(*every) and every[0].dtype in KINDS and every[-3].dtype in KINDS and not needs_gradient(*every):
        if not cos.dtype == sin.dtype == arithmetic(every[0].dtype):
            cos, sin = in_arithmetic(tensors, cos, sin)
        return kernel.turn(tensors, cos, sin, *form)
    cos, sin = in_arithmetic(tensors, cos, sin)
    check_all(tensors, cos, sin, *form[:2])
    kernel.check_targets(tensors, cos, sin)
    rotate_ = operators.plain_ if exporting() else operators.rotate_
    for _, x in tensors:
        rotate_(x, cos, sin, *form)


def in_arithmetic(tensors: Named, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor]:
    """The tables in the type of the arithmetic, once it is sure that all are tensors and tables are real."""
    for name, t in (*tensors, ("cos", cos), ("sin", sin)):
        if not isinstance(t, Tensor):
            raise TypeError(f"{name} is a {type(t).__name__}; expected a tensor")
    dtype = arithmetic(tensors[0][1].dtype)
    if cos.dtype == dtype == sin.dtype:
        return cos, sin
    for name, t in (("cos", cos), ("sin", sin)):
        if t.is_complex():
            raise TypeError(f"{name} has dtype {t.dtype}; expected real numbers")
    return cos.to(dtype), sin.to(dtype)
