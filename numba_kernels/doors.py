"""Names of Numba and llvmlite that they do not document, each with why it is needed and what happens without it."""

import threading
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

from llvmlite import binding

# Whoever compiles holds this lock, which a forked child would wait for in vain. Without it: a lock of our own, which
# knows of our kernels alone.
try:
    from numba.core.compiler_lock import global_compiler_lock
except ImportError:
    global_compiler_lock = threading.RLock()
compiler_lock: Any = global_compiler_lock

# Whoever frees compiled code, as garbage is collected, holds this one. Without it: a child of a fork at that moment may
# wait for ever when it compiles.
_library: Any = getattr(getattr(binding, "ffi", None), "lib", None)
llvm_lock: AbstractContextManager[Any] = getattr(_library, "_lock", nullcontext())

# The file in which Numba reads and writes its cache: an error that passes through it is the cache's. Without it: every
# error of a compilation is taken for one, and the kernel compiled once more, without the cache.
_spec = find_spec("numba.core.caching")
CACHING: str | None = _spec.origin if _spec else None
