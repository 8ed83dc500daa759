"""Several threads on one call, of the pool that torch and other OpenMP programs of this process use.

Two pools would fight for the same cores: threads of one still spin, waiting for more, when the other
begins. So GNU's OpenMP is entered directly where it is found, which also spares the compiler the
machinery of a parallel loop; elsewhere Numba's own loop serves. Either is compiled, or loaded, only once it is
to run: waking the compiler takes 0.1 s, and Numba's loop without its threads would end the process.
"""

import ctypes
from typing import Any

import numba
import numpy as np
from llvmlite import binding, ir
from numba import prange, types
from numba.extending import intrinsic
from numba.np.ufunc import parallel

from numba_kernels import kept
from numba_kernels.cpu import COS, FRESH, INDEX, ITEMS, KERNEL, NORM, OUT, PLAN, SIN, X
from numba_kernels.strip import peek, poke, room
from numba_kernels.vector import I64

NAMES = ("omp_get_thread_num", "omp_get_num_threads")
BEGIN, MEMBER = 0, 1  # in TEAM: GOMP_parallel or what stands for it, and what each thread of a team begins with
TEAM_WORDS = np.zeros(2, np.int64)
TEAM = TEAM_WORDS.ctypes.data


def _openmp() -> Any:
    """The library under the name that torch asks for, so that both get the same one."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
        for name in NAMES:
            binding.add_symbol(name, _pointer(getattr(library, name)))
        TEAM_WORDS[BEGIN] = _pointer(library.GOMP_parallel)
    except (OSError, AttributeError):
        return None
    return library


def _pointer(function: Any) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0


OPENMP = _openmp()
_number, _count = (types.ExternalFunction(name, types.int32()) for name in NAMES)


def _called(pointer: Any, kinds: list[ir.Type], build: Any, args: Any) -> None:
    build.call(build.inttoptr(pointer, ir.FunctionType(ir.VoidType(), kinds).as_pointer()), args)


@intrinsic
def work(typing: Any, call: Any, number: Any, parts: Any) -> Any:
    """One of several parts of a call, by the kernel it names."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        kernel = build.load(build.inttoptr(args[0], I64.as_pointer()))  # KERNEL, the first word
        _called(kernel, [I64] * 3, build, args)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@intrinsic
def together(typing: Any, begin: Any, member: Any, call: Any, threads: Any) -> Any:
    """Carry out a call by as many threads at once."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        number = ir.IntType(32)
        whole = [*args[1:3], build.trunc(args[3], number), ir.Constant(number, 0)]
        _called(args[0], [I64, I64, number, number], build, whole)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64), emit


def _member(call: int) -> None:
    work(call, _number(), _count())  # a team may be smaller than was asked for


def _loop(member: int, call: int, threads: int, flags: int) -> None:
    for number in prange(threads):
        work(call, np.int64(number), np.int64(threads))


@kept.compiled(nogil=True)
def carry_out(call: int, threads: int, team: int) -> None:
    if threads > 1:
        together(peek(team, BEGIN), peek(team, MEMBER), call, threads)
    else:
        work(call, 0, 1)


@kept.compiled(nogil=True)
def run(
    kernel: int, plan: int, x: int, out: int, cos: int, sin: int, index: int, norm: int, items: int, fresh: int,
    threads: int, team: int,
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
    carry_out(call, threads, team)


def most() -> int:
    """How many threads Numba was told to use at most; asked any earlier than by others, it would start some.

    Within a parallel region of OpenMP, where Numba allows others to be nested, every core is at work already.
    """
    if OPENMP:
        if not TEAM_WORDS[MEMBER]:
            TEAM_WORDS[MEMBER] = kept.address(_member, types.void(types.int64))
        begun = parallel._is_initialized
        allowed = numba.get_num_threads() if begun else numba.config.NUMBA_NUM_THREADS
        return 1 if OPENMP.omp_in_parallel() else int(allowed)
    allowed = numba.get_num_threads()
    if not TEAM_WORDS[BEGIN]:
        begin = types.void(types.int64, types.int64, types.uint32, types.uint32)
        TEAM_WORDS[BEGIN] = kept.address(_loop, begin, parallel=True)
    return int(allowed)


def told() -> int:
    """How many threads OpenMP was told to use, by others in this thread or by the environment."""
    return int(OPENMP.omp_get_max_threads()) if OPENMP else most()
