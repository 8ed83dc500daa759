"""The check: interview, properties, diagnosis, report."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rope_ref.conformance import attention, contract, laws, parts, state, training
from rope_ref.conformance.diagnosis import Diagnosis, Observation, by_angle, closest, diagnose, passing_through, resolved, where
from rope_ref.conformance.falsify import Falsified, falsify
from rope_ref.conformance.implementation import Implementation
from rope_ref.conformance.interview import Facts, find_accuracy, interview
from rope_ref.conformance.model import Accuracy, Mutation
from rope_ref.conformance.probes import Probe
from rope_ref.conformance.properties import POINTWISE, Property
from rope_ref.conformance.reading import Reading, read
from rope_ref.conformance.report import Finding, Outcome, Report
from rope_ref.conformance.snippet import snippet
from rope_ref.conformance.subject import Deviation, Ropes, Subject

EXAMPLES = {"quick": 16, "normal": 80, "deep": 800}
SEARCH = {"quick": 2.0, "normal": 6.0, "deep": 60.0}  # seconds for two wrongs at once
Progress = Any


def check(apply: Any, rope: Ropes, *, budget: str = "normal", seed: int = 0, progress: Progress = None, **words: Any) -> Report:
    """Check an implementation against the specification.

    apply     `apply(x, positions) -> y`, or an `Implementation`
    rope      a Rope; a function length -> Rope where it depends on the length of the sequence; or a list with the
              Rope of each layer, then apply(x, positions, layer)
    budget    "quick", under ten seconds; "normal", a minute; "deep"
    seed      which cases are drawn
    progress  called with (property, done, total)
    words     further ways in, and declarations: see `Implementation`

    Raises ValueError or TypeError for wrong usage; never for what the implementation does.
    """
    if budget not in EXAMPLES:
        raise ValueError(f"budget is {budget!r}; expected one of {', '.join(map(repr, EXAMPLES))}")
    one = apply if isinstance(apply, Implementation) else Implementation(apply=apply)
    return Check(Subject(completed(replace(one, **words)), rope), budget, seed, progress).run()


def completed(one: Implementation) -> Implementation:
    """With the ways in that follow from others."""
    if one.module is not None and one.call is not None and one.apply is None:
        module, call = one.module, one.call
        made = one.make or (lambda: _bound(call, module()))
        held: list[Any] = []

        def apply(x: Any, positions: Any) -> Any:
            if not held:
                held.append(module())
            return call(held[0], x, positions)

        one = replace(one, apply=apply, make=made, arrays=one.arrays or "torch")
    ways = (f for name, f in vars(one).items() if callable(f))
    if not any(ways) and not one.paths:
        raise ValueError("no way in is given; expected at least one, such as apply")
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
    findings: list[Finding] = field(default_factory=list)
    remarks: list[Finding] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    evidence: dict[str, list[Observation]] = field(default_factory=dict)
    reading: Reading | None = None

    def run(self) -> Report:
        began = time.monotonic()
        subject = self.subject
        subject.resolve = lambda mutations, probe: resolved(subject, mutations, probe)
        self.facts = interview(subject)
        inferred = self.inferred()
        plan = list(self.plan())
        for done, (way, prop) in enumerate(plan):
            if self.progress:
                self.progress(prop.name if way == "apply" else f"{way}: {prop.name}", done, len(plan))
            self.try_property(way, prop)
            if prop.name == "repeatable":
                self.find_accuracies(way)
            if prop.name == POINTWISE[-1].name:  # what was found in one way is not expected of the next
                subject.mutations = subject.mutations if way == "apply" else ()
        known = [self.known(f) for f in self.findings]
        computes = self.reading.text if self.reading else ()
        return Report(tuple(known), tuple(self.remarks), tuple(self.outcomes), inferred, computes, time.monotonic() - began)

    def plan(self) -> Iterable[tuple[str, Property]]:
        """What is tried, through which way in, the plainest first."""
        for way in self.subject.ways():
            yield way, contract.CONTRACT[0]
            for prop in POINTWISE:
                yield way, prop
            for prop in contract.CONTRACT[1:]:
                yield way, prop
            if way == "apply":
                for prop in laws.LAWS:
                    yield way, prop
        for prop in (*state.STATE, *attention.ATTENTION, *parts.PARTS, *training.TRAINING):
            yield prop.name, prop

    def inferred(self) -> dict[str, Any]:
        facts = self.facts
        for text in facts.remarks:
            self.remarks.append(Finding("", "interview", "apply", f"not taken: {text}", severity="remark"))
        return {
            "arrays": self.subject.kind, "dtypes": facts.dtypes, "rows": facts.rows, "negative": facts.negative,
            "fractional": facts.fractional, "strided": facts.strided, "position_dtypes": facts.position_dtypes,
            "reach": facts.reach,
        }  # fmt: skip

    def find_accuracies(self, way: str) -> None:
        """How exact the answers are in every dtype; said as a remark where less than exact."""
        self.subject.mutations = ()
        self.subject.accuracy = {}
        for dtype in self.facts.dtypes:
            level = find_accuracy(self.subject, way, dtype, self.facts)
            if level is None:
                continue
            one = self.subject.implementation
            self.subject.accuracy[dtype] = judged_by(level, one, dtype)
            wide = "float64" if dtype == "float64" else "float32"
            if level.table != wide and one.table is None:
                text = f"in {dtype}, cos and sin are rounded to {level.table}"
                text += f" and pairs are turned in {level.arithmetic}" if level.arithmetic != wide else ""
                self.remarks.append(Finding("TABDT", "accuracy", way, text, severity="remark"))
            if level.angle != "exact" and one.angle is None and level.table == wide:
                text = f"in {dtype}, angles are of {'float32' if level.angle == 'float32' else 'float32 by recurrence'}"
                self.remarks.append(Finding("ANGDT", "accuracy", way, text, severity="remark"))

    def try_property(self, way: str, prop: Property) -> None:
        began = time.monotonic()
        subject = self.subject
        why = prop.skip(subject, self.facts)
        if not why and way == "decode" and prop.name in ("positions", "rows", "position dtypes", "fractional positions",
                                                         "negative positions"):  # fmt: skip
            why = "decode takes an offset"
        if not why and prop in laws.LAWS and any(f.way == "apply" and f.severity == "bug" for f in self.findings):
            why = "a bug is known already"
        if why:
            self.outcomes.append(Outcome(prop.name, way, prop.reason, "skipped", why))
            return
        if way == "decode":
            prop = replace(prop, draw=_consecutive(prop.draw))
        examples = EXAMPLES[self.budget] * (2 if way == prop.name else 1)
        found = falsify(subject, way, prop, self.facts, examples=examples, number=self.number)
        evidence = self.evidence.setdefault(way, [])
        if not isinstance(found, Falsified):
            evidence += found[:6]
            self.outcomes.append(Outcome(prop.name, way, prop.reason, "passed", "", time.monotonic() - began))
            return
        before = len(self.findings)
        verdict, note = self.explain(way, prop, found)
        fresh = [self.known(f).severity for f in self.findings[before:]]
        if fresh and all(severity == "known" for severity in fresh):
            verdict = "known"
        evidence += found.observations
        self.outcomes.append(Outcome(prop.name, way, prop.reason, verdict, note, time.monotonic() - began))

    def explain(self, way: str, prop: Property, found: Falsified) -> tuple[str, str]:
        """Turn a failure into a finding, unless it follows from one that is known; verdict and note of the outcome."""
        refused = self.refusal(prop, found)
        return ("skipped", refused) if refused else ("failed", self.explained(way, prop, found))

    def refusal(self, prop: Property, found: Falsified) -> str:
        """The words of a call that raised where the implementation does not say that it can do this: a limit."""
        deviation = found.trial.deviation
        assert deviation is not None
        if found.trial.bug or prop.declared(self.subject) or not raised(deviation):
            return ""
        return deviation.text

    def explained(self, way: str, prop: Property, found: Falsified) -> str:
        deviation = found.trial.deviation
        assert deviation is not None
        refused = raised(deviation) and not found.trial.bug
        if refused and all(o.right for o in found.observations):
            return self.refused(way, prop, found)
        wrong_already = [f for f in self.findings if f.way in ("apply", way)]
        if found.trial.bug:
            if wrong_already and (way == prop.name or np.isinf(deviation.error)):
                return f"may follow from {wrong_already[0].bug}"
            return self.add(way, prop, found, found.trial.bug, found.trial.text or deviation.text, ())
        still = any(o.rope.pairs == 0 for o in found.observations) and self.subject.layered
        channel = passing_through(found.observations) if not self.subject.mutations and not still else None
        if channel is not None and prop.names in (None, ("ROTDIM",)):
            text = f"channel {channel} should pass through and does not"
            named = diagnose(self.subject, found.observations, names=("ROTDIM",))
            return self.add(way, prop, found, "ROTDIM", named.text if named else text, named.mutations if named else ())
        diagnosis = self.diagnose(way, prop, found)
        if diagnosis is not None:
            return self.named(way, prop, found, diagnosis)
        if refused:
            return self.refused(way, prop, found)
        if wrong_already:
            return f"may follow from {wrong_already[0].bug}"
        text = where(found.observations)
        beyond = by_angle(found.observations) if prop.bug in ("UNKNOWN", "ANGDT") else None
        if beyond is not None:
            told = f"cos and sin are wrong for angles from {beyond:.4g} radians on, right below"
            return self.add(way, prop, found, "ANGDT", told, ())
        near = closest(found.observations)
        bug = prop.bug
        if way == "into" and "not finite" in deviation.text and bug == "UNKNOWN":
            bug, near = "NOOP", "part of out is not written"
        told = "; ".join(filter(None, (deviation.text, text, near)))
        return self.add(way, prop, found, bug, told, ())

    def diagnose(self, way: str, prop: Property, found: Falsified) -> Diagnosis | None:
        subject, seen = self.subject, found.observations
        if prop.names == () or any(f.bug == "UNKNOWN" and f.way in ("apply", way) for f in self.findings):
            return None  # what nothing explains may be behind this too
        everything = [*seen, *self.evidence.get(way, [])]
        known = subject.mutations
        if known:  # one explanation of all that was seen is plainer than two
            whole = diagnose(subject, everything, names=prop.names, seconds=0.0)
            if whole is not None and whole.covers in ("all", "wrong ones"):
                self.findings = [f for f in self.findings if f.way != way or f.property != "agreement"]
                return whole
        diagnosis = diagnose(subject, everything, names=prop.names, base=known, seconds=0.0)
        if diagnosis is None and not known and prop.names is None:
            if any(f.way in ("apply", way) for f in self.findings):
                return None  # what is not explained may follow from what was found before
            reading = None
            if way in subject.ways() and way != "decode":
                reading = read(lambda x, positions: self.turn(way, x, positions), subject.rope)
                self.reading = self.reading or reading
            diagnosis = diagnose(subject, everything, reading=reading, seconds=SEARCH[self.budget])
        return diagnosis

    def turn(self, way: str, x: Any, positions: Any) -> Any:
        """One head of tokens through the implementation, for reading it off."""
        heads = self.facts.heads[0]
        probe = Probe(1, heads, tuple(map(tuple, positions.tolist())) if positions.ndim > 1 else tuple(positions.tolist()))
        wide = np.broadcast_to(x, (1, heads, *x.shape)).copy()
        answer = self.subject.ask(way, replace(probe, dtype=self.facts.dtypes[0]), wide)
        return None if answer.y is None else answer.y[0, 0]

    def named(self, way: str, prop: Property, found: Falsified, diagnosis: Diagnosis) -> str:
        known = {m.text for m in self.subject.mutations}
        fresh = [m for m in diagnosis.mutations if m.text not in known]
        if not fresh:
            return "the same"
        text = diagnosis.text
        condition = where(found.observations)
        notes = []
        for mutation in fresh:
            said = mutation.text if len(fresh) > 1 else text
            bug = told_by_offset(mutation) if way in ("decode", "steps") else mutation.bug
            notes.append(self.add(way, prop, found, bug, f"{said}{f' ({condition})' if condition else ''}", ()))
        if diagnosis.covers in ("all", "pair"):
            self.subject.mutations = diagnosis.mutations
        return "; ".join(notes)

    def refused(self, way: str, prop: Property, found: Falsified) -> str:
        """A call that raised though the implementation says it can do this."""
        deviation = found.trial.deviation
        assert deviation is not None
        if any(f.way in ("apply", way) for f in self.findings):
            return "may follow from what was found before"
        bug = "UNKNOWN" if prop.bug == "ANGDT" else prop.bug  # an error says nothing of angles
        text = deviation.text
        if bug == "UNKNOWN":
            bug, text = self.why_refused(found, text)
        return self.add(way, prop, found, bug, text, ())

    def why_refused(self, found: Falsified, text: str) -> tuple[str, str]:
        """The class of an error, where its words or its circumstances tell."""
        axes = self.subject.rope.axes
        if "torch._dynamo" in text:
            return "LIFE", text
        if " device" in text:
            return "CACHE", f"something is left on another device: {text}"
        if widths_clash(text, self.subject):
            return "ROTDIM", text
        if self.subject.rope.xpos is not None:
            return "XPOS", text
        answered = [o.probe for o in found.observations]
        if answered and all(p.seq(axes) > p.heads for p in found.refused) and all(
            p.seq(axes) <= p.heads for p in answered
        ):  # fmt: skip
            return "AXIS", f"only with more tokens than heads: {text}"
        return "UNKNOWN", text

    def add(self, way: str, prop: Property, found: Falsified, bug: str, text: str, mutations: tuple[Any, ...]) -> str:
        deviation = found.trial.deviation
        assert deviation is not None
        if any(f.bug == bug and (f.explanation == text or f.way == way) for f in self.findings):
            return f"the same: {bug}"
        self.findings.append(Finding(
            bug, prop.name, way, text, snippet(self.subject, way, found.case), "bug", deviation.error, deviation.bound,
            {"deviation": deviation.text, "reason": prop.reason},
        ))  # fmt: skip
        if mutations and not self.subject.mutations:
            self.subject.mutations = mutations
        return bug

    def known(self, finding: Finding) -> Finding:
        declared = self.subject.implementation.deviations
        accepted = finding.bug in declared or f"{finding.bug}:{finding.property}" in declared
        return replace(finding, severity="known") if accepted else finding


def judged_by(level: Accuracy, one: Implementation, dtype: str) -> Accuracy:
    """What was found from a few answers may be luck: unless it is declared, later answers may be one step less exact."""
    if dtype == "float64" and level.angle == "exact":
        return level
    narrow = level.table == dtype
    return Accuracy(
        one.angle or ("float32" if level.angle == "exact" else level.angle), level.table,
        one.arithmetic or (dtype if narrow else level.arithmetic),
    )  # fmt: skip


def told_by_offset(mutation: Mutation) -> str:
    """Where only an offset is given, a place that is ignored or a row that is missing is an offset that got lost."""
    missing = "rows of the table are missing" in mutation.text
    return "OFFSET" if mutation.bug == "POSIGN" or missing else mutation.bug


def raised(deviation: Deviation) -> bool:
    return bool(np.isinf(deviation.error)) and "not finite" not in deviation.text


def widths_clash(text: str, subject: Subject) -> bool:
    """Whether an error speaks of two widths, one the head's and one that of its turned channels."""
    rope, said = subject.rope, {int(n) for n in "".join(c if c.isdigit() else " " for c in text).split()}
    whole, turned = {rope.head_dim, rope.head_dim // 2}, {2 * rope.pairs, rope.pairs}
    return 2 * rope.pairs < rope.head_dim and bool(said & whole) and bool(said & turned)


def _consecutive(draw: Any) -> Any:
    """The same cases with tokens one behind the other, as decoding has them."""

    def consecutive(subject: Subject, facts: Facts) -> Any:
        def follow(case: tuple[Probe, ...]) -> tuple[Probe, ...]:
            return tuple(
                replace(p, positions=tuple((p.where.min() + np.arange(p.where.shape[-1])).tolist())) for p in case
            )  # fmt: skip

        return draw(subject, facts).map(follow)

    return consecutive
