"""Small faults in our own code, and how many of them the kit finds: python -m tests.mutants [--minutes N] [FILE ...]

Every operator and number of numba_kernels and torch_bridge is changed, one at a time, by Cosmic Ray; so are
the names of instructions that `pair` and `strip` emit, which are the arithmetic of the kernels. Each
place is changed once, in a way that is drawn. Then `check`, in a process of its own, judges what
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
from collections.abc import Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numba
import torch  # noqa: F401 - once here rather than in every process
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.operators.provider import OperatorProvider

from rope_ref.conformance import check, falsify
from rope_ref.conformance.falsify import Falsified
from rope_ref.conformance.findings import Findings
from rope_ref.conformance.properties import Property

ROOT = Path(__file__).parent.parent
PACKAGES = ("numba_kernels", "torch_bridge")
COMPILED = ("cpu.py", "pair.py", "strip.py")  # what Numba's cache of compiled loops depends on
FORKING = multiprocessing.get_context("fork")  # so that torch and Numba are imported once
PROCESSES = 2
CALL, LIMIT = 40.0, 500.0  # seconds that a call, which may compile, and a whole check may take on a busy machine
MEMORY = 12 << 30

KINDS = (
    "ReplaceBinaryOperator", "ReplaceComparisonOperator", "ReplaceUnaryOperator", "NumberReplacer", "AddNot",
    "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
)  # fmt: skip
INSTRUCTIONS = {
    "fadd": "fsub", "fsub": "fadd", "fmul": "fadd", "add": "sub", "sub": "add", "mul": "add", "udiv": "mul",
    "and_": "or_", "or_": "and_", "xor": "or_", "shl": "lshr", "lshr": "ashr", "zext": "sext",
}  # fmt: skip
PREDICATES = {"==": ("!=",), "!=": ("==",), "<": ("<=", ">="), ">": (">=", "<="), ">=": (">", "<"), "uno": ("ord",)}


class Instruction(Operator):  # type: ignore[misc]
    """build.fadd becomes build.fsub, and so on."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "name" and node.value in INSTRUCTIONS and node.parent.type == "trailer":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = INSTRUCTIONS[node.value]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class Predicate(Instruction):
    """The comparison that an instruction makes."""

    def mutation_positions(self, node: Any) -> Iterator[Any]:
        if node.type == "string" and node.value[1:-1] in PREDICATES:
            for _ in PREDICATES[node.value[1:-1]]:
                yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = f'"{PREDICATES[node.value[1:-1]][index]}"'
        return node


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
    return {name: one for name, one in known.items() if name not in identity} | {
        "Instruction": Instruction(), "Predicate": Predicate()
    }  # fmt: skip


def mutants(file: str, seed: int) -> list[Mutant]:
    """One for every place in a file, of those that Python can read and that are another program."""
    text = (ROOT / file).read_text()
    original, left_out = ast.dump(ast.parse(text)), list(no_arithmetic(text))
    nodes = list(ast_nodes(get_ast(text)))
    places = defaultdict(list)
    for name, operator in operators().items():
        occurrence = 0
        for node in nodes:
            for start, end in operator.mutation_positions(node):
                if not any(a <= start < b for a, b in left_out):
                    kind = "replaced" if name.startswith("Replace") else name.partition("_")[0]
                    places[start, end, kind].append((operator, occurrence))
                occurrence += 1
    chosen, generator = [], random.Random(seed)
    for place in sorted(places):
        for operator, occurrence in generator.sample(places[place], len(places[place])):
            changed = mutate_code(text, operator, occurrence)
            try:
                other = ast.dump(ast.parse(changed)) != original
            except SyntaxError:
                continue
            if other:
                chosen.append(Mutant(file, changed, place[0][0], *difference(text, changed)))
                break
    return chosen


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


