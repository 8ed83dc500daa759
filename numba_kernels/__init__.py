"""Rotation at the speed of memory: arrays in, arrays out; knows no papers.

Read in this order:

1. ``pair``     the arithmetic of one pair, half types
2. ``vector``   numbers side by side: loads, stores, shuffles
3. ``norm``     the root mean square of a row
4. ``strip``    many rows as vector code
5. ``cpu``      the loops around strips
6. ``plan``     which loops fit which strides
7. ``team``     several threads on one call
8. ``threads``  when that is safe
9. ``layout``   checks, strides, dtypes: `rotate`, `normalise_and_rotate`

On CUDA devices the same is done by ``cuda``, a package that is loaded when it is asked for. ``arithmetic``
is what ``pair`` says, in Python that both targets compile.
"""

from numba_kernels.layout import normalise_and_rotate, rotate

__all__ = ["normalise_and_rotate", "rotate"]
