"""What the first call of all costs, what it costs a process that finds its kernels compiled, and the import."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial

import numpy as np

from rope_ref.pairing import PAIRINGS
from torch_bridge.bench.cases import DTYPES
from torch_bridge.bench.rows import Job, Row, Section, Wrong
from torch_bridge.bench.timing import Effort, figure

PROCESSES = 5
NOTES = """\
Seconds of torch_bridge.rotate at its first call in a process: "ever" with an empty folder for Numba's cache, so that
kernels are compiled, "again" in the next process, which finds them. The import is that of torch_bridge after torch."""
FIRST = """
import time, torch, torch_bridge
x, cos, sin = torch.ones(1, 8, 16, 64, dtype=torch.{dtype}), torch.zeros(16, 32), torch.ones(16, 32)
begin = time.perf_counter()
y = torch_bridge.rotate(x, cos, sin, pairing="{pairing}")
taken = time.perf_counter() - begin
assert (y.sum(), y.abs().sum()) == (0, y.numel()), "a turn of 90 degrees makes -1 and 1 of all pairs (1, 1)"
print(taken)
"""
IMPORT = """
import time, torch
begin = time.perf_counter()
import torch_bridge
print(time.perf_counter() - begin)
"""


def start(quick: bool) -> Section:
    dtypes, pairings = (DTYPES[:1], PAIRINGS[:1]) if quick else (DTYPES, PAIRINGS)
    jobs = [Job(f"first call {dtype} {pairing}", partial(first, dtype, pairing))
            for dtype in dtypes for pairing in pairings]  # fmt: skip
    return Section("First call and import", NOTES, [*jobs, Job("import", importing)])


def first(dtype: str, pairing: str, effort: Effort) -> Sequence[Row]:
    with tempfile.TemporaryDirectory() as folder:
        seconds = [run(FIRST.format(dtype=dtype, pairing=pairing), NUMBA_CACHE_DIR=folder) for _ in range(2)]
    return row(f"{dtype} {pairing}", {"ever": seconds[:1], "again": seconds[1:]})


def importing(effort: Effort) -> Sequence[Row]:
    run(IMPORT)
    return row("import torch_bridge", {"import": [run(IMPORT) for _ in range(PROCESSES)]})


def row(what: str, seconds: dict[str, Sequence[float]]) -> Sequence[Row]:
    return [Row({"what": what}, {name: figure(np.array(taken), "s") for name, taken in seconds.items()})]


def run(program: str, **environment: str) -> float:
    """The number that a program prints, where packages are found as they are here. Raises Wrong if it fails."""
    words = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path), **environment}
    done = subprocess.run([sys.executable, "-c", program], env=words, capture_output=True, text=True)
    if done.returncode:
        raise Wrong(f"a process that measures the start failed: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])
