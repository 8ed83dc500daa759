"""The module of rotary-embedding-torch 0.9.1 that other projects import from, by its names; and `install`.

    import torch_bridge.rotary_embedding_torch as ours
    ours.install()                       # before anything imports rotary_embedding_torch

From then on `import rotary_embedding_torch`, wherever it stands, is this.
"""

import sys
from typing import Any, TypeVar

import torch
from torch import Tensor

from torch_bridge.drop_in import RotaryEmbedding
from torch_bridge.functions import apply_learned_rotations, apply_rotary_emb, broadcat

__all__ = [
    "RotaryEmbedding", "apply_learned_rotations", "apply_rotary_emb", "broadcat", "default", "exists", "install",
    "rotate_half", "slice_at_dim",
]  # fmt: skip
NAME = "rotary_embedding_torch"
Value = TypeVar("Value")


def install() -> None:
    """Let `import rotary_embedding_torch`, and from its module of the same name, give this module.

    Raises ImportError if the original was imported before, since what took its names keeps them.
    """
    here = sys.modules[__name__]
    before = sys.modules.get(NAME)
    if before not in (None, here):
        raise ImportError(f"{NAME} is imported already; expected install() before that")
    sys.modules[NAME] = sys.modules[f"{NAME}.{NAME}"] = here


def exists(value: Any) -> bool:
    """Whether a value is not None."""
    return value is not None


def default(value: Value | None, other: Value) -> Value:
    """The value, or the other where it is None."""
    return other if value is None else value


def rotate_half(x: Tensor) -> Tensor:
    """(-x1, x0, -x3, x2, ...): every pair (2i, 2i + 1) turned by a right angle.

    >>> rotate_half(torch.tensor([1.0, 2.0]))
    tensor([-2.,  1.])
    """
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((-b, a), -1).flatten(-2)


def slice_at_dim(t: Tensor, dim_slice: slice, *, dim: int) -> Tensor:
    """t[..., dim_slice, ...] with the slice along an axis."""
    return t[(slice(None),) * (dim % t.ndim) + (dim_slice,)]
