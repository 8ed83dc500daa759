"""How fast each pair turns: inverse frequencies in radians per position, shape (pairs,).

Where they come from, then the maps from frequencies to frequencies that stretch a context,
then Omega (pairs, axes), which gives each pair its axis. All compute in the dtype they are
given: float64 is exact, float32 rounds in the order in which Hugging Face does.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

Array = NDArray[np.floating[Any]]


def geometric(
    rotary_dim: int, theta: float = 10000.0, dtype: DTypeLike = np.float64, factors: float | Sequence[float] = 1.0
) -> Array:
    """w_i = 1 / (f_i theta^(2i/r)), i = 0 .. r/2 - 1; f = 1 in RoFormer (arXiv 2104.09864, section 3.2.2).

    `factors`, one number or (pairs,), divide the frequencies one by one: LongRoPE (arXiv 2402.13753).
    Raises ValueError for a theta that is not positive or a list of the wrong length.

    >>> geometric(4, theta=100.0)
    array([1. , 0.1])
    """
    if not (math.isfinite(theta) and theta > 0):
        raise ValueError(f"theta is {theta!r}; expected a positive number")
    f = np.asarray(factors, dtype)
    if f.ndim > 1 or (f.ndim == 1 and len(f) != rotary_dim // 2) or not (np.isfinite(f).all() and (f > 0).all()):
        raise ValueError(f"factors are {factors!r}; expected {rotary_dim // 2} positive numbers, one a pair")
    exponent = np.arange(0, rotary_dim, 2).astype(dtype) / np.asarray(rotary_dim, dtype)
    # The power of float32 numbers is taken in float64 and rounded, because float32 powers
    # differ by a unit in the last place from one vector library to the next.
    power = (np.asarray(theta, dtype).astype(np.float64) ** exponent.astype(np.float64)).astype(dtype)
    return np.asarray(1 / (f * power))


def proportional(head_dim: int, partial_rotary_factor: float, theta: float, dtype: DTypeLike = np.float64) -> Array:
    """p-RoPE: theta^(-2i/d) for the first int(p d / 2) pairs, 0 for the rest of d/2 (arXiv 2410.06205).

    >>> proportional(8, 0.5, theta=16.0)
    array([1. , 0.5, 0. , 0. ])
    """
    if not 0 <= partial_rotary_factor <= 1:
        raise ValueError(f"partial_rotary_factor is {partial_rotary_factor!r}; expected a number from 0 to 1")
    inv_freq = geometric(head_dim, theta, dtype)
    inv_freq[int(partial_rotary_factor * head_dim // 2) :] = 0
    return inv_freq


def half_truncated(head_dim: int, theta: float = 1024.0, dtype: DTypeLike = np.float64) -> Array:
    """w = theta^(-linspace(0, 1, d/4)) followed by d/4 zeros (modded-nanogpt, which turns the other way).

    >>> half_truncated(8).tolist()
    [1.0, 0.0009765625, 0.0, 0.0]
    """
    if head_dim % 4 or head_dim < 8:
        raise ValueError(f"head_dim is {head_dim}; expected a multiple of 4, at least 8")
    quarter = head_dim // 4
    return np.concatenate([theta ** -np.linspace(0, 1, quarter), np.zeros(quarter)]).astype(dtype)


def pixel(rotary_dim: int, max_freq: float = 10.0) -> Array:
    """w = pi linspace(1, max_freq/2, r/2), for coordinates in [-1, 1] (rotary-embedding-torch)."""
    return np.pi * np.linspace(1.0, max_freq / 2, rotary_dim // 2)


def constant(num_freqs: int = 1) -> Array:
    """w = 1 for every pair (rotary-embedding-torch)."""
    return np.ones(num_freqs)


def linear(inv_freq: ArrayLike, factor: float) -> Array:
    """w / s, position interpolation (arXiv 2306.15595)."""
    check_factor(factor)
    return np.asarray(np.asarray(inv_freq) / float(factor))


def ntk_theta(theta: float, factor: float, rotary_dim: int) -> float:
    """theta' = theta s^(r/(r-2)), so that the slowest pair is slowed by s exactly (bloc97, NTK-aware).

    A factor below 1 makes it faster. Raises ValueError unless the factor is positive and r above 2.

    >>> ntk_theta(10000.0, 1.0, 64)
    10000.0
    """
    if not 0 < factor < math.inf:
        raise ValueError(f"factor is {factor!r}; expected a positive number")
    if factor == 1:
        return float(theta)
    if rotary_dim <= 2:
        raise ValueError(f"rotary_dim is {rotary_dim}; NTK-aware rescaling needs at least 4")
    with np.errstate(over="ignore"):
        return float(theta * np.float64(factor) ** (rotary_dim / (rotary_dim - 2)))


def dynamic_factor(factor: float, length: int, trained_length: int) -> float:
    """The factor of dynamic NTK at a length n: s n/L - (s - 1) beyond the trained length L, else 1 (emozilla).

    >>> dynamic_factor(2.0, 8192, 4096), dynamic_factor(2.0, 100, 4096)
    (3.0, 1.0)
    """
    check_factor(factor)
    check_length("length", length)
    check_length("trained_length", trained_length)
    return factor * length / trained_length - (factor - 1) if length > trained_length else 1.0


def by_parts(inv_freq: ArrayLike, factor: float, trained_length: float, low: float, high: float) -> Array:
    """NTK-by-parts (arXiv 2309.00071, section 3.2), by the number of rotations that fit in L.

        rotations = L w / (2 pi)
        t  = clip((rotations - low) / (high - low), 0, 1)
        w' = (1 - t) w / s + t w

    The YaRN paper's alpha and beta are low = 1 and high = 32. Llama 3.1 has the same rule,
    written with wavelengths, and low = low_freq_factor = 1, high = high_freq_factor = 4. It is
    continuous, so which band owns a boundary does not matter; low = high is a step (Llama 4).
    """
    check_factor(factor)
    check_length("original_max_position_embeddings", trained_length)
    if not 0 < low <= high < math.inf:
        raise ValueError(f"the bands run from {low!r} to {high!r} rotations; expected 0 < low <= high")
    w = np.asarray(inv_freq)
    with np.errstate(divide="ignore", invalid="ignore"):  # a pair that stands still has no wavelength
        wavelength = (1 / w) * (2 * math.pi)
        rotations = (1 / wavelength) * float(trained_length)  # torch divides numbers by tensors in this way
        ramp = (rotations - float(low)) / float(high - low)
    t = np.where(rotations < low, 0, np.where(rotations >= high, 1, ramp)).astype(w.dtype)
    return np.asarray((1 - t) * w / float(factor) + t * w)


def yarn(
    rotary_dim: int, theta: float, factor: float, trained_length: float,
    beta_fast: float = 32.0, beta_slow: float = 1.0, truncate: bool = True, dtype: DTypeLike = np.float64,
) -> Array:  # fmt: skip
    """YaRN as its code has it (arXiv 2309.00071): the ramp runs over the index of the pair.

        c(b)  = r ln(L / (2 pi b)) / (2 ln theta)       the pair that turns b times in L
        low, high = c(beta_fast), c(beta_slow)          floor and ceil of them if `truncate`
        ramp_i = clip((i - low) / (high - low), 0, 1)   after low >= 0 and high <= r - 1
        w' = w/s ramp + w (1 - ramp)
    """
    check_factor(factor)
    check_length("original_max_position_embeddings", trained_length)
    if not theta > 1:
        raise ValueError(f"theta is {theta!r}; expected a number above 1, since YaRN divides by its logarithm")
    if not 0 < beta_slow <= beta_fast < math.inf:
        raise ValueError(f"beta_slow is {beta_slow!r}, beta_fast {beta_fast!r}; expected 0 < beta_slow <= beta_fast")

    def pair(rotations: float) -> float:
        return rotary_dim * math.log(trained_length / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = pair(beta_fast), pair(beta_slow)
    if truncate:
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, rotary_dim - 1)
    if low == high:
        high += 0.001  # a step, as Hugging Face has it
    ramp = np.clip((np.arange(rotary_dim // 2).astype(dtype) - low) / (high - low), 0, 1)
    keep = 1 - ramp
    # w/s is 1 / (s theta^(2i/r)), and the ramp is 1 - keep: the order of Hugging Face's roundings
    return geometric(rotary_dim, theta, dtype, factor) * (1 - keep) + geometric(rotary_dim, theta, dtype) * keep


def mrope(inv_freq: ArrayLike, mrope_section: Sequence[int]) -> Array:
    """Omega (pairs, axes): the first mrope_section[0] pairs turn with axis 0, the next with axis 1, ... (Qwen2-VL).

    >>> mrope([4.0, 3.0, 2.0, 1.0], (2, 1, 1)).tolist()
    [[4.0, 0.0, 0.0], [3.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    """
    check_sections(mrope_section, np.size(inv_freq))
    return by_axis(inv_freq, np.repeat(np.arange(len(mrope_section)), mrope_section), len(mrope_section))


def mrope_interleaved(inv_freq: ArrayLike, mrope_section: Sequence[int]) -> Array:
    """Omega (pairs, axes), axes in turn: pair i takes axis a = i mod axes while i < axes mrope_section[a], else 0.

    Axis 0 is time in Qwen3-VL: t h w t h w ... t t t.

    >>> mrope_interleaved([4.0, 3.0, 2.0, 1.0], (2, 1, 1)).tolist()
    [[4.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, 2.0], [1.0, 0.0, 0.0]]
    """
    pairs, axes = np.size(inv_freq), len(mrope_section)
    check_sections(mrope_section, pairs)
    axis = np.arange(pairs) % axes
    axis[np.arange(pairs) >= axes * np.asarray(mrope_section)[axis]] = 0
    if not np.array_equal(np.bincount(axis, minlength=axes), mrope_section):
        raise ValueError(f"mrope_section is {mrope_section!r}; these counts cannot take turns in {pairs} pairs")
    return by_axis(inv_freq, axis, axes)


def mrope_space_first(inv_freq: ArrayLike, mrope_section: Sequence[int]) -> Array:
    """Omega (pairs, 3) of axes (t, h, w): pairs take h and w in turn, the slowest t (ERNIE 4.5 VL).

    mrope_section counts the pairs of h, w and t; the first two are equal.

    >>> mrope_space_first([4.0, 3.0, 2.0], (1, 1, 1)).tolist()
    [[0.0, 4.0, 0.0], [0.0, 0.0, 3.0], [2.0, 0.0, 0.0]]
    """
    check_sections(mrope_section, np.size(inv_freq))
    h, w, t = mrope_section
    if h != w:
        raise ValueError(f"mrope_section is {mrope_section!r}; expected as many pairs for h as for w")
    return by_axis(inv_freq, np.append(np.tile([1, 2], h), np.zeros(t, np.intp)).astype(np.intp), 3)


def by_axis(inv_freq: ArrayLike, axis: NDArray[np.intp], axes: int) -> Array:
    """Omega (pairs, axes): pair i turns with `axis[i]` alone."""
    w = np.asarray(inv_freq)
    omega = np.zeros((len(w), axes), w.dtype)
    omega[np.arange(len(w)), axis] = w
    return omega


def block_diagonal(axes: list[Array]) -> Array:
    """Omega of shape (pairs, axes): one block of pairs for each axis (axial RoPE)."""
    return mrope(np.concatenate(axes), [len(w) for w in axes])


def with_ranges(rotations: ArrayLike, freq_ranges: ArrayLike) -> Array:
    """Learned rotations (..., f) times every range (g): (..., f g) (rotary-embedding-torch).

    >>> with_ranges([0.5, 1.0], [1.0, 2.0])
    array([0.5, 1. , 1. , 2. ])
    """
    product = np.asarray(rotations, np.float64)[..., None] * np.asarray(freq_ranges, np.float64)
    return product.reshape(*product.shape[:-2], -1)


def check_factor(factor: float) -> None:
    """Raise ValueError unless a context is stretched, not shrunk."""
    if not 1 <= factor < math.inf:
        raise ValueError(f"factor is {factor!r}; expected a number of at least 1")


def check_length(name: str, length: float) -> None:
    """Raise ValueError unless `length` can be a number of positions."""
    if not 0 < length < math.inf:
        raise ValueError(f"{name} is {length!r}; expected a positive number of positions")


def check_sections(mrope_section: Sequence[int], pairs: int) -> None:
    """Raise ValueError unless the sections share out all pairs."""
    if any(s != int(s) or s < 0 for s in mrope_section) or sum(mrope_section) != pairs:
        raise ValueError(f"mrope_section is {mrope_section!r}; expected counts that add up to {pairs} pairs")
