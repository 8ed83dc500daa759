"""Queries and keys in one call: other heads, other lengths, other strides."""

from collections.abc import Iterator
from dataclasses import replace

from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Deviation, Subject, differs
from rope_ref.conformance.diagnosis.candidates import Observation
from rope_ref.conformance.properties.model import Mutation, computed, lenient
from rope_ref.conformance.properties.property import Case, Property, Trial, failed, needs
from rope_ref.rope import Rope


def turned(subject: Subject, probe: Probe, rope: Rope, mutations: tuple[Mutation, ...] = ()) -> tuple[Array, Array]:
    """A query or a key, rotated by the specification, and its bound."""
    level = lenient(probe.dtype) if mutations else subject.exactness(probe.dtype)
    return subject.computed(probe, rope, level, mutations)


def query_and_key(subject: Subject, adapter: str, case: Case) -> Trial:
    q, k = case
    rope = subject.rope_for(k)
    sides = [(q, rope), (k, rope.keys)]
    arrays = [subject.laid(p.x(rope.head_dim, rope.axes), p.dtype, p.memory) for p in case]
    try:
        raw = subject.call(subject.implementation.apply_qk, *arrays, *(subject.positions(p) for p in case))
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise Failed(f"returned {type(raw).__name__}; expected the pair of a query and a key")
        answers = [
            subject.read(one, (p.batch, p.heads, p.seq(rope.axes), rope.head_dim))
            for one, p in zip(raw, case, strict=True)
        ]
        answers[0] = answers[0] / subject.query_scale(q)
    except Failed as error:
        alone = [replace(p, memory="contiguous") for p in case]
        if q.memory != k.memory and query_and_key(subject, adapter, (alone[0], alone[1])).deviation is None:
            return Trial(Deviation(str(error)), (), "GEOM", f"with the query {q.memory} and the key {k.memory} {error}")
        return failed(error)
    for one, p in zip(raw, case, strict=True):
        if subject.dtype_of(one) != p.dtype:
            text = f"{p.dtype} comes back as {subject.dtype_of(one)}"
            return Trial(Deviation(text), (), "TABDT", text)
    first, seen = None, []
    for side, (probe, own), y in zip(("query", "key"), sides, answers, strict=True):
        deviation = differs(y, *turned(subject, probe, own))
        seen.append(Observation(probe, own, y, deviation is None))
        if deviation is not None:
            first = first or Deviation(f"the {side}: {deviation.text}", deviation.error, deviation.bound)
    if first is not None and q.x(2, None).shape == k.x(2, None).shape:
        crossed = [
            differs(answers[0], *computed(replace(k, positions=q.positions), rope, lenient(k.dtype))),
            differs(answers[1], *computed(replace(q, positions=k.positions), rope.keys, lenient(q.dtype))),
        ]
        if crossed == [None, None]:
            return Trial(first, seen, "FORMULA", "queries and keys are exchanged")
    if (
        first is not None
        and q.memory != k.memory
        and all(
            # each side is right where both lie in memory alike
            differs(y, *turned(subject, p, own)) is None
            for p, own, y in together(subject, replace(q, memory="contiguous"), replace(k, memory="contiguous"), rope)
        )
    ):
        return Trial(
            first,
            seen,
            "GEOM",
            f"wrong where query and key lie in memory in different ways: the query {q.memory}, the key {k.memory}",
        )
    return Trial(first, seen)


def together(subject: Subject, q: Probe, k: Probe, rope: Rope) -> Iterator[tuple[Probe, Rope, Array]]:
    """The answers to a query and a key, none where there is no answer."""
    arrays = [subject.laid(p.x(rope.head_dim, rope.axes), p.dtype) for p in (q, k)]
    raw = subject.call(subject.implementation.apply_qk, *arrays, *(subject.positions(p) for p in (q, k)))
    for one, p, own in zip(raw, (q, k), (rope, rope.keys), strict=True):
        y = subject.read(one, (p.batch, p.heads, p.seq(rope.axes), rope.head_dim))
        yield p, own, y / subject.query_scale(q) if p is q else y


def pairs_of(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, declared = subject.rope.axes, subject.implementation.heads
    counts = [declared] if isinstance(declared, tuple) else [(h, h) for h in facts.heads]
    if declared is None and subject.rope.heads is None:
        counts += [(4, 1), (4, 2)]

    def both(
        heads: tuple[int, int], start: int, seq: int, past: int, memory: tuple[str, str], dtype: str, batch: int
    ) -> Case:
        start = min(start, max(facts.reach - seq - past - 1, 0))
        seq = min(seq, facts.reach)
        past = min(past, max(facts.reach - seq - start - 1, 0))
        return (
            sequence(
                start + past,
                seq,
                axes,
                batch=batch,
                heads=heads[0],
                dtype=dtype,
                seed=1,
                memory=memory[0],
                before=(past,),
            ),
            sequence(start, seq + past, axes, batch=batch, heads=heads[1], dtype=dtype, seed=2, memory=memory[1]),
        )

    memory = st.sampled_from(("contiguous", "sliced", "transposed") if facts.strided else ("contiguous",))
    return st.builds(
        both, st.sampled_from(counts), st.sampled_from([0, 0, 3, 500]), st.integers(1, 6),
        st.sampled_from([0, 0, 0, 3, 300]), st.tuples(memory, memory), st.sampled_from(facts.dtypes),
        st.sampled_from(facts.batches),
    )  # fmt: skip


QUERIES = (
    Property("query and key", "queries and keys of other lengths, heads and strides are each turned where they stand",
             "UNKNOWN", pairs_of, query_and_key, skip=needs("apply_qk")),
)  # fmt: skip
