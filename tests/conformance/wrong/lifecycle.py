"""LIFE: what becomes of tables when a module is built empty, loaded and compiled."""

import torch
from torch import nn

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies

NOT_SHOWN = {
    "NVlabs/Fast-dLLM#51": "a buffer overwritten between replays of a CUDA graph; there are none without a GPU",
}
LOADED = TORCH | {"dtypes": ("float32",)}


def call(module, x, positions):
    return module(x, positions)


def rows(table, positions):
    taken = table[positions]
    return taken[:, None] if positions.ndim == 2 else taken


@case("foundation-model-stack/foundation-model-stack#64", bug="LIFE")
def table_made_in_forward(broken):
    """The table grows inside forward, by the largest position there is: no graph holds that decision."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, max_seq_len):
            super().__init__()
            self.dim = dim
            self.compute_freqs_cis(max_seq_len)

        def compute_freqs_cis(self, max_seq_len):
            self.cached_freqs = torch.outer(torch.arange(max_seq_len).float(), inverse_frequencies(self.dim))

        def forward(self, positions):
            return halves(self.cached_freqs[positions])

    class GrowingRotaryEmbedding(RotaryEmbedding):
        def forward(self, positions):
            if positions.numel() and positions.max().item() >= len(self.cached_freqs):
                self.compute_freqs_cis(int(positions.max()) + 1)
            return super().forward(positions)

    def made():
        return GrowingRotaryEmbedding(64, 0) if broken else RotaryEmbedding(64, 4096)

    def rotated(rotary_emb):
        def apply(x, positions):
            tables = rotary_emb(positions.flatten().long())  # of one shape and dtype always: each makes a graph
            cos, sin = (table.unflatten(0, positions.shape) for table in tables)
            return apply_rotary(x, cos.unsqueeze(-3), sin.unsqueeze(-3))

        return apply

    compiled = torch.compile(made(), fullgraph=True, dynamic=True, backend="eager")
    one = Implementation(
        apply=rotated(made()), paths={"compiled": rotated(compiled)}, fractional=False,
        max_position=4096, negative=False, time_limit=60.0, **TORCH,
    )  # fmt: skip
    return one, rr.variants.default(64)


@case("OpenMOSS/MOSS-TTS-Nano#28", bug="LIFE")
def frequencies_lost(broken):
    """inv_freq is a buffer that no checkpoint holds; a model built empty and loaded has whatever memory held."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, base=10000.0):
            super().__init__()
            self.dim, self.base = dim, base
            self.register_buffer("inv_freq", inverse_frequencies(dim, base), persistent=not broken)

        def forward(self, x, positions):
            return apply_rotary(x, *halves(angles(positions, self.inv_freq.float())))

    return Implementation(module=lambda: RotaryEmbedding(64), call=call, **LOADED), rr.variants.default(64)


@case("macwiatrak/Bacformer#33", bug="LIFE")
def tables_lost(broken):
    """Tables of cos and sin are buffers that no checkpoint holds, made once, when the model is built."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, end):
            super().__init__()
            self.dim, self.end = dim, end
            self.register_buffer("freqs_cos", torch.empty(end, dim), persistent=False)
            self.register_buffer("freqs_sin", torch.empty(end, dim), persistent=False)
            self.made = False
            if broken:
                self.precompute()

        def precompute(self):
            cos, sin = halves(torch.outer(torch.arange(self.end).float(), inverse_frequencies(self.dim)))
            self.freqs_cos, self.freqs_sin, self.made = cos, sin, True

        def forward(self, x, positions):
            if not self.made:
                self.precompute()
            return apply_rotary(x, rows(self.freqs_cos, positions), rows(self.freqs_sin, positions))

    one = Implementation(
        module=lambda: RotaryEmbedding(64, 8192), call=call, max_position=8192, negative=False, **LOADED
    )
    return one, rr.variants.default(64)


@case("sgl-project/SpecForge#703", bug="LIFE")
def all_buffers_lost(broken):
    """inv_freq, cos_cached and sin_cached all are lost by from_pretrained; none is made again."""

    class LlamaRotaryEmbedding(nn.Module):
        def __init__(self, dim, max_position_embeddings, base):
            super().__init__()
            self.dim, self.max_position_embeddings, self.base = dim, max_position_embeddings, base
            self._set_cos_sin_cache()

        def _set_cos_sin_cache(self):
            inv_freq = inverse_frequencies(self.dim, self.base)
            cos, sin = halves(torch.outer(torch.arange(self.max_position_embeddings).float(), inv_freq))
            for name, table in (("inv_freq", inv_freq), ("cos_cached", cos), ("sin_cached", sin)):
                self.register_buffer(name, table, persistent=False)

        def _load_from_state_dict(self, *args, **kwargs):
            super()._load_from_state_dict(*args, **kwargs)
            if not broken:
                self._set_cos_sin_cache()

        def forward(self, x, positions):
            return apply_rotary(x, rows(self.cos_cached, positions), rows(self.sin_cached, positions))

    one = Implementation(
        module=lambda: LlamaRotaryEmbedding(128, 4096, 500000.0), call=call, max_position=4096, negative=False, **LOADED
    )
    return one, rr.variants.default(128, theta=500000.0)
