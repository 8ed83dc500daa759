"""POSIGN: positions are given, and the index of the row is used."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies, rope


@case("huggingface/transformers#35376", bug="POSIGN")
def esm(broken):
    """Position ids are ignored: each row counts from 0."""

    class RotaryEmbedding(torch.nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.register_buffer("inv_freq", inverse_frequencies(dim))

        def forward(self, x, position_ids):
            t = torch.arange(x.shape[-2]) if broken else position_ids
            return apply_rotary(x, *halves(angles(t, self.inv_freq)))

    return Implementation(apply=RotaryEmbedding(64), **TORCH), rr.variants.default(64)


@case("ML-GSAI/LLaDA#120", bug="POSIGN")
def counts_padding(broken):
    """The block takes no positions: keys count from the left, padding included, queries are the last of them."""
    inv_freq = inverse_frequencies(64, 500000.0)

    def rotary_emb(q, k, q_positions, k_positions):
        if broken:
            query_len, key_len = q.shape[-2], k.shape[-2]
            k_positions = torch.arange(key_len)
            q_positions = torch.arange(key_len - query_len, key_len)
        return rope(q, q_positions, inv_freq), rope(k, k_positions, inv_freq)

    return Implementation(apply_qk=rotary_emb, **TORCH), rr.variants.default(64, theta=500000.0)


@case("unslothai/unsloth#3803", bug="POSIGN")
def one_cache_position(broken):
    """While decoding, a vector that all rows share takes the place of their own position ids."""
    inv_freq = inverse_frequencies(128)

    def fast_rope(x, position_ids):
        decoding = x.shape[2] == 1
        if broken and decoding and position_ids.ndim == 2:
            position_ids = position_ids.amax(dim=0)  # cache_position: where the longest row is
        return rope(x, position_ids, inv_freq)

    return Implementation(apply=fast_rope, **TORCH), rr.variants.default(128)
