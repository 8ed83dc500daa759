"""Tensors and tables to rotate, and whether a result is right."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rope_ref.exactness import UNIT
from rope_ref.rope import Rope
from rope_ref.rotation import tables
from torch_bridge.bench.machine import memory
from torch_bridge.bench.rows import LeftOut, Wrong
from torch_bridge.plain import arithmetic, plain

DTYPES = ("float32", "bfloat16", "float16")
START = 100  # the position of the first token: at 0 a rotation does nothing, and a wrong one would be right
PART = 4096  # tokens that are checked at once
COPIES = 8  # of the tensors of a case that are there at once, those of the eager formula among them


def array(t: Tensor) -> Any:
    """The memory of a CPU tensor as the kernels take it: bfloat16 as uint16."""
    t = t.detach()
    return t.view(torch.uint16).numpy() if t.dtype == torch.bfloat16 else t.numpy()


class Case(NamedTuple):
    """What is rotated: one tensor for each number of heads, 32 for a query, 8 more for a key that is shared.

    layout  "head-major" (1, heads, tokens, head_dim); "transposed", the same over memory (1, tokens, heads,
            head_dim), as models hand it over; "token-major" (1, tokens, heads, head_dim); "packed" (tokens, heads,
            head_dim)
    fused   the query is a view of memory (tokens, 3, heads, head_dim) that holds key and value too
    """

    tokens: int
    dtype: str = "float32"
    pairing: str = "half-split"
    heads: tuple[int, ...] = (32,)
    head_dim: int = 128
    rotary_dim: int = 128
    layout: str = "head-major"
    fused: bool = False

    @property
    def rope(self) -> Rope:
        return Rope(self.head_dim, rotary_dim=self.rotary_dim, pairing=self.pairing)

    @property
    def nbytes(self) -> int:
        return sum(self.heads) * self.tokens * self.head_dim * self.torch_dtype.itemsize

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)  # type: ignore[no-any-return]

    def tensors(self) -> list[Tensor]:
        """Normal numbers. Raises LeftOut where memory is short."""
        check_memory(COPIES * self.nbytes)
        return [self.tensor(heads) for heads in self.heads]

    def tensor(self, heads: int) -> Tensor:
        generator = torch.Generator().manual_seed(heads)
        places = (self.tokens, 3 if self.fused else 1, heads)
        if self.layout == "head-major":
            places = (1, heads, self.tokens)
        x = torch.randn(*places, self.head_dim, generator=generator).to(self.torch_dtype)
        if self.layout == "head-major":
            return x
        x = x[:, 0]
        return x if self.layout == "packed" else x[None] if self.layout == "token-major" else x[None].transpose(1, 2)

    def tables(self) -> tuple[Tensor, Tensor]:
        """cos and sin, (tokens, pairs) with an axis for the heads where these come after."""
        cos, sin = (torch.from_numpy(t) for t in tables(self.rope, START + np.arange(self.tokens), np.float32))
        inner = self.layout in ("token-major", "packed")
        return (cos[:, None], sin[:, None]) if inner else (cos, sin)


def check_memory(needed: int) -> None:
    """Raise LeftOut unless so many bytes are free, where the system says how many are."""
    free = memory("MemAvailable")
    if free is not None and needed > free:
        raise LeftOut(f"needs {needed / 2**30:.1f} GiB of memory, and {free / 2**30:.1f} are free")


def close(name: str, got: Tensor, wanted: Tensor, bound: float) -> None:
    """Raise Wrong where two tensors differ by more than `bound`."""
    off = float((got.float() - wanted.float()).abs().max()) if got.shape == wanted.shape else float("inf")
    if not off <= bound:
        raise Wrong(f"{name} is off by {off:.2g}, more than the {bound:.2g} of its roundings; it was not timed")


def rotated(x: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> Tensor:
    """The same in torch's own operations."""
    wide = arithmetic(x.dtype)
    return plain(x, cos.to(wide), sin.to(wide), pairing)


def check(
    name: str, got: Tensor, x: Tensor, cos: Tensor, sin: Tensor, pairing: str, inner: str | None = None
) -> None:  # fmt: skip
    """Raise Wrong unless `got` is x rotated by tables (tokens, ..., pairs); in parts, so that memory stays small."""
    if got.shape != x.shape:
        raise Wrong(f"{name} has shape {tuple(got.shape)}; expected {tuple(x.shape)}, that of x")
    bound, axis = roundings(x, cos, sin, inner), -cos.ndim
    for y, part, c, s in zip(got.split(PART, axis), x.split(PART, axis), cos.split(PART), sin.split(PART), strict=True):
        close(name, y, rotated(part, c, s, pairing), bound)


def roundings(x: Tensor, cos: Tensor, sin: Tensor, inner: str | None = None, angle: float = 0.0) -> float:
    """How far two rotations of x may be apart.

    Each is off by (|a| + |b|) m ((1 + u)^3 (1 + v) - 1) at most, as `rope_ref.exactness` counts: one rounding of a
    table, a product and a sum by the unit roundoff u of `inner`, the less exact of their types (float32, unless
    given), and one of the store, v. m is the largest magnitude, and the angle of one may be off by `angle` radians.
    """
    store = UNIT[str(x.dtype).removeprefix("torch.")]
    unit = UNIT[inner or "float32"]
    magnitude = float(torch.hypot(cos.float(), sin.float()).max())
    growth = (1 + unit) ** 3 * (1 + store) - 1
    largest = max(abs(float(end)) for end in torch.aminmax(x))
    return 2 * largest * magnitude * (2 * growth + angle)
