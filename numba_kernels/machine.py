"""How large the caches of this machine are, by which the loops are laid out: sizes that are read, not tuned."""

import os
from pathlib import Path

FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")  # Linux
USUAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 32 << 20}  # where the system does not say
UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def caches(folder: Path = FOLDER) -> dict[str, int]:
    """Bytes of each cache of data that the first core has, its own or shared: {"L1": 32768, ...}.

    >>> caches(Path("nowhere")) == USUAL
    True
    """
    found = {}
    for cache in sorted(folder.glob("index*")):
        try:
            level, kind, size = ((cache / name).read_text().strip() for name in ("level", "type", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size.rstrip("KMG")) * UNITS.get(size[-1], 1)
        except (OSError, ValueError):
            continue
    return USUAL | found


def last_level(folder: Path = FOLDER) -> int:
    """Bytes of the last cache for the cores that this process may use: a virtual machine hears of all its host has."""
    whole = caches(folder)["L3"]
    try:
        ranges = [part.split("-") for part in (folder / "index3" / "shared_cpu_list").read_text().strip().split(",")]
        sharing = sum(int(ends[-1]) - int(ends[0]) + 1 for ends in ranges)
        return whole * min(sharing, len(os.sched_getaffinity(0))) // sharing
    except (OSError, ValueError, AttributeError):
        return whole
