"""What two pools of threads cost: torch has its own, and so has Numba, on the same cores."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from torch_bridge import rotate
from torch_bridge.bench.cases import Case, check
from torch_bridge.bench.rows import Job, Row, Section
from torch_bridge.bench.timing import SETTLE, Effort, figure, in_turn

TOKENS = (128, 512, 4096)
TURNS = 3  # of the two calls before a sample
NOTES = """\
float32 in place, (1, 32, tokens, 128): the time of one rotation right after another call, over its time right after
itself. After mul_ of another tensor of that size, torch's threads may still spin on the cores that Numba's are to have;
after a rotation of the other tensor none do, so that what this adds is what the cache has lost."""


def alternating(quick: bool) -> Section:
    jobs = [Job(f"alternating, {n} tokens", partial(measure, n)) for n in (TOKENS[:1] if quick else TOKENS)]
    return Section("Alternating with torch", NOTES, jobs)


def measure(tokens: int, effort: Effort) -> Sequence[Row]:
    """One row; raises Wrong where a rotation is."""
    case = Case(tokens)
    (x,), (cos, sin) = case.tensors(), case.tables()
    kept, other = x.clone(), torch.ones_like(x)
    turn: Callable[[], Any] = partial(rotate, x, cos, sin, pairing=case.pairing, inplace=True)
    check("in place", turn(), kept, cos, sin, case.pairing)
    between: dict[str, Callable[[], Any]] = {
        "alone": turn,
        "after mul_": partial(other.mul_, 1.0),
        "after a rotation": partial(rotate, other, cos, sin, pairing=case.pairing, inplace=True),
    }

    def before(name: str) -> None:
        time.sleep(SETTLE)
        for _ in range(TURNS):
            turn()
            between[name]()

    times = in_turn(dict.fromkeys(between, turn), effort, before, alone=True)
    figures = {"alone": figure(times["alone"] * 1e6, "us")}
    figures |= {name: figure(times[name] / times["alone"]) for name in between if name != "alone"}
    return [Row({"tokens": tokens}, figures)]
