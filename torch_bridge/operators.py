"""Rotation as operators of torch, torch.ops.rope_ref: what the compiler, export and every transform see.

    rotate                a new tensor
    rotate_               in place
    rotate_qk             query and key at once, whose numbers of heads may differ
    normalise_and_rotate  rows divided by their root mean square, weighed, and turned
    rotate_qk_norm        the same of query and key
    rotate_backward       gradients of cos and sin; that of x is `rotate` with the other `inverse`

Each of the first four looks for gradients and transforms, and leaves the numbers to a kernel of its own
(`rotate_kernel`, `rotate_kernel_` and so on), an operator that knows of neither. The CPU and CUDA
have kernels, every other device the same in plain torch. Tables have the type of the arithmetic: float64 for float64,
float32 for all others. All results are contiguous.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torch_bridge import kernel, rules
from torch_bridge.cuda import both_by_cuda, by_cuda, installed, norm_by_cuda
from torch_bridge.doors import transformed
from torch_bridge.kernel import KINDS, needs_gradient
from torch_bridge.plain import check, check_all, check_weight, normalised, plain, split

LIBRARY = torch.library.Library("rope_ref", "DEF")
TABLES = "Tensor cos, Tensor sin"
FORM = "str pairing, int start=0, bool inverse=False"
SCHEMAS = {
    "rotate": f"(Tensor x, {TABLES}, {FORM}) -> Tensor",
    "rotate_": f"(Tensor(a!) x, {TABLES}, {FORM}) -> ()",
    "rotate_qk": f"(Tensor query, Tensor key, {TABLES}, {FORM}) -> (Tensor, Tensor)",
    "normalise_and_rotate": f"(Tensor x, Tensor weight, {TABLES}, float epsilon, str pairing, int start=0) -> Tensor",
}
KERNELS = {name: f"{name}_kernel" for name in SCHEMAS} | {"rotate_": "rotate_kernel_"}
for name, schema in SCHEMAS.items():
    for operator in (name, KERNELS[name]):
        LIBRARY.define(operator + schema, tags=torch.Tag.pt2_compliant_tag)
for schema in (
    "rotate_qk_norm(Tensor query, Tensor key, Tensor query_weight, Tensor key_weight, "
    f"{TABLES}, float epsilon, str pairing, int start=0) -> (Tensor, Tensor)",
    f"rotate_backward(Tensor grad, Tensor x, {TABLES}, {FORM}) -> (Tensor, Tensor)",
):
    LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)

OPS = torch.ops.rope_ref
rotate, rotate_, normalise_and_rotate = OPS.rotate.default, OPS.rotate_.default, OPS.normalise_and_rotate.default
rotate_backward, rotate_qk = OPS.rotate_backward.default, OPS.rotate_qk.default
rotate_qk_norm = OPS.rotate_qk_norm.default


# --- the CPU, CUDA, every other device, and shapes alone


def on_cpu(x: Tensor, *rest: Any) -> Tensor:
    return kernel.turned((("x", x),), *rest)[0] if x.dtype in KINDS else plain(x, *rest)


def on_cpu_(x: Tensor, *rest: Any) -> None:
    if x.dtype in KINDS:
        kernel.turn((("x", x),), *rest)
    else:
        plain_(x, *rest)


def qk_on_cpu(query: Tensor, key: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    if query.dtype not in KINDS or key.dtype not in KINDS:
        return on_cpu(query, *rest), on_cpu(key, *rest)
    query, key = kernel.turned((("query", query), ("key", key)), *rest)
    return query, key


def norm_on_cpu(
    x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, pairing: str, start: int = 0
) -> Tensor:
    check_weight(x, weight)
    if x.dtype not in KINDS:
        return plain_norm(x, weight, cos, sin, epsilon, pairing, start)
    return kernel.turned((("x", x),), cos, sin, pairing, start, False, (weight,), epsilon)[0]


def on_cuda(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> Tensor:
    """By the kernels of numba_kernels.cuda where these are installed."""
    check(x, cos, sin, pairing, start)
    if not installed() or x.dtype not in KINDS:
        return plain(x, cos, sin, pairing, start, inverse)
    return by_cuda(x, cos, sin, pairing, start, inverse)


def on_cuda_(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> None:
    check(x, cos, sin, pairing, start)
    if not installed() or x.dtype not in KINDS:
        return plain_(x, cos, sin, pairing, start, inverse)
    try:
        by_cuda(x, cos, sin, pairing, start, inverse, out=x)
    except ValueError as error:
        raise ValueError(f"x cannot be rotated in place: {error}") from None


def qk_on_cuda(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """In one launch where both are stored alike."""
    form = (cos, sin, pairing, start, inverse)
    check_all((("query", query), ("key", key)), *form[:4])
    alike = query.dtype == key.dtype and query.shape[-1] == key.shape[-1]
    if alike and installed() and query.dtype in KINDS:
        return both_by_cuda(query, key, *form)
    return on_cuda(query, *form), on_cuda(key, *form)


def norm_on_cuda(
    x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, pairing: str, start: int = 0
) -> Tensor:
    check_weight(x, weight)
    check(x, cos, sin, pairing, start)
    if not installed() or x.dtype not in KINDS or weight.dtype not in KINDS:
        return plain_norm(x, weight, cos, sin, epsilon, pairing, start)
    return norm_by_cuda(x, weight, cos, sin, epsilon, pairing, start)


def plain_qk(query: Tensor, key: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return plain(query, *rest), plain(key, *rest)


def plain_(x: Tensor, *rest: Any) -> None:
    x.copy_(plain(x, *rest))


def plain_norm(
    x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, pairing: str, start: int = 0
) -> Tensor:
    return plain(normalised(x, weight, cos.dtype, epsilon), cos, sin, pairing, start).to(x.dtype)


def shape_of(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> Tensor:
    check(x, cos, sin, pairing, start)
    return x.new_empty(x.shape)


def shape_of_none(x: Tensor, *rest: Any) -> None:
    shape_of(x, *rest)


def shape_of_both(query: Tensor, key: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return shape_of(query, *rest), shape_of(key, *rest)


def shape_of_norm(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, *form: Any) -> Tensor:
    check_weight(x, weight)
    return shape_of(x, cos, sin, *form)


def backward(
    grad: Tensor, x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients of cos and sin: u a + v b and v a - u b, summed over all rows that share an entry of the tables."""
    a, b = (half.to(cos.dtype) for half in split(x, pairing, start, cos.shape[-1]))
    u, v = (half.to(cos.dtype) for half in split(grad, pairing, start, cos.shape[-1]))
    to_sin = u * b - v * a if inverse else v * a - u * b
    return (u * a + v * b).sum_to_size(cos.shape), to_sin.sum_to_size(sin.shape)


