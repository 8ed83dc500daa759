"""How work is split so that neither threads nor forks that rotate can kill the process.

OpenMP does not survive a fork, Numba's workqueue layer not two threads that enter it. So one
caller at a time runs in parallel, the others, and any forked child, alone; the numbers are
the same. A fork waits for what is being compiled, whose lock would never open in the child. A child
whose parent used OpenMP before this module was imported by either is beyond what can be seen
from here, unless ``multiprocessing`` started it.
"""

import multiprocessing
import os
import threading
from collections.abc import Callable

from numba.core.compiler_lock import global_compiler_lock

from numba_kernels import cpu, team
from numba_kernels.plan import Plan

SMALL = 1 << 15  # numbers for each thread; with less, waking it costs more than it saves

told: Callable[[], int] = team.told  # the bridge puts torch's in its place, which threads that are new know too
_entered = threading.Lock()
_forked = multiprocessing.parent_process() is not None and multiprocessing.get_start_method() == "fork"


def _in_child() -> None:
    global _forked
    _forked = True
    global_compiler_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire, after_in_parent=global_compiler_lock.release, after_in_child=_in_child
    )


def take(size: int) -> int:
    """How many threads may share `size` numbers; if several, nobody else is given any until `leave`.

    Nobody is asked in vain: in a child, Numba would start threads to answer.
    """
    if size < 2 * SMALL or _forked:
        return 1
    threads = min(size // SMALL, told())
    threads = min(threads, team.most()) if threads > 1 else 1
    return threads if threads > 1 and _entered.acquire(blocking=False) else 1


def leave(threads: int) -> None:
    if threads > 1:
        _entered.release()


def run(kind: str, plan: Plan, fresh: bool, norm: int, x: int, out: int, cos: int, sin: int, index: int) -> bool:
    """Carry out the plan at these addresses; False, with nothing written, if an index is outside the tables.

    norm  the address of weights, or 0 where nothing is normalised
    """
    calls = [(x + a, out + b, cos + c, sin + c, index and index + d) for a, b, c, d in plan.starts]
    if index and any(cpu.outside(plan.address, call[-1]) for call in calls):
        return False
    kernel = cpu.kernel(kind, norm != 0)
    threads = take(plan.size)
    try:
        for call in calls:
            team.run(kernel, plan.address, *call, norm, plan.items, fresh, threads, team.TEAM)
    finally:
        leave(threads)
    return True
