"""Which kernel a rotation takes and the numbers it is given, from shapes, steps and alignments alone."""

import math
from functools import lru_cache, reduce
from operator import or_
from typing import NamedTuple

import numpy as np

from numba_kernels.arithmetic import STORED
from numba_kernels.cuda import kernel as k
from numba_kernels.cuda.memory import WIDEST
from numba_kernels.plan import check, merged, spread

Ints = tuple[int, ...]

# Measured on an H200. From so many vectors on, a thread turns two rows or more by angles that it loads once.
ENOUGH, MOST_ROWS = 1 << 17, 16
VECTOR = 8  # bytes of x in one load; with 16, interleaved pairs of one load are too far from those of the next thread
MOST_BLOCKS = 2**31 - 1  # that one launch may have


class Axis(NamedTuple):
    """A leading axis of x: its size and its steps in bytes."""

    size: int
    x: int
    out: int
    cos: int
    sin: int
    place: int


class Side(NamedTuple):
    """Queries or keys: shapes and steps of x and of out."""

    shape: Ints
    x: Ints
    out_shape: Ints
    out: Ints


class Table(NamedTuple):
    """Both tables: their dtype, shapes and steps."""

    dtype: str
    cos: Ints
    sin: Ints
    cos_steps: Ints
    sin_steps: Ints


class Places(NamedTuple):
    """Positions: dtype, shape and steps."""

    dtype: str
    shape: Ints
    steps: Ints


class Weight(NamedTuple):
    """Weights of a normalisation: how they are stored, and the step along those of each side."""

    kind: str
    steps: Ints


class Launch(NamedTuple):
    """A kernel's form, its plan without addresses, where these go, and the numbers of blocks and threads."""

    form: k.Form
    numbers: Ints
    slots: Ints  # of cos, sin and positions; then of x, out and weights, for each side
    blocks: int
    threads: tuple[int, int]


