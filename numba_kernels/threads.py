"""How work is split so that neither threads nor forks that rotate can kill the process.

Numba's threads serve one caller at a time, and are not there in a forked child: OpenMP does not survive a fork,
Numba's own layer not two threads that enter it. So one caller at a time runs in parallel, the others, and any
forked child, alone; the numbers are the same. Compiled code takes and gives back the lock, so that no exception of
Python's can leave it taken. Beyond what can be seen from here: a child whose parent used OpenMP before this module was
imported by either, unless ``multiprocessing`` started it; and a rotation within a parallel loop of the user's own,
which is safe where Numba has OpenMP, and ends the process on its workqueue.
"""

import multiprocessing
import os
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

from numba_kernels import cpu

SMALL = 1 << 15  # numbers for each thread; with less, waking it costs more than it saves

allowed: Callable[[], int] = numba.get_num_threads  # the bridge adds what torch was told
_lock = np.zeros(1, np.int64)  # 1 while somebody runs in parallel
_forked = multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "fork"


def _in_child() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Loops:
    """A kernel and its plan: called with addresses, it turns the rows that lie there."""

    def __init__(self, form: cpu.Form, words: NDArray[np.int64], size: int) -> None:
        self.form, self.size = form, size
        self._words, self._plan = words, words.ctypes.data
        self._alone: Any = None
        self._together: Any = None

    def __call__(
        self, x: int, out: int, cos: int, sin: int, index: int = 0, weight: int = 0, epsilon: float = 0.0
    ) -> None:
        if self.size >= 2 * SMALL and not _forked and (parts := min(self.size // SMALL, allowed())) > 1:
            if self._together is None:
                self._together = cpu.kernel(self.form, True)
            if self._together(self._plan, x, out, cos, sin, index, weight, epsilon, parts, _lock.ctypes.data):
                return
        if self._alone is None:
            self._alone = cpu.kernel(self.form, False)
        self._alone(self._plan, x, out, cos, sin, index, weight, epsilon, 1, 0)
