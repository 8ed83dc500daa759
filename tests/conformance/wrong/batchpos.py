"""BATCHPOS: rows of a batch, and the paths of kernels that depend on how many there are."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope


@case("turboderp/exllama#101", bug="BATCHPOS")
def counts_on(broken):
    """The kernel divides the row by the heads to get the position, and so counts on from one sequence to the next."""
    head_dim = 128
    inv_freq = 1.0 / 10000.0 ** (np.arange(0, head_dim, 2, dtype=np.float32) / head_dim)

    def rope_(x, past_len):
        _, seq, num_heads, _ = x.shape
        rows = x.reshape(-1, head_dim)
        row = np.arange(len(rows)) // num_heads
        pos = past_len + (row if broken else row % seq)
        angle = pos[:, None].astype(np.float32) * inv_freq
        half = head_dim // 2
        left, right = rows[:, :half], rows[:, half:]
        y = np.hstack((left * np.cos(angle) - right * np.sin(angle), right * np.cos(angle) + left * np.sin(angle)))
        return y.reshape(x.shape)

    def decode(x, offset):
        return rope_(x.transpose(0, 2, 1, 3), offset).transpose(0, 2, 1, 3)

    return Implementation(decode=decode, arrays="numpy", dtypes=("float32",)), rr.variants.default(head_dim)


def fast_rope(x, offset, inv_freq, rows):
    """A kernel for one token: as many of the vectors are written as its grid has rows, into fresh memory."""
    flat, out = x.reshape(-1, 1, x.shape[-1]), torch.zeros(x.numel() // x.shape[-1], 1, x.shape[-1], dtype=x.dtype)
    out[:rows] = rope(flat[:rows], torch.tensor([offset]), inv_freq)
    return out.view(x.shape)


@case("ml-explore/mlx#3795", bug="BATCHPOS")
def grid_without_batch(broken):
    """For one contiguous token the grid is the product of the axes between the first and the last two."""
    inv_freq = inverse_frequencies(64)

    def fast(x, offset):
        if x.shape[2] == 1 and x.is_contiguous():
            return fast_rope(x, offset, inv_freq, rows=x.shape[1] if broken else x.shape[0] * x.shape[1])
        return rope(x, torch.arange(offset, offset + x.shape[2]), inv_freq)

    return Implementation(decode=fast, **TORCH), rr.variants.default(64)


@case("oxiglade/mlx-rs#359", bug="BATCHPOS")
def flattened_to_one_row(broken):
    """The wrapper hands (batch heads, 1, head_dim) to that kernel, whose grid then is one row."""
    inv_freq = inverse_frequencies(64)

    def wrapper(x, offset):
        flat = x.flatten(0, 1)
        if x.shape[2] == 1:
            y = fast_rope(flat, offset, inv_freq, rows=1 if broken else len(flat))
        else:
            y = rope(flat, torch.arange(offset, offset + x.shape[2]), inv_freq)
        return y.view(x.shape)

    return Implementation(decode=wrapper, **TORCH), rr.variants.default(64)


@case("scouzi1966/maclocal-api#92", bug="BATCHPOS")
def common_cursor(broken):
    """Keys stand where each sequence had them, queries of the merged batch at a cursor that all rows share."""
    inv_freq = inverse_frequencies(64)

    def scores(q, k, q_positions, k_positions):
        if broken and q_positions.ndim == 2:
            q_positions = q_positions.amax(dim=0)
        q, k = rope(q.float(), q_positions, inv_freq), rope(k.float(), k_positions, inv_freq)
        return q @ k.mT * 64**-0.5

    return Implementation(scores=scores, **TORCH), rr.variants.default(64)
