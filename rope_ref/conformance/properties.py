"""What must hold: each property with its reason, the probes that try it, and the class of a failure.

This file holds what a property is, and those that compare an answer with the specification, each in
other circumstances. ``laws`` holds those that compare answers with each other, ``contract`` what a call may
do beside rotating, ``state``, ``attention``, ``parts`` and ``training`` what goes through other ways in.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rope_ref.conformance.arrays import Array
from rope_ref.conformance.candidates import Observation
from rope_ref.conformance.interview import Facts
from rope_ref.conformance.probes import STRIDES, Probe, nested, sequence
from rope_ref.conformance.subject import Answer, Deviation, Subject

Case = tuple[Probe, ...]
Draw = Callable[[Subject, Facts], SearchStrategy[Case]]


class Trial(NamedTuple):
    """What came of one case: how it deviates, None where it does not; and the answers that were seen."""

    deviation: Deviation | None
    observations: Sequence[Observation] = ()
    bug: str = ""  # where the trial itself can tell
    text: str = ""
    tell: Callable[[], tuple[str, str]] | None = None  # the class and the words, where finding them out takes long


@dataclass(frozen=True)
class Property:
    """A property.

    reason    why it must hold, in a line
    bug       the class of a failure that no wrong of the catalogue explains
    names     the classes that an explanation may name; None for all
    draw      the cases
    trial     (subject, way, case) -> what came of it
    skip      (subject, facts) -> why it does not apply, "" where it does
    declared  whether the implementation says it can do this; a refusal is a bug only then
    """

    name: str
    reason: str
    bug: str
    draw: Draw
    trial: Callable[[Subject, str, Case], Trial]
    names: tuple[str, ...] | None = None
    skip: Callable[[Subject, Facts], str] = lambda subject, facts: ""
    declared: Callable[[Subject], bool] = lambda subject: True


def observed(subject: Subject, probe: Probe, answer: Answer, deviation: Deviation | None) -> list[Observation]:
    if answer.y is None:
        return []
    return [Observation(probe, subject.rope_for(probe), answer.y, deviation is None)]


def pointwise(subject: Subject, way: str, case: Case) -> Trial:
    """Each answer is that of the specification."""
    first, seen = None, []
    for probe in case:
        answer = subject.ask(way, probe)
        deviation = subject.deviates(answer, probe)
        seen += observed(subject, probe, answer, deviation)
        first = first or deviation
    return Trial(first, seen)


# ---- cases ----


def seeds() -> SearchStrategy[int]:
    return st.integers(0, 2**16)


@st.composite
def cases(
    draw: st.DrawFn, subject: Subject, facts: Facts, /, *, starts: tuple[int, int] = (0, 0),
    seqs: tuple[int, int] = (1, 9), kind: str = "sequence", **fixed: Any,
) -> Case:  # fmt: skip
    """One probe, for every layer that has a Rope of its own.

    kind: "sequence", tokens one behind the other; "any", each somewhere; "rows", each row somewhere else;
    "fractional", between whole numbers.
    """
    axes = subject.rope.axes
    low, high = max(min(starts[0], facts.reach - 1), 1 - facts.reach), min(starts[1], facts.reach - 1)
    seq = draw(st.integers(min(seqs[0], facts.reach), min(seqs[1], facts.reach)))
    batch = draw(st.sampled_from(fixed.pop("batches", (1,))))
    start = draw(st.integers(low, max(low, min(high, facts.reach - seq))))
    shape = (*([batch] if kind == "rows" else []), seq, *([axes] if axes else []))
    where: Array
    if kind == "sequence" and axes is None:
        where = start + np.arange(seq)
    else:
        number = st.integers(low, high)
        flat = draw(st.lists(number, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        where = np.asarray(flat, np.float64 if kind == "fractional" else np.int64).reshape(shape)
        if kind == "fractional":
            where = where + draw(st.sampled_from([0.5, 0.25, 0.75]))
    probe = Probe(
        batch, draw(st.sampled_from(facts.heads)), nested(where), seed=draw(seeds()),
        **{"dtype": facts.dtypes[0]} | {name: draw(st.sampled_from(values)) for name, values in fixed.items()},
    )  # fmt: skip
    return tuple(replace(probe, layer=layer) for layer in subject.kinds)


def drawn(**words: Any) -> Draw:
    """Cases with these words, each either the word or a function from the facts to it."""
    return lambda subject, facts: cases(subject, facts, **{k: v(facts) if callable(v) else v for k, v in words.items()})


def every_memory(subject: Subject, facts: Facts) -> SearchStrategy[Case]:
    """The same tokens in every memory layout there is."""
    plain = drawn(batches=facts.batches, starts=(0, 40), seqs=(1, 5))(subject, facts)
    return plain.map(lambda case: tuple(replace(p, memory=m) for m in STRIDES[1:] for p in case))


def around_trained(subject: Subject, facts: Facts) -> SearchStrategy[Case]:
    """Sequences that end just before, at, and behind the length at which the Rope changes."""
    trained, axes = subject.trained or 1, subject.rope.axes
    ends = st.sampled_from([trained - 1, trained, trained + 1, trained + 2, 2 * trained])
    return st.builds(
        lambda end, seq: (sequence(max(end - seq, 0), seq, axes, heads=facts.heads[-1], dtype=facts.dtypes[0]),),
        ends.filter(lambda end: 8 <= end <= facts.reach), st.integers(1, 6),
    )  # fmt: skip


def unless(holds: Callable[[Subject, Facts], bool], why: str) -> Callable[[Subject, Facts], str]:
    return lambda subject, facts: "" if holds(subject, facts) else why


def apart(facts: Facts) -> tuple[int, int]:
    return (0, min(60, facts.reach - 1))


POINTWISE = (
    Property("agreement", "the first tokens of a sequence turn as the specification says", "UNKNOWN",
             drawn(), pointwise),
    Property("positions", "a token turns by the position that it was given, not by its place in the call", "UNKNOWN",
             drawn(kind="any", starts=apart), pointwise),
    Property("offsets", "a sequence may begin anywhere", "UNKNOWN",
             drawn(starts=lambda facts: (0, 5000)), pointwise),
    Property("batch", "rows and single tokens are turned alike", "BATCHPOS",
             drawn(batches=lambda facts: facts.batches, seqs=(1, 3), starts=lambda facts: (0, 40)), pointwise,
             skip=unless(lambda s, f: len(f.batches) > 1, "the layout has no batch")),
    Property("rows", "each row of a batch has positions of its own", "BATCHPOS",
             drawn(kind="rows", starts=apart, batches=lambda facts: facts.batches, seqs=(1, 6)), pointwise,
             skip=unless(lambda s, f: f.rows, "positions are the same for all rows"),
             declared=lambda s: bool(s.implementation.rows)),
    Property("long sequences", "every token of a long sequence is turned", "UNKNOWN",
             drawn(seqs=(60, 700)), pointwise),
    Property("trained length", "up to the trained length and beyond, the Rope is the one for that length", "UNKNOWN",
             around_trained, pointwise, skip=unless(lambda s, f: s.trained is not None and f.reach > s.trained > 8,
                                                    "the Rope is the same at every length")),
    Property("long positions", "far positions keep their digits", "ANGDT",
             drawn(starts=lambda facts: (0, facts.reach), kind="sequence", seqs=(1, 12)), pointwise),
    Property("negative positions", "a position below zero turns the other way", "RANGE",
             drawn(starts=lambda facts: (-5000, 50), kind="any", seqs=(1, 6)), pointwise, names=("RANGE", "POSDT"),
             skip=unless(lambda s, f: f.negative, "negative positions are refused"),
             declared=lambda s: bool(s.implementation.negative)),
    Property("dtypes", "half-precision queries are turned by exact angles", "ANGDT",
             drawn(starts=lambda facts: (0, 70_000), kind="any", seqs=(1, 6), dtype=lambda facts: facts.dtypes),
             pointwise, skip=unless(lambda s, f: len(f.dtypes) > 1, "one dtype")),
    Property("strides", "the same numbers in another memory layout are the same query", "GEOM",
             every_memory, pointwise, names=("ROTDIM",), skip=unless(lambda s, f: f.strided, "views are refused"),
             declared=lambda s: bool(s.implementation.strided)),
    Property("position dtypes", "the dtype of positions says nothing about where a token is", "POSDT",
             drawn(kind="any", starts=apart, position_dtype=lambda facts: facts.position_dtypes), pointwise,
             names=("POSDT",), skip=unless(lambda s, f: len(f.position_dtypes) > 1, "one integer dtype"),
             declared=lambda s: bool(s.implementation.position_dtypes)),
    Property("fractional positions", "tokens may stand between whole positions", "POSDT",
             drawn(kind="fractional", starts=apart, position_dtype=("float32",)), pointwise, names=("POSDT",),
             skip=lambda s, f: "the Rope depends on the length" if callable(s.ropes) else (
                 "" if f.fractional else "fractional positions are refused"),
             declared=lambda s: bool(s.implementation.fractional)),
)  # fmt: skip
