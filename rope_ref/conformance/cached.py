"""Keys in a cache: appended, evicted, shifted."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.arrays import Array, numbers
from rope_ref.conformance.calling import Failed
from rope_ref.conformance.contract import trained_length
from rope_ref.conformance.interview import Facts
from rope_ref.conformance.model import computed
from rope_ref.conformance.mutations.rules import rule
from rope_ref.conformance.probes import Probe, nested, sequence
from rope_ref.conformance.properties import Case, Property, Trial
from rope_ref.conformance.scores import compared, scale_of
from rope_ref.conformance.subject import Deviation, Subject, differs
from rope_ref.conformance.ways import failed, needs
from rope_ref.rope import Rope


def cached(subject: Subject, way: str, case: Case) -> Trial:
    """Append, sometimes evict or shift, and score: as a fresh sequence would be."""
    one, rope = subject.implementation, subject.rope_for(case[-1])
    try:
        held = subject.call(one.cache)
        keys: list[tuple[Probe, int]] = []  # (probe, index in it) of each key held
        offset, happened = 0, []
        for step, probe in enumerate(case):
            subject.call(held.append, subject.laid(probe.x(rope.head_dim, rope.axes), probe.dtype))
            keys += [(probe, i) for i in range(probe.seq(rope.axes))]
            happened.append(f"append {probe.seq(rope.axes)}")
            if step == 0 and hasattr(held, "evict") and probe.before == (1,) and len(keys) > 2:
                subject.call(held.evict, 1, 2)
                del keys[1]
                happened.append("evict 1 to 2")
            if step == 0 and hasattr(held, "shift") and probe.before == (2,):
                subject.call(held.shift, 3)
                offset = 3
                happened.append("shift by 3")
            last = Probe(probe.batch, probe.heads, (len(keys) - 1 + offset,), dtype=probe.dtype, seed=99)
            raw = subject.call(held.scores, subject.laid(last.x(rope.head_dim, rope.axes), probe.dtype))
            found = subject.call(numbers, raw)
            deviation, told = _judge(subject, found, last, keys, offset, case)
            if deviation is not None:
                bug, text = told
                return Trial(deviation, (), bug or "KVROT", f"after {', '.join(happened)}: {text or deviation.text}")
    except Failed as error:
        return failed(error)
    except AttributeError as error:
        return failed(error)
    return Trial(None)


def _judge(
    subject: Subject, found: Array, q: Probe, keys: list[tuple[Probe, int]], offset: int, case: Case
) -> tuple[Deviation | None, tuple[str, str]]:
    count = len(keys)
    length = int(q.where.max()) + 1
    rope = subject.rope_for(q, length=length) if callable(subject.ropes) else subject.rope
    x = np.concatenate([p.x(rope.head_dim, rope.axes)[:, :, i : i + 1] for p, i in keys], 2)

    def expected(
        q_place: float, places: Array, ropes: Callable[[int], Rope] = lambda i: rope, scaled: bool = True
    ) -> tuple[Array, Array]:
        q_rope = ropes(count - 1)
        a, a_bound = computed(replace(q, positions=(float(q_place),), position_dtype="float64"), q_rope,
                              subject.exactness(q.dtype))  # fmt: skip
        parts, owns = [], [ropes(i) for i in range(count)]
        for begin, end in runs(owns):
            one = Probe(q.batch, q.heads, tuple(places[begin:end].tolist()), dtype=q.dtype, position_dtype="float64")
            own = owns[begin].keys if scaled else replace(owns[begin], xpos=None)
            parts.append(computed(one, own, subject.exactness(q.dtype), (), x[:, :, begin:end]))
        b, b_bound = (np.concatenate([part[j] for part in parts], 2).swapaxes(-1, -2) for j in (0, 1))
        unit = (rope.head_dim + 2) * 2.0**-24
        bound = np.abs(a) @ b_bound + a_bound @ (np.abs(b) + b_bound) + unit * (np.abs(a) @ np.abs(b))
        scale = scale_of(subject)
        return scale * (a @ b), abs(scale) * 2 * bound

    places = np.arange(count, dtype=np.float64) + offset
    right, bound = expected(places[-1], places)
    if found.shape != right.shape:
        return Deviation(f"returned shape {found.shape}; expected {right.shape}"), ("KVROT", "")
    deviation = compared(found, right, bound)
    if deviation is None:
        return None, ("", "")
    appended = np.cumsum([p.seq(rope.axes) for p in case])
    begins = np.concatenate([[0], appended])
    came = np.array([case.index(p) for p, _ in keys])  # with which call
    own = np.array([i for _, i in keys], float)
    original = begins[came] + own
    steps = came.max() + 1 - came
    tried = {
        "every key and the query stand at 0": (0.0, places * 0),
        "keys stand at 0": (places[-1], places * 0),
        "the query stands at 0": (0.0, places),
        "keys stand where they were when their own call began at 0": (places[-1], own),
        "keys keep the rotation of where they were": (places[-1], original),
        "keys and query keep the rotation of where they were": (original[-1], original),
        "cached keys are turned again at every step": (
            places[-1], places * steps,
        ),
        "keys are turned twice": (places[-1], places * 2),
        "the query stands one too far": (places[-1] + 1, places),
        "the query stands one too near": (places[-1] - 1, places),
        "keys stand one too far": (places[-1], places + 1),
        "shifting does not move the keys": (places[-1], places - offset),
        "shifting does not move the query": (places[-1] - offset, places),
        "keys are moved the wrong way": (places[-1], places - 2 * offset),
    }  # fmt: skip
    for text, (q_place, key_places) in tried.items():
        if compared(found, *expected(q_place, np.asarray(key_places))) is None:
            return deviation, ("KVROT", text)
    if rope.xpos is not None and compared(found, *expected(places[-1], places, scaled=False)) is None:
        return deviation, ("XPOS", "cached keys are not scaled")
    if callable(subject.ropes):
        ends = [int(appended[h]) for h in came]
        chunked = expected(places[-1], places, lambda i: subject.rope_for(q, length=ends[i]))
        if compared(found, *chunked) is None:
            return deviation, (rule(rope) or "LONG", "each key turns by the Rope of the length at which it came")
    if rope.xpos is not None:
        return deviation, ("XPOS", "scores of cached keys are not those of a whole sequence")
    return deviation, ("KVROT", "")


def runs(ropes: list[Rope]) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches with the same Rope."""
    begin = 0
    for i in range(1, len(ropes) + 1):
        if i == len(ropes) or ropes[i] != ropes[begin]:
            yield begin, i
            begin = i


