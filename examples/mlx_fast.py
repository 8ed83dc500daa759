"""mlx.core.fast.rope on the CPU.

    rope-ref check examples.mlx_fast:implementation --variant default --head-dim 64

It takes an offset for each row, not positions: `decode` hands over the offset of the first token, and `apply` makes
every token a row of one. The kit knows no mlx arrays, so they go through NumPy.
"""

import ml_dtypes
import mlx.core as mx
import numpy as np

import rope_ref as rr
from rope_ref.conformance import Implementation

KINDS = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
STORED = {"float32": np.float32, "bfloat16": ml_dtypes.bfloat16, "float16": np.float16}


def adapter(rope, **options):
    options = {"base": rope.theta} | options

    def turn(x, offset):
        """x (rows, heads, seq, head_dim)."""
        array = mx.array(x.astype(np.float32)).astype(KINDS[str(x.dtype)])
        with mx.stream(mx.cpu):
            y = mx.fast.rope(
                array, 2 * rope.pairs, traditional=rope.pairing == "interleaved", scale=1.0, offset=offset, **options
            )
            return np.array(y.astype(mx.float32)).astype(STORED[str(x.dtype)])

    def apply(x, positions):
        batch, heads, seq, head_dim = x.shape
        offsets = np.broadcast_to(positions, (batch, seq)).ravel()
        tokens = x.swapaxes(1, 2).reshape(batch * seq, heads, 1, head_dim)
        return turn(tokens, mx.array(offsets)).reshape(batch, seq, heads, head_dim).swapaxes(1, 2)

    return Implementation(
        apply=apply, decode=turn, arrays="numpy", dtypes=tuple(KINDS), rows=True, negative=True, fractional=False,
        strided=True,
    )  # fmt: skip


rope = rr.variants.default(64)
implementation = adapter(rope)
INTERLEAVED = rr.variants.default(64, pairing="interleaved")
PARTIAL = rr.variants.partial(64, 0.5)
LLAMA3 = rr.variants.llama3(64, 8.0)

CHECKS = {
    "half-split": (implementation, rope),
    "interleaved": (adapter(INTERLEAVED), INTERLEAVED),
    "partial": (adapter(PARTIAL), PARTIAL),
    "llama3": (adapter(LLAMA3, base=None, freqs=mx.array((1 / LLAMA3.omega).astype(np.float32))), LLAMA3),
}
