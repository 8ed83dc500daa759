"""Frequencies, or cos and sin of positions 0, 1, 2, ..., in a .npy or a safetensors file, as a Rope.

A file with `inv_freq` (pairs,) is what it says. From cos and sin (positions, pairs), or with each entry twice, the
frequency of a pair is read where its angle is still small, and the magnitude as the length of (cos, sin).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rope_ref.parameters import Layer
from rope_ref.rope import Rope

NPY = b"\x93NUMPY"
LARGEST = 1 << 30  # bytes of a table
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def layers(path: Path, angle_dtype: str) -> list[Layer]:
    """The one layer that a file describes. Raises ValueError for arrays that describe no rotation."""
    found = npy(path) if path.open("rb").read(6) == NPY else safetensors(path)
    named = {name.rsplit(".", 1)[-1]: array for name, array in found.items()}
    if len(named) == 1 and "inv_freq" not in named:
        named = {"inv_freq": next(iter(named.values()))}
    if "inv_freq" in named:
        w, m = named["inv_freq"], 1.0
    elif {"cos", "sin"} <= set(named):
        w, m = from_tables(*(narrow(named[name]) for name in ("cos", "sin")))
    else:
        raise ValueError(f"{path} has {', '.join(found) or 'no array'}; expected inv_freq, or cos and sin")
    if w.ndim != 1 or not w.size or not np.isfinite(w).all():
        raise ValueError(f"{path} has inv_freq of shape {w.shape}; expected finite (pairs,)")
    rope = Rope(2 * len(w), inv_freq=w, attention_scale=m, angle_dtype=angle_dtype)
    return [Layer("full_attention", "read off", float("nan"), rope)]


def from_tables(cos: NDArray[Any], sin: NDArray[Any]) -> tuple[NDArray[Any], float]:
    """The frequencies (pairs,) and the magnitude of tables (positions, pairs)."""
    if cos.shape != sin.shape or cos.ndim != 2 or len(cos) < 2:
        raise ValueError(f"cos and sin have shapes {cos.shape} and {sin.shape}; expected one, (positions, pairs)")
    m = float(np.median(np.hypot(cos, sin)))
    angle = np.unwrap(np.arctan2(sin, cos), axis=0)
    p = np.arange(len(cos))
    w = (p[1:, None] * (angle[1:] - angle[0])).sum(0) / (p[1:] ** 2).sum()  # the line through the first position
    return w, m if abs(m - 1) > 1e-3 else 1.0


def narrow(table: NDArray[Any]) -> NDArray[Any]:
    """(positions, pairs) of a table that has each entry once, or twice."""
    table = table.reshape(-1, table.shape[-1])
    n = table.shape[-1] // 2
    if table.shape[-1] == 2 * n and np.array_equal(table[:, :n], table[:, n:]):
        return table[:, :n]
    return table[:, ::2] if table.shape[-1] == 2 * n and np.array_equal(table[:, ::2], table[:, 1::2]) else table


def npy(path: Path) -> dict[str, NDArray[Any]]:
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {LARGEST}")
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # NumPy reads the header as Python's literals: whatever their parser raises
        raise ValueError(f"{path} is no whole .npy file: {error}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path} holds {array.dtype}; expected numbers")
    return {"": np.asarray(array, np.float64)}


def safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """The floating-point arrays whose names end as those of tables do; nothing else is read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        count = int.from_bytes(file.read(8), "little")
        if count > min(size - 8, 100 << 20):
            raise ValueError(f"{path} has a header of {count} bytes; expected at most {max(size - 8, 0)}")
        try:
            header = json.loads(file.read(count))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path} has a header that is not JSON: {error}") from error
        found = {}
        for name, entry in header.items() if isinstance(header, dict) else ():
            if name.rsplit(".", 1)[-1] in ("inv_freq", "cos", "sin", "freqs"):
                found[name] = tensor(path, file, name, entry, 8 + count, size)
    return found


def tensor(path: Path, file: Any, name: str, entry: Any, begin: int, size: int) -> NDArray[Any]:
    try:
        dtype, shape, (low, high) = DTYPES[entry["dtype"]], [int(n) for n in entry["shape"]], entry["data_offsets"]
        right = 0 <= low <= high <= size - begin and high - low <= LARGEST
        right &= high - low == int(np.dtype(dtype).itemsize * np.prod(shape, dtype=object))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has {name} as {entry!r}; expected dtype, shape and data_offsets") from error
    if not right or min(shape, default=1) < 0:
        raise ValueError(f"{path} has {name} at {low} to {high} of shape {shape}; expected it within the file")
    file.seek(begin + low)
    raw = np.frombuffer(file.read(high - low), dtype)
    if dtype == "<u2":  # bfloat16: the upper half of a float32
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float64).reshape(shape)
