"""Small faults in our own code, and how many of them the kit finds: python -m tests.mutants [--minutes N] [FILE ...]

Every operator and number of what rotates in numba_kernels and torch_bridge is changed, one at a time, by Cosmic Ray.
Each place is changed once, in a way that is drawn. Then `check`, in a process of its own, judges what
examples.our_kernels and examples.our_bridge plug in. A mutant is killed by a finding or a remark, by a process
that dies, and by one that takes longer than LIMIT. Left out is what is no arithmetic: annotations, and what a
raise statement says. They are tried in an order that is drawn, so that as many as there is time for are a
fair sample of all.
"""

import argparse
import ast
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numba
import torch  # noqa: F401 - once here rather than in every process
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.provider import OperatorProvider

from rope_ref.conformance import Implementation, check
from rope_ref.conformance.diagnosis.findings import Findings
from rope_ref.conformance.properties import falsify
from rope_ref.conformance.properties.falsify import Falsified
from rope_ref.conformance.properties.property import Property
from rope_ref.rope import Rope

ROOT = Path(__file__).parent.parent
ROTATING = {  # what the adapters run; attention, models and caches are no rotation, and have tests of their own
    "numba_kernels": ("arithmetic", "cpu", "intrinsics", "layout", "machine", "plan", "threads"),
    "torch_bridge": ("drop_in", "frequencies", "functions", "kernel", "operators", "plain", "rotary", "rotation",
        "tables"),
}
FORKING = multiprocessing.get_context("fork")  # so that torch and Numba are imported once
PROCESSES = 2
STAGES = (2, 16)  # examples of a property: few kill most
CALL, LIMIT = 40.0, 500.0  # seconds that a call, which may compile, and a whole check may take on a busy machine
MEMORY = 12 << 30

ADAPTERS = {"our_kernels": "numba_kernels", "our_bridge": "torch_bridge"}
LIKELIEST = {
    "functions.py": ("functions", "RotaryEmbedding by"), "drop_in.py": ("RotaryEmbedding", "few", "axial"),
    "tables.py": ("Rotary,",), "rotation.py": ("at once", "normalised"),
}  # fmt: skip
KINDS = (
    "ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator", "NumberReplacer", "AddNot",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
)  # fmt: skip
NODES = (
    "operator", "keyword", "number", "string", "comparison", "factor", "not_test", "if_stmt", "while_stmt", "test"
)  # fmt: skip


class Mutant(NamedTuple):
    """The file, its text with one thing changed, the line where, and that line before and after."""

    file: str
    text: str
    line: int
    before: str
    after: str

    @property
    def name(self) -> str:
        return f"{self.file}:{self.line}: {self.before} -> {self.after}"


def operators() -> dict[str, Any]:
    """Those of KINDS, but for `is` in place of `==`, which asks the interpreter which numbers it keeps."""
    provider = OperatorProvider()
    known = {name: provider[name]() for name in provider if name.partition("_")[0] in KINDS}
    identity = [name for name in known if name.endswith(("_Is", "_IsNot")) and "_Is" not in name[:-6]]
    return {name: one for name, one in known.items() if name not in identity}


class Place(NamedTuple):
    """Where a file can be changed, and by which operators, as (operator, which of the places it could change)."""

    file: str
    line: int
    changes: list[tuple[Any, int]]


def places(file: str) -> list[Place]:
    text = (ROOT / file).read_text()
    left_out, every = list(no_arithmetic(text)), ast_nodes(get_ast(text))
    nodes = [node for node in every if node.type in NODES]
    found = defaultdict(list)
    for name, operator in operators().items():
        occurrence = 0
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                marker = node.type == "operator" and node.parent.type == "parameters"  # the bare * before keywords
                if not marker and not any(a <= start < b for a, b in left_out):
                    kind = "replaced" if name.startswith("Replace") else name.partition("_")[0]
                    found[start, end, kind].append((operator, occurrence))
                occurrence += 1
    return [Place(file, place[0][0], found[place]) for place in sorted(found)]


