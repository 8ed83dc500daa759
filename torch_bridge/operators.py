"""Rotation as operators of torch, torch.ops.rope_ref: what autograd, the compiler and every transform see.

    rotate           a new tensor
    rotate_          in place
    rotate_qk        query and key at once, whose numbers of heads may differ
    rotate_backward  gradients of cos and sin; that of x is `rotate` with the other `inverse`

The CPU has kernels, every other device the same in plain torch. Tables have the type of the
arithmetic: float64 for float64, float32 for all others. All results are contiguous.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

import numba_kernels as nk
from torch_bridge import direct, rules
from torch_bridge.cuda import both_by_cuda, by_cuda, installed
from torch_bridge.plain import check, plain, split

LIBRARY = torch.library.Library("rope_ref", "DEF")
FORM = "Tensor cos, Tensor sin, str pairing, int start=0, bool inverse=False"
for schema in (
    f"rotate(Tensor x, {FORM}) -> Tensor",
    f"rotate_(Tensor(a!) x, {FORM}) -> ()",
    f"rotate_qk(Tensor query, Tensor key, {FORM}) -> (Tensor, Tensor)",
    f"rotate_backward(Tensor grad, Tensor x, {FORM}) -> (Tensor, Tensor)",
):
    LIBRARY.define(schema, tags=torch.Tag.pt2_compliant_tag)

OPS = torch.ops.rope_ref
rotate, rotate_, rotate_qk = OPS.rotate.default, OPS.rotate_.default, OPS.rotate_qk.default
rotate_backward = OPS.rotate_backward.default
BELOW, PAST_VERSIONS = torch._C._after_autograd_keyset, torch._C._after_ADInplaceOrView_keyset
KERNEL_DTYPES = tuple(direct.KINDS)


def both(way: Any) -> Any:
    """Query and key each in this way, which says their names where one is wrong."""

    def each(
        query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        form = (cos, sin, pairing, start, inverse)
        return way(query, *form, "query"), way(key, *form, "key")

    return each


# --- the CPU


def array(t: Tensor) -> Any:
    """The memory of a CPU tensor as the kernels take it: bfloat16 as uint16."""
    t = t.detach()
    return t.view(torch.uint16).numpy() if t.dtype == torch.bfloat16 else t.numpy()


def on_cpu(
    x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False, name: str = "x"
) -> Tensor:
    turned = direct.rotated(x, cos, sin, direct.code(pairing, start, inverse))
    if turned is not None:
        return turned
    check(x, cos, sin, pairing, start, name)
    if x.dtype not in KERNEL_DTYPES:
        return plain(x, cos, sin, pairing, start, inverse)
    if x.shape[-1] > 1 and x.stride(-1) != 1:  # as gradients of a sum are; kernels want channels side by side
        out = direct.fresh(x).copy_(x)
        on_cpu_(out, cos, sin, pairing, start, inverse)
        return out
    memory = nk.rotate(array(x), array(cos), array(sin), pairing=pairing, start=start, inverse=inverse)
    out = torch.from_numpy(memory).view(x.dtype)
    direct.remember(x, out, cos, sin, pairing, start, inverse)
    return out


def on_cpu_(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> None:
    if direct.rotated_(x, cos, sin, direct.code(pairing, start, inverse)) is not None:
        return
    check(x, cos, sin, pairing, start)
    if x.dtype not in KERNEL_DTYPES:
        x.copy_(plain(x, cos, sin, pairing, start, inverse))
        return
    memory = array(x)
    try:
        nk.rotate(memory, array(cos), array(sin), pairing=pairing, start=start, inverse=inverse, out=memory)
    except ValueError as error:
        raise ValueError(f"x cannot be rotated in place: {error}") from None
    direct.remember(x, x, cos, sin, pairing, start, inverse)


def qk_on_cpu(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    turned = direct.rotated_qk(query, key, cos, sin, direct.code(pairing, start, inverse))
    return both(on_cpu)(query, key, cos, sin, pairing, start, inverse) if turned is None else turned


# --- CUDA


def on_cuda(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> Tensor:
    """By the kernels of numba_kernels.cuda where these are installed."""
    check(x, cos, sin, pairing, start)
    if not installed() or x.dtype not in KERNEL_DTYPES:
        return plain(x, cos, sin, pairing, start, inverse)
    return by_cuda(x, cos, sin, pairing, start, inverse)


def on_cuda_(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False) -> None:
    check(x, cos, sin, pairing, start)
    if not installed() or x.dtype not in KERNEL_DTYPES:
        x.copy_(plain(x, cos, sin, pairing, start, inverse))
        return
    try:
        by_cuda(x, cos, sin, pairing, start, inverse, out=x)
    except ValueError as error:
        raise ValueError(f"x cannot be rotated in place: {error}") from None


def qk_on_cuda(
    query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """In one launch where both are stored alike."""
    form = (cos, sin, pairing, start, inverse)
    check(query, *form[:4], "query")
    check(key, *form[:4], "key")
    alike = query.dtype == key.dtype and query.shape[-1] == key.shape[-1]
    if alike and installed() and query.dtype in KERNEL_DTYPES:
        return both_by_cuda(query, key, *form)
    return on_cuda(query, *form), on_cuda(key, *form)


# --- every other device, and shapes alone


def plain_(x: Tensor, *form: Any) -> None:
    x.copy_(plain(x, *form))


def backward(
    grad: Tensor, x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """Gradients of cos and sin: u a + v b and v a - u b, summed over all rows that share an entry of the tables."""
    a, b = (half.to(cos.dtype) for half in split(x, pairing, start, cos.shape[-1]))
    u, v = (half.to(cos.dtype) for half in split(grad, pairing, start, cos.shape[-1]))
    to_sin = u * b - v * a if inverse else v * a - u * b
    return (u * a + v * b).sum_to_size(cos.shape), to_sin.sum_to_size(sin.shape)


def shape_of(
    x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False, name: str = "x"
) -> Tensor:
    check(x, cos, sin, pairing, start, name)
    return x.new_empty(x.shape)


def shape_of_none(x: Tensor, *form: Any) -> None:
    shape_of(x, *form)


# --- autograd


class Rotation(torch.autograd.Function):
    """The kernel: linear in x, whose gradient turns back, and linear in (cos, sin)."""

    @staticmethod
    def forward(ctx: Any, keys: Any, x: Tensor, cos: Tensor, sin: Tensor, *form: Any) -> Tensor:
        ctx.save_for_backward(x if any(ctx.needs_input_grad[2:4]) else None, cos, sin)
        ctx.form = form
        turned: Tensor = below(rotate, keys, x, cos, sin, *form)
        return turned

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Any, ...]:
        (grad,), (x, cos, sin), (pairing, start, inverse) = grads, ctx.saved_tensors, ctx.form
        to_x = rotate(grad, cos, sin, pairing, start, not inverse) if ctx.needs_input_grad[1] else None
        to_tables = (None, None) if x is None else rotate_backward(grad, x, cos, sin, *ctx.form)
        return None, to_x, *to_tables, None, None, None


def below(operator: Any, keys: Any, *arguments: Any) -> Any:
    """The same operator without autograd."""
    with torch._C._AutoDispatchBelowAutograd():
        return operator.redispatch(keys & BELOW, *arguments)


def transformed() -> bool:
    """Whether tangents or functions are transformed, which torch does by its own operations."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def needs_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and torch._C._any_requires_grad(*tensors)


