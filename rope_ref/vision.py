"""Rotary embeddings of published image encoders, each named apart, and the coordinates of its patches.

They all split a head between rows and columns and agree on little else:

    scheme      first block   channels    frequency k of a block       coordinate
    eva02       row           interleaved theta^(-4k/d)                i / size * pretrained size
    pixtral     row           half-split  theta^(-4k/d), -(4k+2)/d     i
    qwen2_vl    row           half-split  theta^(-4k/d)                i, patches in merge order
    dinov3      row           half-split  2 pi theta^(-4k/d)           centers, in [-1, 1]
    sam2        column        interleaved theta^(-4k/d)                i
    llama4      column        interleaved theta^(-4k/d)                i + 1, class token at 0
    mixed       both          interleaved theta^(-4k/d), any direction i

Positions are (row, column) in every one of them, as `positions.grid(height, width)` gives, also
where the published code takes x before y: which block turns by which axis is a matter of Omega.
"""

from typing import Any

import numpy as np
from numpy.random import Generator

from rope_ref.frequencies import Array, block_diagonal, geometric
from rope_ref.positions import Coordinates, Positions, grid, product, sequence, whole
from rope_ref.rope import Rope, angle_dtype, variant


@variant
def eva02(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """EVA-02 (arXiv 2303.11331), and timm's RotaryEmbeddingCat: rows then columns, interleaved channels."""
    return Rope(head_dim, inv_freq=_rows_then_columns(head_dim, theta, fields), pairing="interleaved", **fields)


def eva02_positions(height: int, width: int, pretrained: tuple[int, int] = (16, 16)) -> Coordinates:
    """i / size * pretrained size on each axis, shape (height width, 2): an image of any size spans the trained grid.

    The original is for squares; timm (ref_feat_shape) takes each axis by its own size.

    >>> eva02_positions(2, 4, pretrained=(8, 8))[-1]
    array([4., 6.])
    """
    sizes = np.maximum((height, width), 1)
    return np.asarray(grid(height, width) / sizes * pretrained, np.float64)


@variant
def pixtral(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """Pixtral (arXiv 2410.07073): of the frequencies of the whole head, the even ones for rows, the odd for columns.

    Hugging Face pairs channels half-split, which is the default here; Mistral's own code and
    checkpoints interleave them.
    """
    w = geometric(_quartered(head_dim), theta, angle_dtype(fields))
    return Rope(head_dim, inv_freq=block_diagonal([w[0::2], w[1::2]]), **fields)


@variant
def qwen2_vl(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """The vision tower of Qwen2-VL, 2.5-VL and 3-VL (arXiv 2409.12191): rows then columns, half-split.

    Positions come from `multimodal.merge_blocks`; frames of a video share them.
    """
    return Rope(head_dim, inv_freq=_rows_then_columns(head_dim, theta, fields), **fields)


@variant
def dinov3(head_dim: int, theta: float = 100.0, **fields: Any) -> Rope:
    """DINOv3 (arXiv 2508.10104): angle 2 pi c theta^(-4k/d), k = 0 .. d/4 - 1, rows then columns, half-split.

    Class and register tokens stand before the patches and are not rotated.
    """
    return Rope(head_dim, inv_freq=2 * np.pi * _rows_then_columns(head_dim, theta, fields), **fields)


def dinov3_positions(height: int, width: int) -> Coordinates:
    """Centers of patches, (i + 1/2) / size mapped to [-1, 1], shape (height width, 2).

    While training, the coordinates c become (c + shift) * jitter * rescale: a uniform shift and a
    log-uniform jitter for each axis, one log-uniform rescale for both.

    >>> dinov3_positions(2, 1).tolist()
    [[-0.5, 0.0], [0.5, 0.0]]
    """
    return product(*(2 * (sequence(size) + 0.5) / max(size, 1) - 1 for size in (height, width)))


@variant
def sam2(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """Memory attention of SAM 2 (arXiv 2408.00714): columns then rows, interleaved channels.

    With theta 100 this is the axial RoPE of RoPE-ViT (arXiv 2403.13298). SAM 2 rotates the keys of
    several remembered frames by the same positions, and object pointers not at all.
    """
    omega = _rows_then_columns(head_dim, theta, fields)[:, ::-1]
    return Rope(head_dim, inv_freq=omega, pairing="interleaved", **fields)


@variant
def llama4(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """The vision encoder of Llama 4: columns then rows, interleaved channels; see `llama4_positions`."""
    return sam2(head_dim, theta, **fields)


def llama4_positions(height: int, width: int) -> Positions:
    """(row + 1, column + 1), then the class token at (0, 0), shape (height width + 1, 2).

    >>> llama4_positions(1, 2).tolist()
    [[1, 1], [1, 2], [0, 0]]
    """
    return np.concatenate([grid(height, width) + 1, np.zeros((1, 2), np.int64)])


@variant
def moonvit(head_dim: int, theta: float = 10000.0, pairing: str = "interleaved", **fields: Any) -> Rope:
    """MoonViT of Kimi-VL and Kimi K2.5 (arXiv 2504.07491): pairs take column and row in turn, both theta^(-4k/d)."""
    omega = _rows_then_columns(head_dim, theta, fields)
    rows, columns = np.split(omega, 2)
    taking_turns = np.stack([columns, rows], 1).reshape(omega.shape)
    return Rope(head_dim, inv_freq=taking_turns, pairing=pairing, **fields)


@variant
def mixed(head_dim: int, heads: int, generator: Generator | int, theta: float = 10.0, **fields: Any) -> Rope:
    """RoPE-Mixed (arXiv 2403.13298) as it starts: angle = w_x x + w_y y, a dense Omega for each head.

    With u uniform in [0, 2 pi), one for each head, and m_k = theta^(-4k/d), k = 0 .. d/4 - 1,

        (w_x, w_y) = m_k (cos u, sin u), then m_k (cos(u + pi/2), sin(u + pi/2))

    Training moves every w on its own: hand a trained Omega (heads, pairs, axes) to Rope as
    inv_freq, with the axes as (y, x) if positions are (row, column). x is (..., heads, seq, head_dim).

    generator  draws u; or a seed, from which the same Rope can be made again, as `origin` tells it

    >>> rope = mixed(8, heads=3, generator=0)
    >>> rope.heads, rope.pairs, rope.axes
    (3, 4, 2)
    """
    drawn = np.random.default_rng(generator).uniform(0, 2 * np.pi, (whole("heads", heads, least=1), 1))
    u = drawn + np.array([0, np.pi / 2])
    direction = np.stack([np.sin(u), np.cos(u)], -1)  # (heads, 2, axes), axes (row, column) = (y, x)
    speed = geometric(_quartered(head_dim) // 2, theta, angle_dtype(fields))
    omega = (speed[:, None] * direction[:, :, None]).reshape(heads, -1, 2)
    return Rope(head_dim, inv_freq=omega, pairing="interleaved", **fields)


def _rows_then_columns(head_dim: int, theta: float, fields: dict[str, Any]) -> Array:
    """Omega (d/2, 2): half of the pairs for each axis, both with theta^(-4k/d), k = 0 .. d/4 - 1."""
    w = geometric(_quartered(head_dim) // 2, theta, angle_dtype(fields))
    return block_diagonal([w, w])


def _quartered(head_dim: int) -> int:
    if whole("head_dim", head_dim, least=4) % 4:
        raise ValueError(f"head_dim is {head_dim}; expected a multiple of 4: a pair of channels for each of two axes")
    return head_dim
