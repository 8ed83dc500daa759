"""Shards on 2 and 4 processes: their union has the bits of the whole, forward and backward, and nobody talks."""

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

import rope_ref as rr
from rope_ref import positions as at
from rope_ref import shards
from rope_ref.conformance import Implementation, check
from tests.strategies import EXAMPLES, places
from tests.torch_bridge.ranks import Ranks
from torch_bridge import RotaryEmbedding, rotate
from torch_bridge.functions import tables
from torch_bridge.rotation import arithmetic
from torch_bridge.sharding import (
    local_frequencies,
    local_positions,
    local_tables,
    packed_order,
    rotate_sharded,
    spread,
    turn_sharded,
    zigzag_order,
)

ROOT = Path(__file__).parents[2]
ROPE = rr.Rope(head_dim=8)
BATCH, HEADS, SEQ = 0, 1, 2
fsdp = pytest.mark.skipif(
    not hasattr(torch.cpu.Stream, "record_event"), reason=f"fully_shard of torch {torch.__version__} has no CPU"
)


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
    """The same of a shard: result, gradient, how many collectives they took, and whether the layout stayed."""
    placements = [Replicate() if dim is None else Shard(dim) for dim in dims]
    grid = mesh(*sizes)
    x, upstream = (spread(t, grid, placements) for t in (x, upstream))
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


@pytest.mark.in_turn
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


@pytest.mark.parametrize("behind", [False, True])
def test_heads_that_turn_at_speeds_of_their_own(ranks, behind):
    rope = rr.Rope(head_dim=8, inv_freq=np.random.default_rng(0).standard_normal((6, 4, 2)))
    positions = torch.arange(14).reshape(7, 2)
    shape, heads, seq = ((2, 7, 6, 8), 2, 1) if behind else ((2, 6, 7, 8), 1, 2)
    for dim in (heads, seq):
        agree(ranks, sample(shape, torch.float32, 0), positions, rope, (len(ranks.pipes),), (dim,), seq)


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


def balanced_by_torch(length):
    """Where torch's own context parallelism puts tokens, given the positions with them; and their rotation."""
    from torch.distributed.tensor.experimental import context_parallel

    x, positions = sample((1, 2, length, 8), torch.float32, 0), torch.arange(length)
    with context_parallel(mesh(), buffers=[x, positions], buffer_seq_dims=[SEQ, 0]):
        cos, sin = (torch.from_numpy(t) for t in rr.tables(ROPE, positions.numpy(), np.float32))
        return positions.tolist(), bits(rotate(x, cos, sin, pairing=ROPE.pairing))


def test_the_order_is_that_of_torch(ranks):
    n = len(ranks.pipes)
    x = sample((1, 2, 6 * n, 8), torch.float32, 0)
    y, _ = whole(x, x, np.arange(6 * n), ROPE, SEQ)
    for (positions, turned), rows in zip(
        ranks.run(balanced_by_torch, 6 * n), zigzag_order(6 * n, n).view(n, -1), strict=True
    ):
        assert positions == rows.tolist() and turned == bits(y[:, :, rows])


def test_packed_order_is_the_figure_of_torch():
    """Documents of 4, 8 and 4 tokens on 2 ranks, as the mask in torch's _PerDocumentHeadTailLoadBalancer shows them."""
    first, second = [0, 3, 4, 5, 10, 11, 12, 15], [1, 2, 6, 7, 8, 9, 13, 14]
    assert packed_order([0, 4, 12, 16], 2).tolist() == first + second


