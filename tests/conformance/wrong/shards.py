"""SHARD: a sequence split over ranks, of which each must keep the positions of its own tokens."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, apply_rotary, halves, inverse_frequencies, rope

SECTION = [8, 12, 12]  # of the 32 pairs of 64 channels


def zigzag(t, dim, rank, ranks):
    """Chunks rank and 2 ranks - 1 - rank of the 2 ranks along one dimension."""
    size = t.shape[dim]
    assert size % (2 * ranks) == 0, f"dimension {dim} of {size} is not divisible by {2 * ranks}"
    chunks = t.chunk(2 * ranks, dim=dim)
    return torch.cat((chunks[rank], chunks[2 * ranks - 1 - rank]), dim=dim)


def mrope_angles(positions, inv_freq):
    """(..., 3) to (..., pairs), by sections."""
    freqs = positions.float()[..., None] * inv_freq
    return torch.cat([part[..., axis, :] for axis, part in enumerate(freqs.split(SECTION, dim=-1))], dim=-1)


def mrope(x, positions, inv_freq):
    freqs = mrope_angles(positions, inv_freq)
    return apply_rotary(x, *halves(freqs[:, None] if freqs.ndim == 3 else freqs))


@case("NVIDIA/Megatron-LM#1612", bug="SHARD")
def multimodal_not_sliced(broken):
    """The angles of three axes are not cut to the rank; its tokens take the first of the whole sequence."""
    inv_freq = inverse_frequencies(64, 1000000.0)

    def shard(x, positions, rank, ranks):
        local = zigzag(x, -2, rank, ranks)
        emb = mrope_angles(positions, inv_freq)
        emb = emb[..., : local.shape[-2], :] if broken else zigzag(emb, emb.ndim - 2, rank, ranks)
        return apply_rotary(local, *halves(emb[:, None] if emb.ndim == 3 else emb))

    def apply(x, positions):
        return mrope(x, positions, inv_freq)

    one = Implementation(apply=apply, shard=shard, order="zigzag", **TORCH)
    return one, rr.variants.mrope(64, SECTION, theta=1000000.0)


@case("NVIDIA-NeMo/Automodel#1482", bug="SHARD")
def batch_dimension_sharded(broken):
    """Positions (3, batch, seq) are split along dimension 1, as those of text are, and the batch is no multiple."""
    inv_freq = inverse_frequencies(64, 1000000.0)

    def shard(x, positions, rank, ranks):
        batch = x.shape[0]
        position_ids = (positions if positions.ndim == 3 else positions.expand(batch, -1, -1)).permute(2, 0, 1)
        position_ids = zigzag(position_ids, 1 if broken else 2, rank, ranks)
        return mrope(zigzag(x, 2, rank, ranks), position_ids.permute(1, 2, 0), inv_freq)

    def apply(x, positions):
        return mrope(x, positions, inv_freq)

    one = Implementation(apply=apply, shard=shard, order="zigzag", **TORCH)
    return one, rr.variants.mrope(64, SECTION, theta=1000000.0)


@case("NVIDIA/Megatron-LM#5243", bug="SHARD")
def first_sequence_for_all(broken):
    """Rows are packed end to end with one table for all tokens; it is read without the start of each sequence."""
    inv_freq = inverse_frequencies(64)

    def shard(x, positions, rank, ranks):
        batch, heads, seq, head_dim = x.shape
        table = positions.expand(batch, seq).reshape(-1)
        cu_seqlens = seq * torch.arange(batch)
        rows = zigzag(torch.arange(seq), 0, rank, ranks)
        index = rows.expand(batch, -1) if broken else cu_seqlens[:, None] + rows
        return rope(x[:, :, rows], table[index], inv_freq)

    def apply(x, positions):
        return rope(x, positions, inv_freq)

    return Implementation(apply=apply, shard=shard, order="zigzag", **TORCH), rr.variants.default(64)
