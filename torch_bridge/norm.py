"""Queries and keys divided by their root mean square, weighed and rotated: torch.ops.rope_ref.rotate_qk_norm.

The CPU has a kernel. Every other device, gradients and transforms take torch's own operations in the type of
the arithmetic and then `rotate`, so that all round once.
"""

from typing import Any

import torch
from torch import Tensor

import numba_kernels as nk
from numba_kernels.plan import small
from torch_bridge import operators
from torch_bridge.operators import KERNEL_DTYPES, LIBRARY, OPS, array, below, needs_gradient, transformed
from torch_bridge.plain import arithmetic, check, plain
from torch_bridge.rotation import at_hand

NAME = "rotate_qk_norm"
LIBRARY.define(
    f"{NAME}(Tensor query, Tensor key, Tensor query_weight, Tensor key_weight, Tensor cos, Tensor sin, float epsilon, "
    "str pairing, int start=0) -> (Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)
operator = getattr(OPS, NAME).default


def rotate_qk_norm(
    query: Tensor, key: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor, *,
    epsilon: float, pairing: str, start: int = 0,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """RMS normalisation of query and key over head_dim, then `rotate_qk`: differentiable, in one pass on the CPU.

    Every row x becomes x / sqrt(mean(x^2) + epsilon) * weight (arXiv:1910.07467), over all channels, with weights
    (head_dim,) of any floating type; then the pairs turn. All of it happens in float32, or float64 for
    itself, and is rounded once, where models that normalise half types apart round up to three times.
    Raises as `rotate_qk` does, and for weights of another shape or device.

    >>> query, key, weight = torch.full((4, 1, 2), 3.0), torch.full((2, 1, 2), 5.0), torch.ones(2)
    >>> tables = torch.zeros(1, 1), torch.ones(1, 1)
    >>> q, k = rotate_qk_norm(query, key, weight, 2 * weight, *tables, epsilon=0.0, pairing="half-split")
    >>> q[0], k[0]
    (tensor([[-1.,  1.]]), tensor([[-2.,  2.]]))
    """
    wide = arithmetic(query.dtype)
    weights = (query_weight, key_weight)
    if query.is_cpu and at_hand(query, key, cos, sin) and not needs_gradient(*weights):  # all an operator would do
        form = (cos.to(wide), sin.to(wide), epsilon, pairing, start)
        return on_cpu(query, query_weight, form, "query"), on_cpu(key, key_weight, form, "key")
    turned: tuple[Tensor, Tensor] = operator(
        query, key, query_weight, key_weight, cos.to(wide), sin.to(wide), small(epsilon), pairing, start
    )
    return turned


Form = tuple[Tensor, Tensor, float, str, int]  # cos, sin, epsilon, pairing, start


def checked(x: Tensor, weight: Tensor, form: Form, name: str) -> None:
    cos, sin, _, pairing, start = form
    check(x, cos, sin, pairing, start, name)
    if weight.shape != x.shape[-1:] or not weight.is_floating_point():
        found = f"{tuple(weight.shape)}, {weight.dtype}"
        raise ValueError(f"{name}_weight is {found}; expected floating point ({x.shape[-1]},), as channels of {name}")
    if weight.device != x.device:
        raise ValueError(f"{name}_weight is on {weight.device}; expected {x.device}, as {name}")


def on_cpu(x: Tensor, weight: Tensor, form: Form, name: str) -> Tensor:
    checked(x, weight, form, name)
    if x.dtype not in KERNEL_DTYPES:
        return in_plain(x, weight, form, name)
    cos, sin, epsilon, pairing, start = form
    turned = nk.normalise_and_rotate(
        array(x), array(weight.to(cos.dtype)), array(cos), array(sin), epsilon=epsilon, pairing=pairing, start=start
    )
    return torch.from_numpy(turned).view(x.dtype)


def normalised(x: Tensor, weight: Tensor, form: Form, name: str) -> Tensor:
    """x by its root mean square and times the weight, in the type of the arithmetic."""
    checked(x, weight, form, name)
    number = x.to(form[0].dtype)
    return number * (1 / (number.square().mean(-1, keepdim=True) + form[2]).sqrt()) * weight.to(number.dtype)


def in_plain(x: Tensor, weight: Tensor, form: Form, name: str) -> Tensor:
    cos, sin, _, pairing, start = form
    return plain(normalised(x, weight, form, name), cos, sin, pairing, start).to(x.dtype)


def composed(x: Tensor, weight: Tensor, form: Form, name: str) -> Tensor:
    """The same by the operator `rotate`, which knows its gradient."""
    cos, sin, _, pairing, start = form
    turned: Tensor = operators.rotate(normalised(x, weight, form, name), cos, sin, pairing, start)
    return turned.to(x.dtype)


def shape_of(x: Tensor, weight: Tensor, form: Form, name: str) -> Tensor:
    checked(x, weight, form, name)
    return x.new_empty(x.shape)


def both(way: Any) -> Any:
    """Query and key each in this way."""

    def each(
        query: Tensor, key: Tensor, query_weight: Tensor, key_weight: Tensor, cos: Tensor, sin: Tensor,
        epsilon: float, pairing: str, start: int = 0,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        form = (cos, sin, epsilon, pairing, start)
        return way(query, query_weight, form, "query"), way(key, key_weight, form, "key")

    return each


def with_gradient(keys: Any, *given: Any) -> Any:
    if transformed() or needs_gradient(*given[:6]):
        return both(composed)(*given)
    return below(operator, keys, *given)


LIBRARY.impl(NAME, both(on_cpu), "CPU")
for key in ("CompositeExplicitAutograd", "FuncTorchBatched", "Negative"):
    LIBRARY.impl(NAME, both(in_plain), key)
LIBRARY.impl(NAME, with_gradient, "Autograd", with_keyset=True)
LIBRARY.impl(NAME, both(shape_of), "Meta")
