"""Wrong frequencies, pairings and widths: another Rope than the one that was asked for."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.diagnosis.mutations.fitting import fitted, one_head
from rope_ref.conformance.diagnosis.mutations.parameters import factors, parameters
from rope_ref.conformance.diagnosis.mutations.rules import rule
from rope_ref.conformance.diagnosis.mutations.shares import axes, heads
from rope_ref.conformance.diagnosis.mutations.spectra import exponents, scalings
from rope_ref.conformance.diagnosis.mutations.widths import widths
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.model import Context, Mutation, fixed
from rope_ref.frequencies import geometric
from rope_ref.pairing import channels
from rope_ref.rope import Rope


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every Rope that is known to be taken for this one."""
    other = "interleaved" if rope.pairing == "half-split" else "half-split"
    pairs = {"interleaved": "(2i, 2i + 1)", "half-split": f"(i, i + {rope.pairs})"}
    text = f"pairs are {pairs[other]}; you declared {rope.pairing}, {pairs[rope.pairing]}"
    yield turned("LAYOUT", text, replace(rope, pairing=other))
    shares = (*axes(rope), *heads(rope))
    for bug, text, made in (*parameters(rope), *scalings(rope), *widths(rope), *exponents(rope), *shares):
        if made.axes == rope.axes and not same(made, rope):
            yield turned(bug, text, made)
    yield from clamped(rope)


def other_factors(rope: Rope) -> Iterator[Mutation]:
    """The variant with another factor."""
    for bug, text, made in factors(rope):
        if made.axes == rope.axes and not same(made, rope):
            yield turned(bug, text, made)


def turned(bug: str, text: str, made: Rope) -> Mutation:
    """A wrong that puts one Rope in the place of another; keys keep what is theirs of xPos."""

    def change(rope: Rope, context: Context) -> Rope:
        ours = made.xpos is not None and rope.xpos is not None and replace(made.xpos, power=1.0) == replace(
            rope.xpos, power=1.0)  # fmt: skip
        return replace(made, xpos=rope.xpos) if ours else made

    return Mutation(bug, text, {"rope": change})


def same(one: Rope, other: Rope) -> bool:
    """Whether two Ropes turn alike, however they are written."""
    plain = [
        replace(rope, inv_freq=rope.omega if rope.pairs else None, rotary_dim=2 * rope.pairs, theta=10000.0)
        for rope in (one, other)
    ]
    return plain[0] == plain[1]


def clamped(rope: Rope) -> Iterator[Mutation]:
    """All positions divided and held within the trained length, in the place of a rule for each frequency."""
    given = rope.origin.given if rope.origin else {}
    factor, trained, bug = given.get("factor"), given.get("original_max_position_embeddings"), rule(rope)
    if not (factor and trained and bug and rope.axes is None):
        return
    theta = float(given.get("theta") or rope.theta)
    plain = replace(rope, inv_freq=geometric(2 * rope.pairs, theta), theta=10000.0)
    for last in (trained - 1, trained):
        yield Mutation(
            bug, f"positions are divided by {factor:g} and held below {trained:g}, frequencies are not scaled",
            {"rope": lambda r, c: plain, "positions": fixed(lambda p, c, m: np.minimum(p / factor, m), last)},
        )  # fmt: skip


def base(rope: Rope) -> str:
    """The theta that was asked for, and what makes other frequencies of it than its powers."""
    if rope.origin is None:
        return f"{rope.theta:g}"
    theta = float(rope.origin.given.get("theta") or rope.theta)
    plain = replace(rope, inv_freq=geometric(2 * rope.pairs, theta), theta=10000.0)
    return f"{theta:g}" + ("" if same(plain, rope) else f", with the frequencies of {rope.origin.make.__name__}")


def by_pair(rope: Rope, reading: Reading) -> Array | None:
    """The frequencies that were read off in the shape of `one_head`, 0 where a pair was not seen to turn.

    None where other channels turn together, or nothing turns.
    """
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    order = {int(a): i for i, a in enumerate(first)}
    w = np.zeros_like(one_head(rope))
    for k, (a, b) in enumerate(zip(reading.first, reading.second, strict=True)):
        if int(a) not in order or second[order[int(a)]] != b:
            return None
        w[order[int(a)]] = reading.inv_freq[k]
    return w if w.any() else None


def read(rope: Rope, reading: Reading) -> Iterator[Mutation]:
    """The frequencies that were read off: as another theta, as a multiple, or as they are."""
    w = by_pair(rope, reading)
    if w is None:
        return
    for bug, text, made in fitted(rope, w, reading.scale):
        if not same(made, rope):
            yield turned(bug, text, made)
    known = np.flatnonzero(w > 0) if w.ndim == 1 else np.empty(0, int)  # the slowest may have been too slow to read
    if len(known) > 2 and (np.diff(known) == 1).all() and known[0] == 0:
        slope = np.polyfit(known, np.log(w[known]), 1)[0]
        theta = float(np.exp(-slope * len(w)))
        if np.abs(np.log(w[known]) + known / len(w) * np.log(theta)).max() < 1e-3:
            made = replace(rope, inv_freq=geometric(2 * len(w), theta), theta=10000.0)
            yield turned("THETA", f"theta is {theta:.7g}; expected {base(rope)}", made)
    right = one_head(rope)
    turning = right != 0
    ratio = w[turning] / right[turning]
    if len(ratio) and np.ptp(ratio) < 1e-4 * np.abs(ratio).max() and not (w[~turning]).any():
        text = f"every angle is {np.median(ratio):.7g} times what it should be"
        yield turned(rule(rope) or "LAYER", text, replace(rope, inv_freq=rope.omega * np.median(ratio), theta=10000.0))
    own = rule(rope)
    if own is not None and rope.heads is None:
        wrong = np.flatnonzero(
            (np.abs(w - rope.omega) > 1e-3 * np.abs(rope.omega).max(initial=0) + 0).reshape(len(w), -1).any(-1)
        )
        pair = int(wrong[0]) if len(wrong) else 0
        text = f"the frequencies follow another rule: pair {pair} turns by {w[pair]}; expected {rope.omega[pair]}"
        yield replace(turned(own, text, replace(rope, inv_freq=w, theta=10000.0)), everywhere=True)
