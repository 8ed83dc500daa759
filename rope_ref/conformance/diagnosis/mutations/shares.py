"""Wrong shares of the frequencies: of the pairs for each of several axes, and of the heads."""

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


def heads(rope: Rope) -> Wrong:
    """The frequencies of another head, where each has its own."""
    if rope.heads is None:
        return
    omega, n = rope.omega, rope.heads
    of = {f"all heads turn as head {h} should": np.full(n, h) for h in range(n)}
    of |= {"the heads are in reverse order": np.arange(n)[::-1]}
    of |= {f"the heads are moved round by {by}": np.roll(np.arange(n), by) for by in (1, -1)}
    for groups in (g for g in range(2, n) if n % g == 0):
        of |= {
            f"the first {groups} heads are repeated, each in a row": np.arange(n) * groups // n,
            f"the first {groups} heads are repeated, one after the other": np.arange(n) % groups,
            f"heads in {groups} groups are taken group by group": np.arange(n).reshape(groups, -1).T.ravel(),
        }
    for text, head in of.items():
        yield "AXIS", text, replace(rope, inv_freq=omega[head])
    pairs = rope.pairs
    for text, wrong in {
        "frequencies (heads, pairs, axes) are read as (pairs, heads, axes)": omega.reshape(pairs, n, -1).swapaxes(0, 1),
        "frequencies (heads, pairs, axes) are read as (heads, axes, pairs)": omega.reshape(n, -1, pairs).swapaxes(1, 2),
        "frequencies (heads, pairs, axes) are read as (axes, heads, pairs)": np.moveaxis(
            omega.reshape(-1, n, pairs), 0, -1),
        "all heads turn at the mean of their frequencies": np.broadcast_to(omega.mean(0), omega.shape),
    }.items():  # fmt: skip
        yield "AXIS", text, replace(rope, inv_freq=wrong)


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
