"""From a failed property to a finding: named, refused, or unknown."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.adapters.ways import FROM_ZERO, LONGEST
from rope_ref.conformance.diagnosis.candidates import Observation, extra
from rope_ref.conformance.diagnosis.circumstances import (
    by_angle,
    closest,
    drifting,
    less_exact,
    negative_base,
    passing_through,
    raised,
    told_by_offset,
    where,
    widths_clash,
)
from rope_ref.conformance.diagnosis.diagnose import Diagnosis, diagnose
from rope_ref.conformance.diagnosis.reading import Reading, read
from rope_ref.conformance.properties.falsify import Falsified
from rope_ref.conformance.properties.model import Mutation
from rope_ref.conformance.properties.property import Case, Property, observed
from rope_ref.conformance.reporting.report import Finding
from rope_ref.conformance.reporting.snippet import snippet
from rope_ref.pairing import channels

SEARCH = {"quick": 2.0, "normal": 6.0, "deep": 60.0}  # seconds for two wrongs at once


@dataclass
class Findings:
    """What has been found so far, and how a failure becomes a finding."""

    subject: Subject
    facts: Facts
    budget: str
    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, list[Observation]] = field(default_factory=dict)
    reading: Reading | None = None

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
        if found.trial.tell is not None:
            bug, text = found.trial.tell()
            found = found._replace(trial=found.trial._replace(bug=bug, text=text))
        deviation = found.trial.deviation
        assert deviation is not None
        refused = raised(deviation) and not found.trial.bug
        if refused and all(o.right for o in found.observations):
            return self.refused(way, prop, found)
        wrong_already = self.before(way, found.case)
        if found.trial.bug:
            if wrong_already and (way == prop.name or np.isinf(deviation.error)):
                return f"may follow from {wrong_already[0].bug}"
            return self.add(way, prop, found, found.trial.bug, found.trial.text or deviation.text)
        still = any(o.rope.pairs == 0 for o in found.observations) and self.subject.layered
        channel = passing_through(found.observations) if not self.subject.mutations and not still else None
        if channel is not None and prop.names in (None, ("ROTDIM",)):
            text = f"channel {channel} should pass through and does not"
            named = diagnose(self.subject, found.observations, names=("ROTDIM",))
            self.subject.mutations = named.mutations if named else ()
            return self.add(way, prop, found, "ROTDIM", named.text if named else text, named is not None)
        diagnosis = self.diagnose(way, prop, found)
        if diagnosis is not None:
            return self.named(way, prop, found, diagnosis)
        if refused:
            return self.refused(way, prop, found)
        alias = None if wrong_already else self.aliased(way, found)
        if alias is not None:
            return self.add(way, prop, found, "POSDT", alias, True)
        if wrong_already:
            return f"may follow from {wrong_already[0].bug}"
        less = less_exact(found.observations, self.subject.mutations)
        if less is not None:
            return self.add(way, prop, found, *less)
        text = where(found.observations)
        beyond = by_angle(found.observations) if prop.bug in ("UNKNOWN", "ANGDT") else None
        if beyond is not None:
            told = f"cos and sin are wrong for angles from {beyond:.4g} radians on, right below"
            return self.add(way, prop, found, "ANGDT", told)
        misread = self.misread()
        if misread is not None and prop.bug == "UNKNOWN":
            return self.add(way, prop, found, *misread)
        drift = drifting(found.observations) if prop.bug in ("UNKNOWN", "ANGDT") else None
        if drift is not None:
            return self.add(way, prop, found, "ANGDT", drift)
        near = closest(found.observations, self.more(found))
        bug = prop.bug
        if way == "into" and "not finite" in deviation.text and bug == "UNKNOWN":
            bug, near = "NOOP", "part of out is not written"
        if way in FROM_ZERO and bug in ("UNKNOWN", "BATCHPOS"):
            bug = "OFFSET"  # where tokens stand is all that it is not told
        if "not finite" in deviation.text and negative_base(self.subject.rope):
            bug, near = "DYN", "below the trained length the base is rescaled to a negative number, which has no power"
        told = "; ".join(filter(None, (deviation.text, text, near)))
        return self.add(way, prop, found, bug, told)

    def before(self, way: str, case: Case) -> list[Finding]:
        """What was found that may be behind what now fails: nothing, where the same tokens are turned rightly."""
        asked = self.subject.ways()
        if way in asked:
            return [f for f in self.findings if f.way in ("apply", way)]
        ways = {"apply", "apply_qk.query", "apply_qk.key", *FROM_ZERO}  # behind steps, scores, a cache, a module
        found = [f for f in self.findings if f.way in ways]
        if found and "apply" in asked and all(self.subject.right("apply", probe) for probe in case):
            found = []
        return found + [f for f in self.findings if f.way == way]

    def diagnose(self, way: str, prop: Property, found: Falsified) -> Diagnosis | None:
        subject, seen = self.subject, found.observations
        if prop.names == () or not all(f.details["explained"] for f in self.before(way, found.case)):
            return None  # what nothing explains may be behind this too
        everything = [*seen, *self.evidence.get(way, []), *self.at_other_lengths(way)]
        known = subject.mutations
        if known:  # one explanation of all that was seen is plainer than two
            whole = diagnose(subject, everything, names=prop.names, seconds=0.0)
            if whole is not None:
                if {m.text for m in whole.mutations} <= {m.text for m in known}:
                    return whole
                self.findings = [f for f in self.findings if f.way != way or not f.details["explained"]]
                return whole
        diagnosis = diagnose(subject, everything, names=prop.names, base=known, seconds=0.0)
        if diagnosis is None and not known and prop.names is None:
            if self.before(way, found.case):
                return None  # what is not explained may follow from what was found before
            reading = None
            if way in subject.ways():
                reading = read(lambda x, positions: self.turn(way, x, positions), subject.rope)
                self.reading = self.reading or reading
            dtype = next((o.probe.dtype for o in seen if not o.right), self.facts.dtypes[0])
            everything += self.further(way, dtype)
            diagnosis = diagnose(subject, everything, reading=reading, seconds=SEARCH[self.budget])
        return diagnosis

    def further(self, way: str, dtype: str) -> list[Observation]:
        """Answers at far positions, which tell apart what near ones do not."""
        subject, seen = self.subject, []
        for start in (256, 2048, 32767) if way in subject.ways() and way not in FROM_ZERO else ():
            if start + 8 < self.facts.reach:
                near = sequence(start, 8, subject.rope.axes, heads=self.facts.heads[-1], dtype=dtype)
                probe = subject.through(way, near)
                answer = subject.ask(way, probe)
                seen += observed(subject, probe, answer, subject.deviates(answer, probe))
        return seen

    def at_other_lengths(self, way: str) -> list[Observation]:
        """Answers on both sides of the length at which the Rope changes, if it does."""
        trained, axes = self.subject.trained, self.subject.rope.axes
        if trained is None or way not in self.subject.ways():
            return []
        seen = []
        for start in (trained // 2, trained - 6, trained + 6, 3 * trained):
            probe = sequence(start, 4, axes, heads=self.facts.heads[-1], dtype=self.facts.dtypes[0])
            probe = self.subject.through(way, probe)
            answer = self.subject.ask(way, probe)
            seen += observed(self.subject, probe, answer, self.subject.deviates(answer, probe))
        return seen

    def more(self, found: Falsified) -> dict[str, Mutation]:
        """The wrongs of other layers and lengths, for the smallest wrong answer."""
        wrong = [o for o in found.observations if not o.right]
        return extra(self.subject, min(wrong, key=lambda o: o.y.size)) if wrong else {}

    def misread(self) -> tuple[str, str] | None:
        """The class and the words, where the channels that turn are read off as others than they should be."""
        rope, reading = self.subject.rope, self.reading
        if reading is None or not len(reading.first):
            return None
        moving = (rope.omega != 0).reshape(rope.pairs, -1).any(-1) if rope.heads is None else np.ones(rope.pairs, bool)
        first, second = (c[moving] for c in channels(rope.pairing, rope.pairs, rope.start))
        pairs = set(zip(reading.first.tolist(), reading.second.tolist(), strict=True))
        expected = set(zip(first.tolist(), second.tolist(), strict=True))
        if len(pairs) != len(expected):
            return "ROTDIM", f"{2 * len(pairs)} channels turn; expected {2 * len(expected)}"
        if pairs != expected:
            odd, usual = min(pairs - expected), min(expected - pairs)
            return "LAYOUT", f"channels {odd[0]} and {odd[1]} turn together; expected pairs like {usual}"
        return None

    def aliased(self, way: str, found: Falsified) -> str | None:
        """Two neighbouring positions that turn the same x alike, though nothing else explains why."""
        subject, axes = self.subject, self.subject.rope.axes
        dtype = next((o.probe.dtype for o in found.observations if not o.right), "float32")
        if way not in subject.ways() or way in FROM_ZERO:
            return None
        for start in (256, 2048, 32767):
            if start + 8 >= self.facts.reach:
                break
            probe = subject.through(way, sequence(start, 8, axes, heads=self.facts.heads[-1], dtype=dtype))
            x = np.repeat(probe.x(subject.rope.head_dim, axes)[:, :, :1], 8, 2)
            answer = subject.ask(way, probe, x)
            if answer.y is None:
                break
            apart = np.abs(np.diff(subject.expected(probe, x)[0], axis=2)).max((0, 1, 3))
            same = (np.diff(answer.y, axis=2) == 0).all((0, 1, 3)) & (apart > 0.1)
            if same.any():
                p, q = (probe.where[i].tolist() for i in (int(np.argmax(same)), int(np.argmax(same)) + 1))
                return f"positions {p} and {q} turn alike in {dtype}: positions lose their last digits"
        return None

    def turn(self, way: str, x: Any, positions: Any) -> Any:
        """One head of tokens through the implementation, for reading it off."""
        heads = self.facts.heads[0]
        probe = Probe(
            1, heads, tuple(map(tuple, positions.tolist())) if positions.ndim > 1 else tuple(positions.tolist())
        )
        probe = self.subject.through(way, replace(probe, dtype=self.facts.dtypes[0]), LONGEST)
        if np.max(probe.where, initial=0) < np.max(positions, initial=0):  # further than it can be asked
            return None
        wide = np.zeros((1, probe.heads, probe.seq(self.subject.rope.axes), x.shape[-1]))
        wide[:, :, -len(x) :] = x  # behind others, where tokens are counted from 0
        answer = self.subject.ask(way, probe, wide)
        return None if answer.y is None else answer.y[0, 0, -len(x) :]

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
            notes.append(self.add(way, prop, found, bug, f"{said}{f' ({condition})' if condition else ''}", True))
        if diagnosis.covers in ("all", "pair"):
            self.subject.mutations = diagnosis.mutations
        return "; ".join(notes)

    def refused(self, way: str, prop: Property, found: Falsified) -> str:
        """A call that raised though the implementation says it can do this."""
        deviation = found.trial.deviation
        assert deviation is not None
        if self.before(way, found.case):
            return "may follow from what was found before"
        bug = "UNKNOWN" if prop.bug == "ANGDT" else prop.bug  # an error says nothing of angles
        text = deviation.text
        if prop.name == "positions":
            text += "; what counts tokens itself is given as `sequence`"
        if bug == "UNKNOWN":
            bug, text = self.why_refused(found, text)
        return self.add(way, prop, found, bug, text)

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

    def add(self, way: str, prop: Property, found: Falsified, bug: str, text: str, explained: bool = False) -> str:
        deviation = found.trial.deviation
        assert deviation is not None
        if any(f.bug == bug and (f.explanation == text or f.way == way) for f in self.findings):
            return f"the same: {bug}"
        self.findings.append(Finding(
            bug, prop.name, way, text, snippet(self.subject, way, found.case), "bug", deviation.error, deviation.bound,
            {"deviation": deviation.text, "reason": prop.reason, "explained": explained}
            | ({"unless": f"if it need not, declare {prop.unless}"} if prop.unless else {}),
        ))  # fmt: skip
        return bug

    def known(self, finding: Finding) -> Finding:
        declared = self.subject.implementation.deviations
        accepted = finding.bug in declared or f"{finding.bug}:{finding.property}" in declared
        return replace(finding, severity="known") if accepted else finding
