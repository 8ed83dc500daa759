"""Queries and keys together: two heads counts, scores, caches of keys and what moves them."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.arrays import Array, numbers
from rope_ref.conformance.calling import Failed
from rope_ref.conformance.contract import trained_length
from rope_ref.conformance.diagnosis import Observation, candidates, extra
from rope_ref.conformance.interview import Facts
from rope_ref.conformance.model import Mutation, computed, lenient
from rope_ref.conformance.probes import Probe, nested, sequence
from rope_ref.conformance.properties import Case, Property, Trial, unless
from rope_ref.conformance.subject import Deviation, Subject, differs
from rope_ref.magnitude import yarn_softmax
from rope_ref.rope import Rope


def turned(subject: Subject, probe: Probe, rope: Rope, mutations: tuple[Mutation, ...] = ()) -> tuple[Array, Array]:
    """A query or a key, rotated by the specification, and its bound."""
    level = lenient(probe.dtype) if mutations else subject.exactness(probe.dtype)
    return computed(probe, rope, level, mutations)


def failed(error: Exception) -> Trial:
    return Trial(Deviation(str(error), np.inf))


# ---- apply_qk: case = (query, key) ----


def query_and_key(subject: Subject, way: str, case: Case) -> Trial:
    q, k = case
    rope = subject.rope_for(k)
    sides = [(q, rope), (k, rope.keys)]
    arrays = [subject.laid(p.x(rope.head_dim, rope.axes), p.dtype, p.memory) for p in case]
    try:
        raw = subject.call(subject.implementation.apply_qk, *arrays, *(subject.positions(p) for p in case))
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise Failed(f"returned {type(raw).__name__}; expected the pair of a query and a key")
        answers = [
            subject.read(one, (p.batch, p.heads, p.seq(rope.axes), rope.head_dim)) for one, p in zip(raw, case, strict=True)
        ]
    except Failed as error:
        alone = [replace(p, memory="contiguous") for p in case]
        if q.memory != k.memory and query_and_key(subject, way, (alone[0], alone[1])).deviation is None:
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
    if first is not None and q.memory != k.memory and all(
        # each side is right where both lie in memory alike
        differs(y, *turned(subject, p, own)) is None
        for p, own, y in together(subject, replace(q, memory="contiguous"), replace(k, memory="contiguous"), rope)
    ):
        return Trial(first, seen, "GEOM", "wrong where query and key lie in memory in different ways: the query "
                     f"{q.memory}, the key {k.memory}")
    return Trial(first, seen)


def together(subject: Subject, q: Probe, k: Probe, rope: Rope) -> Iterator[tuple[Probe, Rope, Array]]:
    """The answers to a query and a key, none where there is no answer."""
    arrays = [subject.laid(p.x(rope.head_dim, rope.axes), p.dtype) for p in (q, k)]
    raw = subject.call(subject.implementation.apply_qk, *arrays, *(subject.positions(p) for p in (q, k)))
    for one, p, own in zip(raw, (q, k), (rope, rope.keys), strict=True):
        yield p, own, subject.read(one, (p.batch, p.heads, p.seq(rope.axes), rope.head_dim))


def pairs_of(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, declared = subject.rope.axes, subject.implementation.heads
    counts = [declared] if isinstance(declared, tuple) else [(h, h) for h in facts.heads]
    if declared is None and subject.rope.heads is None:
        counts += [(4, 1), (4, 2)]

    def both(heads: tuple[int, int], start: int, seq: int, past: int, memory: tuple[str, str], dtype: str, batch: int) -> Case:
        start = min(start, max(facts.reach - seq - past - 1, 0))
        seq = min(seq, facts.reach)
        past = min(past, max(facts.reach - seq - start - 1, 0))
        return (
            sequence(start + past, seq, axes, batch=batch, heads=heads[0], dtype=dtype, seed=1, memory=memory[0],
                     before=(past,)),
            sequence(start, seq + past, axes, batch=batch, heads=heads[1], dtype=dtype, seed=2, memory=memory[1]),
        )

    memory = st.sampled_from(("contiguous", "sliced", "transposed") if facts.strided else ("contiguous",))
    return st.builds(
        both, st.sampled_from(counts), st.sampled_from([0, 0, 3, 500]), st.integers(1, 6),
        st.sampled_from([0, 0, 0, 3, 300]), st.tuples(memory, memory), st.sampled_from(facts.dtypes),
        st.sampled_from(facts.batches),
    )  # fmt: skip


# ---- scores: case = (query, key) ----


def scale_of(subject: Subject) -> float:
    given = subject.implementation.logit_scale
    return float(subject.rope.head_dim**-0.5 if given is None else given)


def logits(
    subject: Subject, q: Probe, k: Probe, rope: Rope, on_q: tuple[Mutation, ...] = (), on_k: tuple[Mutation, ...] = ()
) -> tuple[Array, Array]:
    """logit_scale <q', k'> and its bound: each key serves as many query heads as there are more."""
    scale = scale_of(subject)
    (a, a_bound), (b, b_bound) = turned(subject, q, rope, on_q), turned(subject, k, rope.keys, on_k)
    b, b_bound = (np.repeat(t, q.heads // k.heads, 1).swapaxes(-1, -2) for t in (b, b_bound))
    unit = (rope.head_dim + 2) * {"float64": 2.0**-53}.get(q.dtype, 2.0**-24)  # the sum, in float32 at least
    if q.dtype in ("float16", "bfloat16"):
        unit += {"float16": 2.0**-11, "bfloat16": 2.0**-8}[q.dtype]
    size = (np.abs(a) + a_bound) @ (np.abs(b) + b_bound)
    bound = np.abs(a) @ b_bound + a_bound @ (np.abs(b) + b_bound) + unit * size
    return scale * (a @ b), abs(scale) * bound


def compared(found: Array, expected: Array, bound: Array) -> Deviation | None:
    """Logits with logits, or probabilities with their softmax, recognised by rows that sum to one."""
    if found.shape == expected.shape and expected.shape[-1] > 1 and (np.abs(found.sum(-1) - 1) < 1e-3).all() and (found >= 0).all():
        weights = np.exp(expected - expected.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        worst = bound.max(-1, keepdims=True)  # d softmax <= 2 p max |d logit|
        return differs(found, weights, weights * np.expm1(2 * worst) + 2.0**-20)
    return differs(found, expected, bound)


def score(subject: Subject, way: str, case: Case) -> Trial:
    q, k = case
    rope = subject.rope_for(k)
    arrays = [subject.laid(p.x(rope.head_dim, rope.axes), p.dtype, p.memory) for p in case]
    try:
        raw = subject.call(subject.implementation.scores, *arrays, *(subject.positions(p) for p in case))
        found = subject.call(numbers, raw)
    except Failed as error:
        return failed(error)
    expected, bound = logits(subject, q, k, rope)
    if found.shape != expected.shape:
        return Trial(Deviation(f"returned shape {found.shape}; expected {expected.shape}", np.inf))
    deviation = compared(found, expected, bound)
    if deviation is None:
        return Trial(None)
    bug, text = why(subject, found, q, k, rope)
    return Trial(deviation, (), bug, text)


def why(subject: Subject, found: Array, q: Probe, k: Probe, rope: Rope) -> tuple[str, str]:
    """The class and the words of what explains wrong scores."""
    for text, factor in factors(rope):
        expected, bound = logits(subject, q, k, rope)
        if compared(found, expected * factor, 4 * bound * max(factor, 1)) is None:
            return "YMAG" if rope.attention_scale != 1 or factor != round(factor) or _yarn(rope) else "FORMULA", text
    observation = Observation(q, rope, found, False)
    for mutation in (extra(subject, observation) | candidates(rope)).values():
        for side, (on_q, on_k) in {
            "": ((mutation,), (mutation,)), "queries alone: ": ((mutation,), ()), "keys alone: ": ((), (mutation,)),
        }.items():  # fmt: skip
            try:
                with np.errstate(all="ignore"):
                    expected, bound = logits(subject, q, k, rope, on_q, on_k)
                if np.isfinite(expected).all() and compared(found, expected, bound) is None:
                    return mutation.bug, side + mutation.text
            except (ValueError, IndexError):
                continue
    ratio = found / logits(subject, q, k, rope)[0]
    if np.ptp(ratio) < 1e-3 * np.abs(ratio).max():
        return "YMAG" if _yarn(rope) else "UNKNOWN", f"all scores are {np.median(ratio):.6g} times what they should be"
    return "", ""


def _yarn(rope: Rope) -> bool:
    return rope.origin is not None and rope.origin.make.__name__ in ("yarn", "dynamic_yarn", "longrope")


def factors(rope: Rope) -> Iterator[tuple[str, float]]:
    """Constants that scores are wrong by."""
    m, given = rope.attention_scale, rope.origin.given if rope.origin else {}
    if m != 1:
        yield "the magnitude is missing from the scores", m**-2
        yield "the magnitude is applied to queries or keys alone", 1 / m
        yield "the magnitude squared is applied once more", m**2
    if _yarn(rope) and given.get("factor"):
        soft = yarn_softmax(float(given["factor"]), float(given.get("mscale_all_dim") or 1.0))
        yield "the softmax scale lacks the squared magnitude", 1 / soft
        yield "the softmax scale has the squared magnitude twice", soft
        yield "the softmax scale has the magnitude, not its square", soft**-0.5
    yield "scores are not divided by the square root of head_dim", rope.head_dim**0.5
    yield "scores are divided by the square root of head_dim twice", rope.head_dim**-0.5


def two_keys(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, rows = subject.rope.axes, facts.rows and subject.batched

    def both(start: int, seq: int, past: int, batch: int, apart: int) -> Case:
        start = min(start, max(facts.reach - seq - past - 1 - 20, 0))
        q = sequence(start + past, seq, axes, batch=batch, heads=facts.heads[-1], dtype=facts.dtypes[0], seed=1)
        k = sequence(start, seq + past, axes, batch=batch, heads=facts.heads[-1], dtype=facts.dtypes[0], seed=2)
        if not (rows and apart) or batch == 1:
            return q, k
        more = (np.arange(batch) * apart).reshape(-1, *(1,) * q.where.ndim)
        return replace(q, positions=nested(q.where + more)), replace(k, positions=nested(k.where + more))

    return st.builds(both, st.sampled_from([0, 0, 7, 400]), st.integers(1, 4), st.integers(1, 6),
                     st.sampled_from(facts.batches), st.sampled_from([0, 2, 5]))  # fmt: skip


# ---- cache: case = one probe for each append; what happens to it is drawn from the seed of the first ----


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
                offset, _ = 3, happened.append("shift by 3")
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
            return deviation, (_rule(rope), "each key turns by the Rope of the length at which it came")
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


def _rule(rope: Rope) -> str:
    from rope_ref.conformance.mutations.frequencies import rule

    return rule(rope) or "LONG"


def appends(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads = subject.rope.axes, facts.heads[-1]
    sizes = [1, 1, 3, 5]
    trained = trained_length(subject)
    if trained is not None and trained < 2000:
        sizes += [trained - 2, trained // 2 + 1]

    def whole(counts: list[int], event: int) -> Case:
        begins = np.concatenate([[0], np.cumsum(counts)])
        return tuple(
            sequence(int(begins[k]), n, axes, heads=heads, dtype=facts.dtypes[0], seed=k, before=(event,) if k == 0 else ())
            for k, n in enumerate(counts)
        )

    return st.builds(whole, st.lists(st.sampled_from(sizes), min_size=2, max_size=5), st.sampled_from([0, 1, 2]))


# ---- shift: case = one probe of keys ----


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


def _with(name: str) -> Callable[[Subject, Facts], str]:
    return unless(lambda s, f: getattr(s.implementation, name) is not None, f"no `{name}`")


def _keys(subject: Subject, facts: Facts) -> Any:
    axes, heads = subject.rope.axes, facts.heads[-1]
    return st.builds(
        lambda start, seq: (sequence(start, seq, axes, heads=heads, dtype=facts.dtypes[0], seed=3),),
        st.sampled_from([0, 4, 9, 300]), st.integers(1, 6),
    )  # fmt: skip


ATTENTION = (
    Property("query and key", "queries and keys of other lengths, heads and strides are each turned where they stand",
             "UNKNOWN", pairs_of, query_and_key, skip=_with("apply_qk")),
    Property("scores", "scores carry the magnitude twice, once from each side, and nothing else", "UNKNOWN", two_keys,
             score, skip=_with("scores")),
    Property("cached keys", "keys in a cache stand where their tokens do, whatever came, went and moved", "KVROT",
             appends, cached, skip=_with("cache")),
    Property("shifted keys", "turning a cached key on is turning it where it then stands", "KVROT", _keys, moved,
             skip=_with("shift")),
)  # fmt: skip
