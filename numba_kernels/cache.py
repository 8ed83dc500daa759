"""Compiled code, kept by Numba's cache from one process to the next, where that can be trusted.

Numba knows a function by the file that defines it, though much is inlined from others. So every kernel has a name of
its own, with a digest of all that its code depends on: what was compiled from other sources, or for another
form, is another file. A cache that is cut off, full, read-only, or that others may write to costs a
compilation in every process and one line in the log, never an error or a wrong number.
"""

import hashlib
import logging
import os
import stat
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba import njit

from numba_kernels.doors import CACHING, compiler_lock, llvm_lock

LOG = logging.getLogger(__package__)
SOURCES = b"".join(file.read_bytes() for file in sorted(Path(__file__).parent.glob("*.py")))  # as they were imported
VERSIONS = f"{numba.__version__} {llvmlite.__version__} {numba.config.CPU_NAME} {numba.config.CPU_FEATURES}"
DIGEST = hashlib.sha256(SOURCES + VERSIONS.encode()).hexdigest()[:16]

_held = ExitStack()


def _hold() -> None:
    """A fork waits for locks that nobody would ever open in the child."""
    for lock in (compiler_lock, llvm_lock):
        _held.enter_context(lock)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_hold, after_in_parent=_held.close, after_in_child=_held.close)


def compiled(function: Callable[..., Any], signature: Any, name: str, **options: Any) -> Any:
    """`numba.njit` of a function for one signature, from the cache if it is there under this name."""
    function.__qualname__ = f"{name}-{DIGEST}"
    began, often = time.perf_counter(), "once on this machine"
    with compiler_lock:
        try:
            check_trust(Path(njit(cache=True, **options)(function).stats.cache_path))
            kernel = njit(signature, cache=True, **options)(function)
            if kernel.stats.cache_hits:
                return kernel
        except Exception as reason:  # any that unpickling may raise
            if not of_the_cache(reason):  # but what a signal raised, say, while LLVM was at work
                raise
            kernel = njit(signature, **options)(function)
            often = f"and in every process, since it cannot be kept: {type(reason).__name__}: {reason}"
    LOG.warning("compiled the kernel %s in %.1f s, %s", name, time.perf_counter() - began, often)
    return kernel


def of_the_cache(error: BaseException) -> bool:
    """Whether an error came while a cache was looked for, read or written."""
    codes = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
    return CACHING is None or any(
        code.co_filename in (CACHING, __file__) and code is not compiled.__code__ for code in codes
    )


def check_trust(folder: Path) -> None:
    """Raise PermissionError unless nobody else can have written what lies in the folder under our names.

    A group that is named by the number of the user is the user's own, as many systems set it up.
    """
    if not hasattr(os, "getuid"):  # Windows
        return
    for path in (folder, *folder.glob(f"*{DIGEST}*")):
        status = path.stat()
        if status.st_uid not in (0, os.getuid()):
            raise PermissionError(f"{path} belongs to user {status.st_uid}; expected {os.getuid()}")
        group = status.st_mode & stat.S_IWGRP and status.st_gid != os.getuid()
        if group or status.st_mode & stat.S_IWOTH:
            mode = stat.filemode(status.st_mode)
            raise PermissionError(f"{path} has mode {mode}; expected nobody else to write there")
