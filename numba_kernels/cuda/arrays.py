"""What an array on a device is: its address, shape, steps, dtype, device and stream, whoever made it.

On the simulator the host's memory stands for the device's: tensors of the CPU are taken there.
"""

import math
import sys
from functools import reduce
from operator import or_
from typing import Any, NamedTuple

import numpy as np

from numba_kernels.cuda.memory import SIMULATED

HERE = "cpu" if SIMULATED else "cuda"  # what torch calls the place where kernels run
DEFAULT = 1  # the number of the default stream
Ints = tuple[int, ...]


class View(NamedTuple):
    """Memory on a device."""

    name: str  # of the argument
    address: int
    shape: Ints
    steps: Ints  # in bytes
    dtype: str  # as NumPy and torch name it
    itemsize: int
    device: int
    stream: int | None  # that its last writes were put on, where its maker says so
    readonly: bool


def view(name: str, array: Any) -> View:
    """The memory of anything with ``__cuda_array_interface__`` or DLPack, or TypeError."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _of_torch(name, array, torch)
    if SIMULATED and type(array).__name__ == "FakeCUDAArray":
        interface = array._ary.__array_interface__
    else:
        interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None and torch is not None and hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray):
        moved = _of_torch(name, torch.from_dlpack(array), torch)  # which waits, on its stream, for the maker's
        return moved._replace(stream=torch_stream(moved.device))
    if interface is None:
        raise TypeError(f"{name} is a {type(array).__name__}; expected an array in the memory of a CUDA device")
    if interface.get("mask") is not None:
        raise TypeError(f"{name} is masked; expected an array without a mask")
    stored, shape, (address, readonly) = interface["typestr"], tuple(interface["shape"]), interface["data"]
    dtype = "bfloat16" if stored[1:] == "V2" else np.dtype(stored).name if np.dtype(stored).isnative else stored
    size, steps = int(stored[2:]), interface.get("strides")
    if steps is None:  # C order
        steps = (size * math.prod(shape[i + 1 :]) for i in range(len(shape)))
    address, stream = address or 0, interface.get("stream")
    return View(name, address, shape, tuple(steps), dtype, size, _device(address), stream, bool(readonly))


def _of_torch(name: str, tensor: Any, torch: Any) -> View:
    if tensor.device.type != HERE:
        raise TypeError(f"{name} is on {tensor.device}; expected a CUDA device")
    if tensor.layout != torch.strided or tensor.is_neg() or tensor.is_conj():
        raise TypeError(f"{name} is sparse or lazily negated; expected plain memory")
    if tensor.requires_grad and torch.is_grad_enabled():
        raise TypeError(f"{name} needs gradients; expected torch_bridge.rotate, or a detached tensor")
    size, device = tensor.element_size(), tensor.device.index or 0
    steps = tuple(size * step for step in tensor.stride())
    dtype = str(tensor.dtype).removeprefix("torch.")
    return View(name, tensor.data_ptr(), tuple(tensor.shape), steps, dtype, size, device, None, False)


def torch_stream(device: int) -> int:
    """torch's current stream; the default one is 1, as in ``__cuda_array_interface__``."""
    return DEFAULT if SIMULATED else sys.modules["torch"].cuda.current_stream(device).cuda_stream or DEFAULT


def _device(address: int) -> int:
    """The number of the device that memory belongs to."""
    if SIMULATED or not address:
        return 0
    from cuda.bindings import driver

    wanted = driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
    error, device = driver.cuPointerGetAttribute(wanted, address)
    if error != driver.CUresult.CUDA_SUCCESS:
        raise ValueError(f"address {address:#x} is unknown to CUDA: {error.name}; expected memory of a device")
    return int(device)


def like(x: Any, memory: View) -> Any:
    """A new array of x's shape, dtype and maker, its channels next to each other."""
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch.empty(memory.shape, dtype=x.dtype, device=x.device)
    if cupy is not None and isinstance(x, cupy.ndarray):
        return cupy.empty(memory.shape, x.dtype)
    from numba import cuda

    return cuda.device_array(memory.shape, "uint16" if memory.dtype == "bfloat16" else memory.dtype)


def upload(numbers: Any, x: Any) -> Any:
    """Numbers of the host on the device of x."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(x, torch.Tensor):
        return torch.from_numpy(numbers).to(x.device)
    from numba import cuda

    return cuda.to_device(numbers)


def lowest(*views: Any) -> int:
    """The bits below 16 of all their addresses, which say how wide they may be read."""
    return reduce(or_, (v.address for several in views for v in several), 0) & 15
