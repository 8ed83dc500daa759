"""Rotation at the speed of memory: arrays in, arrays out; knows no papers.

Read in this order:

1. ``pair``     the arithmetic of one pair, half types
2. ``cpu``      the loops
3. ``threads``  how work is split
4. ``layout``   checks, strides, dtypes: `rotate`
"""

from numba_kernels.layout import rotate

__all__ = ["rotate"]
