"""The kernels against the same in C by hand: what is left to gain by writing them in another language."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numba_kernels as nk
from numba_kernels import plan
from rope_ref.pairing import PAIRINGS
from torch_bridge.bench.by_hand import LINE, ways
from torch_bridge.bench.cases import Case, array, check
from torch_bridge.bench.rows import Job, Row, Section, Wrong
from torch_bridge.bench.timing import Effort, figure, in_turn, settled

TOKENS = (1, 16, 128, 512, 2048, 4096, 16384)  # the quick run takes the first and the fourth
HEAD_DIMS = (64, 128, 256)  # of which it takes the second
NOTES = """\
float32, (1, 32, tokens, head_dim). The time of C over that of numba_kernels.rotate(out=): above 1 we are faster.
Of C it is the best of its options by the median: prefetch, streaming stores, blocks of 32 tokens, one thread or all.
kernel ...   the same for the compiled loops alone, called with addresses: what is checked before is Python"""


def by_hand(quick: bool) -> Section:
    tokens, dims = (TOKENS[:4:3], HEAD_DIMS[1:2]) if quick else (TOKENS, HEAD_DIMS)
    cases = [Case(n, pairing=pairing, head_dim=dim, rotary_dim=dim)
             for n in tokens for dim in dims for pairing in PAIRINGS]  # fmt: skip
    jobs = [Job(f"C by hand, {case.tokens} tokens of {case.head_dim} {case.pairing}", partial(measure, case))
            for case in cases]  # fmt: skip
    return Section("The same in C by hand", NOTES, jobs)


def measure(case: Case, effort: Effort) -> Sequence[Row]:
    """One row; raises Wrong where a rotation is, or where C gives other bits."""
    (x,), (cos, sin) = case.tensors(), case.tables()
    out = torch.empty_like(x)
    calls: dict[str, Callable[[], Any]] = {}
    for way, target in (("in place", x), ("given", out)):
        by_c = {f"C {way}, {options}": call for options, call in ways(x, target, cos, sin, case.pairing).items()}
        words = {"out": array(target), "pairing": case.pairing}
        rotations: dict[str, Callable[[], Any]] = {
            f"ours {way}": partial(nk.rotate, array(x), cos.numpy(), sin.numpy(), **words),
            f"kernel {way}": loops(x, target, cos, sin, case.pairing),
            **by_c,
        }
        verify(rotations, x, target, (cos, sin), case.pairing)
        calls |= rotations
    times = in_turn(calls, effort, settled(calls))
    labels: dict[str, str | int] = {"tokens": case.tokens, "head_dim": case.head_dim, "pairing": case.pairing}
    figures = {}
    for prefix in ("", "kernel "):
        for way in ("in place", "given"):
            c = times[best(times, f"C {way}, ")]
            figures[prefix + way] = figure(c / times[f"{prefix or 'ours '}{way}"])
    return [Row(labels, figures)]


def best(times: Mapping[str, Any], beginning: str) -> str:
    """The call with the smallest median among those whose names begin so."""
    return min((name for name in times if name.startswith(beginning)), key=lambda name: float(np.median(times[name])))


def loops(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> Callable[[], Any]:
    """The compiled loops of numba_kernels, ready to be called."""
    shape, table = tuple(x.shape), tuple(cos.shape)
    made = plan.make(
        "float32", pairing, 0, False, x is out, out.data_ptr() % LINE == 0, False, shape, x.stride(), shape,
        out.stride(), table, table, cos.stride(), None,
    )  # fmt: skip
    return partial(made, x.data_ptr(), out.data_ptr(), cos.data_ptr(), sin.data_ptr(), 0, 0, 0.0)


def verify(
    calls: Mapping[str, Callable[[], Any]], x: Tensor, out: Tensor, tables: tuple[Tensor, Tensor], pairing: str
) -> None:
    """The first against torch's own operations, the others bit for bit against it. x is afterwards as it was."""
    before, first = x.clone(), None
    for name, call in calls.items():
        out.zero_()
        x.copy_(before)
        call()
        if first is None:
            check(name, out, before, *tables, pairing)
            first = out.clone()
        elif not torch.equal(out.view(torch.int32), first.view(torch.int32)):
            raise Wrong(f"{name} is not bit for bit the rotation of numba_kernels; it was not timed")
    x.copy_(before)
