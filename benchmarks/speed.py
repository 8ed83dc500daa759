"""Speed of the kernels, as ratios taken in one run: python -m benchmarks.speed

    in place   against torch mul_ by a scalar, which reads and writes the same bytes
    given      into a buffer, against torch copy_
    new        freshly allocated, against torch empty and copy_
    eager      the formula of Hugging Face, freshly allocated
    original   RotaryEmbedding of rotary-embedding-torch against ours, cos and sin included

1.0 in the first three columns is the speed of memory; the last two say how many times slower they are.
"""

import sys

import numpy as np
import rotary_embedding_torch
import torch

import numba_kernels as nk
import rope_ref as rr
import torch_bridge
from benchmarks.timing import duration, medians
from torch_bridge.rotation import array

HEADS, HEAD_DIM = 32, 128


def main() -> None:
    print(__doc__.split("\n\n", 1)[1])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, (1, {HEADS}, tokens, {HEAD_DIM})\n")
    print(f"{'tokens':>7} {'dtype':9} {'pairing':12} {'in place':>10} {'ratio':>6} {'given':>6} {'new':>6}"
          f" {'eager':>7} {'original':>9}")  # fmt: skip
    for tokens in (1, 512, 4096):
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for pairing in ("half-split", "interleaved"):
                print(row(tokens, dtype, pairing), flush=True)


def row(tokens: int, dtype: torch.dtype, pairing: str) -> str:
    x, out = torch.randn(2, 1, HEADS, tokens, HEAD_DIM).to(dtype)
    rope = rr.Rope(HEAD_DIM, pairing=pairing)
    cos, sin = rr.tables(rope, np.arange(tokens), np.float32)
    a, b = array(x), array(out)
    wide = [torch.from_numpy(np.concatenate((t, t), -1)).to(dtype) for t in (cos, sin)]
    ours, original = (p.RotaryEmbedding(dim=HEAD_DIM) for p in (torch_bridge, rotary_embedding_torch))

    def eager() -> torch.Tensor:
        first, second = x.chunk(2, -1)
        return x * wide[0] + torch.cat((-second, first), -1) * wide[1]

    calls = {
        "in place": lambda: nk.rotate(a, cos, sin, pairing=pairing, out=a),
        "mul": lambda: x.mul_(1.0),
        "given": lambda: nk.rotate(a, cos, sin, pairing=pairing, out=b),
        "copy": lambda: out.copy_(x),
        "new": lambda: nk.rotate(a, cos, sin, pairing=pairing),
        "empty and copy": lambda: torch.empty_like(x).copy_(x),
        "eager": eager,
        "ours": lambda: ours.rotate_queries_or_keys(x),
        "original": lambda: original.rotate_queries_or_keys(x),
    }
    t = medians(calls, rounds=200 if tokens == 1 else 9)
    print(f"{tokens} tokens measured", end="\r", file=sys.stderr, flush=True)
    return (f"{tokens:7} {str(dtype).removeprefix('torch.'):9} {pairing:12} {duration(t['in place']):>10}"
            f" {t['mul'] / t['in place']:6.2f} {t['copy'] / t['given']:6.2f} {t['empty and copy'] / t['new']:6.2f}"
            f" {t['eager'] / t['new']:6.1f}x {t['original'] / t['ours']:8.1f}x")  # fmt: skip


if __name__ == "__main__":
    main()
