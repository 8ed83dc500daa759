"""The free functions of rotary-embedding-torch 0.9.1: every angle in float64, every result rounded once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from torch_bridge.kernel import takes_kernel
from torch_bridge.plain import arithmetic, broadcasts
from torch_bridge.rotation import rotate

# MKL chooses the code of sin and cos in their first call, and where two threads share that call (a large tensor), one
# of them may run code of 12 bits (pytorch/pytorch#188792): here, and in models that are compared with. One number
# takes one thread.
for _dtype in (torch.float32, torch.float64):
    torch.zeros(1, dtype=_dtype, device="cpu").sin().cos()


def broadcat(tensors: Sequence[Tensor], dim: int = -1) -> Tensor:
    """Broadcast the tensors against each other and concatenate them along `dim`.

    >>> broadcat((torch.zeros(2, 1, 3), torch.zeros(1, 4, 3))).shape
    torch.Size([2, 4, 6])
    """
    return torch.cat(torch.broadcast_tensors(*tensors), dim=dim)


def wide(device: torch.device) -> torch.dtype:
    """The widest type that angles can have there."""
    return torch.float32 if device.type == "mps" else torch.float64


def tables(angle: Tensor, dtype: torch.dtype, magnitude: Tensor | float = 1.0) -> tuple[Tensor, Tensor]:
    """magnitude cos(angle) and magnitude sin(angle), rounded once to the type that `dtype` is rotated in."""
    return (magnitude * angle.cos()).to(arithmetic(dtype)), (magnitude * angle.sin()).to(arithmetic(dtype))


def apply_rotary_emb(
    freqs: Tensor,
    t: Tensor,
    start_index: int = 0,
    scale: Tensor | float = 1.0,
    seq_dim: int = -2,
    freqs_seq_dim: int | None = None,
) -> Tensor:
    """Turn channels (2i, 2i + 1) of t, from start_index on, by the angles freqs, then multiply them by scale.

    freqs  (..., seq, 2 pairs) radians, each angle given twice, broadcast against t (..., seq, head_dim).
           Where it has more rows along freqs_seq_dim than t has along seq_dim, the last ones are taken.
    scale  a number, or a tensor that broadcasts against freqs

    Returns t's shape and dtype. Raises ValueError where shapes do not fit, TypeError for a t
    that is not floating point.

    >>> apply_rotary_emb(torch.full((1, 2), torch.pi), torch.ones(1, 2)).round()
    tensor([[-1., -1.]])
    """
    freqs = _rows_of(freqs, t, seq_dim, freqs_seq_dim)
    width, stop = freqs.shape[-1], start_index + freqs.shape[-1]
    if width % 2 or start_index < 0 or stop > t.shape[-1]:
        raise ValueError(f"freqs turn channels {start_index} to {stop}; expected an even range of {t.shape[-1]}")
    angle = freqs.to(wide(t.device))
    if t.is_cpu and takes_kernel(t) and takes_kernel(freqs) and not freqs.requires_grad:
        even, odd = angle[..., ::2], angle[..., 1::2]
        if torch.equal(even, odd):
            return turn(t, *tables(even, t.dtype), scale, start_index)
    # each channel by its own angle, as the original allows
    cos, sin = tables(angle, t.dtype)
    middle = t[..., start_index:stop].to(cos.dtype)
    a, b = middle.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (middle * cos + torch.stack((-b, a), -1).flatten(-2) * sin) * scale
    return torch.cat((t[..., :start_index], turned.to(t.dtype), t[..., stop:]), -1)


def turn(t: Tensor, cos: Tensor, sin: Tensor, scale: Tensor | float, start: int = 0) -> Tensor:
    """Rotate by tables (..., pairs), then multiply what turned by scale (..., 2 pairs), rounding once."""
    if not isinstance(scale, Tensor):
        return rotate(t, cos * scale, sin * scale, pairing="interleaved", start=start)
    stop = start + 2 * cos.shape[-1]
    turned = rotate(t[..., start:stop].to(cos.dtype), cos, sin, pairing="interleaved") * scale
    return torch.cat((t[..., :start], turned.to(t.dtype), t[..., stop:]), -1)


def apply_learned_rotations(
    rotations: Tensor, t: Tensor, start_index: int = 0, freq_ranges: Tensor | None = None
) -> Tensor:
    """Turn t (..., seq, head_dim) by angles (..., seq, f) given per token, in radians.

    With freq_ranges (g,) every angle is taken times every range, f g angles in all.
    Gradients reach rotations and freq_ranges.

    >>> apply_learned_rotations(torch.full((1, 1), torch.pi), torch.ones(1, 2)).round()
    tensor([[-1., -1.]])
    """
    angle = _rows_of(rotations, t, -2, None).to(wide(t.device))
    if freq_ranges is not None:
        angle = (angle[..., None] * freq_ranges).flatten(-2)
    return rotate(t, *tables(angle, t.dtype), pairing="interleaved", start=start_index)


def _rows_of(freqs: Tensor, t: Tensor, seq_dim: int, freqs_seq_dim: int | None) -> Tensor:
    """The last rows of freqs, as many as t has, once it is sure that they fit."""
    if not t.is_floating_point():
        raise TypeError(f"t has dtype {t.dtype}; expected floating point")
    if freqs.device != t.device:
        raise ValueError(f"freqs are on {freqs.device}; expected {t.device}, as t")
    if freqs_seq_dim is None and freqs.ndim == 2:
        freqs_seq_dim = 0
    if freqs_seq_dim is None and freqs.ndim == t.ndim == 3:
        freqs_seq_dim = seq_dim
    rows = freqs
    if freqs_seq_dim is not None:
        have, need = freqs.shape[freqs_seq_dim], t.shape[seq_dim]
        rows = freqs.narrow(freqs_seq_dim, max(have - need, 0), min(have, need))
    if not broadcasts(rows, t):
        raise ValueError(f"freqs have shape {tuple(freqs.shape)}; expected to broadcast to t, {tuple(t.shape)}")
    return rows
