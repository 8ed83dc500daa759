"""Tensors in this machine's memory, from their addresses to the loops of numba_kernels.

What was checked once is known again by its shapes and strides. Each call looks at what may have changed since: that
storage is there as far as sizes and strides reach, and that what is written is not read as something else.
"""

import ctypes
import math
import mmap
from typing import Any

import numba
import numpy as np
import torch
from torch import Tensor
from torch.autograd.graph import increment_version
from torch.jit import is_tracing  # type: ignore[attr-defined]
from torch.overrides import has_torch_function

from numba_kernels import layout, plan, threads
from torch_bridge.doors import watched
from torch_bridge.plain import check

KINDS = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
MAX_PLANS = 4096  # that are kept at once
HUGE = 1 << 22  # bytes of a result from which its memory is asked for in large pages
LIBC = ctypes.CDLL(None) if hasattr(mmap, "MADV_HUGEPAGE") else None  # Linux

ORDINARY = {Tensor, torch.nn.Parameter}

compiling, grad_enabled = torch.compiler.is_compiling, torch.is_grad_enabled
is_dynamo_compiling = torch.compiler.is_dynamo_compiling
Ints = tuple[int, ...]


def allowed() -> int:
    """How many threads both torch and Numba were told to use; Numba starts its own when it is asked."""
    told: int = torch.get_num_threads()
    return told if told == 1 else min(told, numba.get_num_threads())


threads.allowed = allowed


def exporting() -> bool:
    """Whether what is recorded is to run without this package: a trace of TorchScript, a graph of ONNX."""
    return bool(is_tracing() or (not is_dynamo_compiling() and torch.onnx.is_in_onnx_export()))


def at_hand(*tensors: Tensor) -> bool:
    """Whether these are numbers in memory, and an operator would add nothing but gradients."""
    if compiling() or has_torch_function(tensors) or watched() or is_tracing():
        return False
    for t in tensors:
        if type(t) not in ORDINARY or not t.is_cpu or t.layout is not torch.strided or t.is_neg():
            return False
    return True


def takes_kernel(x: Tensor) -> bool:
    """Whether x is memory that a kernel may read, rather than a compiler's or a transform's stand-in for it."""
    return at_hand(x) and x.dtype in KINDS


def needs_gradient(*tensors: Tensor) -> bool:
    if grad_enabled():
        for t in tensors:
            if t.requires_grad:
                return True
    return False


Named = tuple[tuple[str, Tensor], ...]  # tensors and what the caller calls them


def turned(
    tensors: Named, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False,
    weights: tuple[Tensor, ...] = (), epsilon: float = 0.0,
) -> list[Tensor]:  # fmt: skip
    """Each of the tensors turned, in a new one; with weights (head_dim,), one for each, normalised before."""
    weights = tuple([weight.detach().to(cos.dtype).contiguous() for weight in weights])
    places = [address("weight", weight, weight.nbytes) for weight in weights] or [0, 0]
    try:
        calls, cos_at, sin_at, _ = ready(tensors, cos, sin, pairing, start, inverse, False, bool(weights))
    except Scattered:
        tensors = tuple((name, dense(x)) for name, x in tensors)
        return turned(tensors, cos.contiguous(), sin.contiguous(), pairing, start, inverse, weights, epsilon)
    results = []
    for (_, x), (loops, at, _), weight in zip(tensors, calls, places):  # noqa: B905
        out = empty_like(x)
        if loops.size:
            loops(at, out.data_ptr(), cos_at, sin_at, 0, weight, epsilon)
        results.append(out)
    return results


def turn(
    tensors: Named, cos: Tensor, sin: Tensor, pairing: str, start: int = 0, inverse: bool = False
) -> None:
    """Turn each of the tensors where it is, once it is sure that all can be."""
    try:
        calls, cos_at, sin_at, table = ready(tensors, cos, sin, pairing, start, inverse, True, False)
    except Scattered:
        check_targets(tensors, cos, sin)
        for (_, x), y in zip(tensors, turned(tensors, cos, sin, pairing, start, inverse), strict=True):
            x.copy_(y)
        return
    spans = [(name, x, at, at + reach) for (name, x), (_, at, reach) in zip(tensors, calls)]  # noqa: B905
    spans += [("cos", cos, cos_at, cos_at + table), ("sin", sin, sin_at, sin_at + table)]
    for i in range(len(tensors)):
        name, x, begin, end = spans[i]
        for other, t, first, last in spans[i + 1 :]:
            if begin < last and first < end:
                check_apart(name, x, other, t)
    for (_, x), (loops, at, _) in zip(tensors, calls):  # noqa: B905
        if loops.size:
            loops(at, at, cos_at, sin_at, 0, 0, 0.0)
            if not x.is_inference():
                increment_version(x)  # so that autograd sees that x has changed


class Scattered(Exception):
    """Channels do not lie side by side, or cos and sin lie in different ways."""


PLANS: dict[Any, dict[Any, tuple[threads.Loops, int, int]]] = {}  # by tables, then by x: what `plan_of` returns
NO_PLANS: dict[Any, tuple[threads.Loops, int, int]] = {}


