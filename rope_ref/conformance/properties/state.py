"""Objects that remember: caches of tables, and sequences that are turned step by step."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import nested, sequence
from rope_ref.conformance.adapters.subject import Answer, Deviation, Subject
from rope_ref.conformance.diagnosis.candidates import Observation
from rope_ref.conformance.properties.contract import histories
from rope_ref.conformance.properties.property import Case, Property, Trial, failed, needs, observed


def calls(subject: Subject, adapter: str, case: Case) -> Trial:
    """Every call of one object is answered as by a fresh one."""
    try:
        instance = subject.call(subject.implementation.make)
    except Failed as error:
        return failed(error)
    answers, case = [], (*case, replace(case[0], seed=7), *between(case))
    for index, probe in enumerate(case):
        answer = subject.answer(lambda p, x: subject._apply(instance, p, x), probe)
        deviation = subject.deviates(answer, probe)
        if deviation is not None:
            earlier = ", ".join(f"{p.where.shape[0]} tokens from {p.where.min():g} in {p.dtype}" for p in case[:index])
            text = f"call {index + 1} is wrong after {earlier}" if index else ""
            explanation = f"{text}: {_like(subject, answer, case, index)}" if index else ""
            return Trial(deviation, observed(subject, probe, answer, deviation), "CACHE" if index else "", explanation)
        answers.append(answer)
    if any(not np.array_equal(numbers(answer.raw), answer.held) for answer in answers):
        text = "what it gave back is overwritten by a later call"
        return Trial(Deviation(text), (), "INPL", text)
    return Trial(None)


def between(case: Case) -> Case:
    """A call with the first and the last position of an earlier one, and those between them the other way round."""
    for probe in case:
        p = probe.where.copy()
        if len(p) > 3:
            p[1:-1] = p[1:-1][::-1]
            return (replace(probe, positions=nested(p)),)
    return ()


def _like(subject: Subject, answer: Answer, case: Case, index: int) -> str:
    """Which earlier call the answer belongs to."""
    if answer.y is None:
        return answer.failed
    for earlier in case[:index]:
        rope = subject.rope_for(case[index])
        x = case[index].x(rope.head_dim, rope.axes)
        if earlier.where.shape == case[index].where.shape and subject.deviates(answer, earlier, x) is None:
            return f"it answers with the angles of {earlier.where.shape[0]} tokens from {earlier.where.min():g}"
    return "a fresh object answers rightly"


def steps(subject: Subject, adapter: str, case: Case) -> Trial:
    """The tokens of one sequence, chunk by chunk, layer by layer."""
    one, seen, first = subject.implementation, [], None
    try:
        step = subject.call(one.session)
    except Failed as error:
        return failed(error)
    for probe in case:
        extra = (probe.layer,) if one.layers > 1 else ()

        def ask(p, x, extra=extra):  # type: ignore[no-untyped-def]
            array = subject.laid(x, p.dtype)
            return subject.call(step, array, *extra), subject.changed(array, x)

        answer = subject.answer(ask, probe)
        deviation = subject.deviates(answer, probe)
        seen += observed(subject, probe, answer, deviation)
        first = first or deviation
        if answer.y is None:
            break
    return Trial(first, seen)


def chunks(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    """A prompt and some steps, for every layer in turn; past the trained length where the Rope depends on it."""
    axes, heads, layers = subject.rope.axes, facts.heads[-1], subject.implementation.layers
    prompts = [1, 3, 5, 8]
    trained = subject.trained
    if trained is not None and trained < 5000:
        prompts += [trained - 2, trained + 3]

    def whole(prompt: int, more: list[int]) -> Case:
        sizes, probes = [prompt, *more], []
        for k, size in enumerate(sizes):
            before = tuple(sizes[:k])
            probes += [
                sequence(
                    sum(before), size, axes, heads=heads, dtype=facts.dtypes[0], seed=k, before=before, layer=layer
                )
                for layer in range(layers)
            ]
        return tuple(probes)

    return st.builds(
        whole, st.sampled_from(prompts), st.lists(st.sampled_from([1, 1, 1, 2, 4]), min_size=1, max_size=4)
    )


def padded(subject: Subject, adapter: str, case: Case) -> Trial:
    """The tokens of rows that begin with padding, chunk by chunk: each counts from the end of its own padding."""
    padding = case[0].before
    try:
        step = subject.call(subject.implementation.padded, padding)
    except Failed as error:
        return failed(error)
    seen: list[Observation] = []
    for k, probe in enumerate(case):
        there = probe.where  # as if padding were tokens, (seq,) or (seq, axes)
        own = np.maximum(there - np.asarray(padding).reshape(-1, *(1,) * there.ndim), 0)
        counted = replace(probe, before=(), padding=() if k else padding)  # the prompt is longer than any padding
        right = replace(counted, positions=nested(own))
        answer = subject.answer(lambda p, x: (subject.call(step, subject.laid(x, p.dtype)), False), right)
        if answer.y is None:
            return Trial(Deviation(answer.failed, np.inf), seen)
        answer = answer._replace(y=right.without_padding(answer.y))
        deviation = subject.deviates(answer, right)
        seen += observed(subject, right, answer, deviation)
        if deviation is not None and subject.deviates(answer, counted) is None:
            return Trial(deviation, seen, "OFFSET", "padding is counted as if it were tokens")
        if deviation is not None:
            return Trial(deviation, seen)
    return Trial(None, seen)


def padded_chunks(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    """A prompt that is longer than the padding of any row, and some steps."""

    def whole(padding: tuple[int, ...], more: list[int]) -> Case:
        sizes = [max(padding) + more[0], *more[1:]]
        return tuple(
            sequence(
                sum(sizes[:k]), size, subject.rope.axes, batch=len(padding), heads=facts.heads[-1],
                dtype=facts.dtypes[0], seed=k, before=padding,
            )
            for k, size in enumerate(sizes)
        )  # fmt: skip

    rows = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)
    return st.builds(whole, rows, st.lists(st.sampled_from([1, 1, 2, 4]), min_size=1, max_size=4))


STATE = (
    Property("calls in any order", "a cache of tables grows, shrinks, moves and changes dtype without a trace", "CACHE",
             histories, calls, skip=needs("make")),
    Property("steps", "decoding step by step is the same sequence as the whole prompt", "OFFSET", chunks, steps,
             skip=needs("session")),
    Property("padded rows", "a row counts from the end of its own padding", "OFFSET", padded_chunks, padded,
             skip=needs("padded")),
)  # fmt: skip
