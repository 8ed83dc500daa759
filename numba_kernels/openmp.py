"""GNU's OpenMP, under the name that torch asks for, so that both get the same library."""

import ctypes
from typing import Any

from llvmlite import binding

NAMES = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def _load() -> Any:
    """The library, whose functions compiled code may name from then on, or None where there is none."""
    try:
        library = ctypes.CDLL("libgomp.so.1")
        for name in NAMES:
            binding.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
    except (OSError, AttributeError):
        return None
    return library


OPENMP = _load()
