"""Hostile calls in a process that a byte out of place would end; more of them by python -m tests.numba_kernels.fuzz."""

import subprocess
import sys

import pytest


@pytest.mark.in_turn
@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_hostile_calls_are_right_or_refused(seed):
    command = [sys.executable, "-m", "tests.numba_kernels.fuzz", "--calls", "1000", "--seed", str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout.strip().endswith("calls")
