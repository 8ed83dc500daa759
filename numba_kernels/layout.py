"""The one layer above the loops: checks, dtypes and strides. Compiled code checks nothing."""

import math

import numpy as np

from numba_kernels import threads

PAIRINGS = ("half-split", "interleaved")
STORAGE = {  # dtype of x: (how the loops see it, the type it is rotated in)
    "float64": (np.float64, np.float64),
    "float32": (np.float32, np.float32),
    "float16": (np.int16, np.float32),
    "uint16": (np.uint16, np.float32),
    "bfloat16": (np.uint16, np.float32),
}


def rotate(x, cos, sin, *, pairing, start=0, positions=None, out=None, inverse=False):
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
    stored, arithmetic = STORAGE[x.dtype.name]
    cos, sin = _table("cos", cos, arithmetic), _table("sin", sin, arithmetic)
    if cos.shape != sin.shape:
        raise ValueError(f"sin has shape {sin.shape}; expected that of cos, {cos.shape}")
    pairs, lead = cos.shape[-1], x.shape[:-1]
    if isinstance(start, bool) or not isinstance(start, (int, np.integer)):
        raise TypeError(f"start is {start!r}; expected a whole number")
    if start < 0 or start + 2 * pairs > x.shape[-1]:
        raise ValueError(f"start is {start} with {pairs} pairs; expected start + 2 * pairs <= {x.shape[-1]}")
    if positions is None:
        index = np.arange(math.prod(cos.shape[:-1])).reshape(cos.shape[:-1])
        index = _broadcast("cos", index, lead)
    else:
        index = _positions(positions, cos, lead)
    out = _target(out, x, cos, sin)
    if out.size == 0 or pairs == 0:
        if out is not x:
            np.copyto(out, x)
        return out
    direct = out.strides[-1] == out.itemsize and out.flags.aligned and out.ndim <= 3
    work = out if direct or out.flags.c_contiguous else np.empty(x.shape, x.dtype)
    if work is not x:
        np.copyto(_bits(work), _bits(x))
    block = _blocks(work).view(stored)
    table = (cos.reshape(-1, pairs), sin.reshape(-1, pairs))
    index = np.ascontiguousarray(index).reshape(block.shape[:2])
    threads.run(block, *table, index, int(start), pairing == "interleaved", arithmetic(-1 if inverse else 1))
    if work is not out:
        np.copyto(_bits(out), _bits(work))
    return out


def _check_x(name, x):
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} is a {type(x).__name__}; expected a NumPy array")
    if x.dtype.name not in STORAGE or not x.dtype.isnative:
        raise TypeError(f"{name} has dtype {x.dtype}; expected one of {', '.join(STORAGE)}")
    if x.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., head_dim)")


def _table(name, table, arithmetic):
    table = np.asarray(table)
    if table.dtype.kind != "f" and table.dtype.name != "bfloat16":
        raise TypeError(f"{name} has dtype {table.dtype}; expected floating point")
    if table.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., pairs)")
    return np.ascontiguousarray(table, arithmetic)


def _broadcast(name, index, lead):
    try:
        if np.broadcast_shapes(index.shape, lead) == lead:
            return np.broadcast_to(index, lead)
    except ValueError:
        pass
    raise ValueError(f"{name} has leading axes {index.shape}; expected to broadcast to those of x, {lead}")


def _positions(positions, cos, lead):
    positions = np.asarray(positions)
    if positions.dtype.kind not in "iu":
        raise TypeError(f"positions have dtype {positions.dtype}; expected integers")
    if cos.ndim != 2:
        raise ValueError(f"cos has shape {cos.shape}; expected (rows, pairs) where positions are given")
    if positions.size and (positions.min() < 0 or positions.max() >= len(cos)):
        raise IndexError(f"positions span {positions.min()} to {positions.max()}; expected 0 to {len(cos) - 1}")
    return _broadcast("positions", positions.astype(np.intp), lead)


def _target(out, x, cos, sin):
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
    same = out.strides == x.strides and out.__array_interface__["data"] == x.__array_interface__["data"]
    if not same and np.may_share_memory(out, x) and np.shares_memory(out, x):
        raise ValueError("out overlaps x; expected x itself, or an array apart from it")
    for name, table in (("cos", cos), ("sin", sin)):
        if np.may_share_memory(out, table):
            raise ValueError(f"out overlaps {name}; expected an array apart from it")
    return x if same else out


def _bits(array):
    """The array as integers, so that copies keep every bit, those of NaN too."""
    return array.view(f"u{array.itemsize}")


def _blocks(array):
    """A view (outer, rows, head_dim)."""
    if array.ndim <= 3:
        return array.reshape((1,) * (3 - array.ndim) + array.shape) if array.ndim < 3 else array
    return array.reshape(-1, *array.shape[-2:])
