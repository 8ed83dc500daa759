"""Wrong shares of the pairs for each of several axes."""

from dataclasses import replace

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.diagnosis.mutations.parameters import Wrong
from rope_ref.conformance.diagnosis.mutations.rules import rule
from rope_ref.rope import Rope


def axes(rope: Rope) -> Wrong:
    """Another share of the pairs for each axis."""
    if rope.axes is None or rope.heads is not None:
        return
    bug = rule(rope) or "AXIAL"
    omega, n = rope.omega, rope.axes
    speed = omega.sum(-1)
    counts = [(omega[:, a] != 0).sum() for a in range(n)]

    def shared(axis: Array) -> Rope:
        turned = np.zeros_like(omega)
        turned[np.arange(rope.pairs), axis.astype(int)] = speed
        return replace(rope, inv_freq=turned)

    blocks = np.repeat(np.arange(n), counts) if sum(counts) == rope.pairs else np.zeros(rope.pairs)
    for text, axis in {
        "the pairs of each axis lie in one block": blocks,
        "the blocks are in reverse order": blocks[::-1],
        "the axes take turns": np.arange(rope.pairs) % n,
        "the axes take turns, in reverse order": (n - 1) - np.arange(rope.pairs) % n,
        "equal blocks, one an axis": np.minimum(np.arange(rope.pairs) * n // rope.pairs, n - 1),
    }.items():
        yield bug, text, shared(np.asarray(axis))
    for a in range(n):
        yield bug, f"all pairs turn with axis {a}", shared(np.full(rope.pairs, a))
    for by in (1, -1):
        rolled = omega.copy()
        for a in range(1, n):
            mine = omega[:, a] != 0
            rolled[mine, a] = np.roll(omega[mine, a], by)
        yield bug, f"the frequencies of each axis but the first are moved round by {by}", replace(rope, inv_freq=rolled)
    for text, w in _reassigned(omega).items():
        yield bug, text, replace(rope, inv_freq=w)


def _reassigned(omega: Array) -> dict[str, Array]:
    """The same speeds, given to other pairs: by turns instead of in blocks, and the other way round."""
    n = omega.shape[1]
    by_axis = [omega[omega[:, a] != 0, a] for a in range(n)]
    if len({len(w) for w in by_axis}) != 1 or sum(map(len, by_axis)) != len(omega):
        return {}
    turns, blocks, swapped = np.zeros_like(omega), np.zeros_like(omega), np.zeros_like(omega)
    for a, w in enumerate(by_axis):
        turns[a::n, a] = w
        blocks[a * len(w) : (a + 1) * len(w), a] = w
        swapped[(n - 1 - a) * len(w) : (n - a) * len(w), a] = w
    return {
        "the axes take turns instead of lying in blocks": turns,
        "the axes lie in blocks instead of taking turns": blocks,
        "the axes lie in blocks, in reverse order": swapped,
        "the axes take turns, in reverse order, instead of lying in blocks": turns[:, ::-1].copy(),
    }
