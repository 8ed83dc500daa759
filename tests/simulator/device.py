"""Arrays of a device as the simulator has them, and what a kernel does to their memory."""

import numpy as np

import numba_kernels.cuda.kernel as kernel


class Device:
    """A NumPy array that says it lives on a device, as CuPy's and others do."""

    def __init__(self, array, stream=None, readonly=False, typestr=None):
        self.array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape, "strides": array.strides, "version": 3, "stream": stream,
            "typestr": typestr or array.dtype.str, "data": (array.__array_interface__["data"][0], readonly),
        }  # fmt: skip


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
