"""Where tokens stand: positions in a sequence, on a grid, in a cache.

A rotary embedding sees nothing but positions, so most of what goes wrong with it goes wrong
here. Each function returns the numbers that `rotate` takes: int64 where the rule counts,
float64 where it measures; (seq,) for one axis, (seq, axes) for more.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Positions = NDArray[np.int64]
Coordinates = NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)


def sequence(length: int, offset: int = 0) -> Positions:
    """p = offset, offset + 1, ..., shape (length,).

    >>> sequence(3, offset=5)
    array([5, 6, 7])
    """
    return np.arange(whole("length", length), dtype=np.int64) + whole("offset", offset, least=None)


def queries_of_cache(queries: int, keys: int) -> Positions:
    """The last `queries` of `keys` tokens, shape (queries,): a step over a key-value cache of keys - queries.

    >>> queries_of_cache(1, 10)
    array([9])
    """
    if whole("queries", queries) > whole("keys", keys):
        raise ValueError(f"queries is {queries}; expected at most the {keys} keys, which hold the queries' own")
    return sequence(queries, offset=keys - queries)


def packed(cu_seqlens: ArrayLike) -> Positions:
    """Sequences laid end to end, each counting from 0, shape (cu_seqlens[-1],).

    cu_seqlens: (sequences + 1,) cumulative lengths, from 0, as in variable-length flash attention.

    >>> packed([0, 3, 5])
    array([0, 1, 2, 0, 1])
    """
    starts = boundaries(cu_seqlens)
    return np.arange(starts[-1]) - np.repeat(starts[:-1], np.diff(starts))


def padded(attention_mask: ArrayLike, padding: int = 1) -> Positions:
    """p = cumsum(mask) - 1 for tokens, `padding` for padding, in the mask's shape (..., seq).

    With padding on the left the first real token stands at 0. Rotated padding is masked out of
    attention, so its position is free; 1 is what Hugging Face's generate writes.

    >>> padded([[0, 0, 1, 1], [1, 1, 1, 1]])
    array([[1, 1, 0, 1],
           [0, 1, 2, 3]])
    """
    mask = np.asarray(attention_mask)
    if mask.ndim == 0 or not np.isin(mask, (0, 1)).all():
        raise ValueError(f"attention_mask is {attention_mask!r}; expected zeros and ones of shape (..., seq)")
    mask = mask.astype(np.int64)
    return np.where(mask == 1, mask.cumsum(-1) - 1, whole("padding", padding, least=None))


def grid(*sizes: int, offsets: Sequence[int] | None = None) -> Positions:
    """Every cell of an n-dimensional grid, the last axis fastest, shape (product of sizes, axes).

    grid(height, width) gives (row, column) of an image, grid(frames, height, width) of a video.

    >>> grid(2, 2, offsets=(10, 0)).tolist()
    [[10, 0], [10, 1], [11, 0], [11, 1]]
    """
    starts = _offsets(sizes, offsets)
    return product(*(sequence(whole("size", n)) + int(start) for n, start in zip(sizes, starts, strict=True)))


def pixel_grid(*sizes: int, offsets: Sequence[float] | None = None) -> Coordinates:
    """As `grid`, each axis linspace(-1, 1, size) with both ends, shape (product of sizes, axes).

    The coordinate of `frequencies.pixel` (rotary-embedding-torch, get_axial_freqs).

    >>> pixel_grid(3).tolist()
    [[-1.0], [0.0], [1.0]]
    """
    starts = _offsets(sizes, offsets)
    return product(*(np.linspace(-1, 1, whole("size", n)) + start for n, start in zip(sizes, starts, strict=True)))


def streaming(length: int, sinks: int, window: int) -> tuple[Positions, Positions]:
    """Which tokens a rolling cache keeps, and where they stand in it (StreamingLLM, arXiv 2309.17453, section 3.2).

    The first `sinks` and the last `window` of `length` tokens are kept; positions count places in
    the cache, not in the text, so a kept key moves by a shift each time that tokens are evicted
    before it: see `cache.shift`. Returns (kept, positions), both (min(length, sinks + window),).

    >>> streaming(10, sinks=2, window=3)
    (array([0, 1, 7, 8, 9]), array([0, 1, 2, 3, 4]))
    """
    first = min(whole("sinks", sinks), whole("length", length))
    recent = max(first, length - whole("window", window))
    kept = np.concatenate([sequence(first), sequence(length - recent, offset=recent)])
    return kept, sequence(len(kept))


def product(*axes: NDArray[Number]) -> NDArray[Number]:
    """Every combination of one coordinate from each axis, the last axis fastest, shape (product of lengths, axes)."""
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(axes))


def boundaries(cu_seqlens: ArrayLike) -> Positions:
    """Cumulative lengths, checked: from 0, never decreasing. Raises ValueError otherwise."""
    starts = np.asarray(cu_seqlens)
    if starts.ndim != 1 or starts.size == 0 or starts.dtype.kind not in "iu" or starts[0] != 0:
        raise ValueError(f"cu_seqlens is {cu_seqlens!r}; expected whole numbers of shape (sequences + 1,), from 0")
    starts = starts.astype(np.int64)  # before any difference: unsigned ones wrap around
    if (np.diff(starts) < 0).any():
        raise ValueError(f"cu_seqlens is {cu_seqlens!r}; expected cumulative lengths, which never decrease")
    return starts


def whole(name: str, value: int, least: int | None = 0) -> int:
    """`value` as an int. Raises ValueError unless it is a whole number of at least `least`."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, np.integer)):
        raise ValueError(f"{name} is {value!r}; expected a whole number")
    if least is not None and value < least:
        raise ValueError(f"{name} is {value!r}; expected at least {least}")
    return int(value)


def _offsets(sizes: Sequence[int], offsets: Sequence[float] | None) -> Sequence[float]:
    if not sizes:
        raise ValueError("sizes is empty; expected one size for each axis")
    if offsets is not None and len(offsets) != len(sizes):
        raise ValueError(f"offsets is {offsets!r}; expected one for each of the {len(sizes)} axes")
    return (0,) * len(sizes) if offsets is None else offsets
