"""How fast each pair turns: inverse frequencies in radians per position, shape (pairs,)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def geometric(rotary_dim: int, theta: float = 10000.0) -> Array:
    """w_i = theta^(-2i/r), i = 0 .. r/2 - 1 (RoFormer, arXiv 2104.09864, section 3.2.2).

    >>> geometric(4, theta=100.0)
    array([1. , 0.1])
    """
    i = np.arange(rotary_dim // 2)
    return theta ** (-2.0 * i / rotary_dim)


def pixel(rotary_dim: int, max_freq: float = 10.0) -> Array:
    """w = pi linspace(1, max_freq/2, r/2), for coordinates in [-1, 1] (rotary-embedding-torch)."""
    return np.pi * np.linspace(1.0, max_freq / 2, rotary_dim // 2)


def constant(num_freqs: int = 1) -> Array:
    """w = 1 for every pair (rotary-embedding-torch)."""
    return np.ones(num_freqs)


def linear(inv_freq: ArrayLike, factor: float) -> Array:
    """w / s, position interpolation (arXiv 2306.15595)."""
    if not factor >= 1:
        raise ValueError(f"factor is {factor!r}; expected a number of at least 1")
    return np.asarray(inv_freq, np.float64) / factor


def ntk_theta(theta: float, factor: float, rotary_dim: int) -> float:
    """theta' = theta s^(r/(r-2)), so that the slowest pair is slowed by s exactly (bloc97, NTK-aware).

    >>> ntk_theta(10000.0, 1.0, 64)
    10000.0
    """
    if factor == 1:
        return float(theta)
    if rotary_dim <= 2:
        raise ValueError(f"rotary_dim is {rotary_dim}; NTK-aware rescaling needs at least 4")
    return float(theta * factor ** (rotary_dim / (rotary_dim - 2)))


def block_diagonal(axes: list[Array]) -> Array:
    """Omega of shape (pairs, axes): one block of pairs for each axis (axial RoPE)."""
    omega = np.zeros((sum(len(w) for w in axes), len(axes)))
    row = 0
    for axis, inv_freq in enumerate(axes):
        omega[row : row + len(inv_freq), axis] = inv_freq
        row += len(inv_freq)
    return omega


def with_ranges(rotations: ArrayLike, freq_ranges: ArrayLike) -> Array:
    """Learned rotations (..., f) times every range (g): (..., f g) (rotary-embedding-torch)."""
    product = np.asarray(rotations, np.float64)[..., None] * np.asarray(freq_ranges, np.float64)
    return product.reshape(*product.shape[:-2], -1)
