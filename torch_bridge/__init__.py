"""Rotary embeddings for torch: the names of rotary-embedding-torch over exact tables and fast kernels."""

from torch_bridge.drop_in import RotaryEmbedding
from torch_bridge.functions import apply_learned_rotations, apply_rotary_emb, broadcat
from torch_bridge.rotation import rotate, rotate_qk

__all__ = ["RotaryEmbedding", "apply_learned_rotations", "apply_rotary_emb", "broadcat", "rotate", "rotate_qk"]
