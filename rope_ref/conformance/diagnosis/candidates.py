"""The wrongs that may explain an answer: the catalogue for its Rope, the Ropes of other layers and lengths."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.diagnosis.mutations import catalogue, from_reading
from rope_ref.conformance.diagnosis.mutations.rules import rule
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Mutation, fixed
from rope_ref.frequencies import geometric
from rope_ref.rope import Rope


class Observation(NamedTuple):
    """A probe, the Rope it is about, the answer, and whether the answer was right."""

    probe: Probe
    rope: Rope
    y: Array
    right: bool


@lru_cache(maxsize=64)
def candidates(rope: Rope) -> dict[str, Mutation]:
    """The catalogue for a Rope by its words, which are the same for Ropes of other lengths and layers."""
    found: dict[str, Mutation] = {}
    for mutation in catalogue(rope):
        found.setdefault(mutation.text, mutation)
    return found


def read_off(rope: Rope, reading: Reading | None) -> dict[str, Mutation]:
    """What was read off, as wrongs."""
    return _read_off(rope, One(reading)) if reading else {}


class One:
    """A reading as the key of a cache: the same object, whatever it holds."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    def __hash__(self) -> int:
        return id(self.reading)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, One) and self.reading is other.reading


@lru_cache(maxsize=64)
def _read_off(rope: Rope, one: One) -> dict[str, Mutation]:
    return {m.text: m for m in from_reading(rope, one.reading)}


def extra(subject: Subject, observation: Observation) -> dict[str, Mutation]:
    """What the catalogue of one Rope does not know: the Rope of another layer or length, layers that count, memory."""
    rope, probe = observation.rope, observation.probe
    made: list[tuple[str, str, Rope]] = []
    if subject.layered:
        listed: list[Rope] = list(subject.ropes)  # type: ignore[arg-type]
        for by, words in ((1, "next"), (-1, "last")):
            made.append(("LAYER", f"it turns as the {words} layer should", listed[(probe.layer + by) % len(listed)]))
        for k, other in enumerate(listed):
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
        n = int(np.max(probe.where, initial=0)) + 1
        lengths["it turns as in a sequence of one token more"] = n + 1
        for unit in (16, 64, 128, 256, 1024):
            lengths[f"it turns as if lengths were rounded up to a multiple of {unit}"] = -(-n // unit) * unit
        lengths["it turns as if lengths were rounded up to a power of two"] = 1 << (n - 1).bit_length()
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
        made.extend((bug, text, other) for text, other in otherwise_rescaled(rope))
    found = {
        text: Mutation(bug, text, {"rope": fixed(lambda r, c, o: o, other)})
        for bug, text, other in made
        if other != rope
    }
    return found | {m.text: m for m in of_calls(subject, probe)}


def of_calls(subject: Subject, probe: Probe) -> Iterator[Mutation]:
    """What could be wrong with how it is called: layers that share a counter, an x that is a view."""
    layers = subject.implementation.layers
    if layers > 1:
        yield Mutation(
            "OFFSET", "the tokens of a call are counted again by every layer", {"positions": lambda p, c: (
                p + sum(c.probe.before) * (layers - 1) + c.probe.layer * c.probe.seq(c.rope.axes))})  # fmt: skip
    if probe.memory in ("sliced", "transposed", "stepped"):
        text = "a view is read as if it were contiguous"
        yield Mutation("GEOM", text, {"turn": lambda turned, c: (
            lambda x, cos, sin, rope: turned(subject.misread(x, c.probe), cos, sin, rope))})  # fmt: skip


def unconditional_stretch(rope: Rope) -> float | None:
    """The factor of dynamic NTK without the condition that the sequence is longer than trained; None for others."""
    make, given = rope.origin or (None, {})
    if make is None or make.__name__ != "dynamic_ntk":
        return None
    return float(given["factor"] * given["length"] / given["max_position_embeddings"] - (given["factor"] - 1))


def otherwise_rescaled(rope: Rope) -> Iterator[tuple[str, Rope]]:
    """Dynamic NTK without its condition that the sequence is longer than trained, or by another factor."""
    stretch, r = unconditional_stretch(rope), 2 * rope.pairs
    if rope.origin is None or stretch is None or r <= 2:
        return
    given = rope.origin.given
    ratio = given["length"] / given["max_position_embeddings"]
    stretches = {"the base is rescaled at every length, also within the trained one": stretch}
    if ratio > 1:
        stretches |= {
            "beyond the trained length the base is rescaled by factor, whatever the length": given["factor"],
            "the base is rescaled by length / max_position_embeddings": ratio,
            "the base is rescaled by factor length / max_position_embeddings": given["factor"] * ratio,
            "the base is rescaled by factor (length / max_position_embeddings - 1)": given["factor"] * (ratio - 1),
        }
    for text, by in stretches.items():
        if by > 0:
            theta = float(given["theta"]) * float(by) ** (r / (r - 2))
            yield text, replace(rope, inv_freq=geometric(r, theta), theta=10000.0)


def resolved(subject: Subject, mutations: Sequence[Mutation], probe: Probe) -> tuple[Mutation, ...]:
    """The same wrongs for the Rope of a probe; those that it does not know are left out."""
    rope = subject.rope_for(probe)
    known = extra(subject, Observation(probe, rope, np.empty(0), True)) | candidates(rope)
    return tuple(known.get(m.text, m) for m in mutations if m.text in known or m.everywhere)
