"""Threads, in cache; and how the time of a token grows with their number."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from torch_bridge import rotate
from torch_bridge.bench.cases import Case, check, check_memory
from torch_bridge.bench.rows import Job, LeftOut, Row, Section
from torch_bridge.bench.timing import Effort, figure, in_turn

THREAD_TOKENS = 512
GROWTH_TOKENS = (512, 2048, 8192, 32768, 131072)
GROWTH_HEADS = 8
THREADS = """(1, 32, 512, 128) in place, which stays in cache: the time of one thread over that of several."""
GROWTH = """\
float32 in place, (1, 8, tokens, 128): 8 heads, for all sizes, there at once, to take less than 2 GB.
Nanoseconds for each token, of rotation and of mul_; the ratio is that of speeds, 1.00 being the speed of memory."""


def threads(quick: bool) -> Section:
    dtypes = ("float32",) if quick else ("float32", "bfloat16")
    jobs = [Job(f"threads {dtype}", partial(by_threads, Case(THREAD_TOKENS, dtype))) for dtype in dtypes]
    return Section("Threads", THREADS, jobs)


def by_threads(case: Case, effort: Effort) -> Sequence[Row]:
    """A row for 2, 4, 8, ... threads, up to those that torch has. They are changed before a sample, not in it."""
    count = torch.get_num_threads()
    if count < 2:
        raise LeftOut("there is one thread", "threads")
    (x,), (cos, sin) = case.tensors(), case.tables()
    counts = sorted({count, *(2**i for i in range(count.bit_length()) if 2**i <= count)})
    turns: dict[str, Callable[[], Any]] = {
        "rotate": partial(rotate, x, cos, sin, pairing=case.pairing, inplace=True),
        "mul_": partial(x.mul_, 1.0),
    }
    calls = {f"{name} {count}": call for count in counts for name, call in turns.items()}

    def before(name: str) -> None:
        torch.set_num_threads(int(name.split()[1]))
        calls[name]()  # new threads are made by the first call

    try:
        kept = x.clone()
        for count in counts:
            torch.set_num_threads(count)
            x.copy_(kept)
            check(f"in place, {count} threads", turns["rotate"](), kept, cos, sin, case.pairing)
        times = in_turn(calls, effort, before)
    finally:
        torch.set_num_threads(count)
    return [Row({"threads": count, "dtype": case.dtype},
                {name: figure(times[f"{name} 1"] / times[f"{name} {count}"]) for name in turns})
            for count in counts[1:]]  # fmt: skip


def growth(quick: bool) -> Section:
    tokens = GROWTH_TOKENS[:3] if quick else GROWTH_TOKENS
    return Section("Growth", GROWTH, [Job("growth", partial(by_tokens, tokens))])


def by_tokens(tokens: Sequence[int], effort: Effort) -> Sequence[Row]:
    cases = {n: Case(n, heads=(GROWTH_HEADS,)) for n in tokens}
    check_memory(3 * sum(case.nbytes for case in cases.values()))
    calls: dict[str, Callable[[], Any]] = {}
    for n, case in cases.items():
        (x,), (cos, sin) = case.tensors(), case.tables()
        before = x.clone()
        calls[f"rotate {n}"] = partial(rotate, x, cos, sin, pairing=case.pairing, inplace=True)
        calls[f"mul_ {n}"] = partial(x.mul_, 1.0)
        check(f"in place, {n} tokens", calls[f"rotate {n}"](), before, cos, sin, case.pairing)
        del before
    times = in_turn(calls, effort)
    rows = []
    for n in tokens:
        ours, memory = times[f"rotate {n}"], times[f"mul_ {n}"]
        figures = {"rotate": figure(ours / n * 1e9, "ns"), "mul_": figure(memory / n * 1e9, "ns")}
        rows.append(Row({"tokens": n}, figures | {"ratio": figure(memory / ours)}))
    return rows
