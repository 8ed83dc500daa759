"""Speed of the kernels, against memory and other implementations.

`rope-ref bench` measures, prints each table when it is done, and writes a JSON file and a chart.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from rope_ref.usage import Parser
from torch_bridge.bench import (
    against,
    calls,
    hand,
    kernels,
    machine,
    model,
    norm,
    pools,
    report,
    scaling,
    start,
    tables,
)
from torch_bridge.bench.rows import LeftOut, Row, Section, Wrong
from torch_bridge.bench.timing import Effort

SECTIONS: dict[str, Callable[[bool], Section]] = {  # a table is a function, told whether to be quick, and a line
    "size": kernels.by_size,
    "shape": kernels.by_shape,
    "tables": tables.by_tables,
    "decode": against.decoded,
    "calls": model.by_call,
    "training": calls.training,
    "together": calls.together,
    "norm": norm.by_norm,
    "peers": against.by_size,
    "hand": hand.by_hand,
    "threads": scaling.threads,
    "alternating": pools.alternating,
    "growth": scaling.growth,
    "start": start.start,
}
WIDTH = 170  # where the output is no terminal
EXAMPLES = """
  rope-ref bench                                all tables, in some minutes
  rope-ref bench --quick                        fewer rows and rounds, in less than one
  rope-ref bench --only decode --only peers     two of them
  rope-ref bench --rounds 50 --json mine.json --png mine.png

Ratios of calls that are taken in turn, each with its spread and the number of runs. Every result is compared with
torch's own operations before it is timed; other implementations are compared where they are installed.
"""
Measured = dict[str, tuple[Section, Sequence[Row]]]


def add(one: Parser) -> None:
    """The arguments of `rope-ref bench`."""
    one.show(EXAMPLES)
    one.add_argument("--quick", action="store_true", help="fewer rows and rounds")
    one.add_argument("--rounds", type=int, metavar="N",
                     help="runs of every call; by default at most 50, and fewer of long ones")  # fmt: skip
    one.add_argument("--only", action="append", default=[], metavar="TABLE",
                     help=f"a table alone; may be repeated: {', '.join(SECTIONS)}")  # fmt: skip
    one.add_argument("--json", metavar="FILE", default="rope-ref-bench.json", help="default: %(default)s")
    one.add_argument("--png", metavar="FILE", default="rope-ref-bench.png",
                     help="bandwidth by size, where matplotlib is installed (default: %(default)s)")  # fmt: skip
    one.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Measure; 0 when it is done, 1 where a rotation is not right. Raises ValueError for wrong usage."""
    names = check(given)
    effort = Effort(7, 0.3) if given.quick else Effort()
    if given.rounds is not None:
        effort = Effort(given.rounds, float("inf"))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDTH)
    described = machine.describe()
    words = (f"{described['processor']}, {described['vector instructions']}, {described['cores']} cores, "
             f"{described['threads']} threads, torch {described['versions']['torch']}")  # fmt: skip
    console.print(f"{words}\nmedian ±distance of the quartiles of so many runs, calls of a row taken in turn\n")
    try:
        measured, left_out = measure({name: SECTIONS[name](given.quick) for name in names}, effort, console)
    except Wrong as wrong:
        print(f"rope-ref: {wrong}", file=sys.stderr)
        return 1
    for what, reason in left_out.items():
        console.print(f"left out: {what}: {reason}", markup=False, soft_wrap=True)
    Path(given.json).write_text(report.as_json(described, measured, left_out), encoding="utf-8")
    console.print(f"written: {given.json}", markup=False, soft_wrap=True)
    if "size" in measured and measured["size"][1]:
        try:
            report.draw(measured["size"][1], words, Path(given.png))
            console.print(f"drawn: {given.png}", markup=False, soft_wrap=True)
        except ImportError:
            console.print("no chart: matplotlib is not installed")
    return 0


def check(given: argparse.Namespace) -> Sequence[str]:
    """The sections to be measured. Raises ValueError for what would only be seen when all is done."""
    if given.rounds is not None and given.rounds < 1:
        raise ValueError(f"rounds is {given.rounds}; expected at least 1")
    for name, path in (("json", given.json), ("png", given.png)):
        if not Path(path).absolute().parent.is_dir():
            raise ValueError(f"{name} is {path!r}; expected a file in a folder that is there")
    for name in given.only:
        if name not in SECTIONS:
            raise ValueError(f"only is {name!r}; expected one of {', '.join(SECTIONS)}")
    return [name for name in SECTIONS if name in given.only or not given.only]


def measure(sections: dict[str, Section], effort: Effort, console: Console) -> tuple[Measured, dict[str, str]]:
    """Every job of every section; what was left out, and why."""
    measured: Measured = {}
    left_out: dict[str, str] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    err = Console(stderr=True)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("", total=sum(len(section.jobs) for section in sections.values()))
        for name, section in sections.items():
            rows: list[Row] = []
            for job in section.jobs:
                bar.update(task, description=escape(job.name))
                try:
                    rows += job.run(effort)
                except LeftOut as absent:
                    left_out[absent.what or job.name] = absent.reason
                bar.advance(task)
            measured[name] = section, rows
            if rows:
                report.show(section, rows, console)
    return measured, left_out
