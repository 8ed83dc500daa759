"""From answers that are wrong to the bug that explains them."""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import numpy as np

from rope_ref.conformance.arrays import Array
from rope_ref.conformance.model import Accuracy, Mutation, computed, lenient
from rope_ref.conformance.mutations import catalogue, from_reading
from rope_ref.conformance.mutations.frequencies import rule
from rope_ref.conformance.probes import Probe
from rope_ref.conformance.reading import Reading
from rope_ref.conformance.subject import Subject, differs
from rope_ref.frequencies import geometric
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from rope_ref.rotation import angles


class Observation(NamedTuple):
    """A probe, the Rope it is about, the answer, and whether the answer was right."""

    probe: Probe
    rope: Rope
    y: Array
    right: bool


class Diagnosis(NamedTuple):
    """The bug, in words; the mutations that explain all answers; how sure: "all", "wrong ones", "pair", "closest"."""

    bug: str
    text: str
    mutations: tuple[Mutation, ...]
    covers: str


@lru_cache(maxsize=64)
def candidates(rope: Rope) -> dict[str, Mutation]:
    """The catalogue for a Rope by its words, which are the same for Ropes of other lengths and layers."""
    found: dict[str, Mutation] = {}
    for mutation in catalogue(rope):
        found.setdefault(mutation.text, mutation)
    return found


def resolved(subject: Subject, mutations: Sequence[Mutation], probe: Probe) -> tuple[Mutation, ...]:
    """The same wrongs for the Rope of a probe; those that it does not know are left out."""
    rope = subject.rope_for(probe)
    known = extra(subject, Observation(probe, rope, np.empty(0), True)) | candidates(rope)
    return tuple(known[m.text] for m in mutations if m.text in known)


def read_off(rope: Rope, reading: Reading | None) -> dict[str, Mutation]:
    """What was read off, as wrongs."""
    return {m.text: m for m in from_reading(rope, reading)} if reading else {}


def extra(subject: Subject, observation: Observation) -> dict[str, Mutation]:
    """What could be wrong where there are several Ropes: that of another layer, or of another length."""
    rope, probe = observation.rope, observation.probe
    made: list[tuple[str, str, Rope]] = []
    if subject.layered:
        for k, other in enumerate(subject.ropes):  # type: ignore[arg-type]
            made.append(("LAYER", f"it turns by the Rope of layer {k}", other))
            factor = other.origin.given.get("factor") if other.origin else None
            if factor and rope.pairs:
                text = f"positions are divided by {factor:g} in all layers"
                made.append(("LAYER", text, replace(rope, inv_freq=rope.omega / factor, theta=10000.0)))
    elif callable(subject.ropes):
        bug = rule(rope) or "LONG"
        lengths = {
            "it turns as in a sequence of one token, at every length": 1,
            "it turns as in the longest sequence, at every length": 1 << 20,
            "it turns as if the sequence began and ended with the call": probe.seq(rope.axes),
            "it turns as if the sequence were the first call": (probe.before or (probe.seq(rope.axes),))[0],
            "it turns as if the sequence ended before the call": max(sum(probe.before), 1),
        }
        trained = rope.origin.given if rope.origin else {}
        for name in ("original_max_position_embeddings", "max_position_embeddings"):
            if name in trained:
                lengths[f"it turns as in a sequence of {name}, at every length"] = int(trained[name])
                lengths[f"it turns as in a sequence of {name} + 1, at every length"] = int(trained[name]) + 1
                lengths[f"it turns as in a sequence of 4 {name}, at every length"] = 4 * int(trained[name])
                lengths[f"it turns as in a sequence of factor {name}, at every length"] = int(
                    trained[name] * (trained.get("factor") or 1)
                )
        made.extend((bug, text, subject.rope_for(probe, length=n)) for text, n in lengths.items())
        made.extend((bug, text, other) for text, other in always_rescaled(rope))
    return {text: Mutation(bug, text, {"rope": lambda r, c, o=other: o}) for bug, text, other in made if other != rope}


def always_rescaled(rope: Rope) -> Iterator[tuple[str, Rope]]:
    """Dynamic NTK without the condition that the sequence is longer than the trained length."""
    make, given = rope.origin or (None, {})
    if make is None or make.__name__ != "dynamic_ntk":
        return
    stretch = given["factor"] * given["length"] / given["max_position_embeddings"] - (given["factor"] - 1)
    r = 2 * rope.pairs
    if stretch > 0 and r > 2:
        theta = float(given["theta"]) * stretch ** (r / (r - 2))
        if theta > 0:
            yield "the base is rescaled at every length, also within the trained one", replace(
                rope, inv_freq=geometric(r, theta), theta=10000.0
            )


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
    if not mutations:
        return True
    # it must say more than that anything may come out: what is wrong must be wrong by more than this allows
    right, allowed = computed(observation.probe, observation.rope, level)
    error = np.abs(observation.y - right)
    wrong = error > allowed
    return not wrong.any() or bool(np.max(error[wrong] / bound[wrong]) > 2)


