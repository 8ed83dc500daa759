"""The rotation as others write it in torch's own operations: what kernels are there to replace."""

from collections.abc import Callable

import torch
from torch import Tensor


def rotate_half(x: Tensor, pairing: str) -> Tensor:
    """(-b, a) of every pair (a, b)."""
    if pairing == "interleaved":
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    first, second = x.chunk(2, -1)
    return torch.cat((-second, first), -1)


def widened(table: Tensor, pairing: str) -> Tensor:
    """A table (..., pairs) with an entry for each channel."""
    return table.repeat_interleave(2, -1) if pairing == "interleaved" else torch.cat((table, table), -1)


def apply_rotary_pos_emb(x: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> Tensor:
    """That of transformers (Llama, Cohere) for one tensor, tables (..., head_dim) in the dtype of x."""
    return (x * cos) + (rotate_half(x, pairing) * sin)


def hugging_face(x: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> Callable[[], Tensor]:
    """What rotates x by tables (..., pairs) as transformers does, the tables made ready; other channels pass."""
    cos, sin = (widened(table, pairing).to(x.dtype) for table in (cos, sin))
    turning = cos.shape[-1]
    if turning == x.shape[-1]:
        return lambda: apply_rotary_pos_emb(x, cos, sin, pairing)
    return lambda: torch.cat(
        (apply_rotary_pos_emb(x[..., :turning], cos, sin, pairing), x[..., turning:]), -1
    )  # fmt: skip


def complex_view(x: Tensor, cos: Tensor, sin: Tensor) -> Callable[[], Tensor]:
    """What rotates neighbours as complex numbers, in float32: the formula of Meta's Llama."""
    turns = torch.complex(cos.float(), sin.float())

    def call() -> Tensor:
        pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * turns).flatten(-2).to(x.dtype)

    return call