def shared_tables():
    """Queries and keys by one pair of tables and positions that are split already; and twice differentiated."""
    grid, length = mesh(), 7
    split = functools.partial(spread, mesh=grid, placements=[Shard(SEQ)])
    q, k = (sample((2, heads, length, 8), torch.float64, 0) for heads in (4, 2))
    # as projections leave them: (batch, seq, heads, head_dim), transposed
    strided = spread(k.transpose(1, 2).contiguous(), grid, [Shard(1)]).transpose(1, 2)
    positions = spread(torch.arange(length), grid, [Shard(0)])
    with CommDebugMode() as talk:
        cos, sin = local_tables(split(q), positions, ROPE)
        turned = [turn_sharded(x, cos, sin, pairing=ROPE.pairing) for x in (split(q), strided)]
        x = split(q).requires_grad_()
        upstream = split(q).requires_grad_()
        y = turn_sharded(x, cos, sin, pairing=ROPE.pairing)
        (first,) = torch.autograd.grad(y, x, upstream, create_graph=True)
        (second,) = torch.autograd.grad(first, upstream, split(q))
    of_half, _ = local_tables(split(q.bfloat16()), positions, ROPE)
    kinds = cos.shape, (cos.dtype, of_half.dtype), second.placements
    assert all(t.stride() == torch.empty(t.shape).stride() and t.to_local().is_contiguous() for t in turned)
    return [bits(t.to_local()) for t in (*turned, second)], kinds, talk.get_total_counts()


def test_tables_serve_queries_and_keys_and_second_derivatives(ranks):
    n, length = len(ranks.pipes), 7
    samples = [sample((2, heads, length, 8), torch.float64, 0) for heads in (4, 2)]
    q, k = (whole(x, x, np.arange(length), ROPE, SEQ)[0] for x in samples)
    for rank, (found, (shape, dtypes, placements), talk) in enumerate(ranks.run(shared_tables)):
        assert found == [bits(part(t, rank, (n,), (SEQ,))) for t in (q, k, q)]
        assert shape == (1, 1, part(q, rank, (n,), (SEQ,)).shape[SEQ], ROPE.pairs)
        assert dtypes == (torch.float64, torch.float32)
        assert placements == (Shard(SEQ),) and talk == 0


def learned(x, upstream, freqs, sizes, dims):
    """Tables of learned frequencies: local result, placements of the gradient, collectives until here, its sum."""
    grid, placements = mesh(*sizes), [Replicate() if dim is None else Shard(dim) for dim in dims]
    x, upstream = (spread(t, grid, placements) for t in (x, upstream))
    freqs = spread(freqs, grid, [Replicate()] * len(sizes)).requires_grad_()
    with CommDebugMode() as talk:
        angle = local_positions(x, torch.arange(x.shape[SEQ]))[:, None] * local_frequencies(x, freqs)
        y = turn_sharded(x, *tables(angle, x.dtype), pairing="half-split")
        y.backward(upstream)
    return bits(y.to_local()), freqs.grad.placements, talk.get_total_counts(), freqs.grad.full_tensor()


def test_learned_frequencies_sum_their_gradients_once(ranks):
    x, upstream = sample((3, 4, 7, 8), torch.float64, 0), sample((3, 4, 7, 8), torch.float64, 1)
    freqs = torch.from_numpy(ROPE.omega.copy())
    p, own = torch.arange(7), freqs.clone().requires_grad_()
    y = rotate(x, *tables(p[:, None] * own, x.dtype), pairing="half-split")
    (grad,) = torch.autograd.grad(y, own, upstream)
    # both are sums of the same 84 products in another order, behind ten roundings each
    (a, b), (u, v), angle = x.chunk(2, -1), upstream.chunk(2, -1), p[:, None] * freqs
    terms = p[:, None] * (angle.sin().abs() * ((u * a).abs() + (v * b).abs())
                          + angle.cos().abs() * ((v * a).abs() + (u * b).abs()))  # fmt: skip
    bound = 2 * (2 * 84 + 10) * 2.0**-53 * terms.sum((0, 1, 2))
    for sizes, dims in layouts(len(ranks.pipes)):
        for rank, (found, placements, talk, total) in enumerate(ranks.run(learned, x, upstream, freqs, sizes, dims)):
            assert found == bits(part(y, rank, sizes, dims)) and talk == 0
            assert placements == tuple(Replicate() if dim is None else Partial() for dim in dims)
            assert ((total - grad).abs() <= bound).all()


class Block(torch.nn.Module):
    """A projection and its rotation, as a layer of a model has them."""

    def __init__(self, **options):
        super().__init__()
        self.project, self.rotary = torch.nn.Linear(8, 8), RotaryEmbedding(dim=6, **options)

    def forward(self, x):
        return self.rotary.rotate_queries_or_keys(self.project(x))


