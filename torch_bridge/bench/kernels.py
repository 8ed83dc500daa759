"""The kernels against the speed of memory: every size and dtype, then one thing changed at a time."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

import numba_kernels as nk
from rope_ref.pairing import PAIRINGS
from torch_bridge import rotate, rotate_qk
from torch_bridge.bench.cases import DTYPES, Case, array, check
from torch_bridge.bench.formulas import hugging_face
from torch_bridge.bench.rows import Job, Row, Section
from torch_bridge.bench.timing import Effort, Figure, Times, figure, in_turn

TOKENS = (1, 16, 128, 512, 2048, 4096, 32768)  # the quick run takes every second but the last
VARIED_TOKENS = (512, 4096)
NOTES = """\
Ratios are against what torch needs for the same bytes: 1.00 is the speed of memory, more is faster.
in place   torch_bridge.rotate(inplace=True), against mul_(1.0) of the channels that turn
given      numba_kernels.rotate(out=), against copy_ into the same buffer
fresh      torch_bridge.rotate, against empty_like and copy_
bandwidth  in place, each channel that turns read once and written once
eager      the formula of Hugging Face, tables as wide as x in its dtype: how many times slower than fresh"""

QUERY = "32 heads of 128, head-major"
VARIATIONS: dict[str, dict[str, Any]] = {
    "query of 32 heads and key of 8": {"heads": (32, 8)},
    "head_dim 64": {"head_dim": 64, "rotary_dim": 64},
    "head_dim 256": {"head_dim": 256, "rotary_dim": 256},
    "a quarter of the channels turns": {"rotary_dim": 32},
    "head-major view of token-major memory": {"layout": "transposed"},
    "token-major": {"layout": "token-major"},
    "packed": {"layout": "packed"},
    "packed, a view of query, key and value": {"layout": "packed", "fused": True},
}


def by_size(quick: bool) -> Section:
    """Every number of tokens, dtype and pairing."""
    pairings, tokens = (PAIRINGS[:1], TOKENS[:-1:2]) if quick else (PAIRINGS, TOKENS)
    cases = [Case(n, dtype, pairing) for n in tokens for dtype in DTYPES for pairing in pairings]
    return Section(f"{QUERY}, by size", NOTES, [
        job(case, {"tokens": case.tokens, "dtype": case.dtype, "pairing": case.pairing}) for case in cases
    ])  # fmt: skip


def by_shape(quick: bool) -> Section:
    """Other shapes and strides, one change at a time."""
    tokens, dtypes = (VARIED_TOKENS[:1], DTYPES[:1]) if quick else (VARIED_TOKENS, DTYPES[:2])
    return Section(f"{QUERY}, half-split, with one change", NOTES, [
        job(Case(n, dtype, **change), {"change": name, "tokens": n, "dtype": dtype})
        for name, change in VARIATIONS.items() for n in tokens for dtype in dtypes
    ])  # fmt: skip


def job(case: Case, labels: dict[str, str | int]) -> Job:
    return Job(" ".join(map(str, labels.values())), partial(measure, case, labels))


def measure(case: Case, labels: dict[str, str | int], effort: Effort) -> Sequence[Row]:
    """One row; raises Wrong where a rotation is."""
    xs, (cos, sin), pairing = case.tensors(), case.tables(), case.pairing
    outs = [torch.empty_like(x) for x in xs]
    turning = [x[..., : case.rotary_dim] for x in xs]
    arrays = [(array(x), array(out)) for x, out in zip(xs, outs, strict=True)]
    tables = cos.numpy(), sin.numpy()
    eager = [hugging_face(x, cos, sin, pairing) for x in xs]

    def in_place() -> list[Tensor]:
        return [rotate(x, cos, sin, pairing=pairing, inplace=True) for x in xs]

    def given() -> list[Tensor]:
        for a, out in arrays:
            nk.rotate(a, *tables, pairing=pairing, out=out)
        return outs

    def fresh() -> Any:
        if len(xs) == 2:
            return rotate_qk(xs[0], xs[1], cos, sin, pairing=pairing)
        return [rotate(x, cos, sin, pairing=pairing) for x in xs]

    calls: dict[str, Callable[[], Any]] = {
        "in place": in_place,
        "mul_": lambda: [t.mul_(1.0) for t in turning],
        "given": given,
        "copy_": lambda: [out.copy_(x) for x, out in zip(xs, outs, strict=True)],
        "fresh": fresh,
        "empty_like and copy_": lambda: [torch.empty_like(x).copy_(x) for x in xs],
        "eager": lambda: [formula() for formula in eager],
    }
    verify(calls, xs, (cos, sin), case)
    return [Row(labels, figures(in_turn(calls, effort), 2 * sum(t.nbytes for t in turning)))]


def verify(calls: dict[str, Callable[[], Any]], xs: list[Tensor], tables: tuple[Tensor, Tensor], case: Case) -> None:
    """Each call that rotates, against torch's own operations; raises Wrong. x is afterwards as it was."""
    before = [x.clone() for x in xs]
    for name, inner in (("fresh", None), ("given", None), ("eager", case.dtype), ("in place", None)):
        for x, y in zip(before, calls[name](), strict=True):
            check(name, y, x, *tables, case.pairing, inner)
    for x, y in zip(xs, before, strict=True):
        x.copy_(y)


def figures(times: Times, moved: int) -> dict[str, Figure]:
    """The columns; `moved` bytes are read and written in place."""
    return {
        "in place": figure(times["mul_"] / times["in place"]),
        "given": figure(times["copy_"] / times["given"]),
        "fresh": figure(times["empty_like and copy_"] / times["fresh"]),
        "bandwidth": figure(moved / times["in place"] / 1e9, "GB/s"),
        "bandwidth of mul_": figure(moved / times["mul_"] / 1e9, "GB/s"),
        "eager": figure(times["eager"] / times["fresh"]),
    }
