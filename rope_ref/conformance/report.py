"""What a check found."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, or worth knowing.

    bug             class id: LAYOUT, POSDT, YMAG, ...; UNKNOWN where nothing explains it
    property        the property that failed
    way             the way in that showed it: "apply", "decode", "paths.compiled", ...
    explanation     what the implementation does instead, in a sentence
    counterexample  a Python statement that shows it, fit to be pasted into a test
    severity        "bug"; "known" where it was declared; "remark" where it is no bug
    error           largest error that was seen, against a bound of `bound`
    """

    bug: str
    property: str
    way: str
    explanation: str
    counterexample: str = ""
    severity: str = "bug"
    error: float = 0.0
    bound: float = 0.0
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How one property fared: "passed", "failed", "known", "skipped"."""

    property: str
    way: str
    reason: str
    verdict: str
    note: str = ""
    seconds: float = 0.0


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
