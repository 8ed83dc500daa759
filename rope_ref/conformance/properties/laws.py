"""Properties that compare answers with each other, and need the specification for bounds alone."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, nested
from rope_ref.conformance.adapters.subject import Deviation, Subject, differs
from rope_ref.conformance.properties.property import Case, Property, Trial, apart, drawn, observed, unless
from rope_ref.pairing import channels


class _Refused(Exception):
    """A call gave no answer; the deviation says why."""


def turned(subject: Subject, adapter: str, probe: Probe, x: Array | None = None) -> tuple[Array, Array]:
    """An answer, and how far it may be from what is expected."""
    answer = subject.ask(adapter, probe, x)
    if answer.y is None:
        raise _Refused(answer.failed)
    return answer.y, subject.expected(probe, x)[1]


def law(compare: Callable[[Subject, str, Probe], tuple[Array, Array, Array]]) -> Callable[[Subject, str, Case], Trial]:
    """A trial from a function that returns two arrays and a bound on their difference."""

    def trial(subject: Subject, adapter: str, case: Case) -> Trial:
        for probe in case:
            try:
                found, expected, bound = compare(subject, adapter, probe)
            except _Refused as error:
                return Trial(Deviation(str(error), np.inf))
            deviation = differs(found, expected, bound)
            if deviation is not None:
                answer = subject.ask(adapter, probe)
                return Trial(deviation, observed(subject, probe, answer, subject.deviates(answer, probe)))
        return Trial(None)

    return trial


def size(subject: Subject) -> float:
    return subject.rope.attention_scale


def longest(bound: Array) -> Array:
    """A bound on what a rotation makes of an error in its input: at most the sum of both of a pair."""
    return np.broadcast_to(2 * bound.max(-1, keepdims=True), bound.shape)


@law
def norm(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    rope = subject.rope_for(probe)
    y, bound = turned(subject, adapter, probe)
    expected, _ = subject.expected(probe)
    a, b = channels(rope.pairing, rope.pairs, rope.start)
    return (
        np.hypot(y[..., a], y[..., b]), np.hypot(expected[..., a], expected[..., b]), bound[..., a] + bound[..., b]
    )  # fmt: skip


@law
def relative(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    """Scores between two heads of tokens, here and a few positions on."""
    moved = replace(probe, positions=nested(probe.where + 11))
    scores = []
    for one in (probe, moved):
        q, q_bound = turned(subject, adapter, one)
        k, k_bound = turned(subject, adapter, replace(one, seed=int(one.seed) + 1))  # type: ignore[arg-type]
        error = np.abs(q) @ k_bound.swapaxes(-1, -2) + q_bound @ (np.abs(k) + k_bound).swapaxes(-1, -2)
        scores.append((q @ k.swapaxes(-1, -2), error))
    return scores[0][0], scores[1][0], scores[0][1] + scores[1][1]


@law
def composition(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    once, first = turned(subject, adapter, probe)
    step = replace(probe, positions=nested(np.full_like(probe.where, 5)))
    twice, second = turned(subject, adapter, step, once)
    whole, third = turned(subject, adapter, replace(probe, positions=nested(probe.where + 5)))
    m = size(subject)
    rope = subject.rope_for(probe)
    rest = np.setdiff1d(np.arange(rope.head_dim), np.concatenate(channels(rope.pairing, rope.pairs, rope.start)))
    scaled, bound = m * whole, second + m * longest(first) + m * third
    scaled[..., rest] = whole[..., rest]
    return twice, scaled, bound


@law
def inverse(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    once, first = turned(subject, adapter, probe)
    back, second = turned(subject, adapter, replace(probe, positions=nested(-probe.where)), once)
    rope, m = subject.rope_for(probe), size(subject)
    x = probe.x(rope.head_dim, rope.axes).copy()
    x[..., np.concatenate(channels(rope.pairing, rope.pairs, rope.start))] *= m * m
    return back, x, second + m * longest(first)


@law
def linearity(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    parts = [turned(subject, adapter, replace(probe, seed=seed)) for seed in ((1,), (2,), (1, 2))]
    (one, a), (two, b), (both, c) = parts
    return both, one + two, a + b + c


@law
def pass_through(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    rope = subject.rope_for(probe)
    rest = np.setdiff1d(np.arange(rope.head_dim), np.concatenate(channels(rope.pairing, rope.pairs, rope.start)))
    y, _ = turned(subject, adapter, probe)
    return y[..., rest], probe.x(rope.head_dim, rope.axes)[..., rest], np.zeros(y[..., rest].shape)


@law
def permutation(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    rope = subject.rope_for(probe)
    y, first = turned(subject, adapter, probe)
    x = probe.x(rope.head_dim, rope.axes)
    z, second = turned(subject, adapter, replace(probe, positions=probe.positions[::-1]), x[:, :, ::-1])
    return z[:, :, ::-1], y, first + second[:, :, ::-1]


@law
def split(subject: Subject, adapter: str, probe: Probe) -> tuple[Array, Array, Array]:
    rope = subject.rope_for(probe)
    y, bound = turned(subject, adapter, probe)
    x, cut = probe.x(rope.head_dim, rope.axes), probe.seq(rope.axes) // 2
    halves = [
        turned(subject, adapter, replace(probe, positions=probe.positions[part]), x[:, :, part])
        for part in (slice(None, cut), slice(cut, None))
    ]
    return (
        np.concatenate([half for half, _ in halves], 2), y, bound + np.concatenate([error for _, error in halves], 2)
    )  # fmt: skip


def plain(subject: Subject, facts: Facts) -> str:
    return "" if subject.rope.xpos is None else "xPos scales by position"


def same_length(subject: Subject, facts: Facts) -> str:
    return "the Rope depends on the length" if callable(subject.ropes) else plain(subject, facts)


def within(distance: int) -> Callable[[Facts], tuple[int, int]]:
    """Positions that are still within reach when they have moved on by a distance, with the tokens behind them."""
    return lambda facts: (0, max(min(60, facts.reach - facts.least - distance - 6), 0))


def moves(distance: int) -> Callable[[Subject, Facts], str]:
    """Why positions cannot be moved on by a distance."""
    return lambda s, f: same_length(s, f) or ("" if f.reach - f.least > distance + 6 else "its range is too short")


near = drawn(kind="any", starts=apart)
LAWS = (
    Property("norm", "a rotation keeps the length of every pair, but for the magnitude", "UNKNOWN", near, norm),
    Property("relative position", "scores depend on the distance of query and key alone", "UNKNOWN",
             drawn(starts=within(11), seqs=(2, 5)), relative, skip=moves(11)),
    Property("composition", "turning by p and then by q is turning by p + q", "UNKNOWN",
             drawn(kind="any", starts=within(5)), composition, skip=moves(5)),
    Property("inverse", "turning by -p undoes turning by p", "UNKNOWN", near, inverse,
             skip=lambda s, f: same_length(s, f) or ("" if f.negative else "negative positions are refused")),
    Property("linearity", "a rotation is linear", "UNKNOWN", near, linearity),
    Property("pass-through", "channels that do not turn keep every bit", "ROTDIM", near, pass_through,
             skip=unless(lambda s, f: 2 * s.rope.pairs < s.rope.head_dim, "all channels turn")),
    Property("token permutation", "tokens know nothing of each other", "UNKNOWN", near, permutation),
    Property("split", "a sequence turned in two parts is the sequence turned as a whole", "UNKNOWN",
             drawn(kind="any", starts=apart, seqs=(2, 9)), split, skip=same_length),
)  # fmt: skip
