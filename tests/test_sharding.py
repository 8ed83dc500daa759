"""Shards on 2 and 4 processes: their union has the bits of the whole, forward and backward, and nobody talks."""

import functools
import re

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import rope_ref as rr
from rope_ref import positions as at
from rope_ref import shards
from tests.ranks import Ranks
from tests.strategies import EXAMPLES, places
from torch_bridge import RotaryEmbedding, rotate
from torch_bridge.functions import tables
from torch_bridge.rotation import arithmetic
from torch_bridge.sharding import (
    held,
    local_positions,
    local_tables,
    packed_order,
    rotate_sharded,
    turn_sharded,
    zigzag_order,
)

ROPE = rr.Rope(head_dim=8)
BATCH, HEADS, SEQ = 0, 1, 2


@pytest.fixture(scope="module", params=[2, 4])
def ranks(request, tmp_path_factory):
    several = Ranks(request.param, str(tmp_path_factory.mktemp("ranks") / "store"))
    yield several
    several.close()


@functools.cache
def mesh(*sizes):
    """All ranks, in a line or in a grid."""
    return init_device_mesh("cpu", sizes or (dist.get_world_size(),))


def sample(shape, dtype, seed):
    """Numbers that every process draws alike."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape)).to(dtype)


def bits(x):
    """The memory of a tensor in row order; two with the same have equal bits."""
    x = x.detach().contiguous()
    return x.shape, x.dtype, x.flatten().view(torch.uint8).numpy().tobytes()


def part(x, rank, sizes, dims):
    """What a rank holds of x when each axis of the mesh splits one of x into torch.chunk's pieces, or none."""
    for size, place, dim in zip(sizes, np.unravel_index(rank, sizes), dims, strict=True):
        if dim is not None:
            pieces = x.chunk(size, dim)
            x = pieces[place] if place < len(pieces) else x.narrow(dim, 0, 0)
    return x


def aligned(table, x, seq, rope):
    """Tables of rope_ref, (*lead, seq, pairs) or (*lead, heads, seq, pairs), with axes of one for all the rest of x."""
    tail = 2 if rope.heads is None else 3
    if rope.heads is not None and seq == x.ndim - 3:
        table = table.transpose(-2, -3)
    lead = table.shape[:-tail]
    shape = [*lead, *(1 for _ in x.shape[len(lead) : -1]), table.shape[-1]]
    if rope.heads is None:
        shape[seq] = table.shape[-2]
    else:
        shape[-3:-1] = table.shape[-3:-1]
    return table.reshape(shape)


def whole(x, upstream, positions, rope, seq):
    """The rotation on one process, and its gradient."""
    cos, sin = (aligned(torch.from_numpy(t).to(arithmetic(x.dtype)), x, seq, rope) for t in rr.tables(rope, positions))
    x = x.detach().requires_grad_()
    y = rotate(x, cos, sin, pairing=rope.pairing, start=rope.start)
    return y.detach(), torch.autograd.grad(y, x, upstream)[0]


def on_a_rank(x, upstream, positions, rope, seq_dim, sizes, dims):
    """The same of a shard: local result, local gradient, how many collectives it took, and whether the layout stayed."""
    placements = [Replicate() if dim is None else Shard(dim) for dim in dims]
    grid = mesh(*sizes)
    x, upstream = (distribute_tensor(t, grid, placements, src_data_rank=None) for t in (x, upstream))
    x.requires_grad_()
    with CommDebugMode() as talk:
        y = rotate_sharded(x, positions, rope, seq_dim=seq_dim)
        y.backward(upstream)
    same = all(t.placements == x.placements and t.shape == x.shape for t in (y, x.grad))
    return bits(y.to_local()), bits(x.grad.to_local()), talk.get_total_counts(), same


def agree(ranks, x, positions, rope, sizes, dims, seq_dim=-2):
    """Whether the shards of a layout are those of the whole."""
    upstream = sample(x.shape, x.dtype, 1)
    expected = whole(x, upstream, positions.numpy(), rope, seq_dim % x.ndim)
    results = ranks.run(on_a_rank, x, upstream, positions, rope, seq_dim, sizes, dims)
    for rank, (y, grad, collectives, same) in enumerate(results):
        assert y == bits(part(expected[0], rank, sizes, dims))
        assert grad == bits(part(expected[1], rank, sizes, dims))
        assert collectives == 0 and same


