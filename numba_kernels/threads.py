"""How work is split so that neither threads nor forks that rotate can kill the process.

Numba's workqueue layer aborts when two threads enter it, its OpenMP layer when a forked
child does. So one caller at a time runs in parallel, the others, and any forked child,
serially; the numbers are the same. What other compiled code of the same process does cannot be
seen from here: its own parallel loops beside a rotation, or before a fork that comes before
this import, meet the limits of the layer that Numba picked.
"""

import os
import threading

import numba

from numba_kernels import cpu
from numba_kernels.plan import Plan
from numba_kernels.strip import TAGS

SMALL = 1 << 15  # numbers; below this, waking threads costs more than they save

_entered = threading.Lock()
_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def run(kind: str, plan: Plan, x: int, out: int, cos: int, sin: int, index: int) -> bool:
    """Carry out the plan at these addresses; False, with nothing written, if an index is outside the tables."""
    tag = TAGS[kind]
    calls = [(plan.address, x + a, out + b, cos + c, sin + c, index and index + d) for a, b, c, d in plan.starts]
    if index and any(cpu.outside(plan.address, call[-1]) for call in calls):
        return False
    alone = plan.size < SMALL or _forked
    threads = 1 if alone else min(numba.get_num_threads(), plan.items)
    if threads > 1 and _entered.acquire(blocking=False):
        try:
            for call in calls:
                cpu.split(tag, *call, plan.items, threads)
        finally:
            _entered.release()
    else:
        for call in calls:
            cpu.span(tag, *call, 0, plan.items)
    return True
