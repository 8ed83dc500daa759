"""Where and when a kernel runs: the device of its arrays, and the stream that its caller is on."""

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any

from numba import cuda

from numba_kernels.cuda.arrays import DEFAULT, View, torch_stream
from numba_kernels.cuda.kernel import compiled
from numba_kernels.cuda.memory import SIMULATED
from numba_kernels.cuda.plan import Launch

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


@lru_cache(maxsize=256)
def _stream(device: int, stream: int) -> Any:
    return 0 if SIMULATED or stream == DEFAULT else cuda.external_stream(stream)


def run(found: Launch, addresses: Iterable[int], epsilon: float, device: int, stream: int) -> None:
    """Start the kernel. It is given 64-bit numbers alone: no array is wrapped, nothing is copied or waited for."""
    numbers = list(found.numbers)
    for slot, address in zip(found.slots, addresses, strict=True):
        numbers[slot] = address
    if SIMULATED or cuda.current_context().device.id == device:
        compiled(found.form)[found.blocks, found.threads, _stream(device, stream)](tuple(numbers), epsilon)
    else:
        with cuda.gpus[device]:
            compiled(found.form)[found.blocks, found.threads, _stream(device, stream)](tuple(numbers), epsilon)
