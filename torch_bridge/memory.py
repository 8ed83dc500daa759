"""Memory for large results: what one leaves behind serves the next.

The system clears memory before it hands it out, which takes as long as to rotate into it, and takes all of it
back as soon as it is freed. So a few blocks are kept, the larger ones where they can be marked as free (MADV_FREE):
the system may have them back whenever it is short of memory. To mark smaller ones would take longer than to clear them.
"""

import mmap
import weakref
from itertools import count

import numpy as np
import torch
from torch import Tensor

MOST = 4  # blocks that are kept
LARGE = 1 << 25  # bytes of a block that is marked as free

KEPT: dict[tuple[int, int], mmap.mmap] = {}  # by size and age; every step is one of dict's own, so none needs a lock
_age = count()


def like(x: Tensor) -> Tensor:
    """A contiguous tensor of x's shape and dtype, of any numbers."""
    block = kept(x.nbytes) or new(x.nbytes)
    view = np.frombuffer(block, np.uint8)
    weakref.finalize(view, keep, block).atexit = False  # the tensor, and all that shares its memory, hold the view
    return torch.from_numpy(view).view(x.dtype).view(x.shape)


def kept(size: int) -> mmap.mmap | None:
    """A block of this size, no longer kept."""
    for key in tuple(KEPT):
        if key[0] == size and (block := KEPT.pop(key, None)) is not None:
            return block
    return None


def new(size: int) -> mmap.mmap:
    """A block in pages that are as large as can be."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return mmap.mmap(-1, size)
    block = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    advised(block, "MADV_HUGEPAGE")
    return block


def keep(block: mmap.mmap) -> None:
    """Of more than MOST, the oldest goes."""
    if len(block) < LARGE or advised(block, "MADV_FREE"):
        KEPT[len(block), next(_age)] = block
        for key in tuple(KEPT)[:-MOST]:
            KEPT.pop(key, None)


def advised(block: mmap.mmap, name: str) -> bool:
    """Whether the system takes such advice."""
    try:
        block.madvise(getattr(mmap, name))
    except (AttributeError, OSError):
        return False
    return True