def appends(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads = subject.rope.axes, facts.heads[-1]
    sizes = [1, 1, 3, 5]
    trained = trained_length(subject)
    if trained is not None and trained < 2000:
        sizes += [trained - 2, trained // 2 + 1]

    def whole(counts: list[int], event: int) -> Case:
        begins = np.concatenate([[0], np.cumsum(counts)])
        return tuple(
            sequence(
                int(begins[k]), n, axes, heads=heads, dtype=facts.dtypes[0], seed=k, before=(event,) if k == 0 else ()
            )
            for k, n in enumerate(counts)
        )

    return st.builds(whole, st.lists(st.sampled_from(sizes), min_size=2, max_size=5), st.sampled_from([0, 1, 2]))


def moved(subject: Subject, way: str, case: Case) -> Trial:
    probe, distance = case[0], -4 if int(np.min(case[0].where)) >= 4 else 3
    rope = subject.rope_for(probe)
    there = replace(probe, positions=nested(probe.where + distance))
    keys, first = computed(probe, rope.keys, subject.exactness(probe.dtype))
    try:
        raw = subject.call(
            subject.implementation.shift, subject.laid(keys, probe.dtype), subject.positions(probe), distance
        )
        y = subject.read(raw, keys.shape)
    except Failed as error:
        return failed(error)
    expected, second = computed(there, rope.keys, subject.exactness(probe.dtype))
    unit = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}[probe.dtype]
    bound = second + 2 * (first + unit * np.abs(keys)).max(-1, keepdims=True)
    deviation = differs(y, expected, np.broadcast_to(bound, y.shape))
    if deviation is None:
        return Trial(None)
    text = f"keys moved from {probe.where.min()} by {distance} are not keys of {there.where.min()}"
    return Trial(deviation, (), "KVROT", text)


def _keys(subject: Subject, facts: Facts) -> Any:
    axes, heads = subject.rope.axes, facts.heads[-1]
    return st.builds(
        lambda start, seq: (sequence(start, seq, axes, heads=heads, dtype=facts.dtypes[0], seed=3),),
        st.sampled_from([0, 4, 9, 300]), st.integers(1, 6),
    )  # fmt: skip


CACHED = (
    Property("cached keys", "keys in a cache stand where their tokens do, whatever came, went and moved", "KVROT",
             appends, cached, skip=needs("cache")),
    Property("shifted keys", "turning a cached key on is turning it where it then stands", "KVROT", _keys, moved,
             skip=needs("shift")),
)  # fmt: skip
