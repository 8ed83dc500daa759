"""A report for people: the verdict, what is wrong and how to see it, then how every property fared."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.subject import Ropes
from rope_ref.conformance.diagnosis.reading import read
from rope_ref.conformance.reporting.report import Finding, Outcome, Report
from rope_ref.rope import Rope
from rope_ref.rotation import rotate

STYLES = {"passed": "green", "failed": "bold red", "known": "yellow", "skipped": "dim"}
SHORT = {"passed": "pass", "failed": "FAIL", "known": "known", "skipped": "skip"}
CELL = 38  # columns that a property takes: its verdict, its name, its time


def render(report: Report, rope: Ropes, console: Console) -> None:
    """Print a report; `rope` is what was checked against."""
    console.print(Text(report.summary(), style="bold green" if report.passed else "bold red"))
    for before, finding in zip((None, *report.findings), report.findings, strict=False):
        console.print()
        show_finding(finding, console)
        if before and before.counterexample == finding.counterexample != "":
            console.print("    shown by the same case", style="dim")
        else:
            show_code(finding.counterexample, console)
    if report.computes:
        console.print()
        console.print(compared(report.computes, specified(rope)))
    if report.remarks:
        console.print()
        for remark in report.remarks:
            named = f"{remark.bug}, " if remark.bug else ""
            console.print(Text(f"remark: {named}{remark.adapter}, {remark.property}: {remark.explanation}"))
    show_properties(report, console)


def show_finding(finding: Finding, console: Console) -> None:
    """What is wrong, why that is wrong, and where it was seen."""
    known = finding.severity == "known"
    named = (f"{'known: ' * known}{finding.bug}", STYLES["known" if known else "failed"])
    console.print(Text.assemble(named, f"  {finding.explanation}"))
    reason, deviation = (finding.details.get(key, "") for key in ("reason", "deviation"))
    facts = Table.grid(padding=(0, 2, 0, 0))
    facts.add_row("property", escape(finding.property + (f": {reason}" if reason else "")))
    if "unless" in finding.details:
        facts.add_row("", escape(finding.details["unless"]))
    where = f"{finding.adapter}: {deviation}" if deviation and deviation not in finding.explanation else finding.adapter
    facts.add_row("seen in", escape(where))
    console.print(Padding.indent(facts, 4))


def show_code(code: str, console: Console) -> None:
    """Code in colour, its lines as long as they are, so that they can be copied."""
    if code:
        shown = Syntax("", "python", theme="ansi_dark", background_color="default").highlight(code)
        shown.rstrip()
        for line in shown.split("\n"):
            console.print(Text("    ") + line, soft_wrap=True)


def specified(rope: Ropes) -> tuple[str, ...]:
    """What the specification computes, in the sentences in which an implementation is described."""
    one = rope if isinstance(rope, Rope) else rope(1) if callable(rope) else rope[0]

    def turn(x: Array, positions: Array) -> Array:
        return np.asarray(rotate(np.broadcast_to(x, (one.heads or 1, *x.shape)), positions, one)[0])

    reading = read(turn, one)
    return reading.text if reading else ()


def compared(computes: Sequence[str], specification: Sequence[str]) -> Table:
    """Two columns of the same sentences, those that differ marked."""
    table = Table(box=None, padding=(0, 2, 0, 0), title_justify="left", show_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column("your implementation computes", overflow="fold")
    table.add_column("the specification says", overflow="fold")
    says = dict(split(line) for line in specification)
    for topic, found in map(split, computes):
        style = "" if says.get(topic) == found else STYLES["failed"]
        table.add_row(topic, Text(found, style=style), escape(says.get(topic, "")))
    return table


def split(line: str) -> tuple[str, str]:
    topic, _, rest = line.partition(": ")
    return topic, rest


def show_properties(report: Report, console: Console) -> None:
    """A table of what was tried through each adapter, as wide as there is room for; then what was skipped, and why."""
    tried = [o for o in report.outcomes if report.verdict(o) != "skipped"]
    for adapter, outcomes in groupby(tried, key=lambda o: o.adapter if o.adapter != o.property else "as a whole"):
        table = Table.grid(padding=(0, 2, 0, 0))
        each, across = list(outcomes), max(1, console.width // CELL)
        for start in range(0, len(each), across):
            table.add_row(*(text for o in each[start : start + across] for text in cells(report, o)))
        console.print(Text(f"\n{adapter}", "bold"))
        console.print(Padding.indent(table, 2))
    if report.findings:
        console.print(Text("\nWhat passes after a bug was named is right but for that bug.", "dim"))
    skipped: dict[str, list[str]] = {}
    for outcome in report.outcomes:
        if report.verdict(outcome) == "skipped":
            missing = re.fullmatch("no `(.*)`", outcome.note)
            why, name = ("not offered", missing[1]) if missing else (outcome.note or "refused", str(outcome))
            skipped.setdefault(why, []).append(name)
    console.print()
    for why, names in skipped.items():
        console.print(Text(f"skipped, {why}: {', '.join(dict.fromkeys(names))}", STYLES["skipped"]))


def cells(report: Report, outcome: Outcome) -> tuple[Text, Text, Text]:
    verdict = report.verdict(outcome)
    return Text(SHORT[verdict], STYLES[verdict]), Text(outcome.property), Text(f"{outcome.seconds:.1f}s", "dim")


@contextmanager
def progress(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """A bar on a terminal while a check runs, and nothing elsewhere: what is given back is the check's `progress`."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("capabilities", total=None)

        def step(name: str, done: int, total: int) -> None:
            bar.update(task, description=escape(name), completed=done, total=total)

        yield step
