"""DeepSeek V3 of transformers: a head of content channels, then a rotary part that alone turns.

    rope-ref check examples.hf_deepseek_v3:implementation --variant decoupled \\
        --set qk_nope_head_dim=32 --set qk_rope_head_dim=64

The checkpoints pair channels (2i, 2i + 1). `apply_rotary_pos_emb_interleave` reads these pairs and gives the first
channels of all pairs, then the second ones. Queries and keys are permuted alike, so scores do not change, and the
adapter undoes it. FAULTS holds what comes back as it is: a LAYOUT to be declared as a deviation where keys from
elsewhere meet these queries.
"""

import torch
from transformers import DeepseekV3Config
from transformers.models.deepseek_v3.modeling_deepseek_v3 import (
    DeepseekV3RotaryEmbedding,
    apply_rotary_pos_emb_interleave,
)

import rope_ref as rr
from rope_ref.conformance import Implementation

CONTENT, ROTARY = 32, 64
# of DeepSeek V3's config.json, where both mscales are one, so that their magnitudes cancel
YARN = dict(rope_type="yarn", factor=40.0, original_max_position_embeddings=4096, beta_fast=32, beta_slow=1)
TAKES = dict(
    arrays="torch", dtypes=("float32", "bfloat16", "float16"), rows=True, negative=True, fractional=True, strided=True
)


def rotation(undo=True, **parameters):
    config = DeepseekV3Config(
        qk_nope_head_dim=CONTENT, qk_rope_head_dim=ROTARY, rope_parameters={"rope_theta": 10000.0, **parameters}
    )
    module = DeepseekV3RotaryEmbedding(config)

    def apply(x, positions):
        content, rotary = x.split([CONTENT, ROTARY], -1)
        turned, _ = apply_rotary_pos_emb_interleave(rotary, rotary, *module(x, torch.atleast_2d(positions)))
        if undo:
            turned = torch.stack(turned.chunk(2, -1), -1).flatten(-2)
        return torch.cat([content, turned], -1)

    return apply


def deepseek(undo=True, **parameters):
    def make():
        return rotation(undo, **parameters)

    return Implementation(apply=make(), make=make, **TAKES)


def yarn(**mscales):
    options = {k: v for k, v in YARN.items() if k != "rope_type"} | mscales
    return rr.variants.yarn(CONTENT + ROTARY, **options, rotary_dim=ROTARY, start=CONTENT, pairing="interleaved")


implementation, rope = deepseek(rope_type="default"), rr.decoupled(CONTENT, ROTARY)

CHECKS = {
    "default": (implementation, rope),
    "yarn": (deepseek(**YARN, mscale=1.0, mscale_all_dim=1.0), yarn(mscale=1.0, mscale_all_dim=1.0)),
    "yarn, mscales apart": (deepseek(**YARN, mscale=1.0, mscale_all_dim=0.5), yarn(mscale=1.0, mscale_all_dim=0.5)),
}

FAULTS = {"as it comes back": (deepseek(undo=False, rope_type="default"), rope)}
