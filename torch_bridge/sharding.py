"""Rotation of DTensors: every rank turns its shard by the global positions of its tokens, and none talks to another.

A rotation sees one head of one token. However a batch is split, along the batch, the heads or the
sequence, a rank needs nothing but the positions of the tokens that it holds: `local_positions`
takes them, `local_tables` makes their cos and sin, `turn_sharded` rotates, and `rotate_sharded` is
all three at once. Under load-balanced context parallelism tokens change places before they are
split; `zigzag_order` and `packed_order` say how.

Needs torch 2.6 or newer. Nothing here is a collective, forward or backward.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard

from rope_ref import Rope, shards, tables
from rope_ref.positions import Positions, whole
from torch_bridge.plain import arithmetic
from torch_bridge.rotation import rotate


def rotate_sharded(x: DTensor, positions: Tensor, rope: Rope, *, seq_dim: int = -2) -> DTensor:
    """Turn x, split in any way but along head_dim, by the positions of its tokens; differentiable.

    x          (..., seq, head_dim), or with the sequence at another axis, seq_dim
    positions  of the whole sequence, in the order in which x holds it: (seq,), or with leading axes
               that match the first ones of x, and a last axis where the Rope has several; a plain
               tensor that every rank has alike, or a DTensor split as x is

    Returns a DTensor split as x is, with the bits that x rotated whole has. Raises TypeError for an
    x that is no DTensor, ValueError where positions and shards do not match.
    """
    return turn_sharded(x, *local_tables(x, positions, rope, seq_dim=seq_dim), pairing=rope.pairing, start=rope.start)


def turn_sharded(x: DTensor, cos: Tensor, sin: Tensor, *, pairing: str, start: int = 0) -> DTensor:
    """Turn this rank's shard of x by its own tables (..., pairs), which broadcast against the shard.

    The gradient that reaches a table is this rank's part of it, where x is split along an axis that the table lacks.
    """
    mesh, placements = split(x)
    # the strides of a transposed x are not those of the result: contiguous, on every rank and as a whole
    turned = rotate(Local.apply(x), cos, sin, pairing=pairing, start=start).contiguous()
    stride = torch.empty(x.shape, device="meta").stride()
    return DTensor.from_local(turned, mesh, placements, run_check=False, shape=x.shape, stride=stride)


class Local(torch.autograd.Function):
    """`x.to_local()`, whose gradient has the layout of x. Up to torch 2.9 its own, where ranks have different
    shares, takes another for the shape of the whole, and gathers."""

    @staticmethod
    def forward(ctx: Any, x: DTensor) -> Tensor:
        ctx.form = x.device_mesh, x.placements
        ctx.shape = x.shape
        local: Tensor = x.to_local()
        return local.view_as(local)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> DTensor:
        stride = torch.empty(ctx.shape, device="meta").stride()
        local = grads[0].contiguous()
        return DTensor.from_local(local, *ctx.form, run_check=False, shape=ctx.shape, stride=stride)


def local_tables(x: DTensor, positions: Tensor, rope: Rope, *, seq_dim: int = -2) -> tuple[Tensor, Tensor]:
    """cos and sin of the tokens of this rank, magnitude included, shaped to broadcast against its shard of x.

    They serve every layer, and queries and keys alike unless each head turns at speeds of its own. Computed in
    float64, rounded once to the type in which x is rotated.
    """
    seq = sequence_axis(x, seq_dim)
    mine = local_positions(x, positions, seq_dim=seq_dim, axes=rope.axes)
    if mine.dtype in (torch.float16, torch.bfloat16):
        raise TypeError(f"positions have dtype {mine.dtype}, which rounds them; expected int64, float32 or float64")
    lead = mine.ndim - 1 - (rope.axes is not None)
    shape = [*mine.shape[:lead], *(1 for _ in x.shape[lead:-1]), rope.pairs]
    shape[seq] = mine.shape[lead]
    cos, sin = (torch.from_numpy(t) for t in tables(rope, mine.cpu().numpy()))
    if rope.heads is not None:
        heads = x.ndim - 3 if seq == x.ndim - 2 else seq + 1
        if heads < lead or x.shape[heads] != rope.heads:
            raise ValueError(f"x has shape {tuple(x.shape)}; expected {rope.heads} heads at axis {heads}, as the Rope")
        rows = held(x, heads).cpu()
        shape[heads] = len(rows)
        cos, sin = (t.index_select(-3, rows) for t in (cos, sin))
        if heads > seq:
            cos, sin = cos.transpose(-3, -2), sin.transpose(-3, -2)
    wide = arithmetic(x.dtype)
    return cos.reshape(shape).to(x.device, wide), sin.reshape(shape).to(x.device, wide)


def local_positions(x: DTensor, positions: Tensor, *, seq_dim: int = -2, axes: int | None = None) -> Tensor:
    """Of the positions of the whole sequence, those of the tokens that this rank holds.

    positions  as `rotate_sharded` takes them, with a last axis of length `axes` unless that is None
    """
    mesh, placements = split(x)
    seq = sequence_axis(x, seq_dim)
    if not isinstance(positions, Tensor):
        raise TypeError(f"positions are a {type(positions).__name__}; expected a tensor")
    tail = () if axes is None else (axes,)
    lead = min(max(positions.ndim - 1 - len(tail), 0), seq)
    expected = (*x.shape[:lead], x.shape[seq], *tail)
    # a leading axis of one serves every row
    found = [expected[i] if i < lead and n == 1 else n for i, n in enumerate(positions.shape)]
    if tuple(found) != expected:
        local = x.to_local().shape[seq]
        hint = f", of which {local} are this rank's: give those of the whole" if local != x.shape[seq] else ""
        raise ValueError(
            f"positions have shape {tuple(positions.shape)}; expected {expected} "
            f"for x of {tuple(x.shape)} with the sequence at axis {seq}{hint}"
        )
    axis = {i: i for i in range(lead) if positions.shape[i] != 1} | {seq: lead}  # of x: of positions
    if isinstance(positions, DTensor):
        dims = [axis.get(p.dim) if isinstance(p, Shard) else None for p in placements]
        wanted = tuple(Replicate() if dim is None else Shard(dim) for dim in dims)
        if positions.device_mesh != mesh or positions.placements != wanted:
            raise ValueError(
                f"positions are split as {positions.placements} over {positions.device_mesh}; "
                f"expected {wanted} over {mesh}, as x is"
            )
        return positions.to_local()
    for of_x, of_positions in axis.items():
        positions = positions.index_select(of_positions, held(x, of_x).to(positions.device))
    return positions


def local_frequencies(x: DTensor, freqs: DTensor) -> Tensor:
    """Learned frequencies, which every rank has whole, as a plain tensor to make the tables of this rank's shard of x.

    Their gradient stays a sum yet to be taken (Partial) over the ranks among which x is split: one all-reduce of
    a few numbers, when it is asked for.
    """
    mesh, placements = split(x)
    if not isinstance(freqs, DTensor) or freqs.device_mesh != mesh or any(p != Replicate() for p in freqs.placements):
        raise ValueError(f"freqs are {freqs!r}; expected a DTensor replicated over {mesh}, as x is spread")
    return freqs.to_local(grad_placements=[Partial() if isinstance(p, Shard) else Replicate() for p in placements])


@torch.no_grad()
def held(x: DTensor, dim: int) -> Tensor:
    """Which of the indices along an axis of x this rank holds: what the split of x makes of 0, 1, 2, ..."""
    mesh, placements = split(x)
    along = [Shard(0) if p == Shard(dim) else Replicate() for p in placements]
    indices = spread(torch.arange(x.shape[dim], device=x.device), mesh, along).to_local()
    if len(indices) != x.to_local().shape[dim]:
        raise ValueError(
            f"this rank's shard of x has {x.to_local().shape[dim]} along axis {dim}; expected {len(indices)}, "
            f"its part of {x.shape[dim]} split as {placements}: give DTensor.from_local the shape of the whole"
        )
    return indices


@torch.no_grad()
def spread(x: Tensor, mesh: DeviceMesh, placements: Sequence[Placement]) -> DTensor:
    """A DTensor of what every rank has whole: each keeps its part. (`distribute_tensor` sends that of rank 0.)"""
    return DTensor.from_local(x, mesh, [Replicate()] * mesh.ndim, run_check=False).redistribute(placements=placements)


def zigzag_order(length: int, world_size: int) -> Tensor:
    """The tokens of all ranks one behind the other under load-balanced context parallelism, (length,).

    x.index_select(seq_dim, order), split into world_size equal parts, gives each rank its early and its
    late chunk; positions are taken in the same order, and argsort of the order undoes it. It is
    that of torch's own context_parallel.

    >>> zigzag_order(8, world_size=2)
    tensor([0, 1, 6, 7, 2, 3, 4, 5])
    """
    return _order(partial(shards.zigzag, length), world_size)


def packed_order(cu_seqlens: ArrayLike, world_size: int) -> Tensor:
    """The same for packed sequences, each balanced by itself, (cu_seqlens[-1],).

    >>> packed_order([0, 4, 12], world_size=2)
    tensor([ 0,  3,  4,  5, 10, 11,  1,  2,  6,  7,  8,  9])
    """
    return _order(partial(shards.packed, shards.zigzag, cu_seqlens), world_size)


def _order(rows: Callable[[int, int], Positions], world_size: int) -> Tensor:
    ranks = range(whole("world_size", world_size, least=1))
    return torch.from_numpy(np.concatenate([rows(rank, world_size) for rank in ranks]))


def sequence_axis(x: DTensor, seq_dim: int) -> int:
    """seq_dim, counted from the front."""
    if not -x.ndim <= seq_dim < x.ndim or seq_dim % x.ndim == x.ndim - 1:
        raise ValueError(f"seq_dim is {seq_dim}; expected an axis of x, {tuple(x.shape)}, before head_dim")
    return seq_dim % x.ndim


def split(x: DTensor) -> tuple[DeviceMesh, tuple[Placement, ...]]:
    """How x is split, once it is sure that each rank has whole heads of whole tokens."""
    if not isinstance(x, DTensor):
        raise TypeError(f"x is a {type(x).__name__}; expected a DTensor (a plain tensor is for torch_bridge.rotate)")
    for placement in x.placements:
        if type(placement) not in (Shard, Replicate):
            raise ValueError(f"x is split as {x.placements}; expected Shard and Replicate alone: redistribute it first")
        if placement == Shard(x.ndim - 1):
            raise ValueError(f"x is split as {x.placements}, along head_dim; expected whole heads")
    return x.device_mesh, x.placements
