"""RANGE: positions that the table does not have."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope


@case("fla-org/flash-linear-attention@7d079d70", bug="RANGE")
def clamped_offset(broken):
    """Offsets of rows are corrected for padding and kept from going below 0, where padding is longer than the cache."""
    inv_freq = inverse_frequencies(64)

    def rotary(x, positions):
        if broken:
            seqlen_offset = positions[..., :1]
            positions = positions - seqlen_offset + seqlen_offset.clamp(min=0)
        return rope(x, positions, inv_freq)

    return Implementation(apply=rotary, negative=True, **TORCH), rr.variants.default(64)


@case("karpathy/nanochat#520", bug="RANGE")
def length_against_table(broken):
    """The length of x alone is held against the table, and the rows after the offset are taken: perhaps fewer."""
    head_dim, sequence_len = 128, 2048
    freqs = torch.outer(torch.arange(sequence_len).float(), inverse_frequencies(head_dim))
    table_cos, table_sin = freqs.cos(), freqs.sin()

    def decode(x, offset):
        length, rows = x.shape[2], len(table_cos)
        assert length <= rows, f"Sequence length grew beyond the rotary embeddings cache: {length} > {rows}"
        if not broken and not 0 <= offset <= rows - length:
            raise IndexError(f"positions {offset} to {offset + length} grew beyond the rotary embeddings cache: {rows}")
        cos, sin = table_cos[offset : offset + length], table_sin[offset : offset + length]
        x1, x2 = x.float().chunk(2, dim=-1)
        return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).type_as(x)

    one = Implementation(decode=decode, negative=False, max_position=sequence_len, **TORCH)
    return one, rr.variants.default(head_dim)


@case("microsoft/onnxruntime#27597", bug="RANGE")
def foreign_memory(broken):
    """The row of the table is p (r/2) numbers from its start, wherever that is: nothing checks position ids."""
    head_size, max_sequence_length = 64, 1024
    half = head_size // 2
    inv_freq = 10000.0 ** (-np.arange(0, head_size, 2) / head_size)
    angle = (np.arange(max_sequence_length)[:, None] * inv_freq).ravel()
    neighbour = np.random.default_rng(0).standard_normal(1 << 16)

    def loaded(table):
        return np.concatenate((neighbour, table, neighbour)).astype(np.float32)

    heap_cos, heap_sin, start = loaded(np.cos(angle)), loaded(np.sin(angle)), len(neighbour)

    def run_rotary_embedding(x, position_ids):
        if not broken and ((position_ids < 0) | (position_ids >= max_sequence_length)).any():
            raise ValueError(f"position_ids are out of range: expected 0 to {max_sequence_length - 1}")
        row = start + position_ids[..., None] * half + np.arange(half)
        row = row[:, None] if position_ids.ndim == 2 else row
        cos, sin = heap_cos[row], heap_sin[row]
        x1, x2 = x[..., :half], x[..., half:]
        return np.concatenate((x1 * cos - x2 * sin, x1 * sin + x2 * cos), axis=-1)

    declared = {"negative": False, "max_position": max_sequence_length, "rows": True}
    one = Implementation(apply=run_rotary_embedding, arrays="numpy", dtypes=("float32",), **declared)
    return one, rr.variants.default(head_size)