# --- autograd


class Rotation(torch.autograd.Function):
    """The kernel: linear in x, whose gradient turns back, and linear in (cos, sin)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, *form: Any) -> Tensor:
        ctx.save_for_backward(x if any(ctx.needs_input_grad[1:3]) else None, cos, sin)
        ctx.form = form
        turned: Tensor = OPS.rotate_kernel(x, cos, sin, *form)
        return turned

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,), (x, cos, sin), (pairing, start, inverse) = grads, ctx.saved_tensors, ctx.form
        to_x = rotate(grad, cos, sin, pairing, start, not inverse) if ctx.needs_input_grad[0] else None
        to_tables = (None, None) if x is None else rotate_backward(grad, x, cos, sin, *ctx.form)
        return to_x, *to_tables, None, None, None


def with_gradient(
    x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> Tensor:
    if transformed():  # torch transforms its own operations
        return plain(x, cos, sin, pairing, start, inverse)
    how: Callable[..., Tensor] = Rotation.apply if needs_gradient(x, cos, sin) else OPS.rotate_kernel
    return how(x, cos, sin, pairing, start, inverse)


def with_gradient_(x: Tensor, cos: Tensor, sin: Tensor, *form: Any) -> None:
    if transformed() or needs_gradient(x, cos, sin):
        x.copy_(rotate(x.clone(), cos, sin, *form))  # what was x may be needed for gradients of the tables
    else:
        OPS.rotate_kernel_(x, cos, sin, *form)


def qk_with_gradient(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *form: Any) -> tuple[Tensor, Tensor]:
    check_all((("query", query), ("key", key)), cos, sin, *form[:2])
    if transformed() or needs_gradient(query, key, cos, sin):
        return rotate(query, cos, sin, *form), rotate(key, cos, sin, *form)
    turned: tuple[Tensor, Tensor] = OPS.rotate_qk_kernel(query, key, cos, sin, *form)
    return turned


def norm_with_gradient(x: Tensor, weight: Tensor, cos: Tensor, sin: Tensor, epsilon: float, *form: Any) -> Tensor:
    if transformed() or needs_gradient(x, weight, cos, sin):
        turned: Tensor = rotate(normalised(x, weight, cos.dtype, epsilon), cos, sin, *form)
        return turned.to(x.dtype)
    alone: Tensor = OPS.normalise_and_rotate_kernel(x, weight, cos, sin, epsilon, *form)
    return alone


def each_norm(query: Tensor, key: Tensor, of_query: Tensor, of_key: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return normalise_and_rotate(query, of_query, *rest), normalise_and_rotate(key, of_key, *rest)


# --- which does what

for name, cpu, composite, fake, autograd in (
    ("rotate", on_cpu, plain, shape_of, with_gradient),
    ("rotate_", on_cpu_, plain_, shape_of_none, with_gradient_),
    ("rotate_qk", qk_on_cpu, plain_qk, shape_of_both, qk_with_gradient),
    ("normalise_and_rotate", norm_on_cpu, plain_norm, shape_of_norm, norm_with_gradient),
):
    for operator in (name, KERNELS[name]):
        LIBRARY.impl(operator, cpu, "CPU")
        for key in ("CompositeExplicitAutograd", "FuncTorchBatched", "Negative"):
            LIBRARY.impl(operator, composite, key)
        LIBRARY.impl(operator, fake, "Meta")
    LIBRARY.impl(name, autograd, "Autograd")
for name, cuda in (
    ("rotate", on_cuda), ("rotate_", on_cuda_), ("rotate_qk", qk_on_cuda), ("normalise_and_rotate", norm_on_cuda)
):  # fmt: skip
    for operator in (name, KERNELS[name]):
        LIBRARY.impl(operator, cuda, "CUDA")
for name, parts in (("rotate_backward", backward), ("rotate_qk_norm", each_norm)):
    LIBRARY.impl(name, parts, "CompositeImplicitAutograd")
rules.when_imported("torch.distributed.tensor", rules.register)
