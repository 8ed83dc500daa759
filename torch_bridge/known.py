"""What was checked once is known again by its shapes, in compiled code.

A rotation is described by numbers alone: form, and of every tensor dtype, device, layout, sizes
and strides. Compiled code writes this description from the tensors, through the C functions of
torch whose names and arguments are kept stable for libraries built ahead of time, and looks it
up among those that were checked and planned before (see ``numba_kernels.layout`` and ``plan``).
Found, only addresses are left to check: that memory is there, as long as sizes and strides
reach, and that what is written is not read as something else. Not found, nothing is touched,
and the caller takes the path with all checks.
"""

import ctypes
from pathlib import Path
from typing import Any

import numpy as np
import torch
from llvmlite import binding
from numba import types
from numba.extending import intrinsic

from numba_kernels import cpu, kept
from numba_kernels.strip import ROOM, peek, poke, room
from numba_kernels.team import carry_out
from numba_kernels.vector import I64

# a slot of the store: these words, the plan, and the description, at most ROOM words of it
COUNT, ITEMS, KERNEL, SPANS, SIZES, PLAN = 0, 1, 2, 3, 7, 9
HEAD = PLAN + cpu.LENGTH
SLOTS, WORDS = 256, HEAD + ROOM

STORE = np.zeros(SLOTS * WORDS, np.int64)
PLACE = STORE.ctypes.data
MISSING: list[str] = []  # with any, nothing is known, and all takes the path with all checks


def _stable(name: str) -> Any:
    """A C function of torch: takes the address of a tensor and of its answer, returns 0 for success."""
    function = getattr(_LIBRARY, name, None)
    if function is None:
        MISSING.append(name)
    else:
        binding.add_symbol(name, ctypes.cast(function, ctypes.c_void_p).value)
    return types.ExternalFunction(name, types.int32(types.int64, types.int64))


_FILES = ("libtorch_cpu.so", "libtorch_cpu.dylib", "torch_cpu.dll")
_PATHS = (Path(torch.__file__).parent / "lib" / name for name in _FILES)
_LIBRARY = next((ctypes.CDLL(str(path)) for path in _PATHS if path.exists()), None)
dim_of, sizes_of, strides_of, dtype_of, device_of, layout_of, data_of, bytes_of, offset_of = (
    _stable(f"aoti_torch_get_{name}") for name in
    ("dim", "sizes", "strides", "dtype", "device_type", "layout", "data_ptr", "storage_size", "storage_offset")
)  # fmt: skip


@intrinsic
def let_go(typing: Any) -> Any:
    """Let other threads run Python; what `take_back` needs."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        return build.ptrtoint(context.get_python_api(build).save_thread(), I64)

    return types.int64(), emit


@intrinsic
def take_back(typing: Any, python: Any) -> Any:
    """Wait for Python's lock."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        api = context.get_python_api(build)
        api.restore_thread(build.inttoptr(args[0], api.voidptr))
        return context.get_dummy_value()

    return types.void(types.int64), emit


@kept.compiled()
def describe(words: int, count: int, tensor: int) -> int:
    """Append one tensor to the description; the new count, or -1 where there is no room or no answer."""
    handle, answer = room(), room()
    poke(handle, 0, tensor)
    poke(answer, 0, 0)
    if count < 0 or dim_of(handle, answer):
        return -1
    dim = peek(answer, 0)
    if count + 2 + 2 * dim > ROOM:
        return -1
    what = dim
    poke(answer, 0, 0)
    if dtype_of(handle, answer):
        return -1
    what = what << 8 | peek(answer, 0)
    if device_of(handle, answer):
        return -1
    what = what << 8 | peek(answer, 0)
    if layout_of(handle, answer):
        return -1
    poke(words, count, what << 8 | peek(answer, 0))
    if sizes_of(handle, answer):
        return -1
    sizes = peek(answer, 0)
    if strides_of(handle, answer):
        return -1
    strides = peek(answer, 0)
    for i in range(dim):
        poke(words, count + 1 + 2 * i, peek(sizes, i))
        poke(words, count + 2 + 2 * i, peek(strides, i))
    return int(count + 1 + 2 * dim)


@kept.compiled()
def begin(words: int, form: int, fresh: bool, cos: int, sin: int) -> int:
    """Describe what query and key share, out being fresh memory or x itself: the number of words, or -1."""
    poke(words, 0, form << 1 | fresh)
    return int(describe(words, describe(words, 1, cos), sin))


@kept.compiled()
def slot_of(words: int, count: int) -> int:
    """The slot in which a description is kept, if it is."""
    mixed = count
    for i in range(count):
        mixed = (mixed ^ peek(words, i)) * 0x9E3779B97F4A7C5
        mixed ^= mixed >> 29
    return int(mixed & (SLOTS - 1))


