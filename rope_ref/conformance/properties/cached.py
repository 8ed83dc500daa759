"""Keys in a cache: appended, evicted, cut off, shifted."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import Array, numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.implementation import STORED
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Deviation, Subject
from rope_ref.conformance.diagnosis.mutations.rules import rule
from rope_ref.conformance.properties.model import computed
from rope_ref.conformance.properties.property import Case, Property, Trial, failed, needs
from rope_ref.conformance.properties.scores import compared, scale_of
from rope_ref.exactness import UNIT
from rope_ref.rope import Rope


def cached(subject: Subject, adapter: str, case: Case) -> Trial:
    """Append, sometimes evict or shift, and score: as a fresh sequence would be."""
    one, rope = subject.implementation, subject.rope_for(case[-1])
    held = Held(subject, case)
    try:
        cache = subject.call(one.cache)
        for step, probe in enumerate(case):
            subject.call(cache.append, subject.laid(probe.x(rope.head_dim, rope.axes), probe.dtype))
            held.append(probe, probe.seq(rope.axes))
            if step == 0 and hasattr(cache, "evict") and probe.before == (1,) and len(held.keys) > 2:
                subject.call(cache.evict, 1, 2)
                held.evict(1, 2)
            if step == 0 and hasattr(cache, "shift") and probe.before == (2,):
                subject.call(cache.shift, 3)
                held.shift(3)
            if step == 0 and hasattr(cache, "truncate") and probe.before == (3,) and len(held.keys) > 2:
                subject.call(cache.truncate, len(held.keys) - 2)
                held.truncate(len(held.keys) - 2)
            raw = subject.call(cache.scores, subject.laid(held.q.x(rope.head_dim, rope.axes), probe.dtype))
            found = subject.call(numbers, raw)
            if one.evicted is None and held.renumbered and held.evicted and not held.fits(found):
                held.renumbered = False
                held.renumbered = not held.fits(found)
            right, bound = held.scores(held.places[-1], held.places)
            if found.shape != right.shape:
                return failed(Failed(f"returned shape {found.shape}; expected {right.shape}"))
            deviation = compared(found, right, bound)
            if deviation is not None:
                return Trial(deviation, tell=partial(held.why, found, deviation))
    except (Failed, AttributeError) as error:
        return failed(error)
    return Trial(None)


@dataclass
class Held:
    """What a cache should hold: (probe, index in it) of each key, its place when it came, how far all were shifted.

    renumbered: whether keys that are kept after an eviction stand without a gap, or else where they stood.
    """

    subject: Subject
    case: Case
    keys: list[tuple[Probe, int]] = field(default_factory=list)
    offset: int = 0
    happened: list[str] = field(default_factory=list)
    stood: list[int] = field(default_factory=list)
    evicted: bool = False

    def __post_init__(self) -> None:
        self.renumbered = self.subject.implementation.evicted != "absolute"

    def append(self, probe: Probe, count: int) -> None:
        begin = self.stood[-1] + 1 if self.stood else 0
        self.keys += [(probe, i) for i in range(count)]
        self.stood += range(begin, begin + count)
        self.happened.append(f"append {count}")

    def evict(self, start: int, stop: int) -> None:
        del self.keys[start:stop], self.stood[start:stop]
        self.evicted = True
        self.happened.append(f"evict {start} to {stop}")

    def truncate(self, length: int) -> None:
        del self.keys[length:], self.stood[length:]
        self.happened.append(f"truncate to {length}")

    def shift(self, by: int) -> None:
        self.offset += by
        self.happened.append(f"shift by {by}")

    @property
    def places(self) -> Array:
        return np.asarray(range(len(self.keys)) if self.renumbered else self.stood, np.float64) + self.offset

    @property
    def q(self) -> Probe:
        """The query, at the last of the keys."""
        first = self.case[0]
        return Probe(first.batch, first.heads, (int(self.places[-1]),), dtype=first.dtype, seed=99)

    @property
    def rope(self) -> Rope:
        return self.subject.rope_for(self.q)

    def scores(
        self, q_place: float, places: Array, ropes: Sequence[Rope] | None = None, scaled: bool = True
    ) -> tuple[Array, Array]:
        """logit_scale <q', k'> with the query and the keys at these places, and its bound."""
        subject, q, rope = self.subject, self.q, self.rope
        owns, exact = ropes or [rope] * len(self.keys), subject.exactness(q.dtype)
        x = np.concatenate([p.x(rope.head_dim, rope.axes)[:, :, i : i + 1] for p, i in self.keys], 2)
        query = replace(q, positions=(float(q_place),), position_dtype="float64")
        a, a_bound = subject.computed(query, owns[-1], exact)
        parts = []
        for begin, end in runs(owns):
            one = replace(q, positions=tuple(places[begin:end].tolist()), position_dtype="float64")
            own = owns[begin].keys if scaled else replace(owns[begin], xpos=None)
            parts.append(computed(one, own, exact, (), x[:, :, begin:end]))
        b, b_bound = (np.concatenate([part[j] for part in parts], 2).swapaxes(-1, -2) for j in (0, 1))
        a, a_bound = (subject.query_scale(query) * each for each in (a, a_bound))
        b_bound = b_bound + self.rounded(b)
        unit = (rope.head_dim + 2) * UNIT["float32"]
        bound = np.abs(a) @ b_bound + a_bound @ (np.abs(b) + b_bound) + unit * (np.abs(a) @ np.abs(b))
        scale = scale_of(subject)
        return scale * (a @ b), abs(scale) * 2 * bound

    def rounded(self, keys: Array) -> float:
        """How far a number of a key is off for the dtype that keys are kept in.

        Whether one scale serves a token, a channel, a head or all, it is of the largest number at most; what is kept
        before it is rotated had numbers up to the square root of 2 larger, and their errors are turned, by which they
        grow by as much again at most; and each move may round again.
        """
        stored = self.subject.implementation.stored
        if stored is None:
            return 0.0
        moves = 1 + sum(event.startswith(("shift", "evict")) for event in self.happened)
        return moves * 2 * float(np.abs(keys).max(initial=0)) * STORED[stored]

    def fits(self, found: Array) -> bool:
        """Whether these are the scores."""
        right, bound = self.scores(self.places[-1], self.places)
        return found.shape == right.shape and compared(found, right, bound) is None

    def why(self, found: Array, deviation: Deviation) -> tuple[str, str]:
        """The class and the words of what explains wrong scores."""
        bug, text = self.explained(found)
        return bug, f"after {', '.join(self.happened)}: {text or deviation.text}"

    def explained(self, found: Array) -> tuple[str, str]:
        rope, places = self.rope, self.places
        ends = np.cumsum([p.seq(rope.axes) for p in self.case])
        came = np.array([self.case.index(p) for p, _ in self.keys])  # with which call
        own = np.array([i for _, i in self.keys], float)
        first = np.concatenate([[0], ends])[came] + own  # where they stood when they came
        q, offset, steps = places[-1], self.offset, came.max() + 1 - came
        tried = {
            "every key and the query stand at 0": (0.0, places * 0),
            "keys stand at 0": (q, places * 0),
            "the query stands at 0": (0.0, places),
            "keys stand where they were when their own call began at 0": (q, own),
            "keys keep the rotation of where they were": (q, first),
            "keys and query keep the rotation of where they were": (first[-1], first),
            "cached keys are turned again at every step": (q, places * steps),
            "keys are turned twice": (q, places * 2),
            "the query stands one too far": (q + 1, places),
            "the query stands one too near": (q - 1, places),
            "keys stand one too far": (q, places + 1),
            "shifting does not move the keys": (q, places - offset),
            "shifting does not move the query": (q - offset, places),
            "keys are moved the wrong way": (q, places - 2 * offset),
            "keys that are kept are not moved": (q, np.where(came == 0, first, places)),
            "keys that are kept are moved the wrong way": (q, np.where(came == 0, 2 * first - places, places)),
            "keys that are kept are moved twice": (q, np.where(came == 0, 2 * places - first, places)),
        }
        for text, (q_place, key_places) in tried.items():
            if compared(found, *self.scores(q_place, key_places)) is None:
                return "KVROT", text
        moved = (came == 0) & ((first != places) if self.evicted else offset != 0)
        scores, bound = self.scores(q, places)
        if compared(found, scores * np.where(moved, rope.attention_scale, 1.0), bound * rope.attention_scale) is None:
            return "KVROT", "keys are scaled by the magnitude again when they are moved"
        if rope.xpos is not None:
            unscaled = compared(found, *self.scores(q, places, scaled=False)) is None
            return "XPOS", "cached keys are not scaled" if unscaled else ""
        if callable(self.subject.ropes):
            chunks = [self.subject.rope_for(self.q, length=int(ends[call])) for call in came]
            if compared(found, *self.scores(q, places, chunks)) is None:
                return rule(rope) or "LONG", "each key turns by the Rope of the length at which it came"
        return "KVROT", ""


def runs(ropes: Sequence[Rope]) -> Iterator[tuple[int, int]]:
    """Begin and end of stretches with the same Rope."""
    begin = 0
    for i in range(1, len(ropes) + 1):
        if i == len(ropes) or ropes[i] != ropes[begin]:
            yield begin, i
            begin = i


def appends(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads = subject.rope.axes, facts.heads[-1]
    sizes = [1, 1, 3, 5]
    trained = subject.trained
    if trained is not None and trained < 2000:
        sizes += [trained - 2, trained // 2 + 1]

    def whole(counts: list[int], event: int) -> Case:
        if event in (1, 3):  # something must be left
            counts = [max(counts[0], 3), *counts[1:]]
        begins = np.concatenate([[0], np.cumsum(counts)])
        return tuple(
            sequence(
                int(begins[k]), n, axes, heads=heads, dtype=facts.dtypes[0], seed=k, before=(event,) if k == 0 else ()
            )
            for k, n in enumerate(counts)
        )

    return st.builds(whole, st.lists(st.sampled_from(sizes), min_size=2, max_size=5), st.sampled_from([0, 1, 2, 3]))


CACHED = (
    Property("cached keys", "keys in a cache stand where their tokens do, whatever came, went and moved", "KVROT",
             appends, cached, skip=needs("cache")),
)  # fmt: skip