def judge(folder: Path, cache: Path, modules: Sequence[str], out: Connection) -> None:
    """In a process of its own: what the kit finds in the packages in a folder, "" where nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    os.environ["NUMBA_CACHE_DIR"] = numba.config.CACHE_DIR = str(cache)
    sys.dont_write_bytecode = True  # one mutant may be as long and as old as the next
    sys.path.insert(0, str(folder))
    with open(os.devnull, "w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        found = next(findings(modules), "")
    except BaseException as error:  # noqa: BLE001 - whatever a mutant raises where it is imported
        found = f"import: {type(error).__name__}"
    out.send(found)
    out.close()
    os._exit(0)  # threads that hang are left behind


def findings(modules: Sequence[str]) -> Iterator[str]:
    falsify.TRIES = 0  # neither the smallest case nor an explanation is of interest
    Findings.explain = stop  # type: ignore[method-assign]
    for module in modules:
        checks = importlib.import_module(f"examples.{module}").CHECKS
        if module == "our_kernels":  # first what takes the least to compile
            implementation, rope = next(iter(checks.values()))
            checks = {"float32": (replace(implementation, dtypes=("float32",)), rope)} | checks
        for name, (implementation, rope) in checks.items():
            try:
                report = check(implementation, rope, budget="quick", time_limit=CALL)
            except Found as found:
                yield f"{module}, {name}: {found}"
            else:
                yield from (f"{module}, {name}: {one.way}, {one}" for one in report.remarks)


class Found(Exception):
    """A property does not hold."""


def stop(self: Findings, way: str, prop: Property, falsified: Falsified) -> Any:
    """In place of an explanation."""
    raise Found(f"{way}, {prop.name}")


class Slot:
    """A folder with a copy of the packages, and the process that runs on it."""

    def __init__(self, home: Path) -> None:
        self.folder, self.cache, self.own = home / "code", home / "cache", home / "own"
        for package in PACKAGES:
            shutil.copytree(ROOT / package, self.folder / package, ignore=shutil.ignore_patterns("__pycache__"))

    def start(self, mutant: Mutant | None) -> None:
        self.mutant, self.began = mutant, time.monotonic()
        compiled = mutant is not None and mutant.file.endswith(COMPILED)
        shutil.rmtree(self.own, ignore_errors=True)
        if mutant:
            (self.folder / mutant.file).write_text(mutant.text)
        bridge = mutant is not None and mutant.file.startswith("torch_bridge")
        modules = ["our_bridge"] if bridge else ["our_kernels"] if mutant else ["our_kernels", "our_bridge"]
        self.answer, child = FORKING.Pipe(duplex=False)
        cache = self.own if compiled else self.cache
        self.process = FORKING.Process(target=judge, args=(self.folder, cache, modules, child))
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
        if self.mutant:
            shutil.copy2(ROOT / self.mutant.file, self.folder / self.mutant.file)
        return found


def run(chosen: Sequence[Mutant], seconds: float, log: Path) -> dict[str, str]:
    """Mutant -> what killed it, "" where nothing did, of those that are begun in time.

    Raises RuntimeError where the kit finds something though nothing is mutated.
    """
    results, end = {}, time.monotonic() + seconds
    waiting: list[Mutant | None] = [*reversed(chosen), None]  # last, and so first, the code as it is
    with tempfile.TemporaryDirectory() as home, log.open("w") as lines:
        free, busy = [Slot(Path(home, str(number))) for number in range(PROCESSES)], []
        while busy or (waiting and time.monotonic() < end):
            while free and waiting and time.monotonic() < end:
                free[-1].start(waiting.pop())
                busy.append(free.pop())
            wait([slot.answer for slot in busy], timeout=1)
            for slot in list(busy):
                verdict = slot.verdict()
                if verdict is None:
                    continue
                name = slot.mutant.name if slot.mutant else "as it is"
                if not slot.mutant and verdict:
                    raise RuntimeError(f"nothing is mutated, and yet: {verdict}")
                if slot.mutant:
                    results[name] = verdict
                lines.write(json.dumps([name, verdict, round(slot.seconds, 1)]) + "\n")
                lines.flush()
                busy.remove(slot)
                free.append(slot)
    return results


def table(chosen: Sequence[Mutant], results: dict[str, str]) -> Iterator[str]:
    """In Markdown: what was killed in each file, then what was not."""
    made, lived = Counter(m.file for m in chosen), [m for m in chosen if not results[m.name]]
    left = Counter(m.file for m in lived)
    yield "| file | mutants | killed | survivors |\n|---|--:|--:|--:|"
    for file in made:
        yield f"| {file} | {made[file]} | {made[file] - left[file]} | {left[file]} |"
    killed = len(chosen) - len(lived)
    yield f"| all | {len(chosen)} | {killed} ({100 * killed / len(chosen):.1f} %) | {len(lived)} |"
    yield "\nSurvivors:\n"
    for mutant in lived:
        yield f"- {mutant.file}:{mutant.line} `{mutant.before}` became `{mutant.after}`"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", metavar="FILE", help="files to mutate; all of both packages unless given")
    parser.add_argument("--minutes", type=float, default=1e6, help="begin none after that; all of them unless given")
    parser.add_argument("--seed", type=int, default=0, help="of the changes and of the order in which they are tried")
    parser.add_argument("--log", type=Path, default=Path("mutants.jsonl"), help="gets a line for each as it is judged")
    asked = parser.parse_args()
    files = asked.files or [str(p.relative_to(ROOT)) for name in PACKAGES for p in sorted((ROOT / name).glob("*.py"))]
    every = [mutant for file in files for mutant in mutants(file, asked.seed)]
    results = run(random.Random(asked.seed).sample(every, len(every)), 60 * asked.minutes, asked.log)
    print(f"{len(results)} of {len(every)} mutants, drawn with seed {asked.seed}:\n")
    print("\n".join(table([mutant for mutant in every if mutant.name in results], results)))


if __name__ == "__main__":
    main()
