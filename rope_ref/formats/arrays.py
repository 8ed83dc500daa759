"""Tables in a .npy or a safetensors file, as arrays by their names."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rope_ref.formats.tables import NAMES

NPY = b"\x93NUMPY"
LARGEST = 1 << 30  # bytes of a table
DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
UNITS = {"<f2": 2.0**-11, "<u2": 2.0**-8}  # what an entry is rounded by, relative; less than what matters elsewhere

Found = tuple[dict[str, NDArray[Any]], float]


def npy(path: Path) -> Found:
    """The array of a .npy file, and what its entries are rounded by."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {LARGEST}")
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # NumPy reads the header as Python's literals: whatever their parser raises
        raise ValueError(f"{path} is no whole .npy file: {error}") from error
    if array.dtype.kind not in "fiuc":
        raise ValueError(f"{path} holds {array.dtype}; expected numbers")
    wide = np.complex128 if array.dtype.kind == "c" else np.float64
    return {"": np.asarray(array, wide)}, UNITS.get(array.dtype.str, 0.0)


def safetensors(path: Path) -> Found:
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
        found, unit = {}, 0.0
        for name, entry in header.items() if isinstance(header, dict) else ():
            if name.rsplit(".", 1)[-1] in NAMES:
                found[name] = tensor(path, file, name, entry, 8 + count, size)
                unit = max(unit, UNITS.get(DTYPES[entry["dtype"]], 0.0))
    return found, unit


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
    return widened(np.frombuffer(file.read(high - low), dtype)).reshape(shape)


def widened(raw: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers in float64; whole ones of two bytes are bfloat16, the upper half of a float32."""
    raw = (raw.astype(np.uint32) << 16).view(np.float32) if raw.dtype == np.dtype("<u2") else raw
    return raw.astype(np.float64)
