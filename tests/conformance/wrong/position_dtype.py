"""POSDT: position values lose integers on the way to the angles."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, apply_rotary, halves, inverse_frequencies, rope


@case("flashinfer-ai/flashinfer#1129", bug="POSDT")
def reinterpreted_ids(broken):
    """The kernel takes a pointer to int32; int64 position ids are read through it as p0, 0, p1, 0, ..."""
    inv_freq = inverse_frequencies(128)

    def apply_rope_pos_ids(x, pos_ids):
        if broken:
            words = pos_ids.contiguous().view(-1).view(torch.int32)
            pos_ids = words[: pos_ids.numel()].view(pos_ids.shape)
        else:
            pos_ids = pos_ids.to(torch.int32)
        return rope(x, pos_ids, inv_freq)

    one = Implementation(apply=apply_rope_pos_ids, position_dtypes=("int32", "int64"), fractional=False, **TORCH)
    return one, rr.variants.default(128)


@case("huggingface/candle#3520", bug="POSDT")
def angles_of_model_dtype(broken):
    """Positions and frequencies are both cast to the dtype of the model before the outer product."""
    theta = 160000.0
    inv_freq = inverse_frequencies(64, theta)

    def apply(x, positions):
        dtype = x.dtype if broken else torch.float32
        freqs = positions.to(dtype)[..., None] * inv_freq.to(dtype)
        return apply_rotary(x, *halves(freqs[:, None] if positions.ndim == 2 else freqs))

    return Implementation(apply=apply, **TORCH), rr.variants.default(64, theta=theta)


@case("raullenchai/Rapid-MLX#1365", bug="POSDT")
def float_offsets(broken):
    """A batch of mixed lengths makes its positions as float32; the kernel takes whole numbers alone."""
    inv_freq = 1000000.0 ** -(np.arange(0, 128, 2) / 128)

    def fast_rope(x, positions):
        if broken and positions.dtype.kind != "i":
            raise TypeError("rope(): incompatible function arguments: offset must be an integer")
        angle = positions[..., None] * inv_freq
        angle = angle[:, None] if positions.ndim == 2 else angle
        a, b = np.split(x.astype(np.float64), 2, axis=-1)
        y = np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)
        return y.astype(x.dtype)

    one = Implementation(apply=fast_rope, arrays="numpy", dtypes=("float32",), rows=True, fractional=True)
    return one, rr.variants.default(128, theta=1000000.0)
