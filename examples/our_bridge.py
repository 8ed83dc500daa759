"""torch_bridge: `rotate` on torch tensors with gradients, and `RotaryEmbedding` with its offsets and tables.

    rope-ref check examples.our_bridge:implementation --variant default --head-dim 64
"""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from torch_bridge import RotaryEmbedding, apply_rotary_emb, rotate

DTYPES = ("float32", "bfloat16", "float16", "float64")
TAKES = dict(arrays="torch", dtypes=DTYPES, angle="exact", negative=True, fractional=True, strided=True)


def tensors(rope):
    """The function, over tables of the specification."""

    def apply(x, positions):
        tables = (torch.from_numpy(t) for t in rr.tables(rope, positions.numpy()))
        many = positions.ndim > (1 if rope.axes is None else 2)
        cos, sin = (t[:, None] if many else t for t in tables)
        return rotate(x, cos, sin, pairing=rope.pairing, start=rope.start)

    def grad(x, positions, upstream):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(apply(x, positions), x, upstream)[0]

    return Implementation(apply=apply, grad=grad, rows=True, **TAKES)


def module():
    return RotaryEmbedding(dim=64)


def call(module, x, positions):
    """Through the angles of given positions, which are rounded to float32 as the original has them."""
    return apply_rotary_emb(module(positions), x)


def by_runs():
    """apply(x, positions) through offsets: one call for every run of tokens one behind the other."""
    held = module()

    def apply(x, positions):
        cuts = (torch.nonzero(positions.diff() != 1).flatten() + 1).tolist()
        bounds = [0, *cuts, len(positions)]
        return torch.cat([
            held.rotate_queries_or_keys(x[..., a:b, :], offset=positions[a].item())
            for a, b in zip(bounds, bounds[1:], strict=False)
        ], -2)  # fmt: skip

    return apply


def offsets():
    """The module through offsets, its tables kept from call to call."""
    held = module()
    return Implementation(
        decode=lambda x, offset: held.rotate_queries_or_keys(x, offset=offset), make=by_runs, rows=False, **TAKES
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
        Implementation(module=module, call=call, rows=False, **TAKES | {"angle": "float32"}), INTERLEAVED
    ),
}  # fmt: skip
