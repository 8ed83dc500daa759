"""What a server does: many threads, forks at any time, and a say in how many threads there are.

Each in a process of its own, which may die or hang, by each layer of Numba's; but for tbb, which few machines have.
"""

import os
import subprocess
import sys

import pytest
import torch

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks, and counts threads as Linux does")
LAYERS = ["omp", "workqueue"]


def run(layer, *command, **environment):
    """What a module of tests prints where Numba's threads are of this layer."""
    done = subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=600,
        env={**os.environ, "NUMBA_THREADING_LAYER": layer, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


@pytest.mark.in_turn
# Loops of the user's own on a workqueue end the process if anybody else has a loop: Numba says so.
@pytest.mark.parametrize("layer, loops", [("omp", ["--loops"]), ("workqueue", [])])
def test_many_threads_rotate_at_once(layer, loops):
    printed = run(layer, "tests.numba_kernels.server", "--seconds", "3", *loops)
    assert ", 0 wrong" in printed and layer in printed


@pytest.mark.in_turn
@pytest.mark.parametrize("way", ["after", "before", "inside", "freeing"])
@pytest.mark.parametrize("layer", LAYERS)
def test_children_rotate(layer, way):
    assert "children" in run(layer, "tests.numba_kernels.forks", way)


def test_a_child_of_a_process_that_compiles_rotates(tmp_path):
    assert "children" in run("omp", "tests.numba_kernels.forks", "compiling", NUMBA_CACHE_DIR=str(tmp_path))


@pytest.mark.skipif(torch.get_num_threads() == 1, reason="one core")
class TestThreads:
    @pytest.mark.parametrize("way", ["on_numpy", "on_torch"])
    @pytest.mark.parametrize("layer", LAYERS)
    def test_there_are_several(self, layer, way):
        """Else the others could not fail."""
        given, started = run(layer, "tests.numba_kernels.counted", way).split()
        assert int(given) > 1 and int(started) >= 1

    @pytest.mark.in_turn
    @pytest.mark.parametrize("way", ["numpy_told_by_torch", "told_by_torch", "told_in_another_thread",
                                     "told_by_the_operators", "told_by_numba"])  # fmt: skip
    @pytest.mark.parametrize("layer", LAYERS)
    def test_one_is_told_by_a_call(self, layer, way):
        assert run(layer, "tests.numba_kernels.counted", way).split() == ["1", "0"]

    @pytest.mark.parametrize("way", ["on_numpy", "on_torch"])
    @pytest.mark.parametrize("name", ["OMP_NUM_THREADS", "NUMBA_NUM_THREADS"])
    def test_one_is_told_by_the_environment(self, name, way):
        assert run("omp", "tests.numba_kernels.counted", way, **{name: "1"}).split() == ["1", "0"]

    def test_within_a_loop_of_the_users(self):
        """By OpenMP, where loops may stand in loops; in a workqueue they end the process, as Numba says."""
        assert int(run("omp", "tests.numba_kernels.counted", "in_a_loop_of_the_users").split()[0]) > 1
