"""rotary-embedding-torch 0.9.1: right in float32, wrong in half precision and in its caches.

    rope-ref check examples.lucidrains:implementation --variant default --head-dim 64 --pairing interleaved

Two adapters: angles of given positions, through `forward` and `apply_rotary_emb`; and `rotate_queries_or_keys`, which
takes an offset. FAULTS holds its bugs:

    bfloat16     makes positions in the dtype of the queries, and so rounds the offset, and then its sum with the
                 place in the call: from 256 on neighbours become one
    cache        keeps the angles of such positions, and serves them to float32 queries
    offset       takes rows [offset, offset + seq) of its table without asking whether offset is below zero
    cast         `module.bfloat16()` rounds the frequencies
"""

import torch
from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64


def by_positions(module):
    """apply(x, positions), positions (seq,)."""
    return lambda x, positions: apply_rotary_emb(module(positions.to(torch.float32)), x)


def by_offset(module):
    """decode(x, offset)."""
    return lambda x, offset: module.rotate_queries_or_keys(x, offset=offset)


def by_runs():
    """apply(x, positions) of a fresh module through offsets: one call for every run of tokens one behind the other."""
    module = RotaryEmbedding(dim=HEAD_DIM)

    def apply(x, positions):
        cuts = (torch.nonzero(positions.diff() != 1).flatten() + 1).tolist()
        bounds = [0, *cuts, len(positions)]
        return torch.cat([
            module.rotate_queries_or_keys(x[..., a:b, :], offset=int(positions[a]))
            for a, b in zip(bounds, bounds[1:], strict=False)
        ], -2)  # fmt: skip

    return apply


def decode(x, offset):
    return by_offset(RotaryEmbedding(dim=HEAD_DIM))(x, offset)


def grad(x, positions, upstream):
    x = x.detach().requires_grad_()
    return torch.autograd.grad(by_positions(RotaryEmbedding(dim=HEAD_DIM))(x, positions), x, upstream)[0]


implementation = Implementation(
    apply=by_positions(RotaryEmbedding(dim=HEAD_DIM)), grad=grad, arrays="torch", dtypes=("float32",), rows=False,
    negative=True, fractional=True, strided=True,
)  # fmt: skip
rope = rr.variants.default(HEAD_DIM, pairing="interleaved")

CHECKS = {
    "default": (implementation, rope),
    "offsets": (
        Implementation(
            decode=by_offset(RotaryEmbedding(dim=HEAD_DIM)), make=by_runs, arrays="torch", dtypes=("float32",),
            rows=False, negative=False, fractional=False, strided=True, deviations=("RANGE",),
        ),
        rope,
    ),
    "pixel": (
        Implementation(
            apply=by_positions(RotaryEmbedding(dim=HEAD_DIM, freqs_for="pixel", max_freq=256)), arrays="torch",
            dtypes=("float32",), rows=False, negative=True, fractional=True,
        ),
        rr.variants.pixel(HEAD_DIM, max_freq=256.0, pairing="interleaved"),
    ),
    "interpolated": (
        Implementation(
            decode=by_offset(RotaryEmbedding(dim=HEAD_DIM, interpolate_factor=4.0)), arrays="torch",
            dtypes=("float32",), negative=False, deviations=("RANGE",),
        ),
        rr.variants.linear(HEAD_DIM, 4.0, pairing="interleaved"),
    ),
}  # fmt: skip

OFFSETS = dict(arrays="torch", rows=False, negative=False, fractional=False, deviations=("RANGE",))
FAULTS = {
    "bfloat16": (Implementation(decode=decode, dtypes=("bfloat16",), **OFFSETS), rope),
    "cache": (Implementation(make=by_runs, dtypes=("float32", "bfloat16"), **OFFSETS), rope),
    "offset": (
        Implementation(
            make=by_runs, arrays="torch", dtypes=("float32",), rows=False, negative=True, fractional=False
        ),
        rope,
    ),
    "cast": (
        Implementation(
            apply=by_positions(RotaryEmbedding(dim=HEAD_DIM).bfloat16()), arrays="torch", dtypes=("float32",),
            rows=False, negative=True,
        ),
        rope,
    ),
}  # fmt: skip
