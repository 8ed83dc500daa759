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
    """A kernel, alone or parallel, and its plan: called with what the kernel takes between plan and parts.

    size   numbers that it goes over, by which it is decided how many threads are worth waking
    """

    def __init__(self, kernel: Callable[[bool], Any], words: NDArray[np.int64], size: int) -> None:
        self.kernel, self.size = kernel, size
        self._words, self._plan = words, words.ctypes.data
        self._alone: Any = None
        self._together: Any = None

    def __call__(self, *given: float) -> None:
        if self.size >= 2 * SMALL and not _forked and (parts := min(self.size // SMALL, allowed())) > 1:
            if self._together is None:
                self._together = self.kernel(True)
            if self._together(self._plan, *given, parts, _lock.ctypes.data):
                return
        if self._alone is None:
            self._alone = self.kernel(False)
        self._alone(self._plan, *given, 1, 0)
