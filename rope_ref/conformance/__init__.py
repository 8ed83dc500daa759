"""Checking other people's rotary embeddings against the specification.

To be read in this order:

1. ``adapters``    asking an implementation: ``implementation``, ``probes``, ``calls``, ``subject``, ``capabilities``
2. ``properties``  what must hold: ``model``, ``property``, ``pointwise``, ``laws``, then the others, ``falsify``
3. ``diagnosis``   explaining what does not: ``reading``, ``mutations``, ``candidates``, ``diagnose``, ``findings``
4. ``reporting``   telling it: ``report``, ``render``, ``snippet``
5. ``check``       the four of them in a row; ``command`` and ``plugin`` call it

``vectors``, with ``samples``, ``exposure`` and ``description``, is the check for programs that cannot be called.
"""

from typing import TYPE_CHECKING, Any

from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.check import check
from rope_ref.conformance.reporting.report import Finding, Outcome, Report

if TYPE_CHECKING:
    from rope_ref.conformance.plugin import conforms

__all__ = ["Finding", "Implementation", "Outcome", "Report", "check", "conforms"]


def __getattr__(name: str) -> Any:
    """`conforms` is loaded when it is asked for, since it needs pytest."""
    if name != "conforms":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from rope_ref.conformance.plugin import conforms

    return conforms
