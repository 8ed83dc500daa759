"""Rotation at the speed of memory: arrays in, arrays out; knows no papers.

Read in this order:

1. ``pair``     the arithmetic of one pair, half types
2. ``strip``    many rows as vector code
3. ``cpu``      the loops around strips
4. ``plan``     which loops fit which strides
5. ``team``     several threads on one call
6. ``threads``  when that is safe
7. ``layout``   checks, strides, dtypes: `rotate`

On CUDA devices the same is done by ``cuda``, a package that is loaded when it is asked for. ``arithmetic``
is what ``pair`` says, in Python that both targets compile.
"""

from numba_kernels.layout import rotate

__all__ = ["rotate"]
