"""Rotary embeddings for torch over exact tables and fast kernels.

`patch` for models of transformers, `Rotary` for a model of one's own, and the names of rotary-embedding-torch.
"""

from torch_bridge.drop_in import RotaryEmbedding
from torch_bridge.functions import apply_learned_rotations, apply_rotary_emb, broadcat
from torch_bridge.patch import patch, unpatch
from torch_bridge.rotary import Rotary
from torch_bridge.rotation import rotate, rotate_qk, rotate_qk_norm

__all__ = [
    "Rotary",
    "RotaryEmbedding",
    "apply_learned_rotations",
    "apply_rotary_emb",
    "broadcat",
    "patch",
    "rotate",
    "rotate_qk",
    "rotate_qk_norm",
    "unpatch",
]
