"""litgpt: default, linear and Llama 3 are right; YaRN's ramp is inverted, and it has no magnitude."""

import torch

import rope_ref as rr
from examples.libraries import alone
from rope_ref.conformance import Implementation

model = alone("litgpt.model")
HEAD_DIM, LENGTH = 64, 8192
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_seq_len=8192)
YARN = dict(factor=4.0, beta_fast=32.0, beta_slow=1.0, original_max_seq_len=4096)


def adapter(cos, sin):
    def apply(x, positions):
        rows = positions[None] if positions.ndim == 1 else positions
        return model.apply_rope(x, cos[rows], sin[rows])

    return Implementation(apply=apply, arrays="torch", negative=False, max_position=LENGTH, deviations=("RANGE",))


def built(**options):
    return adapter(*model.build_rope_cache(LENGTH, HEAD_DIM, **options))


CHECKS = {
    "default": (built(), rr.variants.default(HEAD_DIM)),
    "condensed": (built(condense_ratio=4), rr.variants.linear(HEAD_DIM, 4.0)),
    "linear": (built(extra_config={"factor": 4.0}), rr.variants.linear(HEAD_DIM, 4.0)),
    "llama3": (built(base=500000, extra_config=LLAMA3), rr.variants.llama3(HEAD_DIM, 8.0)),
}
yarn = rr.variants.yarn(HEAD_DIM, 4.0, 4096)
FAULTS = {
    "yarn": (built(extra_config=YARN), yarn, "YBAND", "YMAG"),
}


def mended():
    """Interpolation and extrapolation change places, and the tables carry 0.1 ln(factor) + 1."""
    cos, sin = model.build_rope_cache(2, HEAD_DIM, extra_config=YARN)
    inverted = torch.atan2(sin[1], cos[1])[: HEAD_DIM // 2]
    plain = 10000.0 ** -(torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    angle = torch.outer(torch.arange(LENGTH), plain + plain / YARN["factor"] - inverted).repeat(1, 2)
    magnitude = model.yarn_get_mscale(YARN["factor"], 1.0)
    return angle.cos() * magnitude, angle.sin() * magnitude


MENDED = {"yarn": (adapter(*mended()), yarn)}
