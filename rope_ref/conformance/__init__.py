"""Checking other people's rotary embeddings against the specification."""

from typing import TYPE_CHECKING, Any

from rope_ref.conformance.check import check
from rope_ref.conformance.implementation import Implementation
from rope_ref.conformance.report import Finding, Outcome, Report

if TYPE_CHECKING:
    from rope_ref.conformance.plugin import conforms

__all__ = ["Finding", "Implementation", "Outcome", "Report", "check", "conforms"]


def __getattr__(name: str) -> Any:
    """`conforms` is loaded when it is asked for, since it needs pytest."""
    if name != "conforms":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rope_ref.conformance.plugin import conforms

    return conforms
