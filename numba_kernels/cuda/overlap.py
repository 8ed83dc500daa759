"""What must not be written: what may not be, what is written twice, and what is still to be read."""

from functools import lru_cache

import numpy as np

from numba_kernels.cuda.arrays import Ints, View

FAR = 1 << 62  # where arrays are laid that nobody touches


def same(a: View, b: View) -> bool:
    """Whether both are the same numbers of the same memory."""
    steps = zip(a.shape, a.steps, b.steps, strict=False)
    return a.address == b.address and a.shape == b.shape and all(n <= 1 or s == t for n, s, t in steps)


def check(x: list[View], out: list[View], read: list[View]) -> None:
    """Raise ValueError unless every out may be written, once, while x and the others are read."""
    for i, target in enumerate(out):
        if target.readonly:
            raise ValueError(f"{target.name} is read-only; expected a writeable array")
        if _twice(target.shape, target.steps, target.itemsize):
            raise ValueError(f"{target.name} has strides {target.steps}; expected no element to be written twice")
        others = [other for j, other in enumerate(x) if i != j or not same(other, target)]
        for other in (*others, *out[i + 1 :], *read):
            if other.device == target.device and meet(target, other):
                wanted = f"{other.name} itself, or " if other is x[i] else ""
                raise ValueError(f"{target.name} overlaps {other.name}; expected {wanted}an array apart from it")


@lru_cache(maxsize=4096)
def _twice(shape: Ints, steps: Ints, size: int) -> bool:
    """Whether steps do not keep elements apart, each axis beyond the reach of all narrower ones."""
    reach = size if 0 not in shape else 0
    for step, count in sorted((abs(s), n) for s, n in zip(steps, shape, strict=True) if n > 1 and reach):
        if step < reach:
            return True
        reach += step * (count - 1)
    return False


def meet(a: View, b: View) -> bool:
    """Whether a byte belongs to both."""
    return _meet(a.shape, a.steps, a.itemsize, b.shape, b.steps, b.itemsize, b.address - a.address)


@lru_cache(maxsize=4096)
def _meet(shape: Ints, steps: Ints, size: int, others: Ints, their_steps: Ints, their_size: int, ahead: int) -> bool:
    if 0 in (*shape, *others):
        return False
    low, high = _span(shape, steps, size)
    their_low, their_high = _span(others, their_steps, their_size)
    if high <= ahead + their_low or ahead + their_high <= low:
        return False
    return bool(np.shares_memory(_laid(FAR, shape, steps, size), _laid(FAR + ahead, others, their_steps, their_size)))


def _span(shape: Ints, steps: Ints, size: int) -> tuple[int, int]:
    """The first byte, and the first one behind, from the address on."""
    ends = [step * (n - 1) for n, step in zip(shape, steps, strict=True)]
    return sum(e for e in ends if e < 0), sum(e for e in ends if e > 0) + size


def _laid(address: int, shape: Ints, steps: Ints, size: int) -> np.ndarray:
    """An array at an address, to be compared with others and never read."""

    class Laid:
        __array_interface__ = {
            "data": (address, False), "shape": shape, "strides": steps, "typestr": f"|V{size}", "version": 3
        }  # fmt: skip

    return np.asarray(Laid())
