"""What a training step takes, and what one call saves over the several it replaces."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rope_ref.pairing import PAIRINGS
from torch_bridge import rotate, rotate_qk
from torch_bridge.bench.cases import Case, close, rotated, roundings
from torch_bridge.bench.formulas import hugging_face
from torch_bridge.bench.rows import Job, Row, Section
from torch_bridge.bench.timing import Calls, Effort, figure, in_turn

DTYPES = ("float32", "bfloat16")
TOKENS = (512, 4096)  # of which the quick run takes the first, the other the last
TRAINING = """\
A query (1, 32, tokens, 128) and its gradient. The time of Hugging Face's formula with autograd over that of
torch_bridge.rotate: how many times slower it is."""
TOGETHER = """Times of separate calls over those of one, query of 32 heads and key of 8; 1.00 saves nothing."""


def training(quick: bool) -> Section:
    tokens = TOKENS[0] if quick else TOKENS[-1]
    cases = [Case(tokens, dtype, pairing) for dtype in DTYPES for pairing in (PAIRINGS[:1] if quick else PAIRINGS)]
    jobs = [Job(f"forward and backward {case.dtype} {case.pairing}", partial(both_ways, case)) for case in cases]
    return Section("Forward and backward", TRAINING, jobs)


def both_ways(case: Case, effort: Effort) -> Sequence[Row]:
    """One row; raises Wrong where a gradient is: that of a rotation is the inverse of what arrives."""
    (x,), (cos, sin), pairing = case.tensors(), case.tables(), case.pairing
    grad, leaf = torch.flip(x, (2,)), x.detach().requires_grad_()
    formula = hugging_face(leaf, cos, sin, pairing)

    def step(turn: Callable[[], Tensor]) -> Callable[[], Sequence[Tensor]]:
        return lambda: torch.autograd.grad(turn(), leaf, grad)

    calls = {"ours": step(lambda: rotate(leaf, cos, sin, pairing=pairing)), "eager": step(formula)}
    wanted = rotated(grad, cos, -sin, pairing)
    with torch.enable_grad():
        for name, inner in (("ours", None), ("eager", case.dtype)):
            close(f"gradient, {name}", calls[name]()[0], wanted, roundings(grad, cos, sin, inner))
        times = in_turn(calls, effort)
    labels: dict[str, str | int] = {"tokens": case.tokens, "dtype": case.dtype, "pairing": pairing}
    return [Row(labels, {"eager": figure(times["eager"] / times["ours"])})]


def together(quick: bool) -> Section:
    """What is done in one call: a row is a job here, its calls named "one" and "separate"."""
    tokens = (1,) if quick else (1, 512)
    jobs = [Job(f"query and key, {n} tokens", partial(query_and_key, n)) for n in tokens]
    return Section("One call for several", TOGETHER, jobs)


def query_and_key(tokens: int, effort: Effort) -> Sequence[Row]:
    case = Case(tokens, heads=(32, 8))
    xs, (cos, sin), pairing = case.tensors(), case.tables(), case.pairing
    calls: dict[str, Callable[[], Any]] = {
        "one": lambda: rotate_qk(xs[0], xs[1], cos, sin, pairing=pairing),
        "separate": lambda: [rotate(x, cos, sin, pairing=pairing) for x in xs],
    }
    return saving(f"rotate_qk, {tokens} tokens", calls, [rotated(x, cos, sin, pairing) for x in xs],
                  roundings(xs[0], cos, sin), effort)  # fmt: skip


def saving(name: str, calls: Calls, wanted: Sequence[Tensor], bound: float, effort: Effort) -> Sequence[Row]:
    """The row of calls "one" and "separate", each of which must return what is wanted, within the bound."""
    for way, call in calls.items():
        for y, right in zip(call(), wanted, strict=True):
            close(f"{name}, {way}", y, right, bound)
    times = in_turn(calls, effort)
    figures = {way: figure(times[way] * 1e6, "us") for way in ("one", "separate")}
    return [Row({"what": name}, figures | {"over one": figure(times["separate"] / times["one"])})]
