"""How work is split so that neither threads nor forks can kill the process.

Numba's workqueue layer aborts when two threads enter it, its OpenMP layer when a forked
child does. So one caller at a time runs in parallel, the others, and any forked child,
serially; the numbers are the same.
"""

import os
import threading

import numba

from numba_kernels import cpu

SMALL = 1 << 15  # numbers; below this, waking threads costs more than they save

_entered = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked, _entered
    _forked, _entered = True, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(x, cos, sin, index, start, interleaved, sign) -> None:
    """Rotate x (outer, rows, head_dim) in place, in parallel where that is safe and worth it."""
    threads = min(numba.get_num_threads(), x.shape[1])
    if threads > 1 and x.size >= SMALL and not _forked and _entered.acquire(blocking=False):
        try:
            cpu.split(x, cos, sin, index, start, interleaved, sign, threads)
        finally:
            _entered.release()
    else:
        cpu.span(x, cos, sin, index, start, interleaved, sign, 0, x.shape[1])
