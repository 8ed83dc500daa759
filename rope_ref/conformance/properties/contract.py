"""What a call may do beside rotating, and what it must do where it cannot."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import numbers
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import nested, sequence
from rope_ref.conformance.adapters.subject import Deviation, Subject
from rope_ref.conformance.properties.property import Case, Property, Trial, apart, drawn, observed


def left_alone(subject: Subject, adapter: str, case: Case) -> Trial:
    answer = subject.ask(adapter, case[0])
    if answer.y is None or not answer.changed:
        return Trial(None)
    return Trial(Deviation("x holds other numbers after the call"), (), "INPL", "it writes over its input")


def same_dtype(subject: Subject, adapter: str, case: Case) -> Trial:
    answer = subject.ask(adapter, case[0])
    if answer.y is None or answer.dtype == case[0].dtype:
        return Trial(None)
    text = f"{case[0].dtype} comes back as {answer.dtype}"
    return Trial(Deviation(text), (), "TABDT", text)


def repeatable(subject: Subject, adapter: str, case: Case) -> Trial:
    """The first call again after the others gives the same bits."""
    first = subject.ask(adapter, case[0])
    for probe in (*case[1:], replace(case[0], seed=7)):
        subject.ask(adapter, probe)
    if first.y is not None and not np.array_equal(numbers(first.raw), first.held, equal_nan=True):
        text = "what it gave back is overwritten by a later call"
        return Trial(Deviation(text), (), "INPL", text)
    again = subject.ask(adapter, case[0])
    if first.y is None or (again.y is not None and np.array_equal(first.y, again.y, equal_nan=True)):
        return Trial(None)
    calls = ", then ".join(f"{p.where.shape[-1]} tokens from {p.where.min():g}" for p in case[1:])
    text = f"the same call gives another answer after {calls}"
    return Trial(Deviation(again.failed or text), (), "CACHE", text)


def within_range(subject: Subject, adapter: str, case: Case) -> Trial:
    """The last positions that are declared are served."""
    probe = case[0]
    answer = subject.ask(adapter, probe)
    deviation = subject.deviates(answer, probe)
    text = "" if answer.y is not None else f"the last positions of its range are refused: {answer.failed}"
    return Trial(deviation, observed(subject, probe, answer, deviation), "RANGE" if text else "", text)


def out_of_range(subject: Subject, adapter: str, case: Case) -> Trial:
    """Beyond the range there is an error or the right answer."""
    probe = case[0]
    answer = subject.ask(adapter, probe)
    if answer.y is None and "shape" not in answer.failed.partition(":")[0]:
        return Trial(None)
    deviation = subject.deviates(answer, probe)
    return Trial(deviation, (), "RANGE", "positions that are out of range get a wrong answer, not an error")


def histories(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    """Two to four calls of other lengths, from other positions."""
    axes, heads = subject.rope.axes, facts.heads[-1]
    starts, seqs = [0, 0, 3, 7, 40, 3000], [1, 2, 5, 5, 9, 40]
    trained = subject.trained
    if trained is not None:  # on both sides of the length at which the Rope changes
        starts, seqs = (
            [*starts, trained - 2, trained + 5, 2 * trained],
            [*seqs, trained + 3] if trained < 3000 else seqs,
        )
    ahead = 0 if axes is None else 6 + axes  # on several axes some run ahead
    one = st.builds(
        lambda start, seq, dtype: sequence(min(start, facts.reach - 1 - seq - ahead), seq, axes, heads=heads,
                                           dtype=dtype),
        st.sampled_from(starts), st.sampled_from(seqs), st.sampled_from(facts.dtypes[:2]),
    )  # fmt: skip
    one = one | drawn(kind="any", starts=apart, seqs=(3, 6))(subject, facts).map(lambda case: case[0])
    return st.lists(one.filter(lambda p: p.where.min() >= 0), min_size=2, max_size=4).map(tuple)


def at_the_end(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads, end = subject.rope.axes, facts.heads[-1], subject.implementation.max_position or 0

    def last(seq: int) -> Case:
        seq = min(seq, end)
        probe = sequence(end - seq, seq, axes, heads=heads)  # on several axes some would run ahead
        return (replace(probe, positions=nested(np.minimum(probe.where, end - 1))),)

    return st.integers(1, 3).map(last)


def past_the_end(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads, end = subject.rope.axes, facts.heads[-1], subject.implementation.max_position
    starts = [] if end is None else [end - 1, end, end + 1, 2 * end]
    return st.builds(
        lambda start, seq: (sequence(start, seq, axes, heads=heads),), st.sampled_from(starts), st.integers(1, 3)
    ).filter(lambda case: case[0].where.max() >= (end or 0))


def ranged(subject: Subject, facts: Facts) -> str:
    return "" if subject.implementation.max_position is not None else "no max_position is declared"


def dangerous(subject: Subject, facts: Facts) -> str:
    """Memory that is not its own may be read: not asked of what is known to do so."""
    one = subject.implementation
    if "RANGE" in one.deviations:
        return "known to read what it should not"
    return "" if one.max_position is not None else "no max_position is declared"


every_dtype = drawn(
    starts=apart, dtype=lambda f: f.dtypes, batches=lambda f: f.batches,
    memory=lambda f: ("contiguous", "sliced", "transposed") if f.strided else ("contiguous",),
)  # fmt: skip
CONTRACT = (
    Property("repeatable", "an answer does not depend on what was asked before", "CACHE", histories, repeatable),
    Property("inputs left alone", "queries and keys are used again after the call", "INPL", every_dtype, left_alone),
    Property("dtype and shape", "what comes back has the dtype and the shape of x", "TABDT", every_dtype, same_dtype),
    Property("end of range", "the last position of the declared range is served", "RANGE", at_the_end, within_range,
             names=("RANGE",), skip=ranged),
    Property("out of range", "a position beyond the range is an error, never somebody else's memory", "RANGE",
             past_the_end, out_of_range, skip=dangerous),
)  # fmt: skip
