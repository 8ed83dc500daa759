"""The algebra itself: angles, tables, rotate, unrotate. float64 throughout."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from rope_ref.pairing import channels
from rope_ref.rope import Rope

Array = NDArray[np.float64]


def angles(rope: Rope, positions: ArrayLike) -> Array:
    """phi = Omega p, radians (arXiv 2104.09864, eq. 14; several axes and heads: arXiv 2403.13298).

        Omega                   positions           phi
        (pairs,)                (...)               (..., pairs)
        (pairs, axes)           (..., axes)         (..., pairs)
        (heads, pairs, axes)    (..., seq, axes)    (..., heads, seq, pairs)

    Raises ValueError for positions that are not finite or lack a trailing axis.

    >>> angles(Rope(head_dim=2), [0, 1, 2])
    array([[0.],
           [1.],
           [2.]])
    """
    p = np.asarray(positions)
    if p.dtype.kind not in "iuf" or not np.isfinite(p).all():
        raise ValueError(f"positions have dtype {p.dtype}; expected finite real numbers")
    if rope.axes is not None and (p.ndim < rope.omega.ndim - 1 or p.shape[-1] != rope.axes):
        expected = f"(..., {rope.axes})" if rope.heads is None else f"(..., seq, {rope.axes})"
        raise ValueError(f"positions have shape {p.shape}; expected {expected}")
    dtype = np.dtype(rope.angle_dtype)
    p, omega = p.astype(dtype), rope.omega.astype(dtype)
    if rope.axes is None:
        p, omega = p[..., None], omega[:, None]  # a number is a vector of one axis
    if rope.heads is not None:
        p, omega = p[..., None, :, :], omega[:, None]  # heads stand before seq
    phi: Array = (p[..., None, :] * omega).sum(-1).astype(np.float64)
    return phi


def tables(rope: Rope, positions: ArrayLike, dtype: DTypeLike = np.float64) -> tuple[NDArray[Any], NDArray[Any]]:
    """m cos(phi) and m sin(phi), each in the shape of `angles`, rounded once to `dtype`; m is the magnitude."""
    phi = angles(rope, positions)
    m = magnitude(rope, positions)
    return (m * np.cos(phi)).astype(dtype), (m * np.sin(phi)).astype(dtype)


def magnitude(rope: Rope, positions: ArrayLike) -> Array:
    """The scale of every pair: the constant one times that of xPos, broadcastable to (..., pairs)."""
    if rope.xpos is None:
        return np.asarray(rope.attention_scale, np.float64)
    if rope.axes is not None:
        raise ValueError(f"xpos is given for {rope.axes} axes; expected positions with one axis")
    return rope.attention_scale * rope.xpos(positions, rope.pairs)


def rotate(x: ArrayLike, positions: ArrayLike, rope: Rope) -> Array:
    """Turn each pair (a, b) of x by its angle and scale it by its magnitude.

        a' = m (a cos phi - b sin phi)
        b' = m (a sin phi + b cos phi)

    x: (..., seq, head_dim). positions: (seq,), or with leading axes that match the first
    ones of x: (batch, seq) serves (batch, heads, seq, head_dim); followed by axes where the Rope
    has several. Where it has heads, x is (..., heads, seq, head_dim). Returns float64 of x's shape.

    >>> rotate([[1.0, 0.0]], [0], Rope(head_dim=2))
    array([[1., 0.]])
    """
    cos, sin = tables(rope, positions)
    return turn(x, cos, sin, rope)


def unrotate(y: ArrayLike, positions: ArrayLike, rope: Rope) -> Array:
    """The inverse of `rotate`: turn by -phi, divide by the magnitude."""
    phi, m = angles(rope, positions), magnitude(rope, positions)
    return turn(y, np.cos(phi) / m, -np.sin(phi) / m, rope)


def turn(x: ArrayLike, cos: Array, sin: Array, rope: Rope) -> Array:
    """Apply tables (..., seq, pairs), or (..., heads, seq, pairs), to x (..., seq, head_dim)."""
    y = np.array(x, np.float64)
    if y.ndim < 1 or y.shape[-1] != rope.head_dim:
        raise ValueError(f"x has shape {y.shape}; expected a last axis of head_dim = {rope.head_dim}")
    cos, sin = aligned(cos, y, rope), aligned(sin, y, rope)
    try:
        fits = np.broadcast_shapes(cos.shape[:-1], y.shape[:-1]) == y.shape[:-1]
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"positions give tables of shape {cos.shape}; expected to broadcast to x of {y.shape}")
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    a, b = y[..., first], y[..., second]
    y[..., first], y[..., second] = a * cos - b * sin, a * sin + b * cos
    return y


def aligned(table: Array, x: Array, rope: Rope) -> Array:
    """The table with axes of one between its leading axes, which are the first of x, and its own last ones."""
    tail = 2 if rope.heads is None else 3
    missing = x.ndim - table.ndim
    if missing <= 0 or table.ndim <= tail:
        return table
    return table.reshape(*table.shape[:-tail], *(1,) * missing, *table.shape[-tail:])
