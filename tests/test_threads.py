"""Threads and forks: the same bits, and a process that lives."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numba
import numpy as np
import pytest
import torch

import numba_kernels as nk
from tests.strategies import normal


def turn():
    """A rotation large enough for several threads, whose result is known."""
    x = np.ones((4, 512, 64), np.float32)
    return nk.rotate(x, np.full((512, 32), 2.0), np.zeros((512, 32)), pairing="half-split")


def test_any_number_of_threads_gives_the_same_bits():
    x, (cos, sin) = normal(0, 3, 700, 64), normal(1, 2, 700, 32)
    most, results = numba.get_num_threads(), []
    for threads in (1, most):
        numba.set_num_threads(threads)
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
with event.install_recorder("numba:compiler_lock") as compiler:
    import torch_bridge
assert len(compiler.buffer) < 20
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
