"""What a section of the result is made of: jobs that give rows, each with labels and figures."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch_bridge.bench.timing import Effort, Figure


class Row(NamedTuple):
    """Figures by column, all of calls taken in turn, and what they are of."""

    labels: dict[str, str | int]
    figures: dict[str, Figure]


class LeftOut(Exception):
    """Why a job cannot be done here, and what is missing, unless that is the job alone."""

    def __init__(self, reason: str, what: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.what = reason, what


class Wrong(Exception):
    """What was to be timed does not compute what it should."""


class Job(NamedTuple):
    """One measurement: its name, for a bar and where it is left out; what does it, or raises LeftOut or Wrong."""

    name: str
    run: Callable[[Effort], Sequence[Row]]


class Section(NamedTuple):
    """A table: what it shows, how its columns are to be read, and its jobs."""

    title: str
    notes: str
    jobs: Sequence[Job]
