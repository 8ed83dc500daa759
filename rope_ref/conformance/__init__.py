"""Checking other people's rotary embeddings against the specification."""

from rope_ref.conformance.check import check
from rope_ref.conformance.implementation import Implementation
from rope_ref.conformance.report import Finding, Outcome, Report

__all__ = ["Finding", "Implementation", "Outcome", "Report", "check"]
