"""Medians of interleaved calls, so that a machine that slows down slows everyone down."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

Times = dict[str, float]


def medians(calls: Mapping[str, Callable[[], Any]], rounds: int = 15, warm: int = 2) -> Times:
    """Seconds of one call of each, the median of `rounds` taken in turn after `warm` that do not count."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for round in range(warm + rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if round >= warm:
                taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times) for name, times in taken.items()}


def duration(seconds: float) -> str:
    """Three digits and a unit.

    >>> duration(0.0123)
    '12.3 ms'
    """
    scale, unit = next((s, u) for s, u in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if seconds >= s or u == "us")
    return f"{seconds / scale:.3g} {unit}"
