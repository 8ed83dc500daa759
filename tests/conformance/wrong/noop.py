"""NOOP: a rotation is computed, and some of it is never stored."""

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, inverse_frequencies


@case("InternLM/InternEvo#123", bug="NOOP")
def fallback_returns(broken):
    """Callers pass the input as output, as the kernel has it; the fallback returns new tensors, which nobody takes."""
    inv_freq = inverse_frequencies(128)

    def apply_rotary_fallback(x1, x2, cos, sin, out1, out2):
        y1 = (x1.float() * cos - x2.float() * sin).type_as(x1)
        y2 = (x1.float() * sin + x2.float() * cos).type_as(x2)
        if broken:
            return y1, y2
        return out1.copy_(y1), out2.copy_(y2)

    def rotate_(x, positions):
        freqs = angles(positions, inv_freq)
        x1, x2 = x.chunk(2, dim=-1)
        apply_rotary_fallback(x1, x2, freqs.cos(), freqs.sin(), x1, x2)

    return Implementation(in_place=rotate_, **TORCH), rr.variants.default(128)


@case("vllm-project/vllm-ascend#7082", bug="NOOP")
def half_stored(broken):
    """The variant for one tensor stores the first half of a half-split head; the second keeps what the buffer had."""
    inv_freq = inverse_frequencies(64)

    def rope_forward_one(x, positions, out):
        freqs = angles(positions, inv_freq)
        x1, x2 = (half.float() for half in x.chunk(2, dim=-1))
        out1, out2 = out.chunk(2, dim=-1)
        out1.copy_(x1 * freqs.cos() - x2 * freqs.sin())
        if not broken:
            out2.copy_(x2 * freqs.cos() + x1 * freqs.sin())
        return out

    return Implementation(into=rope_forward_one, **TORCH), rr.variants.default(64)
