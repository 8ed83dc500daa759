"""Small rotations straight from tensors to the loops: what was checked once is known again by its shapes.

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
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from numba_kernels import plan
from numba_kernels.cpu import span
from numba_kernels.strip import TAGS, peek
from numba_kernels.threads import SMALL

I64 = ir.IntType(64)
KINDS = {torch.float64: "float64", torch.float32: "float32", torch.float16: "float16", torch.bfloat16: "bfloat16"}

# a slot of the store: these words, then the description, at most ROOM words of it
COUNT, PLAN, ITEMS, KIND, SPANS, SIZES, HEAD = 0, 1, 2, 3, 4, 8, 10
ROOM, SLOTS = 54, 256
WORDS = HEAD + ROOM

STORE = np.zeros(SLOTS * WORDS, np.int64)
PLACE = STORE.ctypes.data
TAG = {dtype: (TAGS[kind], PLACE, number) for number, (dtype, kind) in enumerate(KINDS.items())}
KEPT: dict[int, plan.Plan] = {}  # by slot: the store holds addresses alone


def _stable(name: str) -> Any:
    """A C function of torch: takes the address of a tensor and of its answer, returns 0 for success."""
    function = getattr(_LIBRARY, name, None)
    if function is None:
        TAG.clear()  # a torch without it: nothing is known, all takes the path with all checks
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
def room(typing: Any) -> Any:
    """The address of ROOM 64-bit integers that last as long as the call."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        return build.ptrtoint(cgutils.alloca_once(build, ir.ArrayType(I64, ROOM)), I64)

    return types.int64(), emit


