"""Reading an implementation off its answers: which channels pair up, how fast they turn, which way, how they scale.

Basis vectors go in, one at a time, so the answers are the columns of the rotation at one position. Frequencies
are then followed to positions 2, 4, 8, ... as far as they hold, which gives the slow pairs digits.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.rope import Rope

Turn = Callable[
    [Array, Array], Array | None
]  # x (seq, head_dim), positions (seq,) or (seq, axes) -> y, None where it fails


FAR = 4093


class Reading(NamedTuple):
    """What was read off.

    first, second  channels of the pairs that turn, in the order of `first`
    inv_freq       radians per position, (pairs,) or (pairs, axes); negative where a pair turns the other way
    scale          the magnitude if it is the same for all pairs, else None
    still          channels that are left as they are
    text           the same in words
    reach          the farthest position at which they were looked at
    """

    first: NDArray[np.intp]
    second: NDArray[np.intp]
    inv_freq: Array
    scale: float | None
    still: NDArray[np.intp]
    text: tuple[str, ...]
    reach: int = FAR


def read(turn: Turn, rope: Rope) -> Reading | None:
    """Read an implementation off; None where it is not a rotation of pairs."""
    axes = 1 if rope.axes is None else rope.axes
    columns = [_columns(turn, rope, axis, p) for p in (1, FAR) for axis in range(axes)]
    if any(c is None for c in columns[:axes]):
        return None
    matrices = np.stack([c for c in columns if c is not None])  # slow pairs mix at the far position alone
    mixed = (np.abs(matrices) > 1e-4).any(0)
    pairs = _pairs(mixed)
    if pairs is None:
        return None
    first, second = pairs
    inv_freq = np.stack([_frequencies(turn, rope, axis, first, second) for axis in range(axes)], -1)
    sizes = np.hypot(matrices[:, first, first], matrices[:, second, first])
    scale = float(np.mean(sizes)) if sizes.size and np.ptp(sizes) < 1e-3 * np.max(sizes) else None
    still = np.setdiff1d(np.arange(rope.head_dim), np.concatenate([first, second]))
    omega = inv_freq[:, 0] if rope.axes is None else inv_freq
    reach = FAR if all(c is not None for c in columns[axes:]) else 1
    return Reading(first, second, omega, scale, still, tuple(_words(first, second, omega, scale, still, rope)), reach)


def _position(rope: Rope, axis: int, p: int) -> Array:
    return np.array([p]) if rope.axes is None else p * np.eye(rope.axes, dtype=np.int64)[axis : axis + 1]


def _columns(turn: Turn, rope: Rope, axis: int, p: int) -> Array | None:
    """A (head_dim, head_dim), y = A x at a position of an axis."""
    answers = [turn(basis[None], _position(rope, axis, p)) for basis in np.eye(rope.head_dim)]
    if any(y is None or y.shape != (1, rope.head_dim) or not np.isfinite(y).all() for y in answers):
        return None
    return np.stack([y[0] for y in answers if y is not None], -1)


def _pairs(mixed: NDArray[np.bool_]) -> tuple[NDArray[np.intp], NDArray[np.intp]] | None:
    """The pairs (i, j) that mix with each other and with nothing else, None where channels mix otherwise."""
    size = len(mixed)
    partner = {}
    for i in range(size):
        others = [j for j in np.flatnonzero(mixed[i] | mixed[:, i]) if j != i]
        if len(others) > 1:
            return None
        if others:
            partner[i] = others[0]
    first = np.array(sorted(i for i, j in partner.items() if i < j and partner.get(int(j)) == i), np.intp)
    second = np.array([partner[i] for i in first], np.intp)
    if 2 * len(first) != len(partner):
        return None
    return first, second


def _frequencies(turn: Turn, rope: Rope, axis: int, first: NDArray[np.intp], second: NDArray[np.intp]) -> Array:
    """Angle over position of every pair, followed from position 1 to 4096 as long as it is one line."""
    x = np.zeros((1, rope.head_dim))
    x[0, first] = 1.0
    w: Array = np.zeros(len(first))
    begin = turn(x, _position(rope, axis, 0))  # where positions are shifted, it has turned there already
    ahead = 0.0 if begin is None or not np.isfinite(begin).all() else np.arctan2(begin[0, second], begin[0, first])
    alive = np.ones(len(first), bool)
    for k in range(13):
        p = 2**k
        y = turn(x, _position(rope, axis, p))
        if y is None or not np.isfinite(y).all():
            break
        seen = np.arctan2(y[0, second], y[0, first]) - ahead
        off = np.remainder(seen - w * p + np.pi, 2 * np.pi) - np.pi
        alive &= (k == 0) | (np.abs(off) < 0.02)
        w = np.where(alive, w + off / p, w)
    return w


def _words(
    first: NDArray[np.intp], second: NDArray[np.intp], omega: Array, scale: float | None, still: NDArray[np.intp],
    rope: Rope,
) -> list[str]:  # fmt: skip
    gap = second - first
    if len(first) and (gap == 1).all():
        pairing = "neighbours (2i, 2i + 1): interleaved"
    elif len(first) and (gap == gap[0]).all():
        pairing = f"(i, i + {gap[0]}): half-split"
    else:
        pairing = ", ".join(f"({a}, {b})" for a, b in list(zip(first, second, strict=True))[:4]) + " ..."
    speeds = np.abs(omega).sum(-1) if omega.ndim == 2 else np.abs(omega)
    lines = [f"pairs: {pairing}", f"channels that turn: {2 * len(first)}, left as they are: {len(still)}"]
    if len(speeds):
        lines.append(f"frequencies: {speeds[0]:.7g} ... {speeds[-1]:.7g} radians per position")
        if omega.ndim == 1:
            lines.append(f"direction: {'a towards b' if (omega[:1] > 0).all() else 'b towards a'}")
    lines.append(f"magnitude: {'differs from pair to pair' if scale is None else f'{scale:.7g}'}")
    return lines