def filled(block):
    """The same weights on every process."""
    with torch.no_grad():
        for name, weight in block.named_parameters():
            if name != "rotary.freqs":
                weight.copy_(sample(weight.shape, weight.dtype, len(name)))
    return block


def under_fsdp(**options):
    """Results, the gradient of the frequencies and theirs on every rank's batch without FSDP."""
    n, rank = dist.get_world_size(), dist.get_rank()
    batches = [sample((2, 3, 5, 8), torch.float32, seed) for seed in range(n)]
    single, alone = filled(Block(**options)), []
    for x in batches:
        single.zero_grad()
        y = single(x)
        y.square().sum().backward(inputs=list(w for w in single.parameters() if w.requires_grad))
        alone.append((y.detach(), single.rotary.freqs.grad))
    block = fully_shard(filled(Block(**options)), mesh=mesh())
    y = block(batches[rank])
    y.square().sum().backward()
    grad = block.rotary.freqs.grad
    return bits(y) == bits(alone[rank][0]), grad if grad is None else grad.full_tensor(), [g for _, g in alone]


@fsdp
def test_fsdp_over_learned_frequencies(ranks):
    """Three frequencies over 2 or 4 ranks, of which one then has none."""
    n = len(ranks.pipes)
    for same, grad, alone in ranks.run(functools.partial(under_fsdp, learned_freq=True)):
        # the mean of n float32 gradients: n - 1 additions, in any order; division by 2 or 4 rounds nothing
        mean, largest = torch.stack(alone).double().mean(0), torch.stack(alone).double().abs().mean(0)
        assert same and ((grad - mean).abs() <= n * 2.0**-24 * largest).all()
        assert (mean.abs() > 1000 * n * 2.0**-24 * largest).any()  # or the bound would forgive everything
    assert all(same and grad is None for same, grad, _ in ranks.run(under_fsdp))


def built_on_meta(learned_freq):
    """Frequencies that were never given memory until FSDP had split them."""
    with torch.device("meta"):
        block = Block(learned_freq=learned_freq)
    fully_shard(block, mesh=mesh()).to_empty(device="cpu")
    alone = filled(Block(learned_freq=learned_freq))
    for own, weight in zip(block.project.parameters(), alone.project.parameters(), strict=True):
        own.data.copy_(spread(weight.data, mesh(), own.placements))
    freqs, y = block.rotary.freqs.full_tensor().detach(), block(sample((2, 3, 5, 8), torch.float32, 0))
    return freqs, bits(y) == bits(alone(sample((2, 3, 5, 8), torch.float32, 0)))


def cast_to_half(learned_freq):
    """A model split in float32, cast afterwards, whose frequencies stay as they are."""
    block = filled(Block(learned_freq=learned_freq))
    if learned_freq:  # FSDP wants one dtype a group of weights that it trains
        register_fsdp_forward_method(fully_shard(block.rotary, mesh=mesh()), "rotate_queries_or_keys")
    block = fully_shard(block, mesh=mesh()).bfloat16()
    x, freqs = sample((2, 3, 5, 8), torch.bfloat16, 0), block.rotary.freqs.full_tensor().detach()
    return freqs, bits(block(x)) == bits(filled(Block()).bfloat16()(x))


@fsdp
@pytest.mark.parametrize("learned_freq", [False, True])
@pytest.mark.parametrize("story", [built_on_meta, cast_to_half])
def test_fsdp_neither_rounds_nor_loses_frequencies(ranks, story, learned_freq):
    for freqs, same in ranks.run(story, learned_freq):
        assert torch.equal(freqs, Block().rotary.freqs) and same


def mixed_precision(learned_freq, apart):
    """A call under bfloat16 parameters, the rotary module in a group of its own or not."""
    block, policy = filled(Block(learned_freq=learned_freq)), MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    if apart:
        register_fsdp_forward_method(fully_shard(block.rotary, mesh=mesh()), "rotate_queries_or_keys")
    block = fully_shard(block, mesh=mesh(), mp_policy=policy)
    x = sample((2, 3, 5, 8), torch.float32, 0)
    return bits(block(x)) == bits(filled(Block()).bfloat16()(x.bfloat16()))


