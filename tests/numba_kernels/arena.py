"""Memory between two pages that no one may touch, in which arrays stand at any byte."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)


class Arena:
    """So many bytes, refilled with noise before each use: a byte too far ends this process, one between is seen."""

    def __init__(self, size):
        self.size = -(-size // PAGE) * PAGE
        self.block = mmap.mmap(-1, self.size + 2 * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.block))
        for page in (address, address + PAGE + self.size):
            if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
                raise OSError(ctypes.get_errno(), "mprotect failed")
        self.bytes = np.frombuffer(self.block, np.uint8, self.size, PAGE)

    def fits(self, shape, dtype, steps):
        """The first and the last byte at which an array of this shape and these steps may begin."""
        reach = [step * (n - 1) for step, n in zip(steps, shape, strict=True)] if 0 not in shape else []
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + np.dtype(dtype).itemsize
        return -low, self.size - high

    def place(self, rng, shape, dtype, steps):
        """One of them: either, or any between; None where there is none."""
        first, last = self.fits(shape, dtype, steps)
        return int(rng.choice([first, last, rng.integers(first, last + 1)])) if first <= last else None

    def view(self, shape, dtype, steps, at, memory=None):
        """The array there; or the same part of a copy of all bytes."""
        memory = self.bytes if memory is None else memory
        return np.ndarray(shape, dtype, memory.data, at, steps)