@lru_cache(maxsize=4096)
def make(
    kind: str, sides: tuple[Side, ...], pairing: str, start: int, inverse: bool, in_place: bool, table: Table,
    places: Places | None, weight: Weight | None, lows: tuple[int, int, int],
) -> Launch | None:  # fmt: skip
    """The launch, None where nothing is to be done, or ValueError where shapes do not fit.

    lows  the lowest bits of the addresses of x and out, of tables, and of weights
    """
    for side in sides:
        check(pairing, start, side.shape, side.out_shape, table.cos, table.sin, places is not None)
    size, pairs, width = np.dtype(STORED[kind]).itemsize, table.cos[-1], sides[0].shape[-1]
    rest = width - 2 * pairs if weight is not None or not in_place else 0
    found = [_axes(side, table, places) for side in sides]
    counts = pairs | (start | width - start - 2 * pairs if rest else 0)
    dense = _dense(size, sides, table, weight)
    lanes = _lanes(size, start, counts, sides, table, weight, lows) if dense else 1
    turning, units = pairs // lanes, (pairs + rest) // lanes
    along = min(max(units, 1), k.BLOCK)
    down = k.BLOCK // along
    total = sum(math.prod(side.shape[:-1]) for side in sides)
    most = total * along // ENOUGH if weight is None else 1
    each = max(1, min(MOST_ROWS, 1 << (max(most, 1).bit_length() - 1)))
    axes = max(len(rows) for _, rows in found)
    form = k.Form(
        kind, table.dtype, weight.kind if weight else None, places.dtype if places else None,
        pairing == "interleaved", lanes, dense, axes, len(sides) == 2,
        rest > 0, units == along, total > 2**31 - 1 - k.BLOCK,
    )  # fmt: skip
    numbers = [0] * k.LAUNCH
    numbers[k.TABLE_ROWS], numbers[k.PAIRS], numbers[k.START] = table.cos[0], pairs, start
    numbers[k.COS_ROW], numbers[k.SIN_ROW] = table.cos_steps[0], table.sin_steps[0]
    numbers[k.COS_STEP], numbers[k.SIN_STEP] = table.cos_steps[-1], table.sin_steps[-1]
    numbers[k.WIDTH], numbers[k.TURNING], numbers[k.UNITS] = width, turning, units
    numbers[k.SIGN] = -1 if inverse else 1
    slots, rows = [k.COS, k.SIN, k.PLACES], 0
    heavies = weight.steps if weight else (0,) * len(sides)
    for side, heavy, (repeated, others) in zip(sides, heavies, found, strict=True):
        slots += [len(numbers) + place for place in (k.X, k.OUT, k.WEIGHT)]
        own = -(-repeated.size // each) * math.prod(a.size for a in others)
        numbers += [0, 0, 0, side.x[-1], side.out[-1], heavy, own, repeated.size, each, repeated.x, repeated.out]
        for axis in [Axis(1, 0, 0, 0, 0, 0)] * (axes - len(others)) + others:
            numbers += axis
        rows += own
    blocks = -(-rows // down)
    if blocks > MOST_BLOCKS:
        raise ValueError(f"{rows} rows need {blocks} blocks; expected at most {MOST_BLOCKS}")
    return Launch(form, tuple(numbers), tuple(slots), blocks, (along, down)) if rows * units else None


def _axes(side: Side, table: Table, places: Places | None) -> tuple[Axis, list[Axis]]:
    """The axis whose rows a thread turns one after another, because they share a table's row; and all others."""
    lead, none = side.shape[:-1], (0,) * (len(side.shape) - 1)
    cos, sin, at = none, none, none
    if places is None:
        cos = spread("cos", table.cos[:-1], table.cos_steps[:-1], lead)
        sin = spread("sin", table.sin[:-1], table.sin_steps[:-1], lead)
    else:
        at = spread("positions", places.shape, places.steps, lead)
    axes = merged([Axis(*a) for a in zip(lead, side.x, side.out, cos, sin, at, strict=False) if a[0] != 1])
    shared = [axis for axis in axes if not (axis.cos or axis.sin or axis.place)]
    repeated = max(shared, key=lambda axis: axis.size, default=Axis(1, 0, 0, 0, 0, 0))
    return repeated, [axis for axis in axes if axis is not repeated]


def _dense(size: int, sides: tuple[Side, ...], table: Table, weight: Weight | None) -> bool:
    """Whether channels are next to each other in all that is read or written."""
    wide, heavy = np.dtype(STORED[table.dtype]).itemsize, np.dtype(STORED[weight.kind]).itemsize if weight else 0
    rows = all(side.x[-1] == side.out[-1] == size for side in sides)
    tables = table.cos_steps[-1] == table.sin_steps[-1] == wide
    return rows and tables and (weight is None or set(weight.steps) == {heavy})


def _lanes(
    size: int, start: int, counts: int, sides: tuple[Side, ...], table: Table, weight: Weight | None, lows: Ints
) -> int:
    """How many pairs one vector holds: `VECTOR` bytes of x where all that is met is a multiple of them, else fewer.

    In a normalisation all that wait for the sum of a row should be few: 16 bytes there.

    counts  the bits of all numbers of channels that vectors have to cover
    """
    wide, heavy = np.dtype(STORED[table.dtype]).itemsize, np.dtype(STORED[weight.kind]).itemsize if weight else 0
    moved, read = lows[0] | start * size, lows[1]
    for side in sides:
        moved |= _bits(side.shape, side.x) | _bits(side.shape, side.out)
    read |= _bits(table.cos, table.cos_steps) | _bits(table.sin, table.sin_steps)
    lanes = max(1, (VECTOR if weight is None else WIDEST) // size)
    while lanes > 1 and (
        counts % lanes or moved % (lanes * size)
        or read % min(WIDEST, lanes * wide) or lows[2] % max(1, min(WIDEST, lanes * heavy))
    ):  # fmt: skip
        lanes //= 2
    return lanes


def _bits(shape: Ints, steps: Ints) -> int:
    """The bits of all steps along leading axes."""
    return reduce(or_, (abs(step) for n, step in zip(shape[:-1], steps, strict=False) if n > 1), 0)