def mutant(place: Place, generator: random.Random) -> Mutant | None:
    """One of the changes that Python can read and that make another program; None where there is none."""
    text = (ROOT / place.file).read_text()
    for operator, occurrence in generator.sample(place.changes, len(place.changes)):
        changed = mutate_code(text, operator, occurrence)
        try:
            if ast.dump(ast.parse(changed)) != ast.dump(ast.parse(text)):
                return Mutant(place.file, changed, place.line, *difference(text, changed))
        except SyntaxError:
            continue
    return None


def no_arithmetic(text: str) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations and raise statements begin and end."""
    for node in ast.walk(ast.parse(text)):
        for name in ("annotation", "returns"):
            one = node if isinstance(node, ast.Raise) else getattr(node, name, None)
            if isinstance(one, ast.AST):
                yield (one.lineno, one.col_offset), (one.end_lineno, one.end_col_offset)  # type: ignore[attr-defined]


def difference(text: str, changed: str) -> tuple[str, str]:
    """The first line that differs, before and after."""
    pairs = zip(text.splitlines(), changed.splitlines(), strict=False)
    before, after = next((a, b) for a, b in pairs if a != b)
    return before.strip(), after.strip()


def judge(folder: Path, cache: Path, file: str, out: Connection) -> None:
    """In a process of its own: what the kit finds in the packages in a folder, "" where nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(cache)
    sys.dont_write_bytecode = True  # one mutant may be as long and as old as the next
    sys.path.insert(0, str(folder))
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        found = next(findings(file), "")
    except BaseException as error:  # noqa: BLE001 - whatever a mutant raises where it is imported
        found = f"an adapter cannot be made: {type(error).__name__}"
    out.send(found)
    out.close()
    os._exit(0)  # threads that hang are left behind


def findings(file: str) -> Iterator[str]:
    """What the kit finds through the adapters that a file takes part in; first by a few examples, which kill most."""
    falsify.TRIES = 0  # neither the smallest case nor an explanation is of interest
    Findings.explain = stop  # type: ignore[method-assign]
    importlib.import_module("numba_kernels.plan").LAST = 1 << 25  # so that `streamed` streams, whatever the cache
    examples = importlib.import_module("rope_ref.conformance.check").EXAMPLES
    for examples["quick"] in STAGES:  # the budget itself is set
        for name, implementation, rope in adapters(file):
            try:
                report = check(implementation, rope, budget="quick", time_limit=CALL)
            except Found as found:
                yield f"{name}: {found}"
            else:
                yield from (f"{name}: {one.adapter}, {one}" for one in report.remarks)


def adapters(file: str) -> Iterator[tuple[str, Implementation, Rope]]:
    """Those of the kernels for the kernels, those of the bridge for the bridge; the likeliest to fail first."""
    for module in [name for name, package in ADAPTERS.items() if file.startswith(package)]:
        held = importlib.import_module(f"examples.{module}")
        checks = held.CHECKS | held.WAYS
        if module == "our_kernels":  # what takes the least to compile
            implementation, rope = next(iter(checks.values()))
            yield "float32", replace(implementation, dtypes=("float32",)), rope
        first = LIKELIEST.get(Path(file).name, ("all ways",))
        for name in sorted(checks, key=lambda name: not name.startswith(first)):
            yield name, *checks[name]


class Found(Exception):
    """A property does not hold."""


def stop(self: Findings, adapter: str, prop: Property, falsified: Falsified) -> Any:
    """In place of an explanation."""
    deviation = falsified.trial.deviation
    raise Found(f"{adapter}, {prop.name}: {falsified.trial.text or (deviation.text if deviation else '')}")


