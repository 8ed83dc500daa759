"""Normalisation and rotation in one pass, against rotation alone and against a pass each."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import rms_norm

import numba_kernels as nk
from rope_ref.exactness import UNIT
from torch_bridge import rotate_qk, rotate_qk_norm
from torch_bridge.bench.cases import Case, array, close, rotated, roundings
from torch_bridge.bench.rows import Job, Row, Section
from torch_bridge.bench.timing import Effort, figure, in_turn
from torch_bridge.plain import normalised

TOKENS = (512, 4096)
DTYPES = ("float32", "bfloat16")
EPSILON = 1e-6
NOTES = """\
Rows divided by their root mean square, weighed and rotated; query of 32 heads in place by numba_kernels, query and key
of 8 into new tensors by torch_bridge.
over rotation        the time of one pass over that of rotation alone: what normalisation adds; 1.00 is nothing
apart over one pass  torch's rms_norm and then rotation, over one pass: how many times slower"""


def by_norm(quick: bool) -> Section:
    tokens, dtypes = (TOKENS[:1], DTYPES[:1]) if quick else (TOKENS, DTYPES)
    jobs = [Job(f"normalised {how}, {n} tokens {dtype}", partial(measure, how, n, dtype))
            for how in WAYS for n in tokens for dtype in dtypes]  # fmt: skip
    return Section("Normalised and rotated", NOTES, jobs)


def measure(how: str, tokens: int, dtype: str, effort: Effort) -> Sequence[Row]:
    """One row; raises Wrong where a result is."""
    case = Case(tokens, dtype, heads=(32, 8) if how == "new" else (32,))
    xs, tables = case.tensors(), case.tables()
    weight = torch.ones(case.head_dim)
    weight[::3] = -1  # so that rows in place, normalised again and again, neither grow nor shrink
    calls = WAYS[how](xs, weight.to(xs[0].dtype), *tables, case.pairing)
    for name, call in calls.items():
        before = [x.clone() for x in xs]
        inner = dtype if name == "apart" else None  # rms_norm rounds its result
        for x, y in zip(before, call(), strict=True):
            right = x.float() if name == "rotation" else normalised(x, weight, torch.float32, EPSILON)
            # the sum of squares, in any order, and two products more
            more = 2 * float(right.abs().max()) * (case.head_dim + 2) * UNIT["float32"]
            close(f"{name}, {how}", y, rotated(right, *tables, case.pairing).to(y.dtype),
                  roundings(right.to(y.dtype), *tables, inner) + more)  # fmt: skip
        for x, kept in zip(xs, before, strict=True):
            x.copy_(kept)
    times = in_turn(calls, effort)
    labels: dict[str, str | int] = {"result": how, "tokens": tokens, "dtype": dtype}
    return [Row(labels, {"over rotation": figure(times["one pass"] / times["rotation"]),
                         "apart over one pass": figure(times["apart"] / times["one pass"])})]  # fmt: skip


def in_place(xs: Sequence[Tensor], weight: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> dict[str, Any]:
    """numba_kernels, to where x is; apart, rms_norm makes a new tensor, which is then turned in place."""
    (x,), tables = xs, (cos.numpy(), sin.numpy())

    def turned(call: Callable[..., Any], *weights: Any, **options: Any) -> Sequence[Tensor]:
        call(array(x), *weights, *tables, pairing=pairing, out=array(x), **options)
        return xs

    def apart() -> Sequence[Tensor]:
        y = rms_norm(x, weight.shape, weight, EPSILON)
        nk.rotate(array(y), *tables, pairing=pairing, out=array(y))
        return [y]

    given = array(weight)
    return {
        "rotation": lambda: turned(nk.rotate),
        "one pass": lambda: turned(nk.normalise_and_rotate, given, epsilon=EPSILON),
        "apart": apart,
    }


def new(xs: Sequence[Tensor], weight: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> dict[str, Any]:
    """torch_bridge, query and key into new tensors."""
    q, k = xs

    def apart() -> Sequence[Tensor]:
        y, z = (rms_norm(x, weight.shape, weight, EPSILON) for x in xs)
        return rotate_qk(y, z, cos, sin, pairing=pairing)

    return {
        "rotation": lambda: rotate_qk(q, k, cos, sin, pairing=pairing),
        "one pass": lambda: rotate_qk_norm(q, k, weight, weight, cos, sin, epsilon=EPSILON, pairing=pairing),
        "apart": apart,
    }


WAYS: dict[str, Callable[..., dict[str, Any]]] = {"in place": in_place, "new": new}
