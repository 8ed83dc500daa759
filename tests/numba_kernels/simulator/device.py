"""Arrays of a device, for tests whose arrays are NumPy's: on the simulator or on a GPU.

On the simulator the memory of the host stands for that of the device. On a GPU an array is copied there with all of the
memory that it is a view of, and back after each launch, so that a test sees what lies around it too.
"""

import ctypes
from weakref import WeakValueDictionary

import numpy as np

import numba_kernels.cuda.kernel as kernel
from numba_kernels.cuda import launch
from numba_kernels.cuda.memory import SIMULATED

LINE = 256  # bytes: copies are as far from a multiple of it as the memory they are of
BLOCKS = WeakValueDictionary()


class Device:
    """A NumPy array that says it lives on a device, as CuPy's and others do."""

    def __init__(self, array, stream=None, readonly=False, typestr=None):
        self.array, address = array, array.__array_interface__["data"][0]
        if not SIMULATED:
            self.block = block_of(array)
            address += self.block.ahead
        self.__cuda_array_interface__ = {
            "shape": array.shape, "strides": array.strides, "version": 3, "stream": stream,
            "typestr": typestr or array.dtype.str, "data": (address, readonly),
        }  # fmt: skip


class Block:
    """A copy on the GPU of all memory that an array and its views share."""

    def __init__(self, root):
        from numba import cuda

        self.root = root
        low, high = np.lib.array_utils.byte_bounds(root)
        self.size, gap = high - low, low % LINE
        self.memory = cuda.device_array(gap + max(self.size, 1), np.uint8)
        start = self.memory.__cuda_array_interface__["data"][0]
        assert start % LINE == 0
        self.ahead = start + gap - low
        self.copy = self.memory[gap : gap + self.size]
        self.host = np.frombuffer((ctypes.c_char * self.size).from_address(low), np.uint8)

    def there(self):
        if self.size:
            self.copy.copy_to_device(self.host)

    def back(self):
        if self.size:
            self.copy.copy_to_host(self.host)


def block_of(array):
    """The copy on the GPU of what this array is a view of, as it is now."""
    root = root_of(array)
    bounds = np.lib.array_utils.byte_bounds(root)
    block = BLOCKS.get(bounds) or BLOCKS.setdefault(bounds, Block(root))
    block.there()
    return block


def root_of(array):
    """The array that owns the memory of this one."""
    base = array.base
    while isinstance(base := base if isinstance(base, np.ndarray) else getattr(base, "base", None), np.ndarray):
        array, base = base, base.base  # `getattr`: as_strided puts an object between
    return array


if not SIMULATED:
    started = launch.run

    def run(*given):
        from numba import cuda

        started(*given)
        cuda.synchronize()
        for block in list(BLOCKS.values()):
            block.back()

    launch.run = run


class Watch:
    """Every load and store of a kernel while it is watched: address, bytes."""

    def __init__(self, monkeypatch):
        self.loads, self.stores = [], []
        for name, log in (("load", self.loads), ("store", self.stores)):
            monkeypatch.setattr(kernel, name, self.logged(getattr(kernel, name), log))
        kernel.compiled.cache_clear()

    @staticmethod
    def logged(access, log):
        def logging(address, vector, first, count):
            log.append((int(address), count * vector.itemsize))
            access(address, vector, first, count)

        return logging


def touched(log, array):
    """How often each item of an array was reached, having made sure that none was reached in part."""
    start = array.__array_interface__["data"][0]
    times = {}
    for address, size in log:
        assert address % array.itemsize == 0 or not start <= address < start + array.nbytes
        for at in range(address, address + size, array.itemsize):
            times[at] = times.get(at, 0) + 1
    places = np.zeros(array.shape, np.int64) + start
    for axis, (n, step) in enumerate(zip(array.shape, array.strides, strict=True)):
        places += (np.arange(n) * step).reshape([-1 if a == axis else 1 for a in range(array.ndim)])
    return np.vectorize(lambda at: times.get(at, 0), otypes=[int])(places)
