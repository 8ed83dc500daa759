"""The kit in pytest: every property of an implementation as a test of its own.

    from rope_ref.conformance import conforms

    test_rope = conforms(apply, rope)

gives test_rope[apply: agreement], test_rope[apply: long positions] and so on. What pytest loads at its start is
`pytest_rope_ref`, which lies outside this package so as not to import NumPy into runs that do not ask for it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.subject import Ropes, Subject
from rope_ref.conformance.check import Check, check, completed
from rope_ref.conformance.reporting.deviations import read_deviations
from rope_ref.conformance.reporting.report import Outcome, Report

KNOWN = "known: "  # before an entry of the file of deviations, in the name of its test


def conforms(
    implementation: Any, rope: Ropes, *, budget: str = "quick", seed: int = 0,
    deviations: str | os.PathLike[str] | None = None, **options: Any,
) -> Callable[[str], None]:  # fmt: skip
    """A test function, to be given a name that pytest collects: a test for each property.

    implementation, rope, budget, seed, options   as in `check`, which runs once, in the first of the tests
    deviations   a file of bugs that are known: a CLASS or CLASS:property a line, # before a comment; relative to the
                 folder of the test. A property that fails by them alone is an expected failure. Each entry is a
                 test too, an expected failure, which fails where the bug is found no more.
    """
    one = implementation if isinstance(implementation, Implementation) else Implementation(apply=implementation)
    conformance = Conformance(replace(one, **options), rope, budget, seed, deviations)

    def test(rope_ref_property: str) -> None:
        conformance.hold(rope_ref_property)

    vars(test)["rope_ref_conformance"] = conformance  # where the plugin looks for it
    return test


@dataclass
class Conformance:
    """A check that is still to run, and the report once it has."""

    implementation: Implementation
    rope: Ropes
    budget: str
    seed: int
    deviations: str | os.PathLike[str] | None

    def names(self, folder: Path) -> list[str]:
        """What will be tried, before it is tried. Raises ValueError or OSError for wrong usage."""
        if self.deviations is not None:
            known = self.implementation.deviations + read_deviations(folder / self.deviations)
            self.implementation, self.deviations = replace(self.implementation, deviations=known), None
        plan = Check(Subject(completed(self.implementation), self.rope)).plan()
        names = [str(Outcome(prop.name, adapter, prop.reason, "")) for adapter, prop in plan]
        return names + [f"{KNOWN}{entry}" for entry in self.implementation.deviations]

    @cached_property
    def report(self) -> Report:
        return check(self.implementation, self.rope, budget=self.budget, seed=self.seed)

    def hold(self, name: str) -> None:
        """End the running test as the property of this name did."""
        if name.startswith(KNOWN):
            entry = name.removeprefix(KNOWN)
            if entry in self.report.stale([entry]):
                pytest.fail(f"{entry} is listed as known and is not found; take it off the list", pytrace=False)
            pytest.xfail(f"{entry} is known")
        outcome = next(o for o in self.report.outcomes if str(o) == name)
        verdict = self.report.verdict(outcome)
        if verdict == "passed":
            return
        message, text = self.report.failure(outcome)
        if verdict == "skipped":
            pytest.skip(message)
        if verdict == "known":
            pytest.xfail(message)
        pytest.fail(text or message, pytrace=False)
