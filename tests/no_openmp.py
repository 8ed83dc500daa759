"""A machine without GNU's OpenMP, whose kernels take Numba's own loops: python -m tests.no_openmp MODULE ..."""

import ctypes
import runpy
import sys

CDLL = ctypes.CDLL


def load(name, *arguments, **options):
    if name == "libgomp.so.1":
        raise OSError(name)
    return CDLL(name, *arguments, **options)


if __name__ == "__main__":
    ctypes.CDLL = load
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
