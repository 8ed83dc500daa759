"""A failing case as a few lines of Python that can be pasted into a test."""

import numpy as np

from rope_ref.conformance.probes import Probe
from rope_ref.conformance.subject import Subject


def snippet(subject: Subject, way: str, case: tuple[Probe, ...]) -> str:
    """Statements that ask the same question; `implementation` stands for what was checked."""
    if not case:
        return ""
    lines = [f"subject = Subject(implementation, {_ropes(subject)}, kind={subject.kind!r})"]
    if way in subject.ways():
        for probe in case:
            lines += [f"probe = {probe!r}", f"assert subject.deviates(subject.ask({way!r}, probe), probe) is None"]
    else:
        lines += [f"# {way}, called in this order"] + [f"probe = {probe!r}" for probe in case]
    return "\n".join(lines)


def _ropes(subject: Subject) -> str:
    if callable(subject.ropes):
        return "rope_of_length"
    with np.printoptions(threshold=8):
        return repr(subject.ropes)