@intrinsic
def poke(typing: Any, address: Any, place: Any, value: Any) -> Any:
    """Write the 64-bit integer at `place` of the array at `address`."""

    def emit(context: Any, build: Any, signature: Any, args: Any) -> Any:
        at = build.add(args[0], build.mul(args[1], ir.Constant(I64, 8)))
        build.store(args[2], build.inttoptr(at, I64.as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), emit


@njit(cache=True)
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


@njit(cache=True)
def rotation(words: int, form: int, x: int, out: int, cos: int, sin: int) -> int:
    """Describe a rotation: the number of words, or -1."""
    poke(words, 0, form << 1 | (x == out))
    count = 1
    for tensor in (x, out, cos, sin):
        count = describe(words, count, tensor)
    return int(count)


@njit(cache=True)
def slot_of(words: int, count: int) -> int:
    """The slot in which a description is kept, if it is."""
    mixed = count
    for i in range(count):
        mixed = (mixed ^ peek(words, i)) * 0x9E3779B97F4A7C5
        mixed ^= mixed >> 29
    return int(mixed & (SLOTS - 1))


@njit(cache=True)
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


@njit(cache=True)
def apart(a: int, a_span: int, b: int, b_span: int) -> bool:
    return a + a_span <= b or b + b_span <= a


@njit(cache=True)
def known(store: int, ready: int, kind: int, form: int, x: int, out: int, cos: int, sin: int) -> bool:
    """Whether this rotation was planned and its memory is fit; then `ready` is what the loops take."""
    words = room()
    count = rotation(words, form, x, out, cos, sin)
    if count < 0:
        return False
    slot = store + slot_of(words, count) * (WORDS * 8)
    if peek(slot, COUNT) != count or peek(slot, KIND) != kind:
        return False
    for i in range(count):
        if peek(words, i) != peek(slot, HEAD + i):
            return False
    size, wide = peek(slot, SIZES), peek(slot, SIZES + 1)
    x_span, out_span = peek(slot, SPANS), peek(slot, SPANS + 1)
    cos_span, sin_span = peek(slot, SPANS + 2), peek(slot, SPANS + 3)
    a, b = memory(x, x_span, size), memory(out, out_span, size)
    c, s = memory(cos, cos_span, wide), memory(sin, sin_span, wide)
    if not (a and b and c and s and apart(b, out_span, c, cos_span) and apart(b, out_span, s, sin_span)):
        return False
    if x != out and not apart(a, x_span, b, out_span):
        return False
    poke(ready, 0, peek(slot, PLAN))
    poke(ready, 1, a)
    poke(ready, 2, b)
    poke(ready, 3, c)
    poke(ready, 4, s)
    poke(ready, 5, peek(slot, ITEMS))
    return True


@njit(cache=True)
def go(tag: Any, ready: int) -> None:
    span(tag, peek(ready, 0), peek(ready, 1), peek(ready, 2), peek(ready, 3), peek(ready, 4), 0, 0, peek(ready, 5))


@njit(cache=True)
def turn(tag: Any, store: int, kind: int, form: int, x: int, out: int, cos: int, sin: int) -> bool:
    """Rotate x if this rotation is known, else touch nothing."""
    ready = room()
    if not known(store, ready, kind, form, x, out, cos, sin):
        return False
    go(tag, ready)
    return True


@njit(cache=True)
def turn_both(
    tag: Any, store: int, kind: int, form: int, q: int, q_out: int, k: int, k_out: int, cos: int, sin: int
) -> bool:
    """Rotate query and key if both rotations are known, else touch nothing."""
    ready, then = room(), room()
    if not (known(store, ready, kind, form, q, q_out, cos, sin) and known(store, then, kind, form, k, k_out, cos, sin)):
        return False
    go(tag, ready)
    go(tag, then)
    return True


@njit(cache=True)
def enter(
    store: int, form: int, x: int, out: int, cos: int, sin: int, plan: int, items: int, kind: int,
    x_span: int, out_span: int, cos_span: int, sin_span: int, size: int, wide: int,
) -> int:  # fmt: skip
    """Write a rotation to its slot, whose number is returned, or -1."""
    words = room()
    count = rotation(words, form, x, out, cos, sin)
    if count < 0:
        return -1
    number: int = slot_of(words, count)
    slot = store + number * (WORDS * 8)
    head = (count, plan, items, kind, x_span, out_span, cos_span, sin_span, size, wide)
    for i in range(HEAD):
        poke(slot, i, head[i])
    for i in range(count):
        poke(slot, HEAD + i, peek(words, i))
    return number


# --- from Python


def code(pairing: str, start: int, inverse: bool) -> int:
    """The form as one number, -1 for what cannot be one."""
    if type(start) is not int or not 0 <= start < 1 << 32 or type(inverse) is not bool or pairing not in plan.PAIRINGS:
        return -1
    return (pairing == "interleaved") | inverse << 1 | start << 2


def rotated(x: Tensor, cos: Tensor, sin: Tensor, form: int) -> Tensor | None:
    """The rotation of x if it is known, in a new tensor."""
    key = TAG.get(x.dtype)
    if key is None or not small(x):
        return None
    out = fresh(x)
    return out if turn(*key, form, x._cdata, out._cdata, cos._cdata, sin._cdata) else None


def rotated_(x: Tensor, cos: Tensor, sin: Tensor, form: int) -> bool:
    """Rotate x in place if that is known, else touch nothing."""
    key = TAG.get(x.dtype)
    return key is not None and turn(*key, form, x._cdata, x._cdata, cos._cdata, sin._cdata)


def rotated_qk(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, form: int) -> tuple[Tensor, Tensor] | None:
    """The rotations of query and key if both are known."""
    tag = TAG.get(query.dtype)
    if tag is None or not (small(query) and small(key)):
        return None
    q, k = fresh(query), fresh(key)
    found = turn_both(*tag, form, query._cdata, q._cdata, key._cdata, k._cdata, cos._cdata, sin._cdata)
    return (q, k) if found else None


def small(x: Tensor) -> bool:
    return x.numel() < SMALL and x.is_cpu and x.layout is torch.strided


def fresh(x: Tensor) -> Tensor:
    """Contiguous memory of x's shape."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)  # else steps of axes of size 1 are kept


def remember(x: Tensor, out: Tensor, cos: Tensor, sin: Tensor, pairing: str, start: int, inverse: bool) -> None:
    """Plan a rotation that passed all checks, unless it is one for several threads or needs copies."""
    tensors, form = (x, out, cos, sin), code(pairing, start, inverse)
    dense = all(t.stride(-1) == 1 or t.shape[-1] == 1 for t in tensors)
    fits = 0 < x.numel() < SMALL and cos.numel() > 0 and dense and cos.stride() == sin.stride()
    if form < 0 or x.dtype not in TAG or not fits:
        return
    steps = [tuple(s * t.itemsize for s in t.stride()) for t in tensors]
    loops = plan.make(
        KINDS[x.dtype], pairing, start, inverse, x is out, tuple(x.shape), steps[0], tuple(out.shape), steps[1],
        tuple(cos.shape), tuple(sin.shape), steps[2], None,
    )  # fmt: skip
    if len(loops.starts) > 1:
        return
    spans = [sum(s * (n - 1) for s, n in zip(b, t.shape, strict=True)) + t.itemsize
             for b, t in zip(steps, tensors, strict=True)]  # fmt: skip
    addresses = (t._cdata for t in tensors)
    slot = enter(PLACE, form, *addresses, loops.address, loops.items, TAG[x.dtype][2], *spans, x.itemsize, cos.itemsize)
    if slot >= 0:
        KEPT[slot] = loops
