"""INPL and GEOM: which memory is written, and how what is read lies in it."""

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies, rope

NOT_SHOWN = {
    "vllm-project/vllm#52416": "fails past 2^31 elements: 4 GiB of half numbers, which no check should take",
}
PACKED = TORCH | {"layout": "shd", "strided": True}


@case("unslothai/unsloth#5001", bug="INPL")
def caller_overwritten(broken):
    """The result is written over the input where that is contiguous; only otherwise is there a copy."""
    inv_freq = inverse_frequencies(128)

    def fast_rope_embedding(x, positions):
        out = x if broken and x.is_contiguous() else x.clone()
        return out.copy_(rope(x, positions, inv_freq))

    return Implementation(apply=fast_rope_embedding, **TORCH), rr.variants.default(128)


def packed_tables(positions, inv_freq):
    """cos and sin for x (tokens, heads, head_dim)."""
    return (table[:, None] for table in halves(angles(positions, inv_freq)))


@case("vllm-project/vllm#17091", bug="GEOM")
def dense_tokens(broken):
    """The kernel steps from token to token by heads times head_dim, wherever the view has its tokens."""
    inv_freq = inverse_frequencies(64)

    def rotary_embedding(x, positions):
        tokens, heads, head_dim = x.shape
        if broken:
            x = x.as_strided((tokens, heads, head_dim), (heads * head_dim, head_dim, 1))
        return apply_rotary(x, *packed_tables(positions, inv_freq))

    return Implementation(apply=rotary_embedding, **PACKED), rr.variants.default(64)


@case("sgl-project/sglang#20598", bug="GEOM")
def one_head_stride(broken):
    """The fused kernel steps from head to head by the stride of the queries, in the keys as well."""
    inv_freq = inverse_frequencies(64)

    def fused_rope(q, k, q_positions, k_positions):
        head_stride = q.stride(1) if broken else k.stride(1)
        k = k.as_strided(k.shape, (k.stride(0), head_stride, k.stride(2)))
        q_out = apply_rotary(q, *packed_tables(q_positions, inv_freq))
        return q_out, apply_rotary(k, *packed_tables(k_positions, inv_freq))

    return Implementation(apply_qk=fused_rope, heads=(4, 2), **PACKED), rr.variants.default(64)