@fsdp
def test_mixed_precision_rounds_no_frequencies(ranks):
    for learned_freq, apart in ((False, False), (False, True), (True, True)):
        assert all(ranks.run(mixed_precision, learned_freq, apart))
    with pytest.raises(RuntimeError, match="ValueError: freqs are torch.bfloat16, which rounds what is learned"):
        ranks.run(mixed_precision, True, False)


def without_a_hook():
    """A method that FSDP does not know of, called on the module itself."""
    fully_shard(RotaryEmbedding(dim=6), mesh=mesh()).rotate_queries_or_keys(torch.ones(2, 3, 5, 8))


def test_frequencies_that_fsdp_has_not_gathered(ranks):
    with pytest.raises(RuntimeError, match="ValueError: freqs are a DTensor.*register_fsdp_forward_method"):
        ranks.run(without_a_hook)


def dtensor(local, placements, **options):
    return DTensor.from_local(torch.ones(local), mesh(), placements, run_check=False, **options)


def mismatched(name):
    """Calls whose positions and shards do not match, and others that cannot be right."""
    n, rank = dist.get_world_size(), dist.get_rank()
    x = dtensor((2, 3, 4, 8), [Shard(SEQ)])
    every, uneven = torch.arange(4 * n), dtensor((1, 1, 2 if rank else 3, 8), [Shard(SEQ)])
    full = (2, 3, 4 * n, 8)
    return {
        "local positions": lambda: rotate_sharded(x, every[:4], ROPE),
        "long positions": lambda: rotate_sharded(x, torch.arange(4 * n + 1), ROPE),
        "other batch": lambda: rotate_sharded(x, every.expand(3, -1), ROPE),
        "heads have positions": lambda: rotate_sharded(x, every.expand(2, 3, 4, -1), ROPE),
        "axes": lambda: rotate_sharded(x, every[:, None].expand(-1, 3), ROPE),
        "no positions": lambda: rotate_sharded(x, torch.tensor(3), ROPE),
        "array": lambda: rotate_sharded(x, every.numpy(), ROPE),
        "half positions": lambda: rotate_sharded(x, every.bfloat16(), ROPE),
        "replicated positions": lambda: rotate_sharded(x, distribute_tensor(every, mesh(), [Replicate()]), ROPE),
        "uneven without a shape": lambda: rotate_sharded(uneven, torch.arange(2 * n + 1), ROPE),
        "shards of other sizes": lambda: rotate_sharded(
            dtensor((2, 3, 4 + (rank == 0) - (rank == 1), 8), [Shard(SEQ)], shape=torch.Size(full),
                    stride=torch.empty(full).stride()), every, ROPE),
        "other tables": lambda: turn_sharded(x, torch.ones(5, 4), torch.ones(5, 4), pairing="half-split"),
        "plain": lambda: rotate_sharded(x.to_local(), every, ROPE),
        "split heads": lambda: rotate_sharded(dtensor((2, 3, 4, 4), [Shard(3)]), torch.arange(4), ROPE),
        "terms": lambda: rotate_sharded(dtensor((2, 3, 4, 8), [Partial()]), torch.arange(4), ROPE),
        "sequence": lambda: rotate_sharded(x, every, ROPE, seq_dim=-1),
        "heads of the Rope": lambda: rotate_sharded(x, every[:, None], rr.Rope(8, inv_freq=np.ones((2, 4, 1)))),
        "frequencies": lambda: local_frequencies(x, distribute_tensor(torch.ones(4), mesh(), [Shard(0)])),
    }[name]()  # fmt: skip


