"""Objects that remember: caches of tables, and sequences that are turned step by step."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import sequence
from rope_ref.conformance.adapters.subject import Answer, Deviation, Subject
from rope_ref.conformance.properties.contract import histories
from rope_ref.conformance.properties.property import Case, Property, Trial, observed, unless


def calls(subject: Subject, way: str, case: Case) -> Trial:
    """Every call of one object is answered as by a fresh one."""
    try:
        instance = subject.call(subject.implementation.make)
    except Failed as error:
        return Trial(Deviation(str(error), np.inf))
    answers, case = [], (*case, replace(case[0], seed=7))
    for index, probe in enumerate(case):
        answer = subject.answer(lambda p, x: subject._apply(instance, p, x), probe)
        deviation = subject.deviates(answer, probe)
        if deviation is not None:
            earlier = ", ".join(f"{p.where.shape[0]} tokens from {p.where.min():g} in {p.dtype}" for p in case[:index])
            text = f"call {index + 1} is wrong after {earlier}" if index else ""
            told = f"{text}: {_like(subject, answer, case, index)}" if index else ""
            return Trial(deviation, observed(subject, probe, answer, deviation), "CACHE" if index else "", told)
        answers.append(answer)
    if any(not np.array_equal(numbers(answer.raw), answer.held) for answer in answers):
        text = "what it gave back is overwritten by a later call"
        return Trial(Deviation(text), (), "INPL", text)
    return Trial(None)


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


def steps(subject: Subject, way: str, case: Case) -> Trial:
    """The tokens of one sequence, chunk by chunk, layer by layer."""
    one, seen, first = subject.implementation, [], None
    try:
        step = subject.call(one.session)
    except Failed as error:
        return Trial(Deviation(str(error), np.inf))
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


STATE = (
    Property("calls in any order", "a cache of tables grows, shrinks, moves and changes dtype without a trace", "CACHE",
             histories, calls, skip=unless(lambda s, f: s.implementation.make is not None, "no `make`")),
    Property("steps", "decoding step by step is the same sequence as the whole prompt", "OFFSET", chunks, steps,
             skip=unless(lambda s, f: s.implementation.session is not None, "no `session`")),
)  # fmt: skip
