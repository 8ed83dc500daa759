"""A Llama block on several processes: heads and hidden channels over one axis of a mesh, tokens over the other.

    torchrun --nproc-per-node 2 examples/parallel_llama.py --tensor 2
    torchrun --nproc-per-node 2 examples/parallel_llama.py --context 2
    torchrun --nproc-per-node 4 examples/parallel_llama.py --tensor 2 --context 2

Two packed documents are split zig-zag over "context", weights by a plan of torch over "tensor", and what remains
of them over "context" by FSDP. Everything is compared with the same block on one process.
"""

import argparse
import gc
import logging

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
from torch.distributed.tensor.debug import CommDebugMode
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import rope_ref as rr
from rope_ref import positions as at
from torch_bridge import rotate
from torch_bridge.sharding import local_tables, packed_order, turn_sharded

ROPE = rr.variants.llama3(head_dim=16, theta=500000.0, factor=8.0)
WIDTH, HIDDEN, HEADS, KEY_HEADS = 64, 96, 4, 2
CU_SEQLENS = [0, 24, 64]

# gathering gradients to compare them need not be fast
logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)

PLAN = {
    "attention.wq": ColwiseParallel(),
    "attention.wk": ColwiseParallel(),
    "attention.wv": ColwiseParallel(),
    "attention.wo": RowwiseParallel(),
    "w1": ColwiseParallel(),
    "w3": ColwiseParallel(),
    "w2": RowwiseParallel(),
}


class Attention(nn.Module):
    """Causal attention within documents; on a mesh ("context", "tensor") where there is one."""

    def __init__(self, mesh: DeviceMesh | None):
        super().__init__()
        self.mesh = mesh
        self.wq = nn.Linear(WIDTH, HEADS * ROPE.head_dim, bias=False)
        self.wk, self.wv = (nn.Linear(WIDTH, KEY_HEADS * ROPE.head_dim, bias=False) for _ in range(2))
        self.wo = nn.Linear(HEADS * ROPE.head_dim, WIDTH, bias=False)

    def forward(self, x, positions, documents):
        """x (batch, seq of this rank, width); positions and documents (seq,) of all ranks, in the order of x."""
        q, k, v = (w(x).unflatten(-1, (-1, ROPE.head_dim)).transpose(1, 2) for w in (self.wq, self.wk, self.wv))
        rows = torch.arange(len(positions))
        if self.mesh is None:
            cos, sin = (torch.from_numpy(t) for t in rr.tables(ROPE, positions.numpy()))
            q, k = (rotate(t, cos, sin, pairing=ROPE.pairing) for t in (q, k))
        else:
            here = [Shard(2), Shard(1)]  # tokens over "context", heads over "tensor"
            q, k, v = (DTensor.from_local(t, self.mesh, here, run_check=False) for t in (q, k, v))
            with CommDebugMode() as talk:
                cos, sin = local_tables(q, positions, ROPE)
                q, k = (turn_sharded(t, cos, sin, pairing=ROPE.pairing) for t in (q, k))
            self.collectives = talk.get_total_counts()
            # keys are exchanged after they have turned; each rank's queries give a part of their gradient
            everywhere, summed = [Replicate(), Shard(1)], [Partial(), Shard(1)]
            k, v = (t.redistribute(placements=everywhere).to_local(grad_placements=summed) for t in (k, v))
            rows = rows.chunk(self.mesh["context"].size())[self.mesh["context"].get_local_rank()]
            q = q.to_local()
        self.rotated = q.detach(), k.detach()
        sees = documents[rows, None] == documents
        sees &= positions[rows, None] >= positions
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sees, enable_gqa=True)
        return self.wo(y.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """One layer of a Llama."""

    def __init__(self, mesh: DeviceMesh | None = None):
        super().__init__()
        self.attention = Attention(mesh)
        self.before, self.between = nn.RMSNorm(WIDTH), nn.RMSNorm(WIDTH)
        self.w1, self.w3 = (nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(2))
        self.w2 = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x, positions, documents):
        x = x + self.attention(self.before(x), positions, documents)
        y = self.between(x)
        return x + self.w2(nn.functional.silu(self.w1(y)) * self.w3(y))


def main(tensor: int, context: int) -> None:
    mesh = init_device_mesh("cpu", (context, tensor), mesh_dim_names=("context", "tensor"))
    torch.set_default_dtype(torch.float64)  # so that what differs is a mistake, and not the order of sums
    torch.manual_seed(0)
    single, block = Block(), Block(mesh)
    block.load_state_dict(single.state_dict())
    parallelize_module(block, mesh["tensor"], PLAN)
    fully_shard(block, mesh=mesh["context"])

    x = torch.randn(2, CU_SEQLENS[-1], WIDTH)
    positions = torch.from_numpy(at.packed(CU_SEQLENS))
    documents = (positions == 0).cumsum(0)
    expected = single(x, positions, documents)
    expected.square().sum().backward()

    order = packed_order(CU_SEQLENS, context)
    rows = order.chunk(context)[mesh["context"].get_local_rank()]
    y = block(x[:, rows], positions[order], documents[order])
    (y.square().sum() * context).backward()  # FSDP averages what is to be summed

    q, k = single.attention.rotated
    heads = mesh["tensor"].get_local_rank()
    q, k = (t.chunk(tensor, 1)[heads] for t in (q[:, :, rows], k[:, :, order]))
    weights = zip(block.parameters(), single.parameters(), strict=True)
    errors = {
        "rotated": max(map(off, block.attention.rotated, (q, k))),
        "output": off(y, expected[:, rows]),
        "gradients": max(off(mine.grad.full_tensor(), theirs.grad) for mine, theirs in weights),
    }
    print(
        f"rank {dist.get_rank()} of context {context}, tensor {tensor}: {block.attention.collectives} collectives "
        f"while rotating; off by", ", ".join(f"{error:.0e} ({name})" for name, error in errors.items()), flush=True,
    )  # fmt: skip
    # in float64 the same sums of up to a few hundred terms, in another order, a few of them behind one another
    assert not block.attention.collectives and max(errors.values()) < 1000 * 2.0**-53


def off(found, expected):
    """The largest difference, as a part of the largest number."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensor", type=int, default=1, help="processes among which heads are split")
    parser.add_argument("--context", type=int, default=1, help="processes among which tokens are split")
    words = parser.parse_args()
    main(words.tensor, words.context)
    gc.collect()  # what still holds a group keeps its threads, which must not outlive the interpreter
    dist.barrier()
    dist.destroy_process_group()
