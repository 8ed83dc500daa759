"""Scores: what the magnitude does to them, and what else does."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import Array, numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, nested, sequence
from rope_ref.conformance.adapters.subject import Deviation, Subject, differs
from rope_ref.conformance.diagnosis.candidates import Observation, candidates, extra
from rope_ref.conformance.diagnosis.mutations.rules import magnified
from rope_ref.conformance.properties.model import Mutation
from rope_ref.conformance.properties.property import Case, Property, Trial, failed, needs
from rope_ref.conformance.properties.queries import turned
from rope_ref.exactness import UNIT
from rope_ref.magnitude import yarn_softmax
from rope_ref.rope import Rope


def scale_of(subject: Subject) -> float:
    given = subject.implementation.logit_scale
    return float(subject.rope.head_dim**-0.5 if given is None else given)


def logits(
    subject: Subject, q: Probe, k: Probe, rope: Rope, on_q: tuple[Mutation, ...] = (), on_k: tuple[Mutation, ...] = ()
) -> tuple[Array, Array]:
    """logit_scale <q', k'> and its bound: each key serves as many query heads as there are more."""
    scale = scale_of(subject)
    (a, a_bound), (b, b_bound) = turned(subject, q, rope, on_q), turned(subject, k, rope.keys, on_k)
    a, a_bound = (subject.query_scale(q) * each for each in (a, a_bound))
    b, b_bound = (np.repeat(t, q.heads // k.heads, 1).swapaxes(-1, -2) for t in (b, b_bound))
    unit = (rope.head_dim + 2) * min(UNIT[q.dtype], UNIT["float32"])  # the sum, in float32 at least
    if q.dtype in ("float16", "bfloat16"):
        unit += UNIT[q.dtype]
    size = (np.abs(a) + a_bound) @ (np.abs(b) + b_bound)
    bound = np.abs(a) @ b_bound + a_bound @ (np.abs(b) + b_bound) + unit * size
    return scale * (a @ b), abs(scale) * bound


def compared(found: Array, expected: Array, bound: Array) -> Deviation | None:
    """Logits with logits, or probabilities with their softmax, recognised by rows that sum to one."""
    if (
        found.shape == expected.shape
        and expected.shape[-1] > 1
        and (np.abs(found.sum(-1) - 1) < 1e-3).all()
        and (found >= 0).all()
    ):
        weights = np.exp(expected - expected.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        worst = bound.max(-1, keepdims=True)  # d softmax <= 2 p max |d logit|
        return differs(found, weights, weights * np.expm1(2 * worst) + 2.0**-20)
    return differs(found, expected, bound)


def score(subject: Subject, adapter: str, case: Case) -> Trial:
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
    return Trial(deviation, tell=partial(why, subject, found, q, k, rope))


def why(subject: Subject, found: Array, q: Probe, k: Probe, rope: Rope) -> tuple[str, str]:
    """The class and the words of what explains wrong scores."""
    for text, factor in factors(rope):
        expected, bound = logits(subject, q, k, rope)
        if compared(found, expected * factor, 4 * bound * max(factor, 1)) is None:
            scaled = rope.attention_scale != 1 or factor != round(factor) or magnified(rope)
            return "YMAG" if scaled else "FORMULA", text
    observation = Observation(q, rope, found, False)
    error = np.abs(found - logits(subject, q, k, rope)[0])
    for mutation in (extra(subject, observation) | candidates(rope)).values():
        for side, (on_q, on_k) in {
            "": ((mutation,), (mutation,)), "queries alone: ": ((mutation,), ()), "keys alone: ": ((), (mutation,)),
        }.items():  # fmt: skip
            try:
                with np.errstate(all="ignore"):
                    expected, bound = logits(subject, q, k, rope, on_q, on_k)
                # it must say more than that anything may come out
                tells = np.isfinite(expected).all() and bool((2 * bound < error).any())
                if tells and compared(found, expected, bound) is None:
                    return mutation.bug, side + mutation.text
            except (ValueError, IndexError):
                continue
    ratio = found / logits(subject, q, k, rope)[0]
    if np.ptp(ratio) < 1e-3 * np.abs(ratio).max():
        text = f"all scores are {np.median(ratio):.6g} times what they should be"
        return "YMAG" if magnified(rope) else "UNKNOWN", text
    return "", ""


def factors(rope: Rope) -> Iterator[tuple[str, float]]:
    """Constants that scores are wrong by."""
    m, given = rope.attention_scale, rope.origin.given if rope.origin else {}
    if m != 1:
        yield "the magnitude is missing from the scores", m**-2
        yield "the magnitude is applied to queries or keys alone", 1 / m
        yield "the magnitude squared is applied once more", m**2
    if magnified(rope) and given.get("factor"):
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


SCORES = (
    Property("scores", "scores carry the magnitude twice, once from each side, and nothing else", "UNKNOWN", two_keys,
             score, skip=needs("scores")),
)  # fmt: skip
