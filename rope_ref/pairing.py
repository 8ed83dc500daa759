"""Which channels turn together.

With r rotated channels, pair i (0 <= i < r/2) is

    interleaved   (2i, 2i + 1)     arXiv 2104.09864, eq. 15; GPT-J, Meta's Llama
    half-split    (i, i + r/2)     GPT-NeoX, Hugging Face
"""

import numpy as np
from numpy.typing import NDArray

PAIRINGS = ("half-split", "interleaved")


def channels(pairing: str, pairs: int, start: int = 0) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first and the second channel of every pair, each of shape (pairs,).

    >>> channels("interleaved", 2)
    (array([0, 2]), array([1, 3]))
    >>> channels("half-split", 2)
    (array([0, 1]), array([2, 3]))
    """
    check(pairing)
    i = np.arange(pairs)
    if pairing == "interleaved":
        return start + 2 * i, start + 2 * i + 1
    return start + i, start + i + pairs


def check(pairing: str) -> None:
    """Raise ValueError unless `pairing` is a known name."""
    if pairing not in PAIRINGS:
        raise ValueError(f"pairing is {pairing!r}; expected one of {', '.join(map(repr, PAIRINGS))}")
