"""Children of a process whose threads rotate: python -m tests.numba_kernels.forks WAY, where a way is a function below.

Each child rotates by both fronts, in a dtype that its parent has used and in one that it has not, and compares
with numbers that no kernel computed. A child that hangs is ended by a signal after a while.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time

import llvmlite.binding
import numpy as np
import torch

import numba_kernels as nk
import torch_bridge.rotation as bridge

LONG = 100  # seconds: no child takes as many


def turn(dtype="float32"):
    """Whether a rotation for several threads, by cos 2 and sin 0, doubles: NumPy's arrays and torch's tensors."""
    x, cos, sin = np.ones((4, 512, 64), dtype), np.full((512, 32), 2.0, np.float32), np.zeros((512, 32), np.float32)
    twice = [nk.rotate(x, cos, sin, pairing="half-split")]
    for _ in range(2):  # the second by what is known of the first
        tensors = (torch.from_numpy(a) for a in (x, cos, sin))
        twice.append(bridge.rotate(*tensors, pairing="half-split").numpy())
    return all((y == 2).all() for y in twice)


def in_child():
    signal.alarm(LONG)
    sys.exit(not (turn() and turn("float16")))


def forked():
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    signal.alarm(LONG)
    try:
        os._exit(not (turn() and turn("float16")))
    finally:
        os._exit(2)


def started(method):
    child = multiprocessing.get_context(method).Process(target=in_child)
    child.start()
    child.join()
    return child.exitcode


class Turned(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        signal.alarm(LONG)
        return torch.tensor([turn(), turn("float16"), len(os.listdir("/proc/self/task"))])


def after():
    """What ran before: kernels, and torch's own pool."""
    large = torch.ones(2000, 2000)
    assert turn() and float((large + large)[-1, -1]) == 2
    codes = [forked(), started("fork"), forked(), started("spawn")]
    loaded = torch.utils.data.DataLoader(Turned(), num_workers=2, batch_size=1, multiprocessing_context="fork")
    rows = [row for (row,) in loaded]
    assert all(row[0] and row[1] for row in rows)
    threads = max(int(row[2]) for row in rows)
    assert threads <= 3, threads  # its own, that of the queue, that which watches the parent: none of a pool
    assert turn()
    return codes


def before():
    """Torch's pool ran, no kernel did."""
    large = torch.ones(2000, 2000)
    assert float((large + large)[-1, -1]) == 2
    return [forked(), started("fork")]


def inside():
    """Other threads rotate all the while."""
    assert turn()
    going = True

    def work():
        while going:
            assert turn()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    codes = [code for _ in range(4) for code in (forked(), started("fork"))]
    going = False
    for worker in workers:
        worker.join()
    return codes


def compiling():
    """Another thread compiles; with an empty cache, that is."""
    assert turn()
    worker = threading.Thread(target=turn, args=("float16",))
    worker.start()
    time.sleep(0.2)
    codes = [forked()]
    worker.join()
    return codes


def freeing():
    """Another thread is in LLVM, as one is that happens to collect what was compiled."""
    assert turn()
    going = True

    def work():
        while going:
            llvmlite.binding.parse_assembly("")

    worker = threading.Thread(target=work)
    worker.start()
    codes = [forked() for _ in range(2)]
    going = False
    worker.join()
    return codes


if __name__ == "__main__":
    ways = {way.__name__: way for way in (after, before, inside, compiling, freeing)}
    codes = ways[sys.argv[1]]()
    print(len(codes), "children")
    sys.exit(any(codes) and f"children ended with {codes}")