def with_gradient(
    keys: Any, x: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> Tensor:
    form = (pairing, start, inverse)
    if transformed():
        return plain(x, cos, sin, *form)
    if not needs_gradient(x, cos, sin):
        return below(rotate, keys, x, cos, sin, *form)  # type: ignore[no-any-return]
    turned: Tensor = Rotation.apply(keys, x, cos, sin, *form)
    return turned


def with_gradient_(keys: Any, x: Tensor, *rest: Any) -> None:
    if transformed() or needs_gradient(x, *rest[:2]):
        x.copy_(rotate(x.clone(), *rest))  # what was x may be needed for gradients of the tables
    else:
        below(rotate_, keys, x, *rest)


def with_gradient_qk(keys: Any, query: Tensor, key: Tensor, *rest: Any) -> Any:
    if transformed() or needs_gradient(query, key, *rest[:2]):
        return rotate(query, *rest), rotate(key, *rest)
    return below(rotate_qk, keys, query, key, *rest)


def with_version_(keys: Any, x: Tensor, *form: Any) -> None:
    """Let autograd see that x has changed."""
    torch.autograd.graph.increment_version(x)
    rotate_.redispatch(keys & PAST_VERSIONS, x, *form)


# --- which does what

for name, cpu, composite, fake, autograd in (
    ("rotate", on_cpu, plain, shape_of, with_gradient),
    ("rotate_", on_cpu_, plain_, shape_of_none, with_gradient_),
    ("rotate_qk", qk_on_cpu, both(plain), both(shape_of), with_gradient_qk),
):
    LIBRARY.impl(name, cpu, "CPU")
    for key in ("CompositeExplicitAutograd", "FuncTorchBatched", "Negative"):
        LIBRARY.impl(name, composite, key)
    LIBRARY.impl(name, autograd, "Autograd", with_keyset=True)
    LIBRARY.impl(name, fake, "Meta")
LIBRARY.impl("rotate", on_cuda, "CUDA")
LIBRARY.impl("rotate_", on_cuda_, "CUDA")
LIBRARY.impl("rotate_qk", qk_on_cuda, "CUDA")
LIBRARY.impl("rotate_", with_version_, "ADInplaceOrView", with_keyset=True)
LIBRARY.impl("rotate_backward", backward, "CompositeImplicitAutograd")
rules.when_imported("torch.distributed.tensor", rules.register)
