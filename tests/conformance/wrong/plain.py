"""RoPE as most projects write it in PyTorch: the correct part of the implementations beside this file.

Frequencies and angles are float32, pairs are turned in float32, and the result has the dtype of x.
x is (batch, heads, seq, head_dim); positions are (seq,) or (batch, seq).
"""

import torch

# What such code would declare.
TORCH = {"arrays": "torch", "dtypes": ("float32", "bfloat16"), "rows": True}


def inverse_frequencies(dim, theta=10000.0):
    return 1.0 / theta ** (torch.arange(0, dim, 2).float() / dim)


def angles(positions, inv_freq):
    """(seq, pairs), or (batch, 1, seq, pairs) where rows have positions of their own."""
    freqs = positions.float()[..., None] * inv_freq
    return freqs[:, None] if positions.ndim == 2 else freqs


def halves(freqs):
    """cos and sin for channels (i, i + r/2)."""
    emb = torch.cat((freqs, freqs), dim=-1)
    return emb.cos(), emb.sin()


def adjacent(freqs):
    """cos and sin for channels (2i, 2i + 1)."""
    emb = freqs.repeat_interleave(2, dim=-1)
    return emb.cos(), emb.sin()


def rotate_half(x):
    x1, x2 = x.chunk(2, dim=-1)
    return torch.cat((-x2, x1), dim=-1)


def rotate_every_two(x):
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


def apply_rotary(x, cos, sin, rotate=rotate_half):
    """Turn the first channels of x, as many as cos is wide; the rest passes."""
    width = cos.shape[-1]
    turned = x[..., :width].float()
    turned = turned * cos + rotate(turned) * sin
    return torch.cat((turned.type_as(x), x[..., width:]), dim=-1)


def rope(x, positions, inv_freq):
    """The whole of it, half-split."""
    return apply_rotary(x, *halves(angles(positions, inv_freq)))


def rope_adjacent(x, positions, inv_freq):
    """The whole of it, interleaved."""
    return apply_rotary(x, *adjacent(angles(positions, inv_freq)), rotate_every_two)
