"""Where and when a kernel runs: the device of its arrays, and the stream that its caller is on."""

import ctypes
import struct
from collections.abc import Iterable
from functools import cache
from typing import Any

from numba import cuda
from numba.cuda import types

from numba_kernels.cuda.arrays import DEFAULT, View, torch_stream
from numba_kernels.cuda.kernel import Form, compiled
from numba_kernels.cuda.memory import SIMULATED
from numba_kernels.cuda.plan import Launch

if not SIMULATED:
    from cuda.bindings import driver

OLDEST = (7, 0)  # compute capability


def place(views: list[View], torch: bool) -> tuple[int, int]:
    """The one device and the stream of these arrays, or ValueError.

    That stream is the current one of torch where x is a tensor; else the one that the arrays
    name, else the default. Nothing waits, so arrays of two streams are refused.
    """
    device, first = views[0].device, views[0].name
    stream = (f"the current stream of {first}", torch_stream(device)) if torch else None
    for view in views:
        if view.device != device:
            raise ValueError(f"{view.name} is on device {view.device}; expected {device}, as {first}")
        if view.stream is not None:
            stream = stream or (view.name, view.stream)
            if view.stream != stream[1]:
                raise ValueError(f"{view.name} is on stream {view.stream}; expected {stream[1]}, as {stream[0]}")
    if capability(device) < OLDEST:
        found, least = (".".join(map(str, c)) for c in (capability(device), OLDEST))
        raise ValueError(f"device {device} has compute capability {found}; expected at least {least}")
    return device, DEFAULT if stream is None else stream[1]


@cache
def capability(device: int) -> tuple[int, int]:
    """The compute capability of a device; the simulator can do all that is needed."""
    return OLDEST if SIMULATED else tuple(cuda.gpus[device].compute_capability)


def run(found: Launch, addresses: Iterable[int], epsilon: float, device: int, stream: int) -> None:
    """Start the kernel. It is given 64-bit numbers alone: no array is wrapped, nothing is copied or waited for."""
    numbers = list(found.numbers)
    for slot, address in zip(found.slots, addresses, strict=True):
        numbers[slot] = address
    if SIMULATED:
        compiled(found.form)[found.blocks, found.threads](tuple(numbers), epsilon)
        return
    function = entry(found.form, len(numbers), device)
    error, current = driver.cuCtxGetDevice()
    away = error != driver.CUresult.CUDA_SUCCESS or int(current) != device
    if away:  # on a new thread, or while another device is current
        done(*driver.cuCtxPushCurrent(context(device)))
    try:
        start(function, found, numbers, epsilon, 0 if stream == DEFAULT else stream)
    finally:
        if away:
            driver.cuCtxPopCurrent()


def start(function: Any, found: Launch, numbers: list[int], epsilon: float, stream: int) -> None:
    """Hand all numbers over as one block of memory, as they lie in it. Numba would convert them one by one."""
    block = packed(numbers, epsilon)
    size = ctypes.c_size_t(ctypes.sizeof(block))
    extra = (ctypes.c_void_p * 5)(1, ctypes.addressof(block), 2, ctypes.addressof(size), None)  # CU_LAUNCH_PARAM_...
    along, down = found.threads
    done(*driver.cuLaunchKernel(function, found.blocks, 1, 1, along, down, 1, 0, stream, 0, ctypes.addressof(extra)))


def packed(numbers: list[int], epsilon: float) -> ctypes.Array[ctypes.c_int64]:
    """64-bit integers and a double behind them."""
    return (ctypes.c_int64 * (len(numbers) + 1))(*numbers, *struct.unpack("q", struct.pack("d", epsilon)))


def done(error: Any, *_: Any) -> None:
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the rotation could not be started: {error.name}")


@cache
def entry(form: Form, count: int, device: int) -> Any:
    """The compiled kernel of a form on a device."""
    with cuda.gpus[device]:
        kernel = compiled(form).compile(types.void(types.UniTuple(types.int64, count), types.float64))
        return driver.CUfunction(int(kernel.library.get_cufunc().handle))


@cache
def context(device: int) -> Any:
    """The primary context of a device, which torch and others share."""
    error, found = driver.cuDevicePrimaryCtxRetain(device)
    done(error)
    return found
