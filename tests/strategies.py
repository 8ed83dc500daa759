"""Ropes, positions and inputs for every property."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

import rope_ref as rr

settings.register_profile("untimed", deadline=None)  # how long an example takes is no property of the code
settings.load_profile("untimed")

pairings = st.sampled_from(["half-split", "interleaved"])
seeds = st.integers(0, 2**32 - 1)


@st.composite
def ropes(draw, magnitude=True):
    pairs, start, rest = draw(st.integers(1, 9)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    xpos = st.none() | st.builds(rr.XPos, st.floats(50, 1000), st.floats(-20, 20)) if magnitude else st.none()
    return rr.Rope(
        head_dim=start + 2 * pairs + rest,
        rotary_dim=2 * pairs,
        start=start,
        theta=draw(st.sampled_from([10.0, 1e4, 5e5])),
        pairing=draw(pairings),
        attention_scale=draw(st.sampled_from([1.0, 1.25])) if magnitude else 1.0,
        xpos=draw(xpos),
    )


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)
