"""The one layer above the loops: checks, dtypes and memory. Compiled code checks nothing."""

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numba_kernels import plan
from numba_kernels.arithmetic import ARITHMETIC
from numba_kernels.intrinsics import LINE

KINDS: dict[np.dtype[Any], str] = {
    np.dtype(stored): kind
    for stored, kind in {"float64": "float64", "float32": "float32", "float16": "float16", "uint16": "bfloat16"}.items()
}


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

    Returns out. Half types are rotated in float32 and rounded once, to nearest even; tables are
    rounded to the type of that arithmetic. Raises TypeError, ValueError or IndexError before
    anything is written.

    >>> rotate(np.ones((1, 2)), np.zeros((1, 1)), np.ones((1, 1)), pairing="half-split")
    array([[-1.,  1.]])
    """
    return _rotated(x, cos, sin, pairing, start, positions, out, inverse, None)


def normalise_and_rotate(
    x: NDArray[Any],
    weight: ArrayLike,
    cos: ArrayLike,
    sin: ArrayLike,
    *,
    epsilon: float,
    pairing: str,
    start: int = 0,
    positions: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """Divide every row of x by its root mean square, weigh its channels, and rotate: one pass over memory.

    weight     (head_dim,), of any floating type; bfloat16 as uint16 storage too
    epsilon    added to the mean of the squares: a row x becomes x / sqrt(mean(x^2) + epsilon) * weight
               (RMSNorm, arXiv:1910.07467), over all channels, before some of them turn

    All else is as for `rotate`. Everything happens in the type of the arithmetic (float32 for half types),
    weights and epsilon included, and is rounded once. Squares of numbers above 1.8e19 are
    infinite in float32, and such rows become zeros; so does a row of zeros, but with an epsilon of 0, NaN.

    >>> x, weight = np.full((1, 2), 3.0), np.array([1.0, 2.0])
    >>> normalise_and_rotate(x, weight, np.zeros((1, 1)), np.ones((1, 1)), epsilon=0.0, pairing="half-split")
    array([[-2.,  1.]])
    """
    return _rotated(x, cos, sin, pairing, start, positions, out, False, (weight, plan.small(epsilon)))


def _rotated(
    x: NDArray[Any], cos: ArrayLike, sin: ArrayLike, pairing: str, start: int, positions: ArrayLike | None,
    out: NDArray[Any] | None, inverse: bool, norm: tuple[ArrayLike, float] | None,
) -> NDArray[Any]:  # fmt: skip
    kind = kind_of("x", x)
    plan.options(pairing, start, inverse)
    arithmetic = ARITHMETIC[kind]
    cos, sin = _table("cos", cos, arithmetic), _table("sin", sin, arithmetic)
    if cos.strides != sin.strides and cos.shape == sin.shape:
        cos, sin = np.ascontiguousarray(cos), np.ascontiguousarray(sin)
    index = None if positions is None else _index(positions)
    result = np.empty(x.shape, x.dtype) if out is None else out
    if kind_of("out", result) != kind:
        raise TypeError(f"out has dtype {result.dtype}; expected {x.dtype}, as x")
    source, target = x.ctypes.data, result.ctypes.data
    in_place = x is result or (source == target and _same_layout(x, result))
    loops = plan.make(
        kind, pairing, int(start), bool(inverse), in_place, out is not None and target % LINE == 0, norm is not None,
        x.shape, steps_of(x.strides, x.itemsize), result.shape, steps_of(result.strides, x.itemsize),
        cos.shape, sin.shape, steps_of(cos.strides, cos.itemsize),
        None if index is None else (index.shape, steps_of(index.strides, index.itemsize)),
    )  # fmt: skip
    weight, epsilon = (None, 0.0) if norm is None else (_weight(norm[0], x.shape[-1], arithmetic), norm[1])
    if x.size == 0:
        return result
    if out is not None:
        _check_target(out, None if in_place else x, cos, sin, index)
    if index is not None and not 0 <= index.min() <= index.max() < len(cos):
        given = np.asarray(positions)
        raise IndexError(f"positions span {given.min()} to {given.max()}; expected 0 to {len(cos) - 1}")
    if is_dense(x) and is_dense(result):
        rows, weights = (0 if array is None else array.ctypes.data for array in (index, weight))
        loops(source, target, cos.ctypes.data, sin.ctypes.data, rows, weights, epsilon)
    else:
        dense = bits(x).copy().view(x.dtype)
        _rotated(dense, cos, sin, pairing, start, positions, dense, inverse, norm)
        np.copyto(bits(result), bits(dense))
    return result


def kind_of(name: str, array: Any) -> str:
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} is a {type(array).__name__}; expected a NumPy array")
    kind = KINDS.get(array.dtype) or ("bfloat16" if is_bfloat16(array) else None)
    if kind is None:
        known = ", ".join(dtype.name for dtype in KINDS)
        raise TypeError(f"{name} has dtype {array.dtype}; expected one of {known}, bfloat16 of ml_dtypes")
    if array.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., head_dim)")
    return kind


def _table(name: str, table: ArrayLike, arithmetic: type) -> NDArray[Any]:
    array = np.asarray(table)
    if array.dtype != arithmetic:
        if array.dtype.kind != "f" and not is_bfloat16(array):
            raise TypeError(f"{name} has dtype {array.dtype}; expected floating point")
        array = array.astype(arithmetic)
    if array.ndim < 1:
        raise ValueError(f"{name} has shape (); expected (..., pairs)")
    return array if is_dense(array) else array.copy()


def _weight(weight: ArrayLike, width: int, arithmetic: type) -> NDArray[Any]:
    given = np.asarray(weight)
    if given.dtype == np.uint16:
        given = (given.astype(np.uint32) << 16).view(np.float32)
    if given.dtype.kind != "f" and not is_bfloat16(given):
        raise TypeError(f"weight has dtype {given.dtype}; expected floating point")
    if given.shape != (width,):
        raise ValueError(f"weight has shape {given.shape}; expected ({width},), one for each channel of x")
    return np.ascontiguousarray(given, arithmetic)


def _index(positions: ArrayLike) -> NDArray[np.int64]:
    index = np.asarray(positions)
    if index.dtype.kind not in "iu":
        raise TypeError(f"positions have dtype {index.dtype}; expected integers")
    index = index.astype(np.int64, copy=False)  # uint64 above the largest int64 turns negative: outside any table
    return index if index.flags.aligned else index.copy()


def check_writeable(out: NDArray[Any]) -> None:
    """Raise ValueError unless every element can be written, and is written once."""
    if not out.flags.writeable:
        raise ValueError("out is read-only; expected a writeable array")
    if writes_twice(out.itemsize, out.shape, out.strides):
        raise ValueError(f"out has strides {out.strides}; expected no element to be written twice")


def _check_target(out: NDArray[Any], x: NDArray[Any] | None, *read: NDArray[Any] | None) -> None:
    """Refuse to write what may not be written, or what is still to be read."""
    check_writeable(out)
    for name, array in zip(("x", "cos", "sin", "positions"), (x, *read), strict=True):
        if array is not None and meet(out, array):
            wanted = "x itself, or an array apart from it" if name == "x" else "an array apart from it"
            raise ValueError(f"out overlaps {name}; expected {wanted}")


def meet(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays share a byte; strides may be such that no one can tell in a lifetime, and then they do."""
    try:
        return np.may_share_memory(a, b) and np.shares_memory(a, b, max_work=100_000)  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


@lru_cache(maxsize=4096)
def writes_twice(reach: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    for stride, size in sorted((abs(s), n) for s, n in zip(strides, shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (size - 1) + reach
    return False


def _same_layout(a: NDArray[Any], b: NDArray[Any]) -> bool:
    return a.shape == b.shape and all(s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1)


def is_bfloat16(array: NDArray[Any]) -> bool:
    return array.dtype.name == "bfloat16" and array.dtype.isnative


def is_dense(array: NDArray[Any]) -> bool:
    """Whether channels lie side by side, at addresses that are whole numbers of elements."""
    return array.flags.aligned and (array.strides[-1] == array.itemsize or array.shape[-1] <= 1)


@lru_cache(maxsize=4096)
def steps_of(strides: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Strides in elements rather than bytes."""
    return tuple(stride // itemsize for stride in strides)


def bits(array: NDArray[Any]) -> NDArray[Any]:
    """The array as integers, so that copies keep every bit, those of NaN too."""
    return array.view(f"u{array.itemsize}")
