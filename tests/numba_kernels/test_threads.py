"""Threads and forks: the same bits, and a process that lives."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numba
import numpy as np
import pytest
import torch

import numba_kernels as nk
from numba_kernels import cpu, plan, threads
from tests.strategies import normal
from torch_bridge import kernel as torch_kernel
from torch_bridge import rotation


def turn():
    """A rotation large enough for several threads, whose result is known."""
    x = np.ones((4, 512, 64), np.float32)
    return nk.rotate(x, np.full((512, 32), 2.0), np.zeros((512, 32)), pairing="half-split")


def test_any_number_of_threads_gives_the_same_bits():
    x, (cos, sin) = normal(0, 3, 700, 64), normal(1, 2, 700, 32)
    most, results = numba.get_num_threads(), []
    for several in (1, most):
        numba.set_num_threads(several)
        results.append(nk.rotate(x, cos, sin, pairing="half-split"))
    assert np.array_equal(*results)


def test_threads_may_rotate_at_once():
    wrong = []
    several = [threading.Thread(target=lambda: wrong.extend(1 for _ in range(20) if not (turn() == 2).all()))
               for _ in range(8)]  # fmt: skip
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert not wrong


def in_child():
    assert (turn() == 2).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_rotates_too():
    turn()
    child = multiprocessing.get_context("fork").Process(target=in_child)
    child.start()
    child.join(60)
    assert child.exitcode == 0


class Turned(torch.utils.data.Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.from_numpy(turn())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_workers_of_a_data_loader_rotate_too():
    turn()
    loader = torch.utils.data.DataLoader(Turned(), num_workers=2, multiprocessing_context="fork")
    assert all((batch == 2).all() for batch in loader)


def test_an_import_compiles_nothing():
    """Nor reads compiled code, for which Numba takes its lock hundreds of times: a program pays when it rotates."""
    code = """
import numba.core.event as event
with event.install_recorder("numba:compile") as compiled, event.install_recorder("numba:compiler_lock") as lock:
    import torch_bridge
assert not compiled.buffer and len(lock.buffer) < 20
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Stop(Exception):
    pass


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers that interrupt on this system")
@pytest.mark.parametrize("front", ["numpy", "torch"])
def test_an_exception_at_any_moment_leaves_no_lock_behind(front, monkeypatch):
    """What a signal raises, as Ctrl-C and timeouts do: later rotations still are right, and share threads."""
    x, table = np.ones((4, 512, 64), np.float32), np.full((512, 32), 2.0, np.float32)
    arrays = x, table, 0 * table
    turn, arrays = (nk.rotate, arrays) if front == "numpy" else (rotation.rotate, list(map(torch.from_numpy, arrays)))

    def stop(*_):
        raise Stop

    turn(*arrays, pairing="half-split")  # so that nothing is left to compile
    before, rng, stopped = signal.signal(signal.SIGALRM, stop), random.Random(0), 0
    until = time.monotonic() + 3
    try:
        while time.monotonic() < until:
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(2e-5, 1e-3))
                while time.monotonic() < until:  # Python itself drops what is raised while garbage is collected
                    turn(*arrays, pairing="half-split")
            except Stop:
                stopped += 1
            assert not threads._lock[0]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped > 100
    shared = []
    kernel = cpu.kernel

    def watched(form, parallel):
        return lambda *arguments: shared.append(parallel) or kernel(form, parallel)(*arguments)

    monkeypatch.setattr(cpu, "kernel", watched)
    monkeypatch.setattr(threads, "allowed", lambda: 2)
    plan.make.cache_clear()
    torch_kernel.PLANS.clear()
    assert (np.asarray(turn(*arrays, pairing="half-split")) == 2).all() and shared == [True]
    plan.make.cache_clear()  # so that nobody is watched any more
    torch_kernel.PLANS.clear()
