"""GPT-NeoX of transformers: the first quarter of every head turns, the rest passes through.

    rope-ref check examples.hf_gpt_neox:implementation --variant partial --head-dim 64 \\
        --set partial_rotary_factor=0.25
"""

import torch
from transformers import GPTNeoXConfig
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXRotaryEmbedding, apply_rotary_pos_emb

import rope_ref as rr
from rope_ref.conformance import Implementation

CONFIG = GPTNeoXConfig(
    hidden_size=128, num_attention_heads=2,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.25},
)  # fmt: skip


def make():
    module = GPTNeoXRotaryEmbedding(CONFIG)

    def apply(x, positions):
        return apply_rotary_pos_emb(x, x, *module(x, torch.atleast_2d(positions)))[0]

    return apply


def grad(x, positions, upstream):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(make()(x, positions), x, upstream)[0]


implementation = Implementation(
    apply=make(), make=make, grad=grad, arrays="torch", dtypes=("float32", "bfloat16", "float16"),
    rows=True, negative=True, fractional=True, strided=True,
)  # fmt: skip
rope = rr.variants.partial(64, 0.25)
