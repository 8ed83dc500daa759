"""Which tokens of a sequence a rank holds when the sequence is split over several (context parallelism).

Every function returns rows: indices of tokens, int64, in the order in which the rank holds them.
Positions, of one axis or more, are never counted anew on a rank: they are taken by row,

    positions[rows]

so that the union over ranks is the whole. A rank that counts from 0, or that takes rows of a
packed batch without the start of their sequence, rotates by the wrong angles without any error.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from rope_ref.positions import Positions, boundaries, sequence, whole

Shard = Callable[[int, int, int], Positions]


def contiguous(length: int, rank: int, world_size: int) -> Positions:
    """The rank-th of world_size equal runs, shape (length / world_size,).

    >>> contiguous(8, rank=1, world_size=2)
    array([4, 5, 6, 7])
    """
    return _chunk(length, _checked(rank, world_size), world_size)


def zigzag(length: int, rank: int, world_size: int) -> Positions:
    """Chunks rank and 2 world_size - 1 - rank of 2 world_size, shape (length / world_size,).

    Under a causal mask late tokens cost more than early ones; one early and one late chunk a rank
    balances them (Megatron-LM, TransformerEngine, ring attention).

    >>> zigzag(8, rank=0, world_size=2)
    array([0, 1, 6, 7])
    >>> zigzag(8, rank=1, world_size=2)
    array([2, 3, 4, 5])
    """
    early, chunks = _checked(rank, world_size), 2 * world_size
    return np.concatenate([_chunk(length, i, chunks) for i in (early, chunks - 1 - early)])


def packed(shard: Shard, cu_seqlens: ArrayLike, rank: int, world_size: int) -> Positions:
    """Each of the packed sequences split by `shard`, shape (cu_seqlens[-1] / world_size,).

    >>> from rope_ref import positions
    >>> rows = packed(zigzag, [0, 4, 12], rank=0, world_size=2)
    >>> rows
    array([ 0,  3,  4,  5, 10, 11])
    >>> positions.packed([0, 4, 12])[rows]
    array([0, 3, 0, 1, 6, 7])
    """
    starts = boundaries(cu_seqlens)
    parts = [a + shard(int(b - a), rank, world_size) for a, b in zip(starts[:-1], starts[1:], strict=True)]
    return np.concatenate([sequence(0), *parts])


def _chunk(length: int, index: int, chunks: int) -> Positions:
    if whole("length", length) % chunks:
        raise ValueError(f"length is {length}; expected a multiple of {chunks}, the number of chunks: pad the sequence")
    size = length // chunks
    return sequence(size, offset=index * size)


def _checked(rank: int, world_size: int) -> int:
    if not whole("rank", rank) < whole("world_size", world_size, least=1):
        raise ValueError(f"rank is {rank}; expected at most {world_size - 1}, for world_size {world_size}")
    return rank
