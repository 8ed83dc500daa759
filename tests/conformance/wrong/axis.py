"""AXIS: positions run along another axis than the tokens."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, halves, inverse_frequencies, rotate_half


@case("deepspeedai/DeepSpeed#2782", bug="AXIS")
def row_of_a_kernel(broken):
    """A kernel finds the token of a row as if rows were (batch, seq, heads); they arrive as (batch, heads, seq)."""
    head_dim, rotary_dim = 64, 16
    inv_freq = 1.0 / 10000.0 ** (np.arange(0, rotary_dim, 2, dtype=np.float32) / rotary_dim)

    def apply_rotary_pos_emb(x, offset):
        batch, heads, seq, _ = x.shape
        rows, half = x.reshape(-1, head_dim).copy(), rotary_dim // 2
        row = np.arange(batch * heads * seq)
        seq_id = row // heads % seq if broken else row % seq
        angle = (seq_id + offset).astype(np.float32)[:, None] * inv_freq
        x1, x2 = rows[:, :half].copy(), rows[:, half:rotary_dim].copy()
        rows[:, :half] = x1 * np.cos(angle) - x2 * np.sin(angle)
        rows[:, half:rotary_dim] = x2 * np.cos(angle) + x1 * np.sin(angle)
        return rows.reshape(x.shape)

    one = Implementation(decode=apply_rotary_pos_emb, arrays="numpy", dtypes=("float32",))
    return one, rr.variants.partial(head_dim, 0.25)


@case("pytorch/pytorch#162865", bug="AXIS")
def rank_three(broken):
    """The decomposition of an operator takes (batch, seq, heads head_dim) apart as if heads came before seq."""
    heads, head_dim = 4, 64
    inv_freq = inverse_frequencies(head_dim)

    def rotary_embedding(x, positions):
        batch, seq, hidden = x.shape
        if broken:
            split = x.reshape(batch, heads, seq, head_dim)
        else:
            split = x.reshape(batch, seq, heads, head_dim).transpose(1, 2)
        freqs = positions.float()[..., None] * inv_freq
        freqs = freqs[:, None] if positions.ndim == 2 else freqs
        x1, x2 = split.float().chunk(2, dim=-1)
        y = torch.cat((x1 * freqs.cos() - x2 * freqs.sin(), x2 * freqs.cos() + x1 * freqs.sin()), dim=-1)
        y = y if broken else y.transpose(1, 2)
        return y.reshape(batch, seq, hidden).type_as(x)

    one = Implementation(apply=rotary_embedding, layout="bs(hd)", heads=heads, **TORCH)
    return one, rr.variants.default(head_dim)


@case("deepspeedai/DeepSpeed#8052", bug="AXIS")
def length_of_the_heads(broken):
    """A fused backend takes the sequence length from axis -2; its callers hand over (batch, seq, heads, head_dim)."""
    head_dim = 128
    inv_freq = inverse_frequencies(head_dim)

    def tables(x, positions):
        cos, sin = halves(positions.float()[..., None] * inv_freq)
        return cos.expand(x.shape[0], -1, -1), sin.expand(x.shape[0], -1, -1)

    def eager(x, positions):
        cos, sin = (table[:, :, None] for table in tables(x, positions))
        return (x.float() * cos + rotate_half(x.float()) * sin).type_as(x)

    def fused(x, positions):
        batch, seq_len, heads = x.shape[0], x.shape[-2 if broken else 1], x.shape[2]
        row = torch.arange(x[..., 0].numel())
        token = row % seq_len if broken else row // heads % seq_len
        b = row // (len(row) // batch)
        cos, sin = (table[b, token] for table in tables(x, positions))
        rows = x.reshape(-1, head_dim).float()
        return (rows * cos + rotate_half(rows) * sin).type_as(x).view(x.shape)

    one = Implementation(apply=eager, paths={"fused": fused}, layout="bshd", **TORCH)
    return one, rr.variants.default(head_dim)
