"""fairseq2: both of its encoders are right, and so is Gemma 3n's, two thetas for two parts of the channels."""

import rope_ref as rr
from examples.libraries import alone
from rope_ref.conformance import Implementation

encoders = alone("fairseq2.nn.position_encoder")
layouts, states = alone("fairseq2.nn.batch_layout"), alone("fairseq2.nn.incremental_state")
HEAD_DIM, LENGTH = 64, 8192


def adapter(encoder):
    encoder.eval()

    def sequence(x):
        return encoder(x, layouts.BatchLayout(tuple(x.shape[:2]), None))

    def decode(x, offset):
        state = states.IncrementalStateBag(LENGTH)
        if offset:
            state.increment_step_nr(offset)
        return encoder(x, layouts.BatchLayout(tuple(x.shape[:2]), None), state_bag=state)

    return Implementation(sequence=sequence, decode=decode, arrays="torch", layout="bshd", negative=False,
                          max_position=LENGTH)  # fmt: skip


INTERLEAVED = rr.variants.default(HEAD_DIM, pairing="interleaved")
HALF = HEAD_DIM // 2
DUAL = rr.variants.custom(  # each half of the channels is a head of its own
    HEAD_DIM, [*rr.variants.default(HALF, 1e4).omega, *rr.variants.default(HALF, 1e5).omega], pairing="interleaved"
)
CHECKS = {
    "complex": (adapter(encoders.RotaryEncoder(HEAD_DIM, LENGTH)), INTERLEAVED),
    "reference": (adapter(encoders.ReferenceRotaryEncoder(HEAD_DIM, LENGTH)), rr.variants.default(HEAD_DIM)),
    "two thetas": (adapter(encoders.DualRotaryEncoder(HEAD_DIM, LENGTH)), DUAL),
}
