"""Arrays in safetensors files: numbers and nothing else, so that reading a file executes nothing.

    8 bytes         n, the length of the header, little-endian
    n bytes         JSON, {"x":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},...}, then spaces
    the rest        the numbers, row by row, little-endian; offsets count from here

What is written here has no spaces in the header before its end, and dtype, shape and data_offsets
in this order, so that a reader can get by with a search for `"x":{` and a scan of what follows.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from numpy.typing import NDArray
from safetensors.numpy import save_file

DTYPES: dict[str, Any] = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
}


def save(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays of the dtypes above, each under its name."""
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


def load(path: Path) -> dict[str, NDArray[Any]]:
    """Every array of a file. Raises FileNotFoundError, or ValueError for what is no such file.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save(Path(folder, "a"), {"x": np.array([[1.5, 2.0]], ml_dtypes.bfloat16)})
    ...     load(Path(folder, "a"))
    {'x': array([[1.5, 2]], dtype=bfloat16)}
    """
    try:
        entries = sorted(safetensors.deserialize(path.read_bytes()))  # type: ignore[no-untyped-call]
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path.name} is no safetensors file: {error}") from error
    for name, entry in entries:
        if entry["dtype"] not in DTYPES:
            raise ValueError(f"{name} in {path.name} has dtype {entry['dtype']}; expected one of {', '.join(DTYPES)}")
    return {name: _array(entry["data"], entry["dtype"], entry["shape"]) for name, entry in entries}


def _array(data: bytes, dtype: str, shape: list[int]) -> NDArray[Any]:
    stored = np.uint16 if dtype == "BF16" else DTYPES[dtype]  # NumPy itself has no bfloat16
    array: NDArray[Any] = np.frombuffer(data, stored).view(DTYPES[dtype]).reshape(shape)
    return array
