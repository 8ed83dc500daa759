"""Rotations straight from tensors to the loops, where they are known: see ``known``."""

from typing import Any

import torch
from torch import Tensor

from numba_kernels import cpu, plan, threads
from numba_kernels.team import TEAM
from torch_bridge import known
from torch_bridge import memory as blocks

threads.told = torch.get_num_threads

KINDS = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}
HUGE = 1 << 22  # bytes from which torch may have memory mapped anew each time, in small pages


def code(pairing: str, start: int, inverse: bool) -> int:
    """The form as one number, -1 for what cannot be one."""
    whole = type(start) is int and 0 <= start < 1 << 32
    if known.MISSING or not whole or type(inverse) is not bool or pairing not in plan.PAIRINGS:
        return -1
    return (pairing == "interleaved") | inverse << 1 | start << 2


def rotated(x: Tensor, cos: Tensor, sin: Tensor, form: int) -> Tensor | None:
    """The rotation of x if it is known, in a new tensor."""
    if not takes(x):
        return None
    out = fresh(x)
    return out if carried(known.turn, x.numel(), form, cos, sin, x, out) else None


def rotated_(x: Tensor, cos: Tensor, sin: Tensor, form: int) -> Tensor | None:
    """x, rotated in place if that is known, else untouched."""
    return x if carried(known.turn, x.numel(), form, cos, sin, x, x) and changed(x) else None


def rotated_qk(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, form: int) -> tuple[Tensor, Tensor] | None:
    """The rotations of query and key if both are known."""
    if not (takes(query) and takes(key)):
        return None
    q, k = fresh(query), fresh(key)
    return (q, k) if carried(known.turn_both, query.numel(), form, cos, sin, query, q, key, k) else None


def rotated_qk_(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, form: int) -> tuple[Tensor, Tensor] | None:
    """query and key, rotated in place if both rotations are known, else untouched."""
    found = query is not key and carried(known.turn_both, query.numel(), form, cos, sin, query, query, key, key)
    return (query, key) if found and changed(query, key) else None


def changed(*tensors: Tensor) -> bool:
    """Let autograd see that these have new values."""
    torch._C._increment_version(tensors)
    return True


def carried(function: Any, size: int, form: int, *tensors: Tensor) -> bool:
    """Whether the rotation was known, and is done."""
    if form < 0:
        return False
    given = 1 if size < 2 * threads.SMALL else threads.take(size)
    try:
        done: bool = function(known.PLACE, given, TEAM, form, *[t._cdata for t in tensors])
    finally:
        if given > 1:
            threads.leave(given)
    return done


def takes(x: Tensor) -> bool:
    return x.is_cpu and x.layout is torch.strided and x.dtype in KINDS and x.numel() > 0


def fresh(x: Tensor) -> Tensor:
    """Contiguous memory of x's shape."""
    if x.nbytes < HUGE:
        return torch.empty_like(x, memory_format=torch.contiguous_format)  # else steps of axes of size 1 are kept
    return blocks.like(x)


def remember(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int, inverse: bool) -> None:
    """Plan a rotation into fresh memory, as `fresh` makes it, or into x, which passed all checks.

    Not if it needs copies or more than one plan.
    """
    tensors, form = (x, out, cos, sin), code(pairing, start, inverse)
    dense = all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in tensors)
    fits = x.numel() > 0 and cos.numel() > 0 and dense and cos.stride() == sin.stride()
    if form < 0 or x.dtype not in KINDS or not fits:
        return
    steps = [tuple(s * t.itemsize for s in t.stride()) for t in tensors]
    loops = plan.make(
        KINDS[x.dtype], pairing, start, inverse, x is out, tuple(x.shape), steps[0], tuple(out.shape), steps[1],
        tuple(cos.shape), tuple(sin.shape), steps[2], None,
    )  # fmt: skip
    if len(loops.starts) > 1:
        return
    spans = [sum(s * (n - 1) for s, n in zip(b, t.shape, strict=True)) + t.itemsize
             for b, t in zip(steps, tensors, strict=True)]  # fmt: skip
    kernel, addresses = cpu.kernel(KINDS[x.dtype]), (t._cdata for t in (x, cos, sin))
    head = (loops.address, loops.items, kernel, *spans, x.itemsize, cos.itemsize)
    known.enter(known.PLACE, form, x is not out, *addresses, *head)
