"""Times of interleaved calls, so that a machine that slows down slows everyone down."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Calls = Mapping[str, Callable[[], Any]]
Times = dict[str, NDArray[np.float64]]
LEAST = 5  # rounds, however long they take
SETTLE = 0.005  # seconds after which threads without work sleep
SAMPLE = 200e-6  # seconds that a sample takes at least, for clocks to be nothing beside it


class Effort(NamedTuple):
    """At most so many rounds; after `LEAST` of them no more than fit in so many seconds."""

    rounds: int = 50
    seconds: float = 2.0


class Figure(NamedTuple):
    """The median of so many runs, and the distance of their quartiles in percent of it."""

    median: float
    spread: float
    runs: int
    unit: str


def in_turn(calls: Calls, effort: Effort, before: Callable[[str], Any] | None = None, alone: bool = False) -> Times:
    """Seconds of each call, one number a round: every call in each round, the other way round in every second.

    Where a call is short, a sample is the mean of several. One of each, and one round, do not count. `before` is
    called with the name before each sample and is not timed; `alone` makes a sample of one call, the one after it.
    """
    many: dict[str, int] = {}
    for name, call in calls.items():
        if before is not None:
            before(name)
        call()
        many[name] = 1 if alone else max(1, min(1000, int(SAMPLE / sample(call, 1))))
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + effort.seconds
    for number in range(effort.rounds + 1):
        if number > min(LEAST, effort.rounds) and time.perf_counter() > end:
            break
        for name in list(calls)[:: -1 if number % 2 else 1]:
            if before is not None:
                before(name)
            seconds = sample(calls[name], many[name])
            if number:
                taken[name].append(seconds)
    return {name: np.array(seconds) for name, seconds in taken.items()}


def settled(calls: Calls) -> Callable[[str], None]:
    """What is done before each sample: each has threads of its own, and those of one that spin slow the other down."""

    def before(name: str) -> None:
        time.sleep(SETTLE)
        calls[name]()

    return before


def sample(call: Callable[[], Any], many: int) -> float:
    """Seconds of one call, the mean of so many."""
    begin = time.perf_counter()
    for _ in range(many):
        call()
    return max(time.perf_counter() - begin, 1e-9) / many


def medians(calls: Calls, rounds: int = 15) -> dict[str, float]:
    """Seconds of one call of each: the medians of `in_turn`."""
    times = in_turn(calls, Effort(rounds, float("inf")))
    return {name: statistics.median(taken) for name, taken in times.items()}


def figure(values: NDArray[np.float64], unit: str = "") -> Figure:
    """What is made of the numbers of all rounds; a ratio is one of times of the same round, and has no unit.

    >>> figure(np.array([1.0, 2.0, 3.0]), "s")
    Figure(median=2.0, spread=50.0, runs=3, unit='s')
    """
    low, median, high = np.quantile(values, (0.25, 0.5, 0.75))
    return Figure(float(median), float(100 * (high - low) / median), len(values), unit)


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.0123)
    '12.3 ms'
    """
    scale, unit = next((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if seconds >= s or u == "us")
    return f"{seconds / scale:.3g} {unit}"
