"""From answers that are wrong to the bug that explains them."""

from collections.abc import Callable, Iterable, Sequence
from itertools import combinations, islice
from typing import NamedTuple

import numpy as np

from rope_ref.conformance.adapters.subject import Subject, differs
from rope_ref.conformance.diagnosis.candidates import Observation, candidates, extra, read_off
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Accuracy, Mutation, computed, lenient, values
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
    base: Sequence[Mutation] = (), effort: int = 0,
) -> Diagnosis | None:  # fmt: skip
    """The plainest explanation of the wrong answers that leaves the right ones right; None where there is none.

    names: the classes that may be named. base: wrongs that are known already. effort: how many numbers to compute in
    the search for two wrongs at once.
    """
    for level in LEVELS:
        found = at_level(subject, seen, level, reading, names, base, effort if level is sharp else 0)
        if found is not None:
            return found
    return None


def at_level(
    subject: Subject, seen: Sequence[Observation], level: Callable[[str], Accuracy], reading: Reading | None,
    names: Sequence[str] | None, base: Sequence[Mutation], effort: int,
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
    if names is None and not base and effort:
        return pair(wrong, tables, effort, level)
    return None


def fits(o: Observation, mutations: Sequence[Mutation], level: Callable[[str], Accuracy]) -> bool:
    return matches(o, mutations, level(o.probe.dtype))


def pair(
    wrong: Sequence[Observation], tables: dict[int, dict[str, Mutation]], effort: int,
    level: Callable[[str], Accuracy],
) -> Diagnosis | None:  # fmt: skip
    """Two wrongs at once, as many pairs as the effort allows for the smallest wrong answer."""
    smallest = wrong[0]
    single = [m for m in tables[id(smallest)].values() if not m.alone]
    pairs = ((one, two) for one, two in combinations(single, 2) if not (
        set(one.changes) == set(two.changes) == {"rope"} or "result" in one.changes))  # fmt: skip
    off = left(smallest, ())
    for both in islice(pairs, effort // max(smallest.y.size, 1)):
        if not left(smallest, both) < off / 2:  # which takes a third of the time of `fits`
            continue
        known = [[tables[id(o)].get(m.text) for m in both] for o in wrong]
        if all(None not in each and fits(o, each, level) for o, each in zip(wrong, known, strict=True)) and tells(  # type: ignore[arg-type]
            smallest, both, level(smallest.probe.dtype)
        ):
            one, two = both
            return Diagnosis(f"{one.bug}+{two.bug}", f"{one.text}; and {two.text}", both, "pair")
    return None


def left(o: Observation, mutations: Sequence[Mutation]) -> float:
    """The largest error that these wrongs leave, infinite where it cannot be wrong in this way."""
    try:
        with np.errstate(all="ignore"):
            error = np.abs(values(o.probe, o.rope, mutations).y - o.y).max(initial=0.0)
    except (ValueError, IndexError):
        return np.inf
    return float(np.nan_to_num(error, nan=np.inf))
