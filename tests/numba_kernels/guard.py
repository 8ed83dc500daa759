"""Rotate arrays that begin or end at a page no one may touch: a byte too far ends this process."""

import ctypes
import itertools
import mmap
import sys

import numpy as np

import numba_kernels as nk
import rope_ref as rr
from tests.oracles import arithmetic, stored
from tests.strategies import normal

PAGE = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
kept = []


def fenced(array, at_end):
    """A copy of the array whose last byte is followed, or whose first byte is preceded, by a forbidden page."""
    room = -(-max(array.nbytes, 1) // PAGE) * PAGE
    block = mmap.mmap(-1, room + 2 * PAGE)
    kept.append(block)
    address = ctypes.addressof(ctypes.c_char.from_buffer(block))
    for page in (address, address + PAGE + room):
        if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(PAGE), 0):
            raise OSError(ctypes.get_errno(), "mprotect failed")
    start = PAGE + (room - array.nbytes if at_end else 0)
    copy = np.frombuffer(block, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    return copy


def main(dtype):
    count = 0
    for pairs, at_end, gather, pairing in itertools.product(
        (1, 3, 8, 17, 31, 32, 33, 64), (True, False), (True, False), ("half-split", "interleaved")
    ):
        for start, rest in ((0, 0), (1, 2)):
            width = start + 2 * pairs + rest
            rope = rr.Rope(width, 2 * pairs, start=start, pairing=pairing)
            x = fenced(stored(normal(0, 2, 3, 5, width), dtype), at_end)
            tables = rr.tables(rope, np.arange(5), arithmetic(dtype))
            cos, sin = (fenced(t, at_end) for t in tables)
            index = fenced(np.array([4, 0, 2, 2, 1]), at_end) if gather else None
            for view in (lambda a: a, lambda a: a[::-1], lambda a: a.swapaxes(0, 1), lambda a: a[:, :1, ::-1]):
                for out in (x, fenced(np.zeros_like(x), at_end)):
                    options = dict(pairing=pairing, start=start, positions=index, out=view(out))
                    nk.rotate(view(x), cos, sin, **options)
                    nk.normalise_and_rotate(view(x), np.ones(width), cos, sin, epsilon=1e-6, **options)
                    count += 2
    print(count, "rotations")


if __name__ == "__main__":
    main(sys.argv[1])
