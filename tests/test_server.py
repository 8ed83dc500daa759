"""What a server does: many threads, forks at any time, and a say in how many threads there are.

Each in a process of its own, which may die or hang; with GNU's OpenMP and without, by each layer of Numba's.
"""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts threads as Linux does")
ALONE = ["-m", "tests.no_openmp"]
POOLS = {  # how Python is started, and the layer of Numba's; tbb is left out, which few machines have
    "OpenMP": (["-m"], "omp"),
    "OpenMP beside a workqueue": (["-m"], "workqueue"),
    "omp": (ALONE, "omp"),
    "workqueue": (ALONE, "workqueue"),
}

LOOP = """
import numba, numpy as np, numba_kernels as nk
from numba_kernels import threads
x, cos, sin = np.ones((8, 512, 64), np.float32), np.full((512, 32), 2.0, np.float32), np.zeros((512, 32), np.float32)
take, given = threads.take, []
def watched(size):
    given.append(take(size))
    return given[-1]
threads.take = watched
def turn():
    assert (nk.rotate(x, cos, sin, pairing="half-split") == 2).all()
@numba.njit(parallel=True)
def loop():
    for _ in numba.prange(2):
        with numba.objmode():
            turn()
turn()
loop()
print(*given)
"""


def run(pool, *command, **environment):
    """What a module of tests prints by this pool of threads."""
    start, layer = POOLS[pool]
    done = subprocess.run(
        [sys.executable, *start, *command], capture_output=True, text=True, timeout=600,
        env={**os.environ, "NUMBA_THREADING_LAYER": layer, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


# Without GNU's OpenMP, loops of the user's on a workqueue end the process whoever else has loops: Numba says so.
@pytest.mark.parametrize("pool, loops", [("OpenMP", ["--loops"]), ("OpenMP beside a workqueue", ["--loops"]),
                                         ("omp", ["--loops"]), ("workqueue", [])])  # fmt: skip
def test_many_threads_rotate_at_once(pool, loops):
    assert ", 0 wrong" in run(pool, "tests.server", "--seconds", "3", *loops)


@pytest.mark.parametrize("way", ["after", "before", "inside"])
@pytest.mark.parametrize("pool", POOLS)
def test_children_rotate(pool, way):
    assert "children" in run(pool, "tests.forks", way)


def test_a_child_of_a_process_that_compiles_rotates(tmp_path):
    assert "children" in run("OpenMP", "tests.forks", "compiling", NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(torch.get_num_threads() == 1, reason="one core")
class TestThreads:
    @pytest.mark.parametrize("way", ["on_numpy", "on_torch"])
    @pytest.mark.parametrize("pool", ["OpenMP", "omp", "workqueue"])
    def test_there_are_several(self, pool, way):
        """Else the others could not fail."""
        given, started = run(pool, "tests.counted", way).split()
        assert int(given) > 1 and int(started) >= 1

    @pytest.mark.parametrize("way", ["numpy_told_by_torch", "told_by_torch", "told_in_another_thread",
                                     "told_without_short_path", "told_by_numba"])  # fmt: skip
    def test_one_is_told_by_a_call(self, way):
        assert run("OpenMP", "tests.counted", way).split() == ["1", "0"]

    @pytest.mark.parametrize("way", ["on_numpy", "on_torch"])
    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
    def test_one_is_told_by_the_environment(self, name, way):
        assert run("OpenMP", "tests.counted", way, **{name: "1"}).split() == ["1", "0"]

    @pytest.mark.parametrize("way", ["told_by_torch", "told_by_numba"])
    def test_one_is_told_without_openmp(self, way):
        assert run("workqueue", "tests.counted", way).split()[0] == "1"

    def test_one_within_a_loop_of_the_users(self):
        """Numba lets teams of OpenMP nest; torch, which would tell one thread there, is not at hand."""
        environment = {**os.environ, "NUMBA_THREADING_LAYER": "omp", "OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"}
        command = [sys.executable, "-c", LOOP]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == ["2", "1", "1"]
