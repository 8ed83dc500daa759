"""The same bits from a kernel that is compiled for this machine and from one for any."""

import os
import subprocess
import sys

import pytest


@pytest.mark.in_turn
def test_code_for_any_machine_gives_the_bits_of_code_for_this_one(tmp_path):
    """Where this one has instructions for float16 and wide vectors, the other has bit arithmetic and narrow ones."""
    lines = []
    for name in ("generic", ""):
        environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CACHE_DIR": str(tmp_path)}
        environment = {key: value for key, value in environment.items() if value}
        command = [sys.executable, "-m", "tests.numba_kernels.bits"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, done.stderr
        lines.append(done.stdout.splitlines())
    assert lines[0] == lines[1] and len(lines[0]) > 200
    digests = [file.name.rpartition("-")[0].rpartition("-")[2] for file in tmp_path.rglob("*.nbc")]
    assert len(digests) == 2 * digests.count(digests[0])  # as many for either: it was two machines' code
