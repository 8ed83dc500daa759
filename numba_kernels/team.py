"""Several threads on one call, of the pool that torch and other OpenMP programs of this process use.

Two pools would fight for the same cores: threads of one still spin, waiting for more, when the other
begins. So GNU's OpenMP is entered directly where it is found, which also spares the compiler the
machinery of a parallel loop; elsewhere Numba's own loop serves.
"""

import ctypes
from typing import Any

import numba
from llvmlite import binding, ir
from numba import cfunc, njit, prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from numba_kernels.cpu import COS, FRESH, INDEX, ITEMS, KERNEL, NORM, OUT, PLAN, SIN, X
from numba_kernels.strip import poke, room
from numba_kernels.vector import I64

NAMES = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads", "omp_get_max_threads")


def _openmp() -> Any:
    """The library under the name that torch asks for, so that both get the same one."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
        for name in NAMES:
            binding.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    except (OSError, AttributeError):
        return None
    return library


OPENMP = _openmp()
_begin = types.ExternalFunction(NAMES[0], types.void(types.int64, types.int64, types.uint32, types.uint32))
_number, _count = (types.ExternalFunction(name, types.int32()) for name in NAMES[1:3])


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
    MEMBER = cfunc(types.void(types.int64), cache=True)(_member)

    @njit(cache=True, nogil=True)
    def together(call: int, threads: int, member: int) -> None:
        """Carry out a call by as many threads at once."""
        _begin(member, call, threads, 0)

    TEAM = MEMBER.address
else:
    TEAM = 0

    @njit(cache=True, nogil=True, parallel=True)
    def together(call: int, threads: int, member: int) -> None:
        """Carry out a call by as many threads at once."""
        for number in prange(threads):
            work(call, number, threads)


@njit(cache=True, nogil=True)
def carry_out(call: int, threads: int, member: int) -> None:
    if threads > 1:
        together(call, threads, member)
    else:
        work(call, 0, 1)


@njit(cache=True, nogil=True)
def run(
    kernel: int, plan: int, x: int, out: int, cos: int, sin: int, index: int, norm: int, items: int, fresh: int,
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
    poke(call, NORM, norm)
    poke(call, ITEMS, items)
    poke(call, FRESH, fresh)
    carry_out(call, threads, member)


def most() -> int:
    """How many threads Numba was told to use at most; asked any earlier than by others, it would start some."""
    begun = parallel._is_initialized or not OPENMP
    return int(numba.get_num_threads() if begun else numba.config.NUMBA_NUM_THREADS)


def told() -> int:
    """How many threads OpenMP was told to use, by torch or by the environment."""
    return int(OPENMP.omp_get_max_threads()) if OPENMP else most()
