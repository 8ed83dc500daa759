"""What surrounds the rotation: GRAD, INPL, GEOM, LIFE, SHARD."""

import numpy as np
import torch
from torch import nn

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.unseen.loops import NUMPY, inverse_frequencies, rope
from tests.conformance.wrong import plain
from tests.conformance.wrong.gradient import gradient, kernel
from tests.conformance.wrong.lifecycle import LOADED, call
from tests.conformance.wrong.plain import TORCH
from tests.conformance.wrong.shards import zigzag


@wrong("GRAD")
def turned_forward_again(broken):
    """The backward pass turns the gradient forward, as the values were, and not back."""

    def backward(dy, cos, sin, x):
        return plain.apply_rotary(dy, cos, sin if broken else -sin)

    apply = kernel(plain.inverse_frequencies(64), backward)
    return Implementation(apply=apply, grad=gradient(apply), **TORCH), rr.variants.default(64)


@wrong("GRAD")
def magnitude_divided_out(broken):
    """The backward pass undoes the rotation of YaRN: it divides by the magnitude, where it should multiply."""
    spec = rr.variants.yarn(64, 16.0, 4096)
    inv_freq, m = torch.tensor(spec.omega.ravel()).float(), spec.attention_scale

    class Rotary(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, cos, sin):
            ctx.save_for_backward(cos, sin)
            return plain.apply_rotary(x, m * cos, m * sin)

        @staticmethod
        def backward(ctx, dy):
            cos, sin = ctx.saved_tensors
            scale = 1 / m if broken else m
            return plain.apply_rotary(dy, scale * cos, -scale * sin), None, None

    def apply(x, positions):
        return Rotary.apply(x, *plain.halves(plain.angles(positions, inv_freq)))

    return Implementation(apply=apply, grad=gradient(apply), **TORCH), spec


@wrong("GRAD")
def one_row_of_positions(broken):
    """Where rows have positions of their own, the backward pass takes those of the first."""

    def backward(dy, cos, sin, x):
        if broken and cos.ndim == 4:
            cos, sin = cos[:1], sin[:1]
        return plain.apply_rotary(dy, cos, -sin)

    apply = kernel(plain.inverse_frequencies(64), backward)
    return Implementation(apply=apply, grad=gradient(apply), **TORCH), rr.variants.default(64)


@wrong("INPL")
def positions_moved_in_place(broken):
    """Positions are moved by the length of a prefix in the caller's memory, and moved back in a copy."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        mine = positions if broken else positions.copy()
        mine += 7
        return rope(x, mine - 7, inv_freq)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("INPL")
def one_buffer_for_all_results(broken):
    """Results of a shape share one buffer: the next call writes over the last result."""
    inv_freq = inverse_frequencies(64)

    class RotaryEmbedding:
        def __init__(self):
            self.buffers = {}

        def __call__(self, x, positions):
            y = rope(x, positions, inv_freq)
            if not broken:
                return y
            out = self.buffers.setdefault((x.shape, x.dtype), np.empty_like(y))
            out[...] = y
            return out

    return Implementation(make=RotaryEmbedding, **NUMPY), rr.variants.default(64)


@wrong("GEOM")
def order_of_memory(broken):
    """The kernel runs over memory as it lies; a transposed view has its axes in another order."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        flat = x.ravel(order="K" if broken else "C").reshape(x.shape)
        return rope(flat, positions, inv_freq)

    return Implementation(apply=apply, strided=True, **NUMPY), rr.variants.default(64)


@wrong("LIFE")
def default_base_after_loading(broken):
    """A loaded module makes its frequencies again, with the default base and not the model's."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, base):
            super().__init__()
            self.dim, self.base = dim, base
            self.reset(base)

        def reset(self, base=10000.0):
            self.register_buffer("inv_freq", plain.inverse_frequencies(self.dim, base), persistent=False)

        def _load_from_state_dict(self, *args, **kwargs):
            super()._load_from_state_dict(*args, **kwargs)
            self.reset(10000.0 if broken else self.base)

        def forward(self, x, positions):
            return plain.rope(x, positions, self.inv_freq.float())

    adapter = Implementation(module=lambda: RotaryEmbedding(64, 500000.0), call=call, **LOADED)
    return adapter, rr.variants.default(64, theta=500000.0)


@wrong("SHARD")
def late_chunk_off_by_one(broken):
    """Of the zigzag, the late chunk has the positions of the chunk before it."""
    inv_freq = plain.inverse_frequencies(64)

    def shard(x, positions, rank, ranks):
        local = zigzag(x, 2, rank, ranks)
        chunks = positions.chunk(2 * ranks, dim=-1)
        late = 2 * ranks - 1 - rank
        at = torch.cat((chunks[rank], chunks[late - 1 if broken else late]), dim=-1)
        return plain.rope(local, at, inv_freq)

    adapter = Implementation(
        apply=lambda x, positions: plain.rope(x, positions, inv_freq), shard=shard, order="zigzag", **TORCH
    )
    return adapter, rr.variants.default(64)


@wrong("SHARD")
def every_rank_from_zero(broken):
    """Each rank counts its tokens from the first position of the whole sequence."""
    inv_freq = plain.inverse_frequencies(64)

    def shard(x, positions, rank, ranks):
        local = x.chunk(ranks, dim=2)[rank]
        length = local.shape[2]
        at = positions[..., :length] if broken else positions[..., rank * length : (rank + 1) * length]
        return plain.rope(local, at, inv_freq)

    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, inv_freq), shard=shard, **TORCH)
    return adapter, rr.variants.default(64)
