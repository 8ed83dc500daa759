"""From a failed property to a finding: named, refused, or unknown."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rope_ref.conformance.adapters.calls import FROM_ZERO
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.diagnosis.asking import Asking, other_channels
from rope_ref.conformance.diagnosis.candidates import Observation, extra
from rope_ref.conformance.diagnosis.circumstances import (
    by_angle,
    closest,
    drifting,
    fewest_digits,
    less_exact,
    negative_base,
    of_other_layers,
    passing_through,
    raised,
    told_by_offset,
    where,
    widths_clash,
)
from rope_ref.conformance.diagnosis.diagnose import Diagnosis, diagnose
from rope_ref.conformance.diagnosis.reading import Reading, read
from rope_ref.conformance.properties.falsify import Falsified
from rope_ref.conformance.properties.property import Case, Property
from rope_ref.conformance.reporting.report import Finding
from rope_ref.conformance.reporting.snippet import snippet

SEARCH = {"quick": 10**7, "normal": 10**8, "deep": 10**9}  # numbers to compute for two wrongs at once


@dataclass
class Findings:
    """What has been found so far, and how a failure becomes a finding."""

    subject: Subject
    facts: Facts
    budget: str
    findings: list[Finding] = field(default_factory=list)
    evidence: dict[str, list[Observation]] = field(default_factory=dict)
    reading: Reading | None = None

    @property
    def asking(self) -> Asking:
        return Asking(self.subject, self.facts)

    def explain(self, adapter: str, prop: Property, found: Falsified) -> tuple[str, str]:
        """Turn a failure into a finding, unless it follows from one that is known; verdict and note of the outcome."""
        refused = self.refusal(prop, found)
        return ("skipped", refused) if refused else ("failed", self.explained(adapter, prop, found))

    def refusal(self, prop: Property, found: Falsified) -> str:
        """The words of a call that raised where the implementation does not say that it can do this: a limit."""
        deviation = found.trial.deviation
        assert deviation is not None
        if found.trial.bug or prop.declared(self.subject) or not raised(deviation):
            return ""
        return deviation.text

    def explained(self, adapter: str, prop: Property, found: Falsified) -> str:
        if found.trial.tell is not None:
            bug, text = found.trial.tell()
            found = found._replace(trial=found.trial._replace(bug=bug, text=text))
        deviation = found.trial.deviation
        assert deviation is not None
        refused = raised(deviation) and not found.trial.bug
        if refused and all(o.right for o in found.observations):
            return self.refused(adapter, prop, found)
        wrong_already = self.before(adapter, found.case)
        if found.trial.bug:
            overflows = found.trial.bug == "RANGE" and not raised(deviation)  # as what is wrong at other positions may
            if wrong_already and (adapter == prop.name or np.isinf(deviation.error) or overflows):
                return f"may follow from {wrong_already[0].bug}"
            return self.add(adapter, prop, found, found.trial.bug, found.trial.text or deviation.text)
        still = any(o.rope.pairs == 0 for o in found.observations) and self.subject.layered
        channel = passing_through(found.observations) if not self.subject.mutations and not still else None
        if channel is not None and (prop.names is None or "ROTDIM" in prop.names):
            text = f"channel {channel} should pass through and does not"
            named = diagnose(self.subject, found.observations, names=("ROTDIM",))
            self.subject.mutations = named.mutations if named else ()
            return self.add(adapter, prop, found, "ROTDIM", named.text if named else text, named is not None)
        diagnosis = self.diagnose(adapter, prop, found)
        if diagnosis is not None:
            return self.named(adapter, prop, found, diagnosis)
        if refused:
            return self.refused(adapter, prop, found)
        dtype = next((o.probe.dtype for o in found.observations if not o.right), "float32")
        alias = None if wrong_already else self.asking.aliased(adapter, dtype)
        if alias is not None:
            return self.add(adapter, prop, found, "POSDT", alias, True)
        if wrong_already:
            return f"may follow from {wrong_already[0].bug}"
        less = less_exact(found.observations, self.subject.mutations)
        if less is not None:
            return self.add(adapter, prop, found, *less)
        if prop.names is None and prop.bug in ("UNKNOWN", "ANGDT"):
            seen = [*found.observations, *self.evidence.get(adapter, []), *self.asking.further(adapter, dtype)]
            rounding = fewest_digits(seen)
            if rounding is not None:
                return self.add(adapter, prop, found, rounding.bug, f"{rounding.text}, or the like")
        layers = self.other_layers(found.observations)
        if layers is not None:
            return self.add(adapter, prop, found, "LAYER", layers)
        text = where(found.observations)
        from_angle = by_angle(found.observations) if prop.bug in ("UNKNOWN", "ANGDT") else None
        if from_angle is not None:
            words = f"cos and sin are wrong for angles from {from_angle:.4g} radians on, right below"
            return self.add(adapter, prop, found, "ANGDT", words)
        misread = None if self.reading is None else other_channels(self.subject.rope, self.reading)
        if misread is not None and prop.bug == "UNKNOWN":
            return self.add(adapter, prop, found, *misread)
        drift = drifting(found.observations) if prop.bug in ("UNKNOWN", "ANGDT") else None
        if drift is not None:
            return self.add(adapter, prop, found, "ANGDT", drift)
        near = closest(found.observations, [extra(self.subject, o) for o in found.observations])
        bug = prop.bug
        if adapter == "into" and "not finite" in deviation.text and bug == "UNKNOWN":
            bug, near = "NOOP", "part of out is not written"
        if adapter in FROM_ZERO and bug in ("UNKNOWN", "BATCHPOS"):
            bug = "OFFSET"  # where tokens stand is all that it is not told
        if "not finite" in deviation.text and negative_base(self.subject.rope):
            bug, near = "DYN", "below the trained length the base is rescaled to a negative number, which has no power"
        words = "; ".join(filter(None, (deviation.text, text, near)))
        return self.add(adapter, prop, found, bug, words)

    def before(self, adapter: str, case: Case) -> list[Finding]:
        """What was found that may be behind what now fails: nothing, where the same tokens are turned rightly."""
        asked = self.subject.adapters()
        if adapter in asked:
            sides = {"apply_qk.query", "apply_qk.key"}
            alike = {"apply", adapter} | (sides if adapter in sides else set())
            return [f for f in self.findings if f.adapter in alike]
        adapters = {"apply", "apply_qk.query", "apply_qk.key", *FROM_ZERO}  # behind steps, scores, a cache, a module
        found = [f for f in self.findings if f.adapter in adapters]
        if found and "apply" in asked and all(self.subject.right("apply", probe) for probe in case):
            found = []
        return found + [f for f in self.findings if f.adapter == adapter]

    def diagnose(self, adapter: str, prop: Property, found: Falsified) -> Diagnosis | None:
        subject, seen = self.subject, found.observations
        if prop.names == () or not all(f.details["explained"] for f in self.before(adapter, found.case)):
            return None  # what nothing explains may be behind this too
        everything = [*seen, *self.evidence.get(adapter, []), *self.asking.at_other_lengths(adapter)]
        known = subject.mutations
        if known:  # one explanation of all that was seen is plainer than two
            whole = diagnose(subject, everything, names=prop.names)
            if whole is not None:
                if {m.text for m in whole.mutations} <= {m.text for m in known}:
                    return whole
                self.findings = [f for f in self.findings if f.adapter != adapter or not f.details["explained"]]
                return whole
        diagnosis = diagnose(subject, everything, names=prop.names, base=known)
        if diagnosis is None and not known and prop.names is None:
            if self.before(adapter, found.case):
                return None  # what is not explained may follow from what was found before
            if self.other_layers(seen) is not None:
                return None  # which is said without a search for more
            reading = None
            if adapter in subject.adapters():
                reading = read(lambda x, positions: self.asking.turn(adapter, x, positions), subject.rope)
                self.reading = self.reading or reading
            dtype = next((o.probe.dtype for o in seen if not o.right), self.facts.dtypes[0])
            everything += self.asking.further(adapter, dtype)
            diagnosis = diagnose(subject, everything, reading=reading, effort=SEARCH[self.budget])
        return diagnosis

    def other_layers(self, seen: Sequence[Observation]) -> str | None:
        return of_other_layers(seen, self.subject.ropes) if self.subject.layered else None  # type: ignore[arg-type]

    def named(self, adapter: str, prop: Property, found: Falsified, diagnosis: Diagnosis) -> str:
        known = {m.text for m in self.subject.mutations}
        fresh = [m for m in diagnosis.mutations if m.text not in known]
        if not fresh:
            return "the same"
        text = diagnosis.text
        more = self.asking.at_other_lengths(adapter) if diagnosis.covers == "wrong ones" else []
        condition = where([*found.observations, *more], self.subject.trained)
        notes = []
        for mutation in fresh:
            words = mutation.text if len(fresh) > 1 else text
            bug = told_by_offset(mutation) if adapter in ("decode", "steps") else mutation.bug
            notes.append(self.add(adapter, prop, found, bug, f"{words}{f' ({condition})' if condition else ''}", True))
        if diagnosis.covers in ("all", "pair"):
            self.subject.mutations = diagnosis.mutations
        return "; ".join(notes)

    def refused(self, adapter: str, prop: Property, found: Falsified) -> str:
        """A call that raised though the implementation says it can do this."""
        deviation = found.trial.deviation
        assert deviation is not None
        if self.before(adapter, found.case):
            return "may follow from what was found before"
        bug = "UNKNOWN" if prop.bug == "ANGDT" else prop.bug  # an error says nothing of angles
        text = deviation.text
        if prop.name == "positions":
            text += "; what counts tokens itself is given as `sequence`"
        if bug == "UNKNOWN":
            bug, text = self.why_refused(found, text)
        return self.add(adapter, prop, found, bug, text)

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

    def add(self, adapter: str, prop: Property, found: Falsified, bug: str, text: str, explained: bool = False) -> str:
        deviation = found.trial.deviation
        assert deviation is not None
        if any(f.bug == bug and (f.explanation == text or f.adapter == adapter) for f in self.findings):
            return f"the same: {bug}"
        self.findings.append(Finding(
            bug, prop.name, adapter, text, snippet(self.subject, adapter, found.case), "bug",
            deviation.error, deviation.bound,
            {"deviation": deviation.text, "reason": prop.reason, "explained": explained}
            | ({"unless": f"if it need not, declare {prop.unless}"} if prop.unless else {}),
        ))  # fmt: skip
        return bug

    def known(self, finding: Finding) -> Finding:
        declared = self.subject.implementation.deviations
        accepted = finding.bug in declared or f"{finding.bug}:{finding.property}" in declared
        return replace(finding, severity="known") if accepted else finding
