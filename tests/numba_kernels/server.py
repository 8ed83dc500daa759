"""Threads rotate at once, as in a server: python -m tests.numba_kernels.server [--seconds S] [--threads N] [--loops]

Each thread takes cases in an order of its own, small ones and ones for several threads, by every entry point, and
compares every bit with what one thread computed before the others began. With --loops,
parallel loops of Numba's, the user's own, run in another thread meanwhile.
"""

import argparse
import sys
import threading
import time

import numba
import numpy as np
import torch

import numba_kernels as nk
import torch_bridge.rotation as bridge
from torch_bridge.bench.cases import array

SHAPES = ((1, 1, 1, 64), (2, 3, 7, 20), (1, 4, 33, 128), (2, 8, 128, 64), (1, 16, 300, 64))
KINDS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


class Case:
    """A rotation of queries and keys, by any entry point; its numbers are known once it was done alone."""

    def __init__(self, seed, shape, kind, pairing):
        numbers = torch.Generator().manual_seed(seed)
        self.query, self.key = (torch.randn(shape, generator=numbers).to(kind) for _ in range(2))
        self.kind, self.form = kind, {"pairing": pairing}
        table = torch.float64 if kind == torch.float64 else torch.float32
        self.cos, self.sin = (torch.randn(shape[-2], shape[-1] // 2, generator=numbers).to(table) for _ in range(2))
        self.right = self.on_numpy()

    def words(self, *tensors):
        return [t.view(torch.uint8).numpy().tobytes() for t in tensors]

    def on_numpy(self):
        memory = [array(t) for t in (self.query, self.key)]
        cos, sin = self.cos.numpy(), self.sin.numpy()
        return [nk.rotate(m, cos, sin, **self.form).tobytes() for m in memory]

    def on_torch(self):
        return self.words(*(bridge.rotate(t, self.cos, self.sin, **self.form) for t in (self.query, self.key)))

    def both(self):
        return self.words(*bridge.rotate_qk(self.query, self.key, self.cos, self.sin, **self.form))

    def in_place(self):
        query, key = (torch.from_numpy(array(t).copy()).view(self.kind) for t in (self.query, self.key))
        return self.words(*bridge.rotate_qk(query, key, self.cos, self.sin, **self.form, inplace=True))

    WAYS = (on_numpy, on_torch, both, in_place)


@numba.njit(parallel=True, nogil=True)
def loop(x):
    total = 0.0
    for i in numba.prange(len(x)):
        total += x[i]
    return total


def serve(seconds, threads, loops):
    """Rotations done, and those that were wrong."""
    cases = [Case(n, shape, kind, pairing) for n, shape in enumerate(SHAPES) for kind in KINDS
             for pairing in ("half-split", "interleaved")]  # fmt: skip
    for way in Case.WAYS:  # so that nobody waits for the compiler
        way(cases[0])
    done, wrong, until = [0] * threads, [], time.monotonic() + seconds

    def work(number):
        rng = np.random.default_rng(number)
        while time.monotonic() < until:
            case = cases[rng.integers(len(cases))]
            way = Case.WAYS[rng.integers(len(Case.WAYS))]
            if way(case) != case.right:
                wrong.append((way.__name__, case.query.shape, case.kind, case.form))
            done[number] += 1

    def other():
        ones = np.ones(100_000)
        while time.monotonic() < until:
            if loop(ones) != len(ones):
                wrong.append("loop")

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    workers += [threading.Thread(target=other)] * loops
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(done), wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--loops", action="store_true")
    wanted = parser.parse_args()
    done, wrong = serve(wanted.seconds, wanted.threads, wanted.loops)
    print(f"{done} rotations by {wanted.threads} threads, {len(wrong)} wrong; {numba.threading_layer()}")
    sys.exit(bool(wrong) and str(wrong[:5]))


if __name__ == "__main__":
    main()