def layouts(world_size):
    """Every way to split (batch, heads, seq, head_dim) over all ranks in a line, or over a grid of 2 x 2."""
    dims = (None, BATCH, HEADS, SEQ)
    line = [((world_size,), (dim,)) for dim in dims]
    return line + [((2, 2), (a, b)) for a in dims for b in dims] * (world_size == 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("heads", [8, 2, 3])
def test_every_layout(ranks, heads, dtype):
    """Queries and keys with different numbers of heads; batch, heads and sequence also where they do not divide."""
    for sizes, dims in layouts(len(ranks.pipes)):
        for batch, seq in ((4, 16), (3, 13), (1, 5)):
            agree(ranks, sample((batch, heads, seq, 8), dtype, 0), torch.arange(seq) + 1000, ROPE, sizes, dims)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_every_variant_with_rows_of_positions(ranks, data):
    """Any Rope, any shape, any layout, positions that differ from row to row, the sequence before or behind heads."""
    rope = data.draw(st.sampled_from(sorted(EXAMPLES)).map(EXAMPLES.get))
    sizes, dims = data.draw(st.sampled_from(layouts(len(ranks.pipes))))
    batch, seq = data.draw(st.integers(1, 5)), data.draw(st.integers(1, 9))
    heads = rope.heads or data.draw(st.integers(1, 5))
    behind = data.draw(st.booleans())
    lead = data.draw(st.sampled_from([(), (1,), (batch,)]))
    positions = torch.from_numpy(np.asarray(places(rope, 3, *lead, seq)))
    if behind:  # (batch, seq, heads, head_dim)
        dims = tuple({HEADS: SEQ, SEQ: HEADS}.get(dim, dim) for dim in dims)
    shape = (batch, seq, heads, rope.head_dim) if behind else (batch, heads, seq, rope.head_dim)
    agree(ranks, sample(shape, torch.float32, 0), positions, rope, sizes, dims, -3 if behind else -2)


def test_zigzag(ranks):
    """Tokens change places, are split, turn, and go back: the bits of the whole sequence in its own order."""
    n = len(ranks.pipes)
    x, upstream = sample((2, 3, 8 * n, 8), torch.float32, 0), sample((2, 3, 8 * n, 8), torch.float32, 1)
    order = zigzag_order(8 * n, n)
    moved(ranks, x, upstream, torch.arange(8 * n), order)
    assert order.view(n, -1).tolist() == [shards.zigzag(8 * n, rank, n).tolist() for rank in range(n)]


def test_packed(ranks):
    """The same for packed sequences, each balanced by itself and counting from 0; and split anywhere, unevenly."""
    n = len(ranks.pipes)
    cu_seqlens = np.array([0, 2, 2, 5]) * 2 * n
    x, upstream = sample((1, 3, 10 * n, 8), torch.float32, 0), sample((1, 3, 10 * n, 8), torch.float32, 1)
    positions = torch.from_numpy(at.packed(cu_seqlens))
    order = packed_order(cu_seqlens, n)
    moved(ranks, x, upstream, positions, order)
    expected = [shards.packed(shards.zigzag, cu_seqlens, rank, n).tolist() for rank in range(n)]
    assert order.view(n, -1).tolist() == expected
    short = torch.from_numpy(at.packed([0, 3, 4, 11]))
    agree(ranks, x[:, :, :11], short, ROPE, (n,), (SEQ,))


def moved(ranks, x, upstream, positions, order):
    n, back = len(ranks.pipes), order.argsort()
    y, grad = whole(x, upstream, positions.numpy(), ROPE, SEQ)
    there = [t.index_select(SEQ, order) for t in (x, upstream)]
    results = ranks.run(on_a_rank, *there, positions[order], ROPE, -2, (n,), (SEQ,))
    for rank, (one, its_grad, collectives, _) in enumerate(results):
        rows = order.view(n, -1)[rank]
        assert one == bits(y[:, :, rows]) and its_grad == bits(grad[:, :, rows]) and collectives == 0
    assert torch.equal(there[0].index_select(SEQ, back), x)
