"""Rotation at the speed of memory: arrays in, arrays out; knows no papers.

Read in this order:

1. ``arithmetic``   the arithmetic of one pair, half types: for the CPU and for CUDA alike
2. ``cpu``          the loops over rows and pairs
3. ``intrinsics``   what Numba cannot say
4. ``cache``        compiled code, from one process to the next; ``doors``, what it needs that Numba does not document
5. ``threads``      how work is split so that threads and forks are safe
6. ``machine``      how large its caches are
7. ``plan``         which loops fit which strides
8. ``layout``       checks, strides, dtypes: `rotate`, `normalise_and_rotate`
9. ``attention``    the loops of decoding: new queries attend to many keys
10. ``decoding``    their checks: `attend`, `rotate_append_attend`

On CUDA devices the same is done by ``cuda``, a package that is loaded when it is asked for.
"""

from typing import Any

from numba_kernels.decoding import attend, rotate_append_attend
from numba_kernels.layout import normalise_and_rotate, rotate

__all__ = ["attend", "normalise_and_rotate", "rotate", "rotate_append_attend"]


def __getattr__(name: str) -> Any:
    """`cuda`, which needs its extra."""
    if name != "cuda":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return import_module("numba_kernels.cuda")
