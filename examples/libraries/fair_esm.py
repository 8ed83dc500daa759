"""fair-esm: right. It counts tokens from 0 and takes no positions."""

from esm.rotary_embedding import RotaryEmbedding

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64
module = RotaryEmbedding(HEAD_DIM)
implementation = Implementation(sequence=lambda x: module(x, x.clone())[0], arrays="torch", dtypes=("float32",))
CHECKS = {"default": (implementation, rr.variants.default(HEAD_DIM))}
