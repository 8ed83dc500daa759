"""RoPE as it is ported to NumPy: the correct part of the implementations beside this file.

Angles are float64, the result has the dtype of x. x is (batch, heads, seq, head_dim); positions are (seq,) or
(batch, seq).
"""

import numpy as np

NUMPY = {"arrays": "numpy", "dtypes": ("float32",), "rows": True}


def inverse_frequencies(dim, theta=10000.0):
    return theta ** -(np.arange(0, dim, 2) / dim)


def phases(positions, inv_freq):
    """(seq, pairs), or (batch, 1, seq, pairs) where rows have positions of their own."""
    phi = positions[..., None] * inv_freq
    return phi[:, None] if positions.ndim == 2 else phi


def turn_halves(x, cos, sin):
    """Channels (i, i + r/2); what is wider than the tables passes."""
    pairs, y = cos.shape[-1], x.copy()
    a, b = x[..., :pairs], x[..., pairs : 2 * pairs]
    y[..., :pairs], y[..., pairs : 2 * pairs] = a * cos - b * sin, a * sin + b * cos
    return y


def turn_adjacent(x, cos, sin):
    """Channels (2i, 2i + 1); what is wider than the tables passes."""
    width, y = 2 * cos.shape[-1], x.copy()
    a, b = x[..., 0:width:2], x[..., 1:width:2]
    y[..., 0:width:2], y[..., 1:width:2] = a * cos - b * sin, a * sin + b * cos
    return y


def rope(x, positions, inv_freq, turn=turn_halves):
    phi = phases(positions, inv_freq)
    return turn(x, np.cos(phi), np.sin(phi))
