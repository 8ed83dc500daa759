"""What may be handed in. Shapes against each other are `plan`'s to check."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numba_kernels.cuda.arrays import View, upload, view

KINDS = {"float64": "float64", "float32": "float32", "float16": "float16", "bfloat16": "bfloat16", "uint16": "bfloat16"}
PLACES = ("int64", "int32", "int16", "int8", "uint64", "uint32", "uint16", "uint8")


def rows(name: str, array: Any) -> View:
    """x or out: numbers (..., head_dim) that a kernel is there for."""
    found = view(name, array)
    if found.dtype not in KINDS:
        raise TypeError(f"{name} has dtype {found.dtype}; expected one of {', '.join(KINDS)}")
    return _aligned(found, "(..., head_dim)")


def alike(x: list[View], out: list[View]) -> None:
    """Queries, keys and what is written are stored alike; queries and keys have as many channels."""
    for other in x[1:]:
        if KINDS[other.dtype] != KINDS[x[0].dtype] or other.shape[-1] != x[0].shape[-1]:
            found, wanted = (f"{v.shape[-1]} channels of {v.dtype}" for v in (other, x[0]))
            raise ValueError(f"{other.name} has {found}; expected {wanted}, as {x[0].name}")
    for target, source in zip(out, x, strict=True):
        if KINDS[target.dtype] != KINDS[source.dtype]:
            raise TypeError(f"{target.name} has dtype {target.dtype}; expected {source.dtype}, as {source.name}")


def tables(cos: Any, sin: Any) -> tuple[View, View]:
    """Both tables: floating point (..., pairs), of one dtype. Their rows are converted as they are read."""
    found = view("cos", cos), view("sin", sin)
    for table in found:
        if table.dtype not in KINDS or table.dtype == "uint16":
            raise TypeError(f"{table.name} has dtype {table.dtype}; expected floating point")
        _aligned(table, "(..., pairs)")
    if found[0].dtype != found[1].dtype:
        raise TypeError(f"sin has dtype {found[1].dtype}; expected {found[0].dtype}, as cos")
    return found


def weights(names: list[str], given: Sequence[Any], width: int) -> list[View]:
    """The weights of a normalisation: one for each channel, of one dtype."""
    found = [rows(f"weights of {name}", array) for name, array in zip(names, given, strict=True)]
    for weight in found:
        if weight.shape != (width,):
            raise ValueError(f"{weight.name} have shape {weight.shape}; expected ({width},)")
        if weight.dtype != found[0].dtype:
            raise TypeError(f"{weight.name} have dtype {weight.dtype}; expected {found[0].dtype}, as {found[0].name}")
    return found


def places(positions: Any, length: int, x: Any) -> tuple[Any, View]:
    """Positions on the device of x, and their memory. Those of the host are checked here and copied."""
    if not isinstance(positions, (int, list, tuple, range, np.ndarray, np.generic)):
        found = view("positions", positions)
        if found.dtype not in PLACES:
            raise TypeError(f"positions have dtype {found.dtype}; expected integers")
        return positions, _aligned(found)
    given = np.asarray(positions)
    if given.dtype.kind not in "iu":
        raise TypeError(f"positions have dtype {given.dtype}; expected integers")
    if given.size and not (0 <= int(given.min()) and int(given.max()) < length):
        raise IndexError(f"positions span {given.min()} to {given.max()}; expected 0 to {length - 1}")
    moved = upload(np.ascontiguousarray(given, np.int64).reshape(-1), x)
    found = view("positions", moved)
    steps = tuple(s // given.itemsize * 8 for s in np.empty(given.shape, given.dtype).strides)
    return moved, found._replace(shape=given.shape, steps=steps)


def _aligned(found: View, expected: str | None = None) -> View:
    if expected and not found.shape:
        raise ValueError(f"{found.name} has shape (); expected {expected}")
    if any(bits % found.itemsize for bits in (found.address, *found.steps)):
        where = f"{found.address:#x} with steps {found.steps}"
        raise ValueError(f"{found.name} is at {where}; expected multiples of {found.itemsize}, the size of its items")
    return found