@pytest.mark.parametrize("name, error", {
    "local positions": r"ValueError: positions have shape \(4,\); expected \(\d+,\) .* of which 4 are this rank's",
    "long positions": "ValueError: positions have shape",
    "other batch": r"ValueError: positions have shape \(3, \d+\); expected \(2, \d+\)",
    "heads have positions": "ValueError: positions have shape",
    "axes": "ValueError: positions have shape",
    "no positions": r"ValueError: positions have shape \(\); expected \(\d+,\)",
    "array": "TypeError: positions are a ndarray; expected a tensor",
    "half positions": "TypeError: positions have dtype torch.bfloat16, which rounds them",
    "replicated positions": r"ValueError: positions are split as \(Replicate\(\),\) .*; expected \(Shard\(dim=0\),\)",
    "uneven without a shape": r"ValueError: positions have shape \(\d+,\); expected \(\d+,\)",
    "shards of other sizes": "ValueError: this rank's shard of x has 5 along axis 2; expected 4, .*shape of the whole",
    "other tables": r"ValueError: cos and sin have shapes \(5, 4\)",
    "plain": "TypeError: x is a Tensor; expected a DTensor",
    "split heads": "ValueError: x is split as .*, along head_dim",
    "terms": "ValueError: x is split as .*Partial.*redistribute it first",
    "sequence": "ValueError: seq_dim is -1; expected an axis of x",
    "heads of the Rope": "ValueError: x has shape .*; expected 2 heads at axis 1",
    "frequencies": "ValueError: freqs are .*; expected a DTensor replicated",
}.items())  # fmt: skip
def test_a_mismatch_says_so(ranks, name, error):
    with pytest.raises(RuntimeError, match=f"(?s)rank 0: .*{error}"):
        ranks.run(mismatched, name)


def one_of(x, positions, rank, ranks, order, tables_of=local_tables):
    """What a rank holds, on a process that only believes to be one of several: no collective could answer it."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=rank, world_size=ranks)
    try:
        grid, rows = init_device_mesh("cpu", (ranks,)), order(x.shape[SEQ], ranks)
        split = spread(x[:, :, rows], grid, [Shard(SEQ)])
        cos, sin = tables_of(split, positions[..., rows], ROPE)
        return turn_sharded(split, cos, sin, pairing=ROPE.pairing).to_local()
    finally:
        dist.destroy_process_group()


def counted_anew(x, positions, rope):
    """The mistake: every rank takes the first rows."""
    return tuple(torch.from_numpy(t).float() for t in rr.tables(rope, positions[: x.to_local().shape[SEQ]].numpy()))


@pytest.mark.parametrize("name", ["contiguous", "zigzag"])
def test_the_kit_agrees(name):
    order = zigzag_order if name == "zigzag" else lambda length, ranks: torch.arange(length)
    right = functools.partial(one_of, order=order)
    words = dict(arrays="torch", dtypes=("float32",), order=name)
    report = check(Implementation(shard=right, **words), ROPE, budget="quick")
    assert report.passed and [o.verdict for o in report.outcomes if o.property == "ranks"] == ["passed"], report
    wrong = functools.partial(right, tables_of=counted_anew)
    assert "SHARD" in {f.bug for f in check(Implementation(shard=wrong, **words), ROPE, budget="quick").findings}


@fsdp
@pytest.mark.in_turn
@pytest.mark.parametrize("n, words", [(2, "--tensor 2"), (2, "--context 2"), (4, "--tensor 2 --context 2")])
def test_the_example_runs(n, words):
    """A Llama block under torchrun, which compares itself with the block on one process."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(n)]
    done = subprocess.run(
        [*torchrun, "examples/parallel_llama.py", *words.split()], cwd=ROOT, capture_output=True, text=True,
        timeout=300, env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("0 collectives while rotating") == n


def run_document(text):
    """A page's examples for torchrun, and the shard that they end with."""
    os.environ["WORLD_SIZE"], names = str(dist.get_world_size()), {}
    torch.manual_seed(0)
    for block in re.findall(r"^```py\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "distributed.md", "exec"), names)
    return bits(names["q"].to_local())


def test_the_guide_runs(ranks):
    n = len(ranks.pipes)
    torch.manual_seed(0)
    q, rope = torch.randn(1, 32, 8 * n, 128), rr.variants.llama3(head_dim=128, theta=500000.0, factor=8.0)
    y, _ = whole(q, q, np.arange(8 * n), rope, SEQ)
    found = ranks.run(run_document, (ROOT / "docs" / "distributed.md").read_text())
    for one, rows in zip(found, zigzag_order(8 * n, n).view(n, -1), strict=True):
        assert one == bits(y[:, :, rows])