class Slot:
    """A folder with a copy of the packages, and the process that runs on it."""

    def __init__(self, home: Path) -> None:
        self.folder, self.cache, self.own = home / "code", home / "cache", home / "own"
        for package in ROTATING:
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, mutant: Mutant) -> None:
        self.mutant, self.began = mutant, time.monotonic()
        compiled = bool(mutant.text) and mutant.file.startswith("numba_kernels")
        shutil.rmtree(self.own, ignore_errors=True)
        if mutant.text:
            (self.folder / mutant.file).write_text(mutant.text)
        self.answer, child = FORKING.Pipe(duplex=False)
        cache = self.own if compiled else self.cache
        self.process = FORKING.Process(target=judge, args=(self.folder, cache, mutant.file, child))
        self.process.start()
        child.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    def verdict(self) -> str | None:
        """What was found, None where it is still at work."""
        if self.answer.poll():
            try:
                found = str(self.answer.recv())
            except EOFError:
                self.process.join()
                found = f"the process died: {self.process.exitcode}"
        elif self.seconds > LIMIT:
            found = f"not done after {LIMIT:.0f} s"
        else:
            return None
        self.process.kill()
        self.process.join()
        if self.mutant.text:
            shutil.copy2(ROOT / self.mutant.file, self.folder / self.mutant.file)
        return found


def run(drawn: Iterator[Mutant], seconds: float, log: Path) -> dict[Mutant, str]:
    """Mutant -> what killed it, "" where nothing did, of those that are begun in time."""
    results, end = {}, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as home, log.open("w") as lines:
        free, busy = [Slot(Path(home, str(number))) for number in range(PROCESSES)], []
        while True:
            while free and time.monotonic() < end and (one := next(drawn, None)):
                free[-1].start(one)
                busy.append(free.pop())
            if not busy:
                return results
            wait([slot.answer for slot in busy], timeout=1)
            for slot in list(busy):
                verdict = slot.verdict()
                if verdict is not None:
                    results[slot.mutant] = verdict
                    lines.write(json.dumps([slot.mutant.name, verdict, round(slot.seconds, 1)]) + "\n")
                    lines.flush()
                    busy.remove(slot)
                    free.append(slot)


def table(results: dict[Mutant, str]) -> Iterator[str]:
    """In Markdown: what was killed in each file, then what was not."""
    made, lived = Counter(m.file for m in results), sorted(m for m in results if not results[m])
    left = Counter(m.file for m in lived)
    yield "| file | mutants | killed | survivors |\n|---|--:|--:|--:|"
    for file in sorted(made):
        yield f"| {file} | {made[file]} | {made[file] - left[file]} | {left[file]} |"
    killed = len(results) - len(lived)
    yield f"| all | {len(results)} | {killed} ({100 * killed / max(1, len(results)):.1f} %) | {len(lived)} |"
    yield "\nSurvivors:\n"
    for one in lived:
        yield f"- {one.file}:{one.line} `{one.before}` became `{one.after}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="files to mutate; those that rotate unless given")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin none after that; all of them unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the changes and of the order in which they are tried")
    parser.add_argument("--log", type=Path, default=Path("mutants.jsonl"), help="gets a line for each as it is judged")
    asked = parser.parse_args()
    files = asked.files or [f"{package}/{name}.py" for package, names in ROTATING.items() for name in names]
    packages = sorted({file.partition("/")[0] for file in files})
    for one, verdict in run((Mutant(package, "", 0, "", "") for package in packages), 1, asked.log).items():
        if verdict:
            sys.exit(f"nothing is changed in {one.file}, and yet: {verdict}")
    every, generator = [place for file in files for place in places(file)], random.Random(asked.seed)
    generator.shuffle(every)
    drawn = filter(None, (mutant(place, generator) for place in every))
    results = run(drawn, 60 * asked.minutes, asked.log)
    print(f"{len(results)} mutants at {len(every)} places, drawn with seed {asked.seed}:\n")
    print("\n".join(table(results)))


if __name__ == "__main__":
    main()
