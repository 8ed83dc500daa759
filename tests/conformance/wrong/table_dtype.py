"""TABDT: the dtype of the tables, or one that they force on the result."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies, rotate_half


@case("facebookresearch/xformers#742", bug="TABDT")
def promoted_under_autocast(broken):
    """Tables have the dtype of the parameters, which autocast leaves in float32, and the result has theirs."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        cos, sin = halves(angles(positions, inv_freq))
        y = x * cos + rotate_half(x) * sin
        return y if broken else y.to(x.dtype)

    def autocast(x, positions):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return apply(x, positions)

    return Implementation(apply=apply, paths={"autocast": autocast}, **TORCH), rr.variants.default(64)


@case("huggingface/transformers#24262", bug="TABDT")
def promoted_by_tables(broken):
    """A half model gets its queries and keys back in float32, since the tables are."""
    inv_freq = inverse_frequencies(128)

    def apply_qk(q, k, q_positions, k_positions):
        q_embed = apply_rotary(q.float(), *halves(angles(q_positions, inv_freq)))
        k_embed = apply_rotary(k.float(), *halves(angles(k_positions, inv_freq)))
        return (q_embed, k_embed) if broken else (q_embed.to(q.dtype), k_embed.to(k.dtype))

    one = Implementation(apply_qk=apply_qk, **TORCH | {"dtypes": ("float32", "float16", "bfloat16")})
    return one, rr.variants.default(128)


@case("KellerJordan/modded-nanogpt#39", bug="TABDT")
def bfloat16_tables(broken):
    """cos and sin are rounded to bfloat16 before they are multiplied; the angle is float32."""
    inv_freq = inverse_frequencies(128)

    def apply(x, positions):
        freqs = angles(positions, inv_freq)
        cos, sin = freqs.cos(), freqs.sin()
        if broken:
            cos, sin = cos.bfloat16(), sin.bfloat16()
        x1, x2 = x.float().chunk(2, dim=-1)
        return torch.cat((x1 * cos - x2 * sin, x1 * sin + x2 * cos), dim=-1).type_as(x)

    return Implementation(apply=apply, **TORCH), rr.variants.default(128)