def ready(
    tensors: Named, cos: Tensor, sin: Tensor, pairing: str, start: int, inverse: bool, in_place: bool, normed: bool
) -> tuple[list[tuple[threads.Loops, int, int]], int, int, int]:
    """For each of the tensors its loops, its address and its reach; the addresses of cos and sin, and their reach."""
    key = (cos.shape, cos.stride(), cos.dtype, sin.shape, sin.stride(), sin.dtype,
           pairing, start, type(start), inverse, type(inverse), in_place, normed)  # fmt: skip
    try:
        forms = PLANS.get(key, NO_PLANS)
    except TypeError:  # a list, say, where a name is expected
        plan.options(pairing, start, inverse)
        raise
    calls, table = [], 0
    for name, x in tensors:
        known = forms.get((x.shape, x.stride(), x.dtype))
        if known is None:
            known = plan_of(name, x, cos, sin, pairing, start, inverse, in_place, normed)
            if sum(map(len, list(PLANS.values()))) >= MAX_PLANS:
                PLANS.clear()
            forms = PLANS.setdefault(key, {})
            forms[x.shape, x.stride(), x.dtype] = known
        loops, reach, table = known
        calls.append((loops, address(name, x, reach), reach))
    return calls, address("cos", cos, table), address("sin", sin, table), table


def plan_of(
    name: str, x: Tensor, cos: Tensor, sin: Tensor,
    pairing: str, start: int, inverse: bool, in_place: bool, normed: bool,
) -> tuple[threads.Loops, int, int]:  # fmt: skip
    """The loops for tensors of these shapes, and how many bytes x and a table reach from their first number on."""
    plan.options(pairing, start, inverse)
    check(x, cos, sin, pairing, start, name)
    shape, steps, table = tuple(x.shape), x.stride(), tuple(cos.shape)
    if in_place:
        check_once(name, x)
    lie = [[step for step, n in zip(t.stride(), t.shape, strict=True) if n > 1] for t in (cos, sin)]
    if dense(x) is not x or dense(cos) is not cos or (lie[0] != lie[1] and cos.numel()):
        raise Scattered
    out = steps if in_place else tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    loops = plan.make(
        KINDS[x.dtype], pairing, start, inverse, in_place, False, normed, shape, steps, shape, out, table, table,
        cos.stride(), None,
    )  # fmt: skip
    return loops, nbytes(x), nbytes(cos)


def dense(t: Tensor) -> Tensor:
    """t, or a copy whose channels lie side by side."""
    return t if t.stride(-1) == 1 or t.shape[-1] == 1 else t.contiguous()


def nbytes(t: Tensor) -> int:
    """From the first number of a tensor to behind its last."""
    if not t.numel():
        return 0
    last = 0
    for n, step in zip(t.shape, t.stride()):  # noqa: B905
        last += step * (n - 1)
    return (last + 1) * t.itemsize


def address(name: str, t: Tensor, reach: int) -> int:
    """Where the numbers of a tensor begin. Raises ValueError where its storage is gone, or too short."""
    needed, found = t.storage_offset() * t.itemsize + reach, t.untyped_storage().nbytes()
    if needed > found and reach:
        raise ValueError(f"{name} reaches to byte {needed} of its storage, which has {found}: was it freed?")
    return t.data_ptr()


def check_targets(tensors: Named, cos: Tensor, sin: Tensor) -> None:
    """Raise ValueError unless each of the tensors can be written, while no other of them, nor a table, changes.

    Where one only stands for memory, as in a transform, nothing can be said.
    """
    every = (*tensors, ("cos", cos), ("sin", sin))
    if compiling() or is_tracing() or any(type(t) not in ORDINARY or not (t.is_cpu or t.is_cuda) for _, t in every):
        return
    try:
        if not all(address(name, t, nbytes(t)) for name, t in every if t.numel()):
            return
    except RuntimeError:  # within a transform
        return
    for i, (name, x) in enumerate(tensors):
        check_once(name, x)
        for other, t in every[i + 1 :]:
            check_apart(name, x, other, t)


def check_once(name: str, x: Tensor) -> None:
    """Raise ValueError where a number of x is at two places of it."""
    if layout.writes_twice(1, tuple(x.shape), x.stride()):
        raise ValueError(f"{name} has strides {x.stride()}; expected no element to be written twice")


def check_apart(name: str, x: Tensor, other: str, t: Tensor) -> None:
    """Raise ValueError where two tensors share a number."""
    if layout.meet(np.asarray(Memory(x)), np.asarray(Memory(t))):
        raise ValueError(f"{name} shares memory with {other}; expected it to lie apart")


class Memory:
    """Where the numbers of a tensor lie, as NumPy reads it: only to compare places. Nothing of the tensor is held."""

    def __init__(self, t: Tensor) -> None:
        self.__array_interface__ = {
            "version": 3, "data": (t.data_ptr(), False), "typestr": f"|V{t.itemsize}", "shape": tuple(t.shape),
            "strides": tuple(step * t.itemsize for step in t.stride()),
        }  # fmt: skip


def empty_like(x: Tensor, shape: Ints | None = None) -> Tensor:
    """Contiguous memory of x's shape, or another, torch's own. New memory is mapped at a third of the cost in large
    pages."""
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if shape is None else x.new_empty(shape)
    if LIBC is not None and out.nbytes >= HUGE:
        first = -(-out.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        whole = out.data_ptr() + out.nbytes - first
        LIBC.madvise(ctypes.c_void_p(first), ctypes.c_size_t(whole), mmap.MADV_HUGEPAGE)  # of no avail, no harm
    return out
