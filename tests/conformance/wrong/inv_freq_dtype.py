"""INVDT: frequencies are rounded by a cast of the module that holds them."""

import torch
from torch import nn

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.lengths import reach
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies

HALVES = TORCH | {"dtypes": ("float32", "bfloat16", "float16")}


def call(module, x, positions):
    return module(x, positions)


@case("EleutherAI/gpt-neox#1003", bug="INVDT")
def all_in_half(broken):
    """Frequencies, positions and their product are of the dtype that the buffer was cast to."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, base=10000):
            super().__init__()
            self.dim, self.base = dim, base
            self.register_buffer("inv_freq", inverse_frequencies(dim, base))

        def forward(self, x, positions):
            inv_freq = self.inv_freq if broken else inverse_frequencies(self.dim, self.base)
            freqs = positions.type_as(inv_freq)[..., None] * inv_freq
            emb = torch.cat((freqs, freqs), dim=-1).float()
            emb = emb[:, None] if positions.ndim == 2 else emb
            return apply_rotary(x, emb.cos(), emb.sin())

    return Implementation(module=lambda: RotaryEmbedding(64), call=call, **HALVES), rr.variants.default(64)


@case("InternLM/InternLM#237", bug="INVDT")
def cast_with_the_model(broken):
    """The frequencies are a buffer, so model.to(bfloat16) rounds them; positions and angles are float32."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, base=10000.0):
            super().__init__()
            self.dim, self.base = dim, base
            self.register_buffer("inv_freq", inverse_frequencies(dim, base))

        def forward(self, x, positions):
            inv_freq = self.inv_freq.float() if broken else inverse_frequencies(self.dim, self.base)
            return apply_rotary(x, *halves(angles(positions, inv_freq)))

    return Implementation(module=lambda: RotaryEmbedding(128), call=call, **HALVES), rr.variants.default(128)


@case("huggingface/transformers#25681", bug="INVDT")
def tables_after_the_cast(broken):
    """Tables are made at the first call, and again when they must grow, in the dtype the module has by then."""

    class LlamaRotaryEmbedding(nn.Module):
        def __init__(self, dim, base=10000):
            super().__init__()
            self.dim, self.base, self.max_seq_len_cached = dim, base, 0
            self.register_buffer("inv_freq", inverse_frequencies(dim, base))

        def _set_cos_sin_cache(self, seq_len):
            self.max_seq_len_cached = seq_len
            inv_freq = self.inv_freq if broken else inverse_frequencies(self.dim, self.base)
            t = torch.arange(seq_len, dtype=inv_freq.dtype)
            self.cos_cached, self.sin_cached = halves(torch.outer(t, inv_freq).float())

        def forward(self, x, positions):
            seq_len = reach(positions)
            if seq_len > self.max_seq_len_cached:
                self._set_cos_sin_cache(seq_len)
            cos, sin = self.cos_cached[positions], self.sin_cached[positions]
            if positions.ndim == 2:
                cos, sin = cos[:, None], sin[:, None]
            return apply_rotary(x, cos, sin)

    one = Implementation(
        module=lambda: LlamaRotaryEmbedding(64), call=call, negative=False, max_position=32768, **HALVES
    )
    return one, rr.variants.default(64)
