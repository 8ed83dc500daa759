"""The tables of docs/conformance.md, docs/bugs.md and docs/exactness.md say what the code says."""

import re
from dataclasses import MISSING, fields
from pathlib import Path

import numpy as np
import pytest

from rope_ref.conformance import Implementation
from rope_ref.conformance.adapters.declarations import DECLARATIONS
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.check import Check, unasked
from rope_ref.conformance.properties import contract
from rope_ref.conformance.properties.laws import LAWS
from rope_ref.conformance.properties.model import Accuracy
from rope_ref.conformance.properties.pointwise import POINTWISE
from rope_ref.exactness import SMALLEST, UNIT, budget
from rope_ref.rope import Rope
from rope_ref.rotation import angles
from tests.conformance.wrong.case import load

DOCS = Path(__file__).parents[2] / "docs"
HEAD_DIM, THETA = 128, 500000.0


def table(page, first):
    """The cells of the table whose first head is `first`, row by row."""
    text = (DOCS / page).read_text()
    found = re.search(rf"^\| {re.escape(first)} \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", text, re.MULTILINE)
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in found[1].splitlines()]


def names(rows):
    return [row[0].strip("`") for row in rows]


def test_every_way_in_and_every_declaration_is_listed_once_and_in_order():
    listed = names(table("conformance.md", "adapter")), names(table("conformance.md", "declaration"))
    assert sum(listed, []) == [f.name for f in fields(Implementation)]
    assert set(listed[1]) == set(DECLARATIONS)


def test_defaults_are_those_of_an_implementation():
    listed = {row[0].strip("`"): row[1].strip("`") for row in table("conformance.md", "declaration")}
    for f in fields(Implementation):
        if f.name in listed and f.default not in (None, MISSING):
            assert listed[f.name] == (f'"{f.default}"' if isinstance(f.default, str) else str(f.default))


def test_signatures_are_those_of_the_contract():
    for name, signature, _ in table("conformance.md", "adapter"):
        if name not in ("`paths`", "`expected`"):
            call = re.match(r"`(\w+\([^)]*\)) -> ", signature)[1]
            # an adapter of torch stands within a sentence of another
            assert call.startswith(name.strip("`")) and call in Implementation.__doc__


def test_every_property_is_listed_with_its_reason_and_its_class():
    plan = Check(Subject(Implementation(apply=print), Rope(8))).plan()
    assert table("bugs.md", "property") == [
        [p.name, p.reason, "" if p.bug == "UNKNOWN" else f"`{p.bug}`"] for _, p in plan
    ]  # fmt: skip


def asked_rows():
    """Every property of a rotation, and through which adapters it is tried."""
    rows = []
    for prop in (*contract.CONTRACT, *POINTWISE, *LAWS):
        one, words = Implementation(apply=print), ["apply", "decode", "session"]
        rows.append([prop.name, *("yes" if not unasked(adapter, prop, one) else "" for adapter in words)])
    return rows


def test_what_each_way_in_is_asked():
    assert table("conformance.md", "property") == asked_rows()


def test_every_class_is_listed_with_every_case():
    listed = {name.strip("`"): set(re.findall(r"https://[^)]+", links)) for name, _, links in table("bugs.md", "class")}
    assert listed.pop("UNKNOWN") == set()
    cases = {}
    for case in load():
        repo, mark, number = re.fullmatch(r"([^#@]+)([#@])(.+)", case.link).groups()
        address = f"https://github.com/{repo}/{'issues' if mark == '#' else 'commit'}/{number}"
        cases.setdefault(case.bug, set()).add(address)
    assert listed == cases


def test_every_class_that_a_property_names_is_listed():
    plan = list(Check(Subject(Implementation(apply=print), Rope(8))).plan())
    named = {p.bug for _, p in plan} | {name for _, p in plan for name in p.names or ()}
    assert named <= set(names(table("bugs.md", "class")))


def test_roundoffs():
    units, smallest = table("exactness.md", "dtype")
    assert units[1:] == [f"2^{int(np.log2(UNIT[d]))}" for d in ("float64", "float32", "float16", "bfloat16")]
    assert smallest[1:] == [f"2^{int(np.log2(SMALLEST[d]))}" for d in ("float64", "float32", "float16", "bfloat16")]


def allowed_angles(rope, position, angle):
    return Accuracy(angle).angle_error(rope, np.array([[float(position)]]))[0, 0]


@pytest.mark.parametrize("position", [1_000, 100_000, 1_000_000])
def test_the_numbers(position):
    rope = Rope(HEAD_DIM, theta=THETA)
    near = np.arange(position - 64, position)
    measured = angles(Rope(HEAD_DIM, theta=THETA, angle_dtype="float32"), near) - angles(rope, near)
    worst = [allowed_angles(rope, position, name).max() for name in ("exact", "float32", "recurrence")]
    numbers = []
    for store, wide in (("float32", "float32"), ("bfloat16", "float32"), ("bfloat16", "bfloat16")):
        bound = budget(
            np.full((1, HEAD_DIM), 2**-0.5), [position], rope, store=store, arithmetic=wide, table=wide,
            angle=allowed_angles(rope, position, "float32"),
        )  # fmt: skip
        numbers += [bound[0, 0], bound[0, 32]]
    found = [row[1:] for row in re.findall(rf"^\| ({position:,}) \|(.+)\|$", (DOCS / "exactness.md").read_text(), re.M)]
    rows = [[cell.strip() for cell in cells.split("|")] for (cells,) in found]
    assert rows == [[f"{v:.2g}" for v in (*worst, np.abs(measured).max())], [f"{v:.2g}" for v in numbers]]
