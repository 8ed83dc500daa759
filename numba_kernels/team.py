"""Several threads on one call, of the pool that torch and other OpenMP programs of this process use.

Two pools would fight for the same cores: threads of one still spin, waiting for more, when the other
begins. So GNU's OpenMP is entered directly where it is found, which also spares the compiler the
machinery of a parallel loop; elsewhere Numba's own loop serves.
"""

from typing import Any

import numba
from llvmlite import ir
from numba import prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from numba_kernels import kept
from numba_kernels.cpu import COS, FRESH, INDEX, ITEMS, KERNEL, OUT, PLAN, SIN, X
from numba_kernels.openmp import NAMES, OPENMP
from numba_kernels.strip import I64, poke, room

_begin = types.ExternalFunction(NAMES[0], types.void(types.int64, types.int64, types.uint32, types.uint32))
_number, _count = (types.ExternalFunction(name, types.int32()) for name in NAMES[1:])


@intrinsic
def work(typing: Any, call: Any, number: Any, parts: Any) -> Any:
    """One of several parts of a call, by the kernel it names."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        kernel = build.load(build.inttoptr(args[0], I64.as_pointer()))  # KERNEL, the first word
        build.call(build.inttoptr(kernel, ir.FunctionType(ir.VoidType(), [I64] * 3).as_pointer()), args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


def _member(call: int) -> None:
    work(call, _number(), _count())  # a team may be smaller than was asked for


if OPENMP:
    TEAM = kept.address(_member)

    @kept.compiled(nogil=True)
    def together(call: int, threads: int, member: int) -> None:
        """Carry out a call by as many threads at once."""
        _begin(member, call, threads, 0)

else:
    TEAM = 0

    @kept.compiled(nogil=True, parallel=True)
    def together(call: int, threads: int, member: int) -> None:
        """Carry out a call by as many threads at once."""
        for number in prange(threads):
            work(call, number, threads)


@kept.compiled(nogil=True)
def carry_out(call: int, threads: int, member: int) -> None:
    if threads > 1:
        together(call, threads, member)
    else:
        work(call, 0, 1)


@kept.compiled(nogil=True)
def run(
    kernel: int, plan: int, x: int, out: int, cos: int, sin: int, index: int, items: int, fresh: int,
    threads: int, member: int,
) -> None:  # fmt: skip
    """Carry out a plan at these addresses."""
    call = room()
    poke(call, KERNEL, kernel)
    poke(call, PLAN, plan)
    poke(call, X, x)
    poke(call, OUT, out)
    poke(call, COS, cos)
    poke(call, SIN, sin)
    poke(call, INDEX, index)
    poke(call, ITEMS, items)
    poke(call, FRESH, fresh)
    carry_out(call, threads, member)


def most() -> int:
    """How many threads Numba was told to use at most; asked any earlier than by others, it would start some.

    Within a parallel region of OpenMP, where Numba allows others to be nested, every core is at work already.
    """
    if OPENMP and OPENMP.omp_in_parallel():
        return 1
    begun = parallel._is_initialized or not OPENMP
    return int(numba.get_num_threads() if begun else numba.config.NUMBA_NUM_THREADS)


def told() -> int:
    """How many threads OpenMP was told to use, by others in this thread or by the environment."""
    return int(OPENMP.omp_get_max_threads()) if OPENMP else most()
