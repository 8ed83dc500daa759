"""GRAD: what the backward pass gives, or that it gives nothing."""

import torch
from torch import nn

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.lengths import reach
from tests.conformance.wrong.plain import (
    TORCH,
    adjacent,
    angles,
    apply_rotary,
    halves,
    inverse_frequencies,
    rotate_every_two,
)


def gradient(apply):
    """grad(x, positions, upstream) of a differentiable rotation; x keeps its strides."""

    def grad(x, positions, upstream):
        leaf = x.detach().requires_grad_()
        (upstream * apply(leaf, positions)).sum().backward()
        return leaf.grad

    return grad


def kernel(inv_freq, backward):
    """apply as an operator with a backward of its own: backward(upstream, cos, sin, x) -> gradient."""

    class Rotary(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, cos, sin):
            ctx.save_for_backward(x, cos, sin)
            return apply_rotary(x, cos, sin)

        @staticmethod
        def backward(ctx, upstream):
            x, cos, sin = ctx.saved_tensors
            return backward(upstream, cos, sin, x), None, None

    return lambda x, positions: Rotary.apply(x, *halves(angles(positions, inv_freq)))


@case("Dao-AILab/flash-attention#569", bug="GRAD")
def rare_branch(broken):
    """Where memory is not contiguous two kernels run in the place of one, with a name that was never defined."""

    def backward(dy, cos, sin, x):
        if x.is_contiguous():
            return apply_rotary(dy, cos, -sin)
        if broken:
            return apply_rotary(dy, cos[:seqlen], -sin[:seqlen])  # noqa: F821 - the bug
        return apply_rotary(dy, cos, -sin)

    apply = kernel(inverse_frequencies(64), backward)
    return Implementation(apply=apply, grad=gradient(apply), strided=True, **TORCH), rr.variants.default(64)


@case("NVIDIA/apex#1750", bug="GRAD")
def ones_for_the_rest(broken):
    """The gradient of the channels that pass through is the constant 1; a test with sum() as its loss agrees."""

    def backward(dy, cos, sin, x):
        dx = apply_rotary(dy, cos, -sin)
        if broken:
            dx[..., cos.shape[-1] :] = 1.0
        return dx

    apply = kernel(inverse_frequencies(32), backward)
    return Implementation(apply=apply, grad=gradient(apply), **TORCH), rr.variants.partial(64, 0.5)


@case("lucidrains/rotary-embedding-torch@783d178", bug="GRAD")
def graph_kept(broken):
    """Cached angles keep the graph of the first pass, which is gone by the second."""

    class RotaryEmbedding(nn.Module):
        def __init__(self, dim, cache_max_seq_len=8192):
            super().__init__()
            self.freqs = nn.Parameter(inverse_frequencies(dim))
            self.cache_max_seq_len, self.cached_freqs = cache_max_seq_len, None

        def angles(self, positions):
            seq_len = reach(positions)
            if seq_len > self.cache_max_seq_len:
                return angles(positions, self.freqs)
            if self.cached_freqs is None or len(self.cached_freqs) < seq_len:
                freqs = torch.outer(torch.arange(seq_len).float(), self.freqs)
                self.cached_freqs = freqs if broken else freqs.detach()
            freqs = self.cached_freqs[positions]
            return freqs[:, None] if positions.ndim == 2 else freqs

        def forward(self, x, positions):
            return apply_rotary(x, *adjacent(self.angles(positions)), rotate_every_two)

    module = RotaryEmbedding(64)
    one = Implementation(apply=module, grad=gradient(module), negative=False, **TORCH)
    return one, rr.variants.default(64, pairing="interleaved")


@case("huggingface/candle#3568", bug="GRAD")
def no_backward(broken):
    """The operator is registered without a backward: nothing before it gets a gradient, and nothing is said."""
    inv_freq = inverse_frequencies(128)
    scale = nn.Parameter(torch.ones(()))  # what comes after has a gradient of its own

    def apply(x, positions):
        return apply_rotary(x.detach() if broken else x, *halves(angles(positions, inv_freq)))

    grad = gradient(lambda x, positions: scale * apply(x, positions))
    return Implementation(apply=apply, grad=grad, **TORCH), rr.variants.default(128)
