"""mlx-lm: default, linear, dynamic, Llama 3 and YaRN are right; LongRoPE never takes its short list."""

import mlx.core as mx
import numpy as np
from mlx_lm.models.rope_utils import initialize_rope

import rope_ref as rr
from examples.mlx_fast import KINDS, STORED
from rope_ref.conformance import Implementation

HEAD_DIM = 64
LISTS = dict(short_factor=[1.0 + i / 64 for i in range(32)], long_factor=[1.0 + i / 4 for i in range(32)])


def adapter(choose):
    """`choose(length)` gives the module that serves a call up to that position."""

    def decode(x, offset):
        array = mx.array(x.astype(np.float32)).astype(KINDS[str(x.dtype)])
        with mx.stream(mx.cpu):
            y = choose(offset + x.shape[-2])(array, offset=offset)
            return np.array(y.astype(mx.float32)).astype(STORED[str(x.dtype)])

    return Implementation(decode=decode, arrays="numpy", dtypes=tuple(KINDS), negative=False, deviations=("RANGE",))


def made(base=10000.0, lengths=None, **config):
    module = initialize_rope(HEAD_DIM, base, False, config or None, lengths)
    return adapter(lambda length: module)


LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=8192)  # fmt: skip
LONG = dict(rope_type="longrope", original_max_position_embeddings=4096, **LISTS)


def longrope(length):
    return rr.variants.longrope(
        HEAD_DIM, **LISTS, original_max_position_embeddings=4096, length=length, factor=32.0
    )


CHECKS = {
    "default": (made(), rr.variants.default(HEAD_DIM)),
    "linear": (made(rope_type="linear", factor=4.0), rr.variants.linear(HEAD_DIM, 4.0)),
    "llama3": (made(500000.0, **LLAMA3), rr.variants.llama3(HEAD_DIM, 8.0)),
    "yarn": (
        made(rope_type="yarn", factor=4.0, original_max_position_embeddings=4096),
        rr.variants.yarn(HEAD_DIM, 4.0, 4096),
    ),
    "dynamic": (
        made(rope_type="dynamic", factor=4.0, lengths=2048),
        lambda length: rr.variants.dynamic_ntk(HEAD_DIM, 4.0, length=length, max_position_embeddings=2048),
    ),
}
FAULTS = {"longrope": (made(lengths=131072, **LONG), longrope, "LONG")}


def both(length):
    """The short list up to the trained length, the long one beyond."""
    short = LONG | {"long_factor": LISTS["short_factor"]}
    return initialize_rope(HEAD_DIM, 10000.0, False, short if length <= 4096 else LONG, 131072)


MENDED = {"longrope": (adapter(both), longrope)}
