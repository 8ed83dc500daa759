"""speechbrain: right. It counts tokens from 0 and takes no positions."""

import sys
import types

import rope_ref as rr
from examples.libraries import alone
from rope_ref.conformance import Implementation

sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))  # for reading sound, which is not done here
attention = alone("speechbrain.nnet.attention")
HEAD_DIM = 64
implementation = Implementation(sequence=attention._rope_rotate, arrays="torch", layout="bshd")
CHECKS = {"default": (implementation, rr.variants.default(HEAD_DIM, pairing="interleaved"))}
