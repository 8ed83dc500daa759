"""One question to an implementation: these numbers, at these positions, in this memory layout."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from rope_ref.conformance.adapters.arrays import Array, rounded

STRIDES = ("contiguous", "sliced", "transposed", "stepped", "expanded")


@dataclass(frozen=True)
class Probe:
    """What goes into one call, by numbers small enough to shrink and to print.

    positions       nested tuples: (seq), (batch, seq), with axes as a last dimension where there are several
    memory          how x lies in memory, one of STRIDES
    position_dtype  dtype of the positions
    before          lengths of the calls that came before, where calls make up a sequence
    layer           index of the layer
    key             whether it is a key, where queries and keys turn in ways of their own
    padding         how many tokens each row begins with of which any answer is right, () for none
    """

    batch: int
    heads: int
    positions: tuple[object, ...]
    dtype: str = "float32"
    seed: int | tuple[int, ...] = 0
    memory: str = "contiguous"
    position_dtype: str = "int64"
    before: tuple[int, ...] = ()
    layer: int = 0
    key: bool = False
    padding: tuple[int, ...] = ()

    @property
    def where(self) -> Array:
        """The positions as an array."""
        return np.asarray(self.positions, np.float64 if "float" in self.position_dtype else np.int64)

    def rows(self, axes: int | None) -> Array:
        """The positions of every row, (batch, seq) or (batch, seq, axes)."""
        p = self.where
        each = p.ndim == (2 if axes is None else 3)
        return p if each else np.broadcast_to(p, (self.batch, *p.shape))

    def seq(self, axes: int | None) -> int:
        return int(self.where.shape[-1 if axes is None else -2])

    def without_padding(self, y: Array) -> Array:
        """y (batch, heads, seq, head_dim) with 0 where nothing is asked."""
        if not self.padding:
            return y
        real = np.arange(y.shape[2]) >= np.asarray(self.padding)[:, None]
        return np.where(real[:, None, :, None], y, 0.0)

    def x(self, head_dim: int, axes: int | None) -> Array:
        """(batch, heads, seq, head_dim), read-only: standard normal numbers rounded to the dtype; for several seeds the
        sum of small whole numbers, which has no rounding."""
        shape = (self.batch, self.heads, self.seq(axes), head_dim)
        x = _numbers(shape, self.seed, self.dtype)
        return np.broadcast_to(x[:, :1], shape) if self.memory == "expanded" else x


@lru_cache(maxsize=256)
def _numbers(shape: tuple[int, ...], seed: int | tuple[int, ...], dtype: str) -> Array:
    if isinstance(seed, int):
        x = rounded(np.random.default_rng(seed).standard_normal(shape), dtype)
    else:
        x = sum((np.random.default_rng(s).integers(-8, 9, shape) for s in seed), np.zeros(shape))
    x.setflags(write=False)
    return x


def sequence(start: int, seq: int, axes: int | None = None, *, batch: int = 1, heads: int = 2, **more: object) -> Probe:
    """Tokens one behind the other; on several axes each moves at its own pace, so that none can stand for another."""
    p = start + np.arange(seq)
    where = p if axes is None else np.stack([start + (p - start) * (1 + a) % 7 + a for a in range(axes)], -1)
    return replace(Probe(batch, heads, nested(where)), **more)  # type: ignore[arg-type]


def nested(array: NDArray[np.generic]) -> tuple[object, ...]:
    """An array as nested tuples."""
    listed = array.tolist()
    return tuple(map(_tuples, listed))


def _tuples(value: object) -> object:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
