"""A parameter with a wrong value is named, with its value and the right one."""

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import check
from rope_ref.conformance.diagnosis.mutations.fitting import fitted
from rope_ref.conformance.diagnosis.mutations.frequencies import by_pair
from rope_ref.conformance.diagnosis.reading import read

V = rr.variants
VARIANTS = {
    "default": (V.default, {"theta": 10000.0}, {"theta": (50000.0, 2e6, 12345.0)}),
    "linear": (V.linear, {"factor": 8.0}, {"factor": (4.0, 2.0, 3.5), "theta": (500000.0,)}),
    "ntk": (V.ntk, {"factor": 4.0}, {"factor": (2.0, 16.0)}),
    "dynamic_ntk": (
        V.dynamic_ntk, {"factor": 4.0, "max_position_embeddings": 512, "length": 4096},
        {"factor": (2.0, 8.0), "max_position_embeddings": (1024, 2048)},
    ),
    "llama3": (
        V.llama3, {"factor": 32.0},
        {"factor": (8.0, 16.0), "low_freq_factor": (0.5, 2.0), "high_freq_factor": (2.0, 8.0),
         "original_max_position_embeddings": (4096, 16384), "theta": (10000.0,)},
    ),
    "ntk_by_parts": (
        V.ntk_by_parts, {"factor": 8.0, "original_max_position_embeddings": 4096},
        {"factor": (4.0,), "alpha": (2.0,), "beta": (16.0, 64.0), "original_max_position_embeddings": (2048,)},
    ),
    "yarn": (
        V.yarn, {"factor": 32.0, "original_max_position_embeddings": 4096},
        {"factor": (8.0, 40.0), "original_max_position_embeddings": (8192, 2048), "beta_fast": (16.0, 64.0),
         "beta_slow": (4.0,), "theta": (1e6,)},
    ),
    "yarn of DeepSeek": (
        V.yarn, {"factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 1.0, "mscale_all_dim": 0.8},
        {"mscale": (0.707,), "mscale_all_dim": (0.5,)},
    ),
    "longrope": (
        V.longrope, {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32, "factor": 32.0,
                     "original_max_position_embeddings": 4096, "length": 4096},
        {"factor": (8.0,), "theta": (500000.0,)},
    ),
    "proportional": (V.proportional, {"partial_rotary_factor": 0.5, "theta": 1e6}, {"theta": (1e4,)}),
}  # fmt: skip
WRONG = [
    (variant, name, value)
    for variant, (_, _, changed) in VARIANTS.items()
    for name, values in changed.items()
    for value in values
]


def rotation(rope):
    """x (seq, head_dim) turned in float32, as an implementation does."""
    w = rope.omega.astype(np.float32)

    def turn(x, positions):
        a = np.asarray(positions, np.float32)[:, None] * w
        cos, sin = (np.float32(rope.attention_scale) * f(a) for f in (np.cos, np.sin))
        one, two = (x[:, half].astype(np.float32) for half in (slice(None, len(w)), slice(len(w), 2 * len(w))))
        return np.concatenate([one * cos - two * sin, two * cos + one * sin], -1).astype(np.float64)

    return turn


@pytest.mark.parametrize("variant, name, value", WRONG)
def test_the_value_is_named(variant, name, value):
    make, given, _ = VARIANTS[variant]
    right, wrong = make(64, **given), make(64, **given | {name: value})
    reading = read(rotation(wrong), right)
    texts = [text for _, text, _ in fitted(right, by_pair(right, reading), reading.scale)]
    expected = right.origin.given[name]
    assert texts and texts[0] == f"{name} is {value:.7g}; expected {expected:.7g}", texts


def test_two_values_are_named_together():
    given = {"factor": 32.0, "original_max_position_embeddings": 8192}
    right, wrong = V.llama3(64, **given), V.llama3(64, **given | {"factor": 8.0, "high_freq_factor": 8.0})
    reading = read(rotation(wrong), right)
    texts = [text for _, text, _ in fitted(right, by_pair(right, reading), reading.scale)]
    assert texts[0] == "factor is 8; expected 32 and high_freq_factor is 8; expected 4"


@pytest.mark.parametrize("name", VARIANTS)
def test_nothing_is_wrong_with_the_right_one(name):
    make, given, _ = VARIANTS[name]
    right = make(64, **given)
    reading = read(rotation(right), right)
    assert not list(fitted(right, by_pair(right, reading), reading.scale))


def test_through_a_check():
    right, wrong = V.yarn(64, 32.0, 4096), V.yarn(64, 8.0, 4096)

    def apply(x, positions):
        return rr.rotate(x, positions, wrong).astype(x.dtype)

    report = check(apply, right, budget="quick", arrays="numpy", dtypes=("float32",))
    assert [f.explanation for f in report.findings] == ["factor is 8; expected 32"]


def test_arrays_of_numpy_are_taken_for_lists():
    given = {"short_factor": np.ones(32), "long_factor": np.full(32, 2.0), "factor": 4.0, "length": 64}
    right = V.longrope(64, original_max_position_embeddings=128, **given)
    assert right.origin.given["short_factor"] == (1.0,) * 32
    report = check(lambda x, p: (1.5 * rr.rotate(x, p, right)).astype(x.dtype), right, budget="quick", arrays="numpy")
    assert not report.passed
