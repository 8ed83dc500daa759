"""Rotary embeddings of published video and diffusion transformers: three axes or more.

All of them give each axis a block of interleaved channels with geometric frequencies of its own
width, and differ in widths, theta and coordinates. Positions are (frame, row, column), as
`positions.grid(frames, height, width)` gives, unless a function beside says otherwise.
"""

from collections.abc import Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from rope_ref.frequencies import Array, block_diagonal, geometric
from rope_ref.positions import Coordinates, Positions, grid, product, sequence, whole
from rope_ref.rope import Rope, angle_dtype, variant
from rope_ref.rotation import angles


@variant
def wan(head_dim: int = 128, theta: float = 10000.0, **fields: Any) -> Rope:
    """Wan 2.1 (arXiv 2503.20314): widths d - 4 (d // 6), 2 (d // 6), 2 (d // 6)."""
    side = 2 * (whole("head_dim", head_dim, least=2) // 6)
    return _blocks((head_dim - 2 * side, side, side), theta, **fields)


@variant
def hunyuan_video(axes_dim: Sequence[int] = (16, 56, 56), theta: float = 256.0, **fields: Any) -> Rope:
    """HunyuanVideo (arXiv 2412.03603): widths 16, 56, 56 and theta 256. Text tokens are not rotated."""
    return _blocks(axes_dim, theta, **fields)


@variant
def cogvideox(head_dim: int = 64, theta: float = 10000.0, **fields: Any) -> Rope:
    """CogVideoX (arXiv 2408.06072): widths d/4, 3d/8, 3d/8. Text tokens, which come first, are not rotated."""
    if whole("head_dim", head_dim, least=16) % 16:
        raise ValueError(f"head_dim is {head_dim}; expected a multiple of 16, for widths d/4, 3d/8 and 3d/8")
    return _blocks((head_dim // 4, head_dim // 8 * 3, head_dim // 8 * 3), theta, **fields)


def cogvideox_positions(frames: int, height: int, width: int, base: tuple[int, int] = (30, 45)) -> Coordinates:
    """Rows and columns spread over a centered crop of the trained grid `base`, shape (frames height width, 3).

    The frame is resized to fit `base` by its longer side, whole patches on the other; row i of n
    stands at top + i rows / n, in fractions of a trained patch, the end not reached; frames count
    0, 1, ... CogVideoX 1.5 counts rows and columns too: `positions.grid`.

    >>> cogvideox_positions(1, 15, 45)[-1]
    array([ 0., 22., 44.])
    """
    for name, size in (("height", height), ("width", width)):
        whole(name, size, least=1)
    full_rows, full_columns = base
    tall = height / width > full_rows / full_columns
    rows = full_rows if tall else round(full_columns / width * height)
    columns = round(full_rows / height * width) if tall else full_columns
    top, left = round((full_rows - rows) / 2), round((full_columns - columns) / 2)
    return product(
        sequence(frames).astype(np.float64),
        top + np.linspace(0, rows, height, endpoint=False),
        left + np.linspace(0, columns, width, endpoint=False),
    )


@variant
def flux(axes_dim: Sequence[int] = (16, 56, 56), theta: float = 10000.0, **fields: Any) -> Rope:
    """FLUX.1: widths 16, 56, 56; see `flux_positions`."""
    return _blocks(axes_dim, theta, **fields)


def flux_positions(height: int, width: int, text: int = 0, image: int = 0) -> Positions:
    """Text tokens at (0, 0, 0), then (image, row, column) of each patch, shape (text + height width, 3).

    `image` numbers the picture: 0 for the one made, 1 for the one given to FLUX.1 Kontext.

    >>> flux_positions(1, 2, text=1).tolist()
    [[0, 0, 0], [0, 0, 0], [0, 0, 1]]
    """
    patches = grid(1, height, width, offsets=(whole("image", image), 0, 0))
    return np.concatenate([np.zeros((whole("text", text), 3), np.int64), patches])


@variant
def v_jepa_2(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """V-JEPA 2 (arXiv 2506.09985) as it was meant: three blocks of 2 ((d // 3) // 2) channels, the rest still.

    The released weights were trained with `v_jepa_2_released`, which is not this.
    """
    width = 2 * (whole("head_dim", head_dim, least=6) // 3 // 2)
    return _blocks((width, width, width), theta, head_dim=head_dim, **fields)


def v_jepa_2_released(x: ArrayLike, positions: ArrayLike, theta: float = 10000.0) -> Array:
    """What the released V-JEPA 2 computes: interleaved pairs whose two channels turn by different angles.

    The h frequencies of a block are laid out for half-split channels, w_0 .. w_(h-1) twice, and
    the channels paired interleaved, so that channel c of a block takes the frequency c mod h:

        a' = a cos(p w_a) - b sin(p w_a),    b' = b cos(p w_b) + a sin(p w_b)

    This changes lengths, and scores depend on more than relative position; but the weights were
    trained with it. x: (..., seq, head_dim), positions: (seq, 3).
    """
    y = np.array(x, np.float64)
    rope = v_jepa_2(y.shape[-1], theta)
    phi, h = angles(rope, positions), rope.pairs // 3
    for axis in range(3):
        block = slice(2 * h * axis, 2 * h * (axis + 1))
        channel = np.tile(phi[..., h * axis : h * (axis + 1)], 2)
        quarter = np.stack([-y[..., block][..., 1::2], y[..., block][..., 0::2]], -1).reshape(y[..., block].shape)
        y[..., block] = y[..., block] * np.cos(channel) + quarter * np.sin(channel)
    return y


@variant
def golden(
    head_dim: int,
    axes: int,
    heads: int | None = None,
    min_freq: float = 1.0,
    max_freq: float = 10000.0,
    p_zero_freqs: float = 0.0,
    iterations: int = 64,
    **fields: Any,
) -> Rope:
    """Golden-gate RoPE (Xiong, 2025, jerryxio.ng/posts/nd-rope): angle = w (u . p), directions u even over the sphere.

    Pair i = 1, 2, ..., counted through all heads, takes the direction of

        z_a = N^-1(frac(i g^-a)), a = 1 .. axes,    g^(axes + 1) = g + 1

    with N the normal distribution: a low-discrepancy sequence in the cube carried to the sphere.
    In each head the first round(p_zero_freqs pairs) speeds w are 0 and the others rise
    geometrically from min_freq to max_freq. Half-split channels; coordinates are meant to lie in
    [-1, 1].

    g is found by `iterations` steps g = (1 + g)^(1 / (axes + 1)) from 2, each of which at least halves its error: 64
    give the root. Published code takes ten, which come within 1e-7 of it, within 1e-5 for a single axis; with
    iterations=10 the directions are those of that code.

    >>> golden(8, axes=3, heads=2).omega.shape
    (2, 4, 3)
    """
    pairs, axes = whole("head_dim", head_dim, least=2) // 2, whole("axes", axes, least=1)
    if not (0 < min_freq <= max_freq and 0 <= p_zero_freqs <= 1):
        raise ValueError(
            f"min_freq is {min_freq!r}, max_freq {max_freq!r}, p_zero_freqs {p_zero_freqs!r}; "
            "expected 0 < min_freq <= max_freq and a proportion"
        )
    g = 2.0
    for _ in range(whole("iterations", iterations, least=1)):
        g = (1 + g) ** (1 / (axes + 1))
    i = np.arange(1, (1 if heads is None else whole("heads", heads, least=1)) * pairs + 1)[:, None]
    z = np.vectorize(NormalDist().inv_cdf)(i * g ** -np.arange(1.0, axes + 1) % 1)
    direction = z / np.linalg.norm(z, axis=-1, keepdims=True)
    still = round(p_zero_freqs * pairs)
    speed = np.append(np.zeros(still), np.geomspace(min_freq, max_freq, pairs - still))
    shape = (pairs, axes) if heads is None else (heads, pairs, axes)
    return Rope(head_dim, inv_freq=speed[:, None] * direction.reshape(shape), **fields)


def _blocks(widths: Sequence[int], theta: float, head_dim: int | None = None, **fields: Any) -> Rope:
    for width in widths:
        if whole("axes_dim", width, least=2) % 2:
            raise ValueError(f"axes_dim holds {width}; expected even numbers, one for each axis")
    omega = block_diagonal([geometric(width, theta, angle_dtype(fields)) for width in widths])
    return Rope(sum(widths) if head_dim is None else head_dim, inv_freq=omega, pairing="interleaved", **fields)
