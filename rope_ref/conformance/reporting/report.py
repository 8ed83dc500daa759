"""What a check found, as values, as plain text, as JSON and as JUnit's XML."""

import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth knowing.

    bug             class id: LAYOUT, POSDT, YMAG, ...; UNKNOWN where nothing explains it
    property        the property that failed
    adapter         the adapter that showed it: "apply", "decode", "paths.compiled", ...
    explanation     what the implementation does instead, in a sentence
    counterexample  a Python statement that shows it, fit to be pasted into a test
    severity        "bug"; "known" where it was declared; "remark" where it is no bug
    error           largest error that was seen, against a bound of `bound`
    """

    bug: str
    property: str
    adapter: str
    explanation: str
    counterexample: str = ""
    severity: str = "bug"
    error: float = 0.0
    bound: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        named = f"{self.bug}: " if self.bug else ""
        shown = f"\n{textwrap.indent(self.counterexample, '    ')}" if self.counterexample else ""
        return f"{named}{self.explanation}{shown}"


@dataclass(frozen=True)
class Outcome:
    """How one property fared: "passed", "failed", "known", "skipped"."""

    property: str
    adapter: str
    reason: str
    verdict: str
    note: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        """The property, after the adapter where it has several."""
        return self.property if self.adapter == self.property else f"{self.adapter}: {self.property}"


@dataclass(frozen=True)
class Report:
    """The findings of a check, bugs first, and how each property fared."""

    findings: tuple[Finding, ...]
    remarks: tuple[Finding, ...]
    outcomes: tuple[Outcome, ...]
    inferred: dict[str, Any]
    computes: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong that was not declared."""
        return not any(finding.severity == "bug" for finding in self.findings)

    def behind(self, outcome: Outcome) -> tuple[Finding, ...]:
        """The findings behind a failure: its own, or else those that its note names or that its adapter has."""
        own = tuple(f for f in self.findings if (f.property, f.adapter) == (outcome.property, outcome.adapter))
        if own or any((f.property, f.adapter) == (outcome.property, outcome.adapter) for f in self.remarks):
            return own
        named = set(re.findall("[A-Z0-9]+", outcome.note))
        return tuple(f for f in self.findings if f.adapter == outcome.adapter or f.bug in named)

    def verdict(self, outcome: Outcome) -> str:
        """That of the outcome; but a failure is "known" where all findings behind it are, and "skipped" where there
        are none: what is refused and was never promised is a remark, no bug."""
        if outcome.verdict != "failed":
            return outcome.verdict
        behind = self.behind(outcome)
        if not behind:
            return "skipped"
        return "failed" if any(f.severity == "bug" for f in behind) else "known"

    def stale(self, deviations: Iterable[str]) -> tuple[str, ...]:
        """Those deviations, class ids or "class:property", that nothing was found of."""
        seen = {name for f in self.findings for name in (f.bug, f"{f.bug}:{f.property}")}
        return tuple(one for one in deviations if one not in seen)

    def __str__(self) -> str:
        lines = [self.summary()]
        for f in self.findings:
            known = "known: " if f.severity == "known" else ""
            lines += ["", f"{known}{f.bug} ({f.adapter}, {f.property}): {f.explanation}"]
            lines += [f"    {f.details[name]}" for name in ("reason", "unless") if name in f.details]
            lines += [textwrap.indent(f.counterexample, "    ")] if f.counterexample else []
        if self.computes:
            lines += ["", "It computes:", *(f"    {line}" for line in self.computes)]
        if self.remarks:
            lines += ["", "Remarks:", *(f"    {f.adapter}: {f}" for f in self.remarks)]
        return "\n".join(lines)

    def summary(self) -> str:
        """The verdict in a line.

        >>> Report((), (), (Outcome("norm", "apply", "", "passed"),), {}).summary()
        'conforms: 1 property holds, in 0.0 s'
        """
        counts = {name: 0 for name in ("passed", "failed", "known", "skipped")}
        for outcome in self.outcomes:
            counts[self.verdict(outcome)] += 1
        one = counts["passed"] == 1
        parts = [f"{counts['passed']} {'property holds' if one else 'properties hold'}"]
        words = {"failed": "failed", "known": "failed as known", "skipped": "skipped"}
        parts += [f"{counts[name]} {word}" for name, word in words.items() if counts[name]]
        bugs = dict.fromkeys(f.bug for f in self.findings if f.severity == "bug")
        verdict = "conforms" if self.passed else f"does not conform ({', '.join(bugs)})"
        return f"{verdict}: {', '.join(parts)}, in {self.seconds:.1f} s"

    def as_json(self) -> dict[str, Any]:
        """The report in what JSON has: no times and nothing of the machine, so that equal checks give equal bytes.

        format      1, of this dict; it grows when a key changes its meaning or goes
        versions    of rope-ref, numpy, hypothesis, and the framework whose arrays were given
        conforms    whether nothing is wrong that was not declared
        findings    [{bug, severity, property, adapter, explanation, counterexample, error, bound, details}]
        remarks     the same; what is worth knowing and no bug
        properties  [{property, adapter, reason, verdict, note}], verdict "passed", "failed", "known" or "skipped"
        inferred    what was found out about an implementation that does not declare it
        computes    what it computes, in sentences, where that was read off

        A number that is not finite is a string: "inf", "-inf" or "nan".

        >>> Report((), (), (), {"reach": 10}).as_json()["inferred"]
        {'reach': 10}
        """
        names = ("rope-ref", "numpy", "hypothesis", self.inferred.get("arrays"))
        made: dict[str, Any] = {
            "format": 1,
            "versions": {name: version(name) for name in names if name},
            "conforms": self.passed,
            "findings": [vars(f) for f in self.findings],
            "remarks": [vars(f) for f in self.remarks],
            "properties": [
                {
                    "property": o.property, "adapter": o.adapter, "reason": o.reason,
                    "verdict": self.verdict(o), "note": o.note,
                }
                for o in self.outcomes
            ],
            "inferred": self.inferred,
            "computes": self.computes,
        }
        return {key: plain(value) for key, value in made.items()}

    def as_junit(self) -> str:
        """The report as JUnit's XML: a testcase a property, of class rope_ref.ADAPTER; what is known is skipped."""
        suite = ET.Element("testsuite", name="rope_ref.conformance", errors="0")
        counts = {"failed": 0, "known": 0, "skipped": 0, "passed": 0}
        for outcome in self.outcomes:
            verdict = self.verdict(outcome)
            counts[verdict] += 1
            case = ET.SubElement(
                suite, "testcase", classname=f"rope_ref.{outcome.adapter}", name=outcome.property,
                time=f"{outcome.seconds:.3f}",
            )  # fmt: skip
            if verdict != "passed":
                message, text = self.failure(outcome)
                element = ET.SubElement(case, "failure" if verdict == "failed" else "skipped", message=legal(message))
                element.text = legal(text)
        suite.attrib |= {
            "tests": str(len(self.outcomes)), "failures": str(counts["failed"]),
            "skipped": str(counts["known"] + counts["skipped"]), "time": f"{self.seconds:.3f}",
        }  # fmt: skip
        suites = ET.Element("testsuites")
        suites.append(suite)
        ET.indent(suites)
        return ET.tostring(suites, encoding="unicode", xml_declaration=False) + "\n"

    def failure(self, outcome: Outcome) -> tuple[str, str]:
        """Why a property did not pass: in a line, and at length."""
        verdict, behind = self.verdict(outcome), self.behind(outcome)
        if verdict == "skipped":
            return outcome.note or "refused", ""
        own = [f for f in behind if f.property == outcome.property and f.adapter == outcome.adapter]
        names = ", ".join(dict.fromkeys(f.bug for f in behind))
        reason = names if own else outcome.note or f"may follow from {names}"
        message = f"known: {reason}" if verdict == "known" else reason
        return message, "\n\n".join([*map(str, own or behind), f"It must hold, since {outcome.reason}."])


def version(name: str) -> str:
    """The version of a package; "not installed" where only its source is on the path."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def plain(value: Any) -> Any:
    """A value in what JSON has.

    >>> plain({"a": (1, np.float64("inf"), None)})
    {'a': [1, 'inf', None]}
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else str(value)
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, Iterable):
        return [plain(each) for each in value]
    return str(value)


def legal(text: str) -> str:
    """Text with the characters that XML cannot hold written as Python writes them.

    >>> legal("a\\x00b")
    'a\\\\x00b'
    """
    illegal = "[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"
    return re.sub(illegal, lambda found: ascii(found[0])[1:-1], text)
