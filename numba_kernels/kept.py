"""Compiled code, kept on disk from one process to the next, in the folder that Numba chooses.

Numba's own index knows a function by the file that defines it, though much is inlined from others. Two
processes that write there at once, or one that is stopped between index and code, can leave the code of one
function under the name of another; a file that was cut off is an error ever after. So here a file is named by
all that its code depends on, and begins with a digest of its name and of the rest: it is right, or
as good as missing. Where nothing can be kept, every process compiles for itself.
"""

import hashlib
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import numba
from numba import njit
from numba.core.caching import FunctionCache, NullCache
from numba.core.ccallback import CFunc
from numba.core.serialize import dumps
from numba.core.sigutils import normalize_signature

# what is inlined, wherever a function is defined
SOURCES = ("cpu.py", "norm.py", "pair.py", "strip.py", "team.py", "vector.py")
HERE = Path(__file__).parent
INLINED = hashlib.sha256(b"".join((HERE / name).read_bytes() for name in SOURCES)).hexdigest()


class Kept(FunctionCache):
    """Numba's cache of one function, with files of our own."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        target_context.refresh()
        packed = opened(self._path(sig, target_context.codegen()))
        return None if packed is None else self._impl.rebuild(target_context, pickle.loads(packed))

    def save_overload(self, sig: Any, data: Any) -> None:
        if not self._impl.check_cachable(data):
            return
        path = self._path(sig, data.codegen)
        part = path.with_suffix(f".{uuid4().hex}.part")
        try:
            part.write_bytes(sealed(path, dumps(self._impl.reduce(data))))
            os.replace(part, path)
        except OSError:  # no room, or not ours to write: then it is compiled again
            part.unlink(missing_ok=True)

    def _path(self, sig: Any, codegen: Any) -> Path:
        own = self._impl.locator.get_source_stamp()
        key = repr((self._index_key(sig, codegen), own, INLINED, numba.__version__))
        return Path(self.cache_path, f"{self._impl.filename_base}.{hashlib.sha256(key.encode()).hexdigest()[:32]}.nbc")


def sealed(path: Path, packed: bytes) -> bytes:
    """What is written there."""
    return hashlib.sha256(path.name.encode() + packed).digest() + packed


def opened(path: Path) -> bytes | None:
    """What was sealed there, or None for anything else."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    packed = content[32:]
    return packed if content == sealed(path, packed) else None


def _cache(function: Callable[..., Any]) -> Any:
    try:
        return Kept(function)
    except RuntimeError:  # no folder can be written
        return NullCache()


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` of a function that is kept."""

    def decorate(function: Callable[..., Any]) -> Any:
        dispatcher = njit(**options)(function)
        dispatcher._cache = _cache(function)
        return dispatcher

    return decorate


def address(function: Callable[..., Any], signature: Any, **options: Any) -> int:
    """Where C code finds `numba.cfunc` of a function that is kept; it stays there."""
    callback: Any = CFunc(function, normalize_signature(signature), {}, options)
    callback._cache = _cache(function)
    callback.compile()
    STAYING.append(callback)
    return int(callback.address)


STAYING: list[Any] = []
