"""esm: half-split is right; `interleaved=True` pairs neighbours with a table that is laid out in halves."""

from einops import repeat
from esm.layers import rotary

import rope_ref as rr
from rope_ref.conformance import Implementation

HEAD_DIM = 64


def adapter(module):
    def decode(x, offset):
        return module(x, x.clone(), offset)[0]

    return Implementation(decode=decode, arrays="torch", layout="bshd", negative=False, deviations=("RANGE",))


half, interleaved = rr.variants.default(HEAD_DIM), rr.variants.default(HEAD_DIM, pairing="interleaved")
CHECKS = {
    "half-split": (adapter(rotary.RotaryEmbedding(HEAD_DIM)), half),
    "scaled": (adapter(rotary.RotaryEmbedding(HEAD_DIM, scaling_factor=4.0)), rr.variants.linear(HEAD_DIM, 4.0)),
    "base": (adapter(rotary.RotaryEmbedding(HEAD_DIM, base=500.0)), rr.variants.default(HEAD_DIM, 500.0)),
}
FAULTS = {"interleaved": (adapter(rotary.RotaryEmbedding(HEAD_DIM, interleaved=True)), interleaved, "FORMULA")}


class Mended(rotary.RotaryEmbedding):
    """The table is laid out as channels are paired."""

    def forward(self, q, k, seqlen_offset=0):
        stop = q.shape[1] + seqlen_offset
        self._update_cos_sin_cache(stop, q.device, q.dtype)
        tables = self._cos_cached[seqlen_offset:stop], self._sin_cached[seqlen_offset:stop]
        cos, sin = (repeat(t, "s d -> s 1 (d 2)") for t in tables)
        return tuple(x * cos + rotary.rotate_half(x, True) * sin for x in (q, k))


MENDED = {"interleaved": (adapter(Mended(HEAD_DIM, interleaved=True)), interleaved)}
