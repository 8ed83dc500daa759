"""How many threads a rotation is given, and how many it starts: python -m tests.numba_kernels.counted WAY

A way is a function below. Prints the largest number that shared a rotation, and the largest that was started.
"""

import os
import sys
import threading

import numba
import numpy as np
import torch

import numba_kernels as nk
import torch_bridge.rotation as bridge
from numba_kernels import cpu
from numba_kernels import threads as split
from torch_bridge import doors

X, COS, SIN = np.ones((8, 512, 64), np.float32), np.full((512, 32), 2.0, np.float32), np.zeros((512, 32), np.float32)
kernel, given, started = cpu.kernel, [0], [0]


def watched(form, parallel):
    run = kernel(form, parallel)

    def counted(*arguments):
        turned = run(*arguments)
        given.append(arguments[-2] if turned else 0)
        return turned

    return counted


def alive():
    return len(os.listdir("/proc/self/task"))


def on_numpy():
    before = alive()
    for _ in range(2):
        assert (nk.rotate(X, COS, SIN, pairing="half-split") == 2).all()
    started.append(alive() - before)


def on_torch():
    before, tensors = alive(), [torch.from_numpy(a) for a in (X, COS, SIN)]
    for _ in range(2):  # the second by what is known of the first
        assert (bridge.rotate(*tensors, pairing="half-split").numpy() == 2).all()
    started.append(alive() - before)


def numpy_told_by_torch():
    torch.set_num_threads(1)
    on_numpy()


def told_by_torch():
    torch.set_num_threads(1)
    on_torch()


def told_in_another_thread():
    torch.set_num_threads(1)
    worker = threading.Thread(target=on_torch)
    worker.start()
    worker.join()


def told_by_the_operators():
    doors.modes = lambda: True
    told_in_another_thread()


def told_by_numba():
    numba.set_num_threads(1)  # starts those of Numba's own pool
    on_numpy()
    on_torch()


@numba.njit(parallel=True)
def loop():
    for _ in numba.prange(2):
        with numba.objmode():
            on_numpy()


def in_a_loop_of_the_users():
    on_numpy()
    for _ in range(3):
        loop()
    on_numpy()
    assert not split._lock[0]


if __name__ == "__main__":
    cpu.kernel = watched
    numba.njit(lambda: None)()  # which loads SciPy where there is one, whose BLAS starts threads of its own
    ways = (on_numpy, on_torch, numpy_told_by_torch, told_by_torch, told_in_another_thread, told_by_the_operators,
            told_by_numba, in_a_loop_of_the_users)  # fmt: skip
    {way.__name__: way for way in ways}[sys.argv[1]]()
    print(max(given), max(started))
