"""Rotary embeddings for torch over exact tables and fast kernels.

`patch` for models of transformers, `Rotary` for a model of one's own, and the names of rotary-embedding-torch.
"""

from typing import TYPE_CHECKING, Any

from torch_bridge.attention import attend
from torch_bridge.drop_in import RotaryEmbedding
from torch_bridge.functions import apply_learned_rotations, apply_rotary_emb, broadcat
from torch_bridge.patch import patch, unpatch
from torch_bridge.rotary import Rotary
from torch_bridge.rotation import rotate, rotate_qk, rotate_qk_norm

if TYPE_CHECKING:
    from torch_bridge.cache import RotaryCache

__all__ = [
    "Rotary",
    "RotaryCache",
    "RotaryEmbedding",
    "apply_learned_rotations",
    "apply_rotary_emb",
    "attend",
    "broadcat",
    "patch",
    "rotate",
    "rotate_qk",
    "rotate_qk_norm",
    "unpatch",
]


def __getattr__(name: str) -> Any:
    """`RotaryCache` is loaded when it is asked for, since it needs transformers."""
    if name != "RotaryCache":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from torch_bridge.cache import RotaryCache

    return RotaryCache
