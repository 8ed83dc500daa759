"""x-transformers: right; `.bfloat16()` rounds the positions, so that 300 and 301 coincide."""

from x_transformers.x_transformers import RotaryEmbedding, apply_rotary_pos_emb

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64


def adapter(module, **declared):
    def apply(x, positions):
        freqs, scale = module(positions)
        return apply_rotary_pos_emb(x, freqs, scale)

    return Implementation(apply=apply, arrays="torch", **declared)


rope = rr.variants.default(HEAD_DIM, pairing="interleaved")
CHECKS = {
    "default": (adapter(RotaryEmbedding(HEAD_DIM)), rope),
    "partial": (adapter(RotaryEmbedding(32)), rr.variants.default(HEAD_DIM, rotary_dim=32, pairing="interleaved")),
    "interpolated": (
        adapter(RotaryEmbedding(HEAD_DIM, interpolation_factor=4.0)),
        rr.variants.linear(HEAD_DIM, 4.0, pairing="interleaved"),
    ),
    "rescaled base": (
        adapter(RotaryEmbedding(HEAD_DIM, base_rescale_factor=4.0)),
        rr.variants.ntk(HEAD_DIM, 4.0, pairing="interleaved"),
    ),
}
FAULTS = {"cast": (adapter(RotaryEmbedding(HEAD_DIM).bfloat16()), rope, "POSDT")}


def mended():
    """The frequencies stay as they were made, whatever the module is cast to."""
    module = RotaryEmbedding(HEAD_DIM).bfloat16()
    module.inv_freq = RotaryEmbedding(HEAD_DIM).inv_freq
    return module


MENDED = {"cast": (adapter(mended()), rope)}
