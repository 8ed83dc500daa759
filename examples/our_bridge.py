"""torch_bridge: `rotate` on torch tensors with gradients, and `RotaryEmbedding` with its offsets and tables.

    rope-ref check examples.our_bridge:implementation --variant default --head-dim 64
"""

import torch

import rope_ref as rr
from examples.our_bridge_models import MODELS
from examples.our_bridge_paths import EXACT as TAKES
from examples.our_bridge_paths import (
    FLOAT32,
    axial,
    cached,
    embedding,
    functions,
    in_runs,
    magnitudes,
    queries_and_keys,
    tabulated,
    ways,
)
from rope_ref.conformance import Implementation
from torch_bridge import RotaryEmbedding, apply_rotary_emb, rotate


def tensors(rope, more=False):
    """The function, over tables of the specification."""
    tables = tabulated(rope)

    def apply(x, positions):
        return rotate(x, *tables(positions), pairing=rope.pairing, start=rope.start)

    def grad(x, positions, upstream):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(apply(x, positions), x, upstream)[0]

    return Implementation(apply=apply, grad=grad, rows=True, paths=ways(rope, tables) if more else {}, **TAKES)


def module():
    return RotaryEmbedding(dim=64)


def call(module, x, positions):
    """Through the angles of given positions, which are rounded to float32 as the original has them."""
    return apply_rotary_emb(module(positions), x)


def offsets():
    """The module through offsets, its tables kept from call to call."""
    held = module()

    def make():
        own = module()
        return in_runs(lambda x, offset: own.rotate_queries_or_keys(x, offset=offset))

    return Implementation(
        decode=lambda x, offset: held.rotate_queries_or_keys(x, offset=offset), make=make, rows=False, **TAKES
    )


rope = rr.variants.default(64)
implementation = tensors(rope)
INTERLEAVED = rr.variants.default(64, pairing="interleaved")
ROPES = {
    "half-split": rope,
    "interleaved": INTERLEAVED,
    "last channels": rr.decoupled(20, 12),
    "mrope": rr.variants.mrope(128, (16, 24, 24)),
}
CHECKS = {name: (tensors(each), each) for name, each in ROPES.items()} | {
    "RotaryEmbedding": (offsets(), INTERLEAVED),
    "RotaryEmbedding by angles": (
        # a module that is cast to a half type gives angles in it, as the original does: not cast here
        Implementation(apply=lambda x, positions: call(module(), x, positions), rows=False, **FLOAT32), INTERLEAVED
    ),
}  # fmt: skip
# what takes longer, and adds nothing unless the bridge is changed
PART = rr.Rope(40, rotary_dim=20, start=8, pairing="interleaved")
FREQUENCIES = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.01, 0.001)
XPOS, XPOS_ROPE = {"dim": 64, "use_xpos": True}, rr.variants.xpos(64, pairing="interleaved")
WAYS = {
    **MODELS,
    **{f"all ways, {each.pairing}": (tensors(each, more=True), each) for each in (
        rr.Rope(22, rotary_dim=18, start=3), rr.Rope(22, rotary_dim=18, start=1, pairing="interleaved")
    )},
    "functions": (functions(PART), PART),
    "uncached": (embedding(dim=64, cache_if_possible=False), INTERLEAVED),
    "few cached": (embedding(more=True, dim=64, cache_max_seq_len=100), INTERLEAVED),
    "learned": (embedding(angle="float32", dim=64, learned_freq=True), INTERLEAVED),
    "tokens first": (embedding("bshd", dim=64, seq_before_head_dim=True), INTERLEAVED),
    "interpolated": (
        embedding(dim=64, interpolate_factor=8.0), rr.variants.linear(64, 8.0, pairing="interleaved")
    ),
    "ntk": (embedding(dim=64, theta_rescale_factor=8.0), rr.variants.ntk(64, 8.0, pairing="interleaved")),
    "pixel": (embedding(dim=32, freqs_for="pixel"), rr.variants.pixel(64, rotary_dim=32, pairing="interleaved")),
    "constant": (
        embedding(dim=32, freqs_for="constant", num_freqs=16), rr.variants.constant(64, 16, pairing="interleaved")
    ),
    "custom": (
        embedding(dim=16, custom_freqs=torch.tensor(FREQUENCIES, dtype=torch.float64)),
        rr.variants.custom(64, FREQUENCIES, pairing="interleaved"),
    ),
    "axial": (axial(160, 64), rr.variants.axial(64, (32, 32), pairing="interleaved")),
    "cached keys": (cached(dim=64), INTERLEAVED),
    "cached keys of xPos": (cached(**XPOS), XPOS_ROPE),
    "scores of xPos": (queries_and_keys(**XPOS), XPOS_ROPE),
    "magnitudes of xPos": (magnitudes(**XPOS), XPOS_ROPE),
}  # fmt: skip
