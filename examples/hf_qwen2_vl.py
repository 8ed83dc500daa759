"""Qwen2-VL of transformers: M-RoPE, three positions (t, h, w) a token.

    rope-ref check examples.hf_qwen2_vl:implementation --variant mrope --head-dim 128 \\
        --set mrope_section=16,24,24 --set theta=1000000.0

The kit's positions have their axes last, (seq, 3) or (batch, seq, 3); the module takes them first, (3, batch, seq).
"""

import torch
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLTextConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VLRotaryEmbedding, apply_rotary_pos_emb

import rope_ref as rr
from rope_ref.conformance import Implementation

SECTION = (16, 24, 24)
CONFIG = Qwen2VLTextConfig(
    hidden_size=256, num_attention_heads=2,
    rope_parameters={"rope_type": "default", "rope_theta": 1000000.0, "mrope_section": list(SECTION)},
)  # fmt: skip


def make():
    module = Qwen2VLRotaryEmbedding(CONFIG)

    def apply(x, positions):
        rows = positions if positions.ndim == 3 else positions[None]
        return apply_rotary_pos_emb(x, x, *module(x, rows.movedim(-1, 0)))[0]

    return apply


def grad(x, positions, upstream):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(make()(x, positions), x, upstream)[0]


implementation = Implementation(
    apply=make(), make=make, grad=grad, arrays="torch", dtypes=("float32", "bfloat16", "float16"),
    rows=True, negative=True, fractional=True, strided=True,
)  # fmt: skip
rope = rr.variants.mrope(128, SECTION, theta=1000000.0)