def diagnose(
    subject: Subject, seen: Sequence[Observation], *, reading: Reading | None = None, names: Sequence[str] | None = None,
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

    covering = [text for text in plausible if holds(text, wrong)]
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
    wrong: Sequence[Observation], tables: dict[int, dict[str, Mutation]], seconds: float, level: Callable[[str], Accuracy]
) -> Diagnosis | None:
    """Two wrongs at once."""
    until = time.monotonic() + seconds
    first = tables[id(wrong[0])]
    for one, two in combinations(first.values(), 2):
        if time.monotonic() > until:
            return None
        if set(one.changes) == set(two.changes) == {"rope"} or "result" in one.changes:
            continue
        if fits(wrong[0], (one, two), level) and all(
            one.text in tables[id(o)] and two.text in tables[id(o)]
            and fits(o, (tables[id(o)][one.text], tables[id(o)][two.text]), level) for o in wrong[1:]
        ):  # fmt: skip
            return Diagnosis(f"{one.bug}+{two.bug}", f"{one.text}; and {two.text}", (one, two), "pair")
    return None


def closest(seen: Sequence[Observation]) -> str:
    """The one wrong that comes nearest, in words, where nothing explains the answers."""
    wrong = [o for o in seen if not o.right and np.isfinite(o.y).all()]
    if not wrong:
        return ""
    o = min(wrong, key=lambda o: o.y.size)
    distances = {}
    for text, mutation in candidates(o.rope).items():
        try:
            with np.errstate(all="ignore"):
                y, _ = computed(o.probe, o.rope, lenient(o.probe.dtype), (mutation,))
        except (ValueError, IndexError):
            continue
        if np.isfinite(y).all():
            distances[text] = float(np.abs(y - o.y).max(initial=0))
    text = min(distances, key=distances.__getitem__, default="")
    return f"closest: {text}, which leaves {distances[text]:.2g}" if text else ""


def passing_through(seen: Sequence[Observation]) -> int | None:
    """The first channel that should pass through and does not, if all that is wrong are such channels."""
    found = None
    for o in seen:
        if o.right or not np.isfinite(o.y).all():
            continue
        rope = o.rope
        turning = np.concatenate(channels(rope.pairing, rope.pairs, rope.start))
        rest = np.setdiff1d(np.arange(rope.head_dim), turning)
        y, bound = computed(o.probe, rope, lenient(o.probe.dtype))
        wrong = np.flatnonzero((np.abs(o.y - y) > bound).any((0, 1, 2)))
        if not len(wrong) or not np.isin(wrong, rest).all():
            return None
        found = int(wrong[0]) if found is None else found
    return found


def by_angle(seen: Sequence[Observation]) -> float | None:
    """The angle beyond which answers are wrong, whatever the position; None where it is not the angle that tells."""
    sizes, faults = [], []
    for o in seen:
        if not o.rope.pairs:
            continue
        expected, bound = computed(o.probe, o.rope, lenient(o.probe.dtype))
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(o.y - expected) <= bound)
        first, second = channels(o.rope.pairing, o.rope.pairs, o.rope.start)
        phi = np.abs(angles(o.rope, o.probe.rows(o.rope.axes)))
        phi = np.broadcast_to(phi[:, None] if o.rope.heads is None else phi, wrong[..., first].shape)
        sizes.append(phi.ravel())
        faults.append((wrong[..., first] | wrong[..., second]).ravel())
    if not sizes:
        return None
    phi, fault = np.concatenate(sizes), np.concatenate(faults)
    if not fault.any():
        return None
    least = float(phi[fault].min())
    return least if least > 0.5 and fault[phi >= least].mean() > 0.4 and (phi < least).any() else None


def where(seen: Sequence[Observation]) -> str:
    """What the wrong answers have in common that the right ones do not, in words."""
    wrong = [o.probe for o in seen if not o.right]
    right = [o.probe for o in seen if o.right and o.probe.where.any()]  # at 0 nothing turns, whatever is wrong
    if not wrong or not right:
        return ""
    features = {
        "batch > 1 and seq = 1": lambda p: p.batch > 1 and p.where.shape[-1] == 1,
        "batch > 1": lambda p: p.batch > 1,
        "seq = 1": lambda p: np.size(p.where) == 1,
        "seq > 1": lambda p: np.size(p.where) > 1,
        **{f"dtype {d}": (lambda p, d=d: p.dtype == d) for d in ("bfloat16", "float16", "float32", "float64")},
        **{f"x {m}": (lambda p, m=m: p.memory == m) for m in ("sliced", "transposed", "stepped", "expanded")},
        **{f"positions in {d}": (lambda p, d=d: p.position_dtype == d) for d in ("int32", "float32", "float64")},
        "negative positions": lambda p: bool((p.where < 0).any()),
    }
    for text, has in features.items():
        if all(map(has, wrong)) and not any(map(has, right)):
            return f"only with {text}"
    far, near = min(np.abs(p.where).max(initial=0) for p in wrong), max(np.abs(p.where).max(initial=0) for p in right)
    if far > near:
        return f"only from position {near + 1:g} or {far:g} on"
    return ""


