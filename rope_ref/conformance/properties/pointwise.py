"""Properties that compare an answer with the specification, each in other circumstances."""

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import STRIDES, sequence
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.properties.property import Case, Property, Trial, apart, drawn, observed, unless


def pointwise(subject: Subject, adapter: str, case: Case) -> Trial:
    """Each answer is that of the specification."""
    first, seen = None, []
    for probe in case:
        answer = subject.ask(adapter, probe)
        deviation = subject.deviates(answer, probe)
        seen += observed(subject, probe, answer, deviation)
        first = first or deviation
    return Trial(first, seen)


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
             declared=lambda s: bool(s.implementation.rows), unless="rows=False"),
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
             declared=lambda s: bool(s.implementation.negative), unless="negative=False"),
    Property("dtypes", "half-precision queries are turned by exact angles", "ANGDT",
             drawn(starts=lambda facts: (0, 70_000), kind="any", seqs=(1, 6), dtype=lambda facts: facts.dtypes),
             pointwise, skip=unless(lambda s, f: len(f.dtypes) > 1, "one dtype")),
    Property("strides", "the same numbers in another memory layout are the same query", "GEOM",
             every_memory, pointwise, names=("ROTDIM", "GEOM"),
             skip=unless(lambda s, f: f.strided, "views are refused"),
             declared=lambda s: bool(s.implementation.strided), unless="strided=False"),
    Property("position dtypes", "the dtype of positions says nothing about where a token is", "POSDT",
             drawn(kind="any", starts=apart, position_dtype=lambda facts: facts.position_dtypes), pointwise,
             names=("POSDT",), skip=unless(lambda s, f: len(f.position_dtypes) > 1, "one integer dtype"),
             declared=lambda s: bool(s.implementation.position_dtypes), unless='position_dtypes=("int64",)'),
    Property("fractional positions", "tokens may stand between whole positions", "POSDT",
             drawn(kind="fractional", starts=apart, position_dtype=("float32",)), pointwise, names=("POSDT",),
             skip=lambda s, f: "the Rope depends on the length" if callable(s.ropes) else (
                 "" if f.fractional else "fractional positions are refused"),
             declared=lambda s: bool(s.implementation.fractional), unless="fractional=False"),
)  # fmt: skip