@kept.compiled()
def memory(tensor: int, span: int, size: int) -> int:
    """The address of the first number, or 0 unless `span` bytes from there on belong to its storage."""
    handle, answer = room(), room()
    poke(handle, 0, tensor)
    if bytes_of(handle, answer):
        return 0
    whole = peek(answer, 0)
    if offset_of(handle, answer) or peek(answer, 0) * size + span > whole or data_of(handle, answer):
        return 0
    return int(peek(answer, 0))


@kept.compiled()
def apart(a: int, a_span: int, b: int, b_span: int) -> bool:
    return a + a_span <= b or b + b_span <= a


@kept.compiled()
def known(store: int, call: int, loops: int, words: int, shared: int, x: int, out: int, cos: int, sin: int) -> bool:
    """Whether this rotation was planned and its memory is fit; then `call` is what the loops take, `loops` its plan.

    The plan is a copy, since another rotation may take the slot as soon as Python's lock is let go.
    """
    count = describe(words, shared, x)
    if count < 0:
        return False
    slot = store + slot_of(words, count) * (WORDS * 8)
    if peek(slot, COUNT) != count:
        return False
    for i in range(count):
        if peek(words, i) != peek(slot, HEAD + i):
            return False
    size, wide = peek(slot, SIZES), peek(slot, SIZES + 1)
    x_span, out_span = peek(slot, SPANS), peek(slot, SPANS + 1)
    cos_span, sin_span = peek(slot, SPANS + 2), peek(slot, SPANS + 3)
    a, c, s = memory(x, x_span, size), memory(cos, cos_span, wide), memory(sin, sin_span, wide)
    b = a if x == out else memory(out, out_span, size)
    if not (a and b and c and s and apart(b, out_span, c, cos_span) and apart(b, out_span, s, sin_span)):
        return False
    if x != out and not apart(a, x_span, b, out_span):
        return False
    for i in range(cpu.LENGTH):
        poke(loops, i, peek(slot, PLAN + i))
    poke(call, cpu.KERNEL, peek(slot, KERNEL))
    poke(call, cpu.PLAN, loops)
    poke(call, cpu.X, a)
    poke(call, cpu.OUT, b)
    poke(call, cpu.COS, c)
    poke(call, cpu.SIN, s)
    poke(call, cpu.INDEX, 0)
    poke(call, cpu.NORM, 0)
    poke(call, cpu.ITEMS, peek(slot, ITEMS))
    poke(call, cpu.FRESH, 1)  # or in place, where nothing streams either
    return True


@kept.compiled()
def turn(store: int, threads: int, team: int, form: int, cos: int, sin: int, x: int, out: int) -> bool:
    """Rotate x if this rotation is known, else touch nothing."""
    call, loops, words = room(), room(), room()
    if not known(store, call, loops, words, begin(words, form, x != out, cos, sin), x, out, cos, sin):
        return False
    python = let_go()
    carry_out(call, threads, team)
    take_back(python)
    return True


@kept.compiled()
def turn_both(
    store: int, threads: int, team: int, form: int, cos: int, sin: int, q: int, q_out: int, k: int, k_out: int
) -> bool:
    """Rotate query and key if both rotations are known, else touch nothing."""
    call, loops, then, others, words = room(), room(), room(), room(), room()
    shared = begin(words, form, q != q_out, cos, sin)
    if not known(store, call, loops, words, shared, q, q_out, cos, sin):
        return False
    if not known(store, then, others, words, shared, k, k_out, cos, sin):
        return False
    python = let_go()
    carry_out(call, threads, team)
    carry_out(then, threads, team)
    take_back(python)
    return True


@kept.compiled()
def enter(
    store: int, form: int, fresh: bool, x: int, cos: int, sin: int, plan: int, items: int, kernel: int,
    x_span: int, out_span: int, cos_span: int, sin_span: int, size: int, wide: int,
) -> int:  # fmt: skip
    """Write a rotation to its slot, whose number is returned, or -1."""
    words = room()
    count = describe(words, begin(words, form, fresh, cos, sin), x)
    if count < 0:
        return -1
    number: int = slot_of(words, count)
    slot = store + number * (WORDS * 8)
    head = (count, items, kernel, x_span, out_span, cos_span, sin_span, size, wide)
    for i in range(PLAN):
        poke(slot, i, head[i])
    for i in range(cpu.LENGTH):
        poke(slot, PLAN + i, peek(plan, i))
    for i in range(count):
        poke(slot, HEAD + i, peek(words, i))
    return number
