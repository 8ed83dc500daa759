"""The check: capabilities, properties, diagnosis, report."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from rope_ref.conformance.adapters.calls import FROM_ZERO, LONGEST
from rope_ref.conformance.adapters.capabilities import Facts, find_accuracy, find_capabilities
from rope_ref.conformance.adapters.declarations import DECLARATIONS, declaration
from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.subject import Ropes, Subject
from rope_ref.conformance.diagnosis.candidates import resolved
from rope_ref.conformance.diagnosis.findings import Findings
from rope_ref.conformance.properties import cached, contract, laws, parts, queries, scores, shifted, state, training
from rope_ref.conformance.properties.falsify import Falsified, falsify
from rope_ref.conformance.properties.model import Accuracy
from rope_ref.conformance.properties.pointwise import POINTWISE
from rope_ref.conformance.properties.property import Property
from rope_ref.conformance.reporting.report import Finding, Outcome, Report

Progress = Any
OTHERS = (  # each by the adapter that it needs
    *state.STATE, *queries.QUERIES, *scores.SCORES, *cached.CACHED, *shifted.SHIFTED, *parts.PARTS, *training.TRAINING,
)  # fmt: skip
EXAMPLES = {"quick": 16, "normal": 80, "deep": 800}


def check(
    apply: Any, rope: Ropes, *, budget: str = "normal", seed: int = 0, progress: Progress = None, **options: Any
) -> Report:
    """Check an implementation against the specification.

    apply     `apply(x, positions) -> y`, or an `Implementation`
    rope      a Rope; a function length -> Rope where it depends on the length of the sequence; or a list with the
              Rope of each layer, then apply(x, positions, layer)
    budget    "quick", under ten seconds; "normal", a minute; "deep"
    seed      which cases are drawn
    progress  called with (property, done, total)
    options   further adapters, and declarations: see `Implementation`

    Raises ValueError or TypeError for wrong usage; never for what the implementation does.
    """
    if budget not in EXAMPLES:
        raise ValueError(f"budget is {budget!r}; expected one of {', '.join(map(repr, EXAMPLES))}")
    one = apply if isinstance(apply, Implementation) else Implementation(apply=apply)
    return Check(Subject(completed(replace(one, **options)), rope), budget, seed, progress).run()


def completed(one: Implementation) -> Implementation:
    """With the adapters that follow from others. Raises ValueError for a declaration that it cannot have."""
    for name in set(DECLARATIONS) - {"valid_positions"}:
        value = getattr(one, name)
        if value is not None and not (name == "min_position" and value == 0):
            declaration(name, tuple(value) if isinstance(value, list) else value)
    if one.module is not None and one.call is not None and one.apply is None:
        module, call = one.module, one.call
        made = one.make or (lambda: _bound(call, module()))
        held: list[Any] = []

        def apply(x: Any, positions: Any) -> Any:
            if not held:
                held.append(module())
            return call(held[0], x, positions)

        one = replace(one, apply=apply, make=made, arrays=one.arrays or "torch")
    adapters = (f for name, f in vars(one).items() if callable(f))
    if not any(adapters) and not one.paths:
        raise ValueError("no adapter is given; expected at least one, such as apply")
    return one


def _bound(call: Any, module: Any) -> Any:
    return lambda x, positions: call(module, x, positions)


@dataclass
class Check:
    """One run, from the first question to the report."""

    subject: Subject
    budget: str = "normal"
    number: int = 0
    progress: Progress = None
    remarks: list[Finding] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self) -> Report:
        began = time.monotonic()
        subject = self.subject
        subject.resolve = lambda mutations, probe: resolved(subject, mutations, probe)
        self.facts = find_capabilities(subject)
        self.found = Findings(subject, self.facts, self.budget)
        inferred = self.inferred()
        plan = list(self.plan())
        wrongs = subject.mutations  # of `apply`
        for done, (adapter, prop) in enumerate(plan):
            if self.progress:
                self.progress(prop.name if adapter == "apply" else f"{adapter}: {prop.name}", done, len(plan))
            if adapter == prop.name:  # an object of its own, of which what another showed is not expected
                subject.mutations = wrongs
            self.try_property(adapter, prop)
            if prop.name == "repeatable":
                self.find_accuracies(adapter)
            if adapter == "apply":
                wrongs = subject.mutations
        known = [self.found.known(f) for f in self.found.findings]
        computes = self.found.reading.text if self.found.reading else ()
        return Report(
            tuple(known), tuple(self.remarks), tuple(self.outcomes), inferred, computes, time.monotonic() - began
        )

    def plan(self) -> Iterable[tuple[str, Property]]:
        """What is tried, through which adapter, the plainest first."""
        adapters = self.subject.adapters()
        for adapter in adapters:
            yield adapter, contract.CONTRACT[0]
            for prop in POINTWISE:
                yield adapter, prop
            for prop in contract.CONTRACT[1:]:
                yield adapter, prop
            if adapter == next(iter(adapters)):
                for prop in laws.LAWS:
                    yield adapter, prop
        for prop in OTHERS:
            yield prop.name, prop

    def inferred(self) -> dict[str, Any]:
        facts = self.facts
        for text in facts.remarks:
            self.remarks.append(Finding("", "capabilities", "apply", f"not taken: {text}", severity="remark"))
        return {
            "arrays": self.subject.kind, "dtypes": facts.dtypes, "rows": facts.rows, "negative": facts.negative,
            "fractional": facts.fractional, "strided": facts.strided, "position_dtypes": facts.position_dtypes,
            "reach": facts.reach,
        }  # fmt: skip

    def find_accuracies(self, adapter: str) -> None:
        """How exact the answers are in every dtype; said as a remark where less than exact."""
        self.subject.mutations = ()
        self.subject.accuracy = {}
        for dtype in self.facts.dtypes:
            level = find_accuracy(self.subject, adapter, dtype, self.facts)
            if level is None:
                continue
            one = self.subject.implementation
            self.subject.accuracy[dtype] = judged_by(level, one, dtype)
            wide = "float64" if dtype == "float64" else "float32"
            if level.table != wide and one.table is None:
                text = f"in {dtype}, cos and sin are rounded to {level.table}"
                text += f" and pairs are turned in {level.arithmetic}" if level.arithmetic != wide else ""
                self.remarks.append(Finding("TABDT", "accuracy", adapter, text, severity="remark"))
            if level.angle != "exact" and one.angle is None and level.table == wide:
                text = f"in {dtype}, angles are of {'float32' if level.angle == 'float32' else 'float32 by recurrence'}"
                self.remarks.append(Finding("ANGDT", "accuracy", adapter, text, severity="remark"))

    def try_property(self, adapter: str, prop: Property) -> None:
        began = time.monotonic()
        subject = self.subject
        why = prop.skip(subject, self.facts)
        if not why:
            why = unasked(adapter, prop, subject.implementation)
        bugs = [f for f in self.found.findings if f.adapter == adapter and f.severity == "bug"]
        if not why and prop in laws.LAWS and bugs:
            why = "a bug is known already"
        if why:
            self.outcomes.append(Outcome(prop.name, adapter, prop.reason, "skipped", why))
            return
        if prop.name not in UNPLACED:
            prop = replace(prop, draw=through(adapter, prop))
        examples = EXAMPLES[self.budget] * (2 if adapter == prop.name else 1)
        found = falsify(subject, adapter, prop, self.facts, examples=examples, number=self.number)
        evidence = self.found.evidence.setdefault(adapter, [])
        if not isinstance(found, Falsified):
            evidence += found[:6]
            self.outcomes.append(Outcome(prop.name, adapter, prop.reason, "passed", "", time.monotonic() - began))
            return
        before = len(self.found.findings)
        verdict, note = self.found.explain(adapter, prop, found)
        fresh = [self.found.known(f).severity for f in self.found.findings[before:]]
        if fresh and all(severity == "known" for severity in fresh):
            verdict = "known"
        evidence += found.observations
        self.outcomes.append(Outcome(prop.name, adapter, prop.reason, verdict, note, time.monotonic() - began))


def judged_by(level: Accuracy, one: Implementation, dtype: str) -> Accuracy:
    """What a few answers show may be luck: unless it is declared, later answers may be one step less exact."""
    if dtype == "float64" and level.angle == "exact":
        return level
    if dtype == "float64":  # with angles in float32, what few answers show of the rest is luck
        return Accuracy(one.angle or level.angle, one.table or "float32", one.arithmetic or "float32")
    narrow = level.table == dtype
    return Accuracy(
        one.angle or ("float32" if level.angle == "exact" else level.angle), level.table,
        one.arithmetic or (dtype if narrow else level.arithmetic),
    )  # fmt: skip


PLACED = ("positions", "rows", "position dtypes", "fractional positions")
GIVEN = ("negative positions", "composition", "inverse", "token permutation")
MOVED = ("offsets", "negative positions", "relative position", "composition", "inverse", "split",
         "token permutation")  # fmt: skip


NEIGHBOURS = (
    "relative position", "composition", "inverse", "fractional positions", "negative positions", "shifted keys",
)  # fmt: skip
# properties that give no positions
UNPLACED = ("steps", "padded rows", "cached keys", "position ids", "grid", "converted weights", "frequencies")


def unasked(adapter: str, prop: Property, one: Implementation) -> str:
    """Why an adapter cannot be asked this, "" where it can."""
    if one.valid_positions is not None and prop.name in NEIGHBOURS:
        return "its positions are no range"
    if adapter == "decode" and prop.name in (*PLACED, *GIVEN):
        return "decode takes an offset"
    if adapter in FROM_ZERO and prop.name in (*PLACED, *MOVED):
        return f"{adapter} counts tokens itself"
    return ""


def through(adapter: str, prop: Property) -> Any:
    """The same cases as far as an adapter can be asked them."""
    longest = LONGEST if prop.name == "long positions" else 700

    def draw(subject: Subject, facts: Facts) -> Any:
        return prop.draw(subject, facts).map(lambda case: tuple(subject.through(adapter, p, longest) for p in case))

    return draw
