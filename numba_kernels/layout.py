"""The one layer above the loops: checks, dtypes and strides. Compiled code checks nothing."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numba_kernels import plan, threads

PAIRINGS = ("half-split", "interleaved")
KINDS = {"float64": "float64", "float32": "float32", "float16": "float16", "uint16": "bfloat16", "bfloat16": "bfloat16"}


def rotate(
    x: NDArray[Any],
    cos: ArrayLike,
    sin: ArrayLike,
    *,
    pairing: str,
    start: int = 0,
    positions: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
    inverse: bool = False,
) -> NDArray[Any]:
    """Rotate the pairs of x by tables of cosines and sines.

    x          (..., head_dim), float64, float32, float16, or bfloat16 (uint16 storage), any strides
    cos, sin   (..., pairs), broadcast against the leading axes of x; any magnitude is included.
               With positions: (rows, pairs)
    pairing    "half-split" or "interleaved"
    start      first channel that turns; channels outside [start, start + 2 pairs) pass through
    positions  integers that broadcast against the leading axes of x: rows of the tables
    out        where to write: x itself, an array apart from x, or None for a new one
    inverse    turn by the opposite angle (the transpose)

    Returns out. Half types are rotated in float32 and rounded once, to nearest even.
    Raises TypeError, ValueError or IndexError before anything is written.

    >>> rotate(np.ones((1, 2)), np.zeros((1, 1)), np.ones((1, 1)), pairing="half-split")
    array([[-1.,  1.]])
    """
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(map(repr, PAIRINGS))}")
    _check_x("x", x)
    kind, lead = KINDS[x.dtype.name], x.shape[:-1]
    cos, sin = _tables(cos, sin, np.float64 if kind == "float64" else np.float32)
    pairs = cos.shape[-1]
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
        raise TypeError(f"start is {start!r}; expected a whole number")
    if start < 0 or start + 2 * pairs > x.shape[-1]:
        raise ValueError(f"start is {start} with {pairs} pairs; expected start + 2 * pairs <= {x.shape[-1]}")
    index, rows = _rows(positions, cos, lead)
    steps = cos.strides[:1] if index is not None else _broadcast("cos", cos[..., 0] if pairs else cos, lead).strides
    result = _target(out, x, cos, sin)
    if x.size == 0:
        return result
    source, target = _dense(x), result if _is_dense(result) else np.empty(x.shape, x.dtype)
    if result is x:
        target = source
    loops = plan.make(
        kind, pairing == "interleaved", bool(inverse), int(start), pairs, rows, source is target,
        x.shape, source.strides, target.strides, steps, () if index is None else index.strides,
    )  # fmt: skip
    addresses = [0 if a is None else a.ctypes.data for a in (source, target, cos, sin, index)]
    if not threads.run(kind, loops, *addresses, x.size):
        assert index is not None
        raise IndexError(f"positions span {index.min()} to {index.max()}; expected 0 to {rows - 1}")
    if target is not result:
        np.copyto(_bits(result), _bits(target))
    return result



def _check_x(name: str, x: Any) -> None:
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is a {type(x).__name__}; expected a NumPy array")
    if x.dtype.name not in KINDS or not x.dtype.isnative:
        raise TypeError(f"{name} has dtype {x.dtype}; expected one of {', '.join(KINDS)}")
    if x.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., head_dim)")


def _tables(cos: ArrayLike, sin: ArrayLike, arithmetic: type) -> tuple[NDArray[Any], NDArray[Any]]:
    cos, sin = (_table(name, table, arithmetic) for name, table in (("cos", cos), ("sin", sin)))
    if cos.shape != sin.shape:
        raise ValueError(f"sin has shape {sin.shape}; expected that of cos, {cos.shape}")
    if cos.strides != sin.strides:
        cos, sin = np.ascontiguousarray(cos), np.ascontiguousarray(sin)
    return cos, sin


def _table(name: str, table: ArrayLike, arithmetic: type) -> NDArray[Any]:
    array = np.asarray(table)
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {array.dtype}; expected floating point")
    if array.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., pairs)")
    return _dense(array.astype(arithmetic, copy=False))


def _rows(positions: ArrayLike | None, cos: NDArray[Any], lead: tuple[int, ...]) -> tuple[NDArray[Any] | None, int]:
    """The table row of every row of x, and how many there are; None and -1 where rows broadcast."""
    if positions is None:
        return None, -1
    index = np.asarray(positions)
    if index.dtype.kind not in "iu":
        raise TypeError(f"positions have dtype {index.dtype}; expected integers")
    if cos.ndim != 2:
        raise ValueError(f"cos has shape {cos.shape}; expected (rows, pairs) where positions are given")
    if index.dtype == np.uint64 and index.size and index.max() >= len(cos):
        raise IndexError(f"positions span {index.min()} to {index.max()}; expected 0 to {len(cos) - 1}")
    return _broadcast("positions", index.astype(np.int64, copy=False), lead), len(cos)


def _broadcast(name: str, array: NDArray[Any], lead: tuple[int, ...]) -> NDArray[Any]:
    try:
        if np.broadcast_shapes(array.shape, lead) == lead:
            return np.broadcast_to(array, lead)
    except ValueError:
        pass
    raise ValueError(f"{name} has leading axes {array.shape}; expected to broadcast to those of x, {lead}")


def _target(out: NDArray[Any] | None, x: NDArray[Any], cos: NDArray[Any], sin: NDArray[Any]) -> NDArray[Any]:
    if out is None:
        return np.empty(x.shape, x.dtype)
    _check_x("out", out)
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ValueError(f"out is {out.dtype} {out.shape}; expected {x.dtype} {x.shape}, as x")
    if not out.flags.writeable:
        raise ValueError("out is read-only; expected a writeable array")
    reach = out.itemsize
    for stride, size in sorted((abs(s), n) for s, n in zip(out.strides, out.shape, strict=True) if n > 1):
        if stride < reach:
            raise ValueError(f"out has strides {out.strides}; expected no element to be written twice")
        reach = stride * (size - 1) + reach
    same = out.strides == x.strides and out.ctypes.data == x.ctypes.data
    if not same and np.may_share_memory(out, x) and np.shares_memory(out, x):
        raise ValueError("out overlaps x; expected x itself, or an array apart from it")
    for name, table in (("cos", cos), ("sin", sin)):
        if np.may_share_memory(out, table):
            raise ValueError(f"out overlaps {name}; expected an array apart from it")
    return x if same else out


def _is_dense(array: NDArray[Any]) -> bool:
    return array.shape[-1] <= 1 or array.strides[-1] == array.itemsize


def _dense(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself if the numbers of its last axis are neighbours, else a copy of the same bits."""
    return array if _is_dense(array) else _bits(array).copy().view(array.dtype)


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    """The array as integers, so that copies keep every bit, those of NaN too."""
    return array.view(f"u{array.itemsize}")
