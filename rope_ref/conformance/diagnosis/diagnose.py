"""From answers that are wrong to the bug that explains them."""

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rope_ref.conformance.adapters.subject import Subject, differs
from rope_ref.conformance.diagnosis.candidates import Observation, candidates, extra, read_off
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Accuracy, Mutation, computed, lenient
from rope_ref.rope import Rope


class Diagnosis(NamedTuple):
    """The bug, in words; the mutations that explain all answers; how sure: "all", "wrong ones", "pair", "closest"."""

    bug: str
    text: str
    mutations: tuple[Mutation, ...]
    covers: str


def sharp(dtype: str) -> Accuracy:
    """The accuracy that most implementations have."""
    wide = "float64" if dtype == "float64" else "float32"
    return Accuracy("float32", wide, wide)


def coarse(dtype: str) -> Accuracy:
    """That of tables and arithmetic in the dtype of x."""
    return Accuracy("float32", dtype, dtype)


LEVELS = (sharp, coarse, lenient)


def matches(observation: Observation, mutations: Sequence[Mutation], level: Accuracy | None = None) -> bool:
    """Whether these wrongs, and nothing else, give this answer."""
    level = level or lenient(observation.probe.dtype)
    try:
        with np.errstate(all="ignore"):
            y, bound = computed(observation.probe, observation.rope, level, mutations)
    except (ValueError, IndexError):  # it cannot be wrong in this way here
        return False
    if not np.isfinite(y).all() or differs(observation.y, y, bound) is not None:
        return False
    return True


def tells(o: Observation, mutations: Sequence[Mutation], level: Accuracy) -> bool:
    """Whether these wrongs say more than that anything may come out: the answer is further off than they allow."""
    right, _ = computed(o.probe, o.rope, level)
    _, bound = computed(o.probe, o.rope, level, mutations)
    return bool(np.max(np.abs(o.y - right) / bound, initial=0.0) > 3)


def diagnose(
    subject: Subject, seen: Sequence[Observation], *, reading: Reading | None = None,
    names: Sequence[str] | None = None,
    base: Sequence[Mutation] = (), seconds: float = 4.0,
) -> Diagnosis | None:  # fmt: skip
    """The plainest explanation of the wrong answers that leaves the right ones right; None where there is none.

    names: the classes that may be named. base: wrongs that are known already.
    """
    for level in LEVELS:
        found = at_level(subject, seen, level, reading, names, base, seconds if level is sharp else 0.0)
        if found is not None:
            return found
    return None


def at_level(
    subject: Subject, seen: Sequence[Observation], level: Callable[[str], Accuracy], reading: Reading | None,
    names: Sequence[str] | None, base: Sequence[Mutation], seconds: float,
) -> Diagnosis | None:  # fmt: skip
    """The same, for implementations of one accuracy."""
    finite = [o for o in seen if np.isfinite(o.y).all()]
    # a power of a large exponent has few digits, and none where it overflows
    finite = [o for o in finite if 1e-6 < np.abs(o.y).max(initial=1.0) < 1e6] or finite
    wrong = [o for o in finite if not fits(o, base, level)]
    right = [o for o in finite if fits(o, base, level)]
    if not wrong:
        return None
    tables = {id(o): extra(subject, o) | candidates(o.rope) | read_off(o.rope, reading) for o in seen}
    wrong = sorted(wrong, key=lambda o: o.y.size)
    plausible = [
        text for text, m in tables[id(wrong[0])].items()
        if (names is None or m.bug in names) and fits(wrong[0], (*base, m), level)
    ]  # fmt: skip

    def holds(text: str, among: Iterable[Observation]) -> bool:
        return all(text in tables[id(o)] and fits(o, (*base, tables[id(o)][text]), level) for o in among)

    def telling(text: str) -> bool:
        return any(tells(o, (*base, tables[id(o)][text]), level(o.probe.dtype)) for o in wrong)

    covering = [text for text in plausible if holds(text, wrong) and telling(text)]
    for covers in ("all", "wrong ones"):
        for text in covering:
            # where a Rope does not know a wrong at all, as a layer without scaling, it is right as it is
            if covers == "wrong ones" or holds(text, (o for o in right if text in tables[id(o)])):
                mutation = tables[id(wrong[0])][text]
                if covers == "wrong ones" and set(mutation.changes) == {"rope"} and isinstance(subject.ropes, Rope):
                    continue  # the same frequencies serve all positions
                return Diagnosis(mutation.bug, text, (*base, mutation), covers)
    if names is None and not base and seconds:
        return pair(wrong, tables, seconds, level)
    return None


def fits(o: Observation, mutations: Sequence[Mutation], level: Callable[[str], Accuracy]) -> bool:
    return matches(o, mutations, level(o.probe.dtype))


def pair(
    wrong: Sequence[Observation],
    tables: dict[int, dict[str, Mutation]],
    seconds: float,
    level: Callable[[str], Accuracy],
) -> Diagnosis | None:
    """Two wrongs at once."""
    until = time.monotonic() + seconds
    first = tables[id(wrong[0])]
    for one, two in combinations([m for m in first.values() if not m.alone], 2):
        if time.monotonic() > until:
            return None
        if set(one.changes) == set(two.changes) == {"rope"} or "result" in one.changes:
            continue
        if fits(wrong[0], (one, two), level) and all(
            one.text in tables[id(o)] and two.text in tables[id(o)]
            and fits(o, (tables[id(o)][one.text], tables[id(o)][two.text]), level) for o in wrong[1:]
        ) and tells(wrong[0], (one, two), level(wrong[0].probe.dtype)):  # fmt: skip
            return Diagnosis(f"{one.bug}+{two.bug}", f"{one.text}; and {two.text}", (one, two), "pair")
    return None
