"""Beyond the trained length without training: rules that change the distance a score sees.

Ordinary RoPE gives the score of a query at m and a key at n the distance m - n. The rules here
cap or coarsen that distance where it is large, so that no unseen one occurs. Where the new
distance is a difference of two numbers, one of the query and one of the key, rotating at other
positions is enough; where it is not (ReRoPE, and every switch between near and far), the rule
lives in the scores: `scores` says what it means, and fast code computes several sets of scores
and picks one for each pair.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from rope_ref.positions import Positions, whole
from rope_ref.rope import Rope
from rope_ref.rotation import Array, rotate


def scores(q: ArrayLike, k: ArrayLike, distances: ArrayLike, rope: Rope) -> Array:
    """s_ij = (R(d_ij) q_i) . k_j for any distances d, shape (..., queries, keys); not scaled, no mask.

    q: (..., queries, head_dim), k: (..., keys, head_dim), distances: (queries, keys).
    With d_ij = m_i - n_j these are the scores of rotated queries and keys.

    >>> scores([[1.0, 0.0]], [[1.0, 0.0], [0.0, 1.0]], [[0, 0]], Rope(head_dim=2))
    array([[1., 0.]])
    """
    q, k, d = np.asarray(q, np.float64), np.asarray(k, np.float64), np.asarray(distances)
    rows, columns = q.shape[-2], k.shape[-2]
    if d.shape != (rows, columns):
        raise ValueError(f"distances have shape {d.shape}; expected {(rows, columns)}, queries by keys")
    every = np.repeat(q, columns, axis=-2)  # query i against every key, one row a pair
    turned = rotate(every, d.reshape(-1), rope).reshape(*q.shape[:-1], columns, q.shape[-1])
    still = rotate(k, np.zeros(columns), rope.keys)
    return np.asarray(np.einsum("...ijd,...jd->...ij", turned, still))


def relative(query_positions: ArrayLike, key_positions: ArrayLike) -> Positions:
    """d_ij = m_i - n_j, shape (queries, keys)."""
    return _whole("query_positions", query_positions)[:, None] - _whole("key_positions", key_positions)[None, :]


def rerope(query_positions: ArrayLike, key_positions: ArrayLike, window: int) -> Positions:
    """ReRoPE: d_ij = min(m_i - n_j, window), shape (queries, keys) (Su, 2023, kexue.fm/archives/9708).

    No rotation at any positions gives these distances, since a minimum of a difference is no
    difference: published code computes the scores twice, once rotated as always, once with all
    queries at `window` and all keys at 0, and takes the second for pairs at least `window` apart.

    >>> rerope([0, 1, 2, 3], [0, 1, 2, 3], window=2)[3]
    array([2, 2, 1, 0])
    """
    return np.minimum(relative(query_positions, key_positions), whole("window", window, least=1))


class Grouped(NamedTuple):
    """Positions of queries and of keys for pairs that are far apart."""

    query: Positions
    key: Positions


def grouped(positions: ArrayLike, group_size: int, neighbor_window: int) -> Grouped:
    """Self-Extend (arXiv 2401.01325): far pairs see distances coarsened by group_size.

        query    m // g + w - w // g
        key      n // g

    for pairs at least w = neighbor_window apart; nearer pairs are rotated as always. The shift
    joins the two: at a distance of w, a multiple of g, the grouped distance is w as well. It is
    the queries' alone; given to the keys too it cancels.

    >>> grouped([0, 4, 9], group_size=2, neighbor_window=4)
    Grouped(query=array([2, 4, 6]), key=array([0, 2, 4]))
    """
    p, g = _whole("positions", positions), whole("group_size", group_size, least=1)
    w = whole("neighbor_window", neighbor_window)
    return Grouped(p // g + w - w // g, p // g)


def self_extend(
    query_positions: ArrayLike, key_positions: ArrayLike, group_size: int, neighbor_window: int
) -> Positions:
    """The distances Self-Extend's scores see, shape (queries, keys): near pairs true, far pairs `grouped`."""
    near = relative(query_positions, key_positions)
    far = relative(
        grouped(query_positions, group_size, neighbor_window).query,
        grouped(key_positions, group_size, neighbor_window).key,
    )
    return np.where(near < neighbor_window, near, far)


class DualChunk(NamedTuple):
    """Positions for one rotation of keys and three of queries."""

    key: Positions
    intra: Positions
    successive: Positions
    inter: Positions


def dual_chunk(positions: ArrayLike, chunk_size: int, local_size: int) -> DualChunk:
    """Dual chunk attention (arXiv 2402.17463), as vLLM rotates Qwen2.5-1M (arXiv 2501.15383).

    With chunks of c = chunk_size - local_size tokens,

        key           n mod c
        intra         m mod c                           keys of the query's own chunk
        successive    min(m mod c + c, chunk_size)      keys of the chunk before
        inter         min(2 c - 1, chunk_size)          keys of every earlier chunk

    so no distance exceeds chunk_size, and those up to local_size (and up to c) are true ones. The
    paper caps at the trained length less one; vLLM caps at chunk_size.

    >>> dual_chunk([5], chunk_size=4, local_size=1)
    DualChunk(key=array([2]), intra=array([2]), successive=array([4]), inter=array([4]))
    """
    p, size = _whole("positions", positions), whole("chunk_size", chunk_size, least=1)
    if not whole("local_size", local_size) < size:
        raise ValueError(f"local_size is {local_size}; expected less than chunk_size {size}")
    c = size - local_size
    place = p % c
    return DualChunk(place, place, np.minimum(place + c, size), np.full_like(p, min(2 * c - 1, size)))


def dual_chunk_distances(
    query_positions: ArrayLike, key_positions: ArrayLike, chunk_size: int, local_size: int
) -> Positions:
    """The distances dual chunk attention's scores see, shape (queries, keys), for keys not after the query."""
    q, k = (dual_chunk(p, chunk_size, local_size) for p in (query_positions, key_positions))
    apart = relative(*(np.asarray(p) // (chunk_size - local_size) for p in (query_positions, key_positions)))
    choice = [relative(rows, k.key) for rows in (q.intra, q.successive, q.inter)]
    return np.choose(np.clip(apart, 0, 2), choice)


def _whole(name: str, positions: ArrayLike) -> Positions:
    p = np.asarray(positions)
    if p.ndim != 1 or p.dtype.kind not in "iu" or (p.size and p.min() < 0):
        raise ValueError(f"{name} is {positions!r}; expected whole numbers of shape (seq,), not negative")
    return p.astype(np.int64)
