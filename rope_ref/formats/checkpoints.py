"""Tables in a file of torch.save: read without torch, and without running what a pickle asks for.

Since torch 1.6 such a file is a zip archive: NAME/data.pkl, a pickle that names tensors, and NAME/data/KEY, their
memory. A pickle may call anything that can be imported; this reader knows the few names that a state dict needs, and
any other is a ValueError.
"""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rope_ref.formats.arrays import LARGEST, UNITS, Found, widened
from rope_ref.formats.tables import NAMES

ZIP = b"PK\x03\x04"
MOST = 64 << 20  # bytes of the pickle
STORAGES = {"DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": "<u2",
            "ComplexFloatStorage": "<c8"}  # fmt: skip


class Tensor(NamedTuple):
    """Where a tensor lies: dtype and key of its storage, and offset, shape and steps in items."""

    dtype: str | None
    key: str
    offset: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


class Reader(pickle.Unpickler):
    """An unpickler that imports nothing."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "collections" and name == "OrderedDict":
            return OrderedDict
        if module == "torch._utils" and name in ("_rebuild_tensor_v2", "_rebuild_parameter"):
            return rebuilt if name == "_rebuild_tensor_v2" else lambda data, *more: data
        if module in ("torch", "torch.storage") and name.endswith("Storage"):
            return name
        raise ValueError(f"it asks for {module}.{name}; expected a state dict of tensors alone")

    def persistent_load(self, pid: Any) -> tuple[str | None, str]:
        if not isinstance(pid, tuple) or len(pid) < 3 or pid[0] != "storage":
            raise ValueError(f"it names {pid!r}; expected a storage")
        return STORAGES.get(str(pid[1])), str(pid[2])


def rebuilt(storage: tuple[str | None, str], offset: int, size: Any, stride: Any, *more: Any) -> Tensor:
    return Tensor(*storage, int(offset), tuple(map(int, size)), tuple(map(int, stride)))


def tables(path: Path) -> Found:
    """The arrays of a state dict whose names end as those of tables do, and what their entries are rounded by."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info for info in archive.infolist() if info.filename.endswith("/data.pkl")]
            if len(names) != 1 or names[0].file_size > MOST:
                raise ValueError(f"it has {len(names)} data.pkl; expected one, of at most {MOST} bytes")
            with archive.open(names[0]) as file:
                state = Reader(file).load()
            return arrays(archive, names[0].filename.removesuffix("data.pkl"), state)
    except Exception as error:  # a pickle that is cut off or hostile raises whatever it runs into
        raise ValueError(f"{path} is no state dict that can be read: {error}") from error


def arrays(archive: zipfile.ZipFile, folder: str, state: Any) -> Found:
    if isinstance(state, Tensor):
        state = {"": state}
    if not isinstance(state, dict):
        raise ValueError(f"it holds a {type(state).__name__}; expected a dict of tensors")
    for key in ("state_dict", "model", "module"):  # what trainers wrap it in
        state = state[key] if isinstance(state.get(key), dict) else state
    found, unit = {}, 0.0
    for name, one in state.items():
        if isinstance(one, Tensor) and (name == "" or str(name).rsplit(".", 1)[-1] in NAMES):
            found[str(name)] = array(archive, f"{folder}data/{one.key}", one)
            unit = max(unit, UNITS.get(str(one.dtype), 0.0))
    return found, unit


def array(archive: zipfile.ZipFile, name: str, one: Tensor) -> NDArray[Any]:
    info = archive.getinfo(name)
    last = one.offset + sum((n - 1) * step for n, step in zip(one.shape, one.steps, strict=True))
    if one.dtype is None or info.file_size > LARGEST or min((*one.shape, *one.steps, one.offset), default=0) < 0:
        raise ValueError(f"{name} has {info.file_size} bytes of dtype {one.dtype}; expected floats")
    items = np.frombuffer(archive.read(info), one.dtype)
    if last >= len(items) or np.prod(one.shape, dtype=object) > len(items):
        raise ValueError(f"{name} holds {len(items)} numbers; expected one at {last}")
    items = items.astype(np.complex128) if items.dtype.kind == "c" else widened(items)
    width = items.itemsize
    steps = [step * width for step in one.steps]
    return np.lib.stride_tricks.as_strided(items[one.offset :], one.shape, steps).copy()
