"""Every frequency variant against its formula at 50 digits, and the laws that tie the variants together."""

import inspect
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mpmath import mpf

import rope_ref as rr
from rope_ref import frequencies, magnitude
from tests.rope_ref.configs import expected
from tests.strategies import normal

ROUNDING = 2.0**-53
# See test_configs: the exponent's rounding grows by ln(theta), and fewer than eight operations follow.
PLAIN = (math.log(1e7) + 8) * ROUNDING

widths = st.integers(2, 64).map(lambda pairs: 2 * pairs)
thetas = st.sampled_from([100.0, 1e4, 5e5, 1e6]) | st.floats(100, 1e7)
factors = st.sampled_from([1.0, 4.0, 40.0]) | st.floats(1, 64)
lengths = st.integers(64, 300000)


def close(ours, exact, bound):
    np.testing.assert_allclose(ours, [float(w) for w in exact], rtol=bound, atol=0)


@given(widths, thetas)
def test_geometric(width, theta):
    close(rr.variants.default(width, theta).omega, expected.plain(width, mpf(theta)), PLAIN)


@given(widths, thetas)
def test_float32_rounds_exponent_power_and_inverse(width, theta):
    """Each rounding done right, whatever the vector library."""
    ours = frequencies.geometric(width, theta, np.float32)
    for i, w in enumerate(ours):
        exponent = np.float32(2 * i) / np.float32(width)
        power = np.float32(float(mpf(float(np.float32(theta))) ** mpf(float(exponent))))
        assert w.dtype == np.float32 and w == np.float32(1) / power


@given(widths, thetas, factors)
def test_linear(width, theta, factor):
    exact = expected.times(expected.plain(width, mpf(theta)), mpf(factor))
    close(rr.variants.linear(width, factor, theta).omega, exact, PLAIN)


@given(widths, thetas, factors, lengths, st.floats(0.25, 8), st.floats(0.5, 40))
def test_bands(width, theta, factor, length, low, band):
    """Llama 3 by its wavelengths; NTK-by-parts is the same rule under other names."""
    high = low + band
    exact = expected.llama3(expected.plain(width, mpf(theta)), mpf(factor), mpf(low), mpf(high), length)
    ours = rr.variants.llama3(width, factor, low, high, length, theta)
    # the ramp is off by the error of the rotations, at most `high` of them, over its length; see test_configs
    close(ours.omega, exact, PLAIN * (1 + 2 * factor * high / (high - low)))
    assert ours == rr.variants.ntk_by_parts(width, factor, length, theta, alpha=low, beta=high)


@given(widths, thetas, factors, lengths, st.booleans())
@example(4, 100.0, 4.0, 300000, True)  # low and high meet at the last channel
def test_yarn(width, theta, factor, length, truncate):
    ours = rr.variants.yarn(width, factor, length, theta, truncate=truncate)
    low, high = (width * math.log(length / (2 * math.pi * b)) / (2 * math.log(theta)) for b in (32, 1))
    # the logarithms and what comes after: two roundings of a number near 1, and five of a bound within the width
    off = (5 + 1 / math.log(theta)) * width * ROUNDING
    if truncate:  # a bound within rounding of a whole number may go either way, any other is exact
        if min(abs(low - round(low)), abs(high - round(high))) < 1e-9:
            return
        low, high, off = math.floor(low), math.ceil(high), 0
    low, high = max(low, 0), min(high, width - 1)
    length_of_ramp = abs(high - low) or 0.001
    # (i - low) / (high - low), where it lies between 0 and 1, moves by what low and high do, three times at most, over
    # its length; where they meet it is a step, which may fall on either side of a pair
    ramp = 3 * off / (length_of_ramp - 2 * off) if length_of_ramp > 5 * off else 1
    exact = expected.yarn(width, mpf(theta), mpf(factor), length, truncate=truncate)
    close(ours.omega, exact, PLAIN * (1 + factor) + factor * ramp)
    assert ours.attention_scale == magnitude.yarn_scale(factor)
    assert abs(ours.attention_scale - (0.1 * math.log(factor) + 1)) < 4 * ROUNDING


@given(widths, thetas, factors, lengths)
def test_scaled_frequencies_lie_between_untouched_and_interpolated(width, theta, factor, length):
    w, slack = rr.variants.default(width, theta).omega, 8 * ROUNDING
    for rope in (rr.variants.yarn(width, factor, length, theta), rr.variants.llama3(width, factor, theta=theta)):
        assert (rope.omega <= w * (1 + slack)).all() and (rope.omega >= w / factor * (1 - slack)).all()
        assert (np.diff(rope.omega) < 0).all()


@given(widths, thetas, lengths)
def test_factor_one_changes_nothing(width, theta, length):
    w = rr.variants.default(width, theta)
    assert rr.variants.ntk(width, 1.0, theta) == rr.variants.dynamic_ntk(width, 1.0, length, 9, theta) == w
    assert np.array_equal(rr.variants.linear(width, 1.0, theta).omega, w.omega)
    for rope in (rr.variants.llama3(width, 1.0, theta=theta), rr.variants.yarn(width, 1.0, length, theta)):
        np.testing.assert_allclose(rope.omega, w.omega, rtol=4 * ROUNDING)
        assert rope.attention_scale == 1


@given(widths.filter(lambda width: width > 2), thetas, factors, lengths)
def test_dynamic_ntk_grows_with_the_length(width, theta, factor, trained):
    at = {n: rr.variants.dynamic_ntk(width, factor, trained, n, theta) for n in (1, trained, 2 * trained)}
    assert at[1] == at[trained] == rr.variants.default(width, theta)
    # at twice the length the factor is 2 s - (s - 1) = s + 1, and the slowest pair is slowed by just that
    np.testing.assert_allclose(at[2 * trained].omega[-1], at[1].omega[-1] / (factor + 1), rtol=8 * PLAIN)
    assert at[2 * trained].omega[0] == 1


@given(widths, thetas, lengths, st.integers(1, 10**6))
def test_dynamic_yarn_takes_the_factor_it_needs(width, theta, trained, length):
    ours = rr.variants.dynamic_yarn(width, trained, length, theta=theta)
    assert ours == rr.variants.yarn(width, max(1.0, length / trained), trained, theta)


@given(widths, thetas, lengths, st.data())
def test_longrope_switches_beyond_the_trained_length(width, theta, trained, data):
    lists = st.lists(st.floats(1, 64), min_size=width // 2, max_size=width // 2)
    short, long = data.draw(lists), data.draw(lists)
    for length, used in ((1, short), (trained, short), (trained + 1, long)):
        rope = rr.variants.longrope(width, short, long, trained, length, factor=32.0, theta=theta)
        close(rope.omega, expected.divided(expected.plain(width, mpf(theta)), used), PLAIN)
        assert rope.attention_scale == math.sqrt(1 + math.log(32) / math.log(trained))
    assert rr.variants.longrope(width, short, long, trained, 1, attention_factor=1.5).attention_scale == 1.5


def test_a_step_where_the_bands_touch():
    """Llama 4: low = high, so each pair is either untouched or interpolated, and nothing divides by zero."""
    plain = rr.variants.default(128, 5e5).omega
    omega = rr.variants.llama3(128, 16.0, 1.0, 1.0, 8192).omega
    assert np.array_equal(omega, np.where(8192 * plain >= 2 * math.pi, plain, plain / 16))


def test_proportional_and_the_two_kinds_of_partial():
    whole = rr.variants.default(64).omega
    proportional = rr.variants.proportional(64, 0.25).omega
    assert np.array_equal(proportional, np.where(np.arange(32) < 8, whole, 0))
    assert rr.variants.proportional(64).omega.tolist() == whole.tolist()
    over_head = rr.variants.partial(64, 0.25, exponent="head_dim")
    over_range = rr.variants.partial(64, 0.25)
    assert np.array_equal(over_head.omega, whole[:8]) and over_head.pairs == over_range.pairs == 8
    assert over_range == rr.variants.default(64, rotary_dim=16)
    assert np.array_equal(rr.variants.half_truncated(32).omega[8:], np.zeros(8))
    np.testing.assert_allclose(rr.variants.half_truncated(32).omega[:8], 1024.0 ** -(np.arange(8) / 7), rtol=PLAIN)


@given(st.sampled_from([rr.variants.mrope, rr.variants.mrope_interleaved]), st.integers(0, 2**31), st.integers(-9, 9))
def test_text_tokens_see_ordinary_rope(variant, seed, position):
    """Where time, height and width agree, multimodal and ordinary rotation are the same numbers."""
    x = normal(seed, 1, 32)
    turned = rr.rotate(x, [[position] * 3], variant(32, (6, 5, 5)))
    assert np.array_equal(turned, rr.rotate(x, [position], rr.variants.default(32)))


def test_sections_and_turns():
    axis = [np.argmax(rr.variants.mrope(16, (3, 2, 3)).omega > 0, axis=1).tolist()]
    axis += [np.argmax(rr.variants.mrope_interleaved(16, (4, 2, 2)).omega > 0, axis=1).tolist()]
    assert axis == [[0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 1, 2, 0, 0]]


def test_magnitudes():
    assert magnitude.yarn_attention(40.0, 0.707, 1.0) == magnitude.yarn_scale(40.0, 0.707) / magnitude.yarn_scale(40.0)
    for one_sided in (magnitude.yarn_attention(40.0, 0.707, 0.0), magnitude.yarn_attention(40.0, 0.707)):
        assert one_sided == magnitude.yarn_scale(40.0)
    assert magnitude.yarn_softmax(40.0, 1.0) == (0.1 * math.log(40) + 1) ** 2
    assert rr.variants.yarn(64, 4.0, 4096, attention_factor=2.0).attention_scale == 2


@pytest.mark.parametrize("name", ["linear", "ntk", "yarn", "llama3", "ntk_by_parts", "dynamic_ntk", "proportional"])
def test_float32_stays_float32_and_near(name):
    options = {"yarn": dict(original_max_position_embeddings=4096), "dynamic_ntk": dict(max_position_embeddings=4096,
             length=9000), "ntk_by_parts": dict(original_max_position_embeddings=4096)}.get(name, {})  # fmt: skip
    exact, rounded = (rr.CATALOGUE[name](128, factor=4.0, **options, angle_dtype=t) for t in ("float64", "float32"))
    assert np.array_equal(rounded.omega.astype(np.float32), rounded.omega)
    np.testing.assert_allclose(rounded.omega, exact.omega, rtol=PLAIN / ROUNDING * 2.0**-24 * (1 + 2 * 4 * 4 / 3))
    assert not np.array_equal(rounded.omega, exact.omega)


@pytest.mark.parametrize(
    "call, options",
    [
        (lambda: rr.variants.linear(8, 0.5), "factor is 0.5"),
        (lambda: rr.variants.linear(8, float("nan")), "factor is nan"),
        (lambda: rr.variants.ntk(2, 2.0), "rotary_dim is 2"),
        (lambda: rr.variants.dynamic_ntk(8, 2.0, 4096, length=0), "length is 0"),
        (lambda: rr.variants.yarn(8, 2.0, 0), "original_max_position_embeddings is 0"),
        (lambda: rr.variants.yarn(8, 2.0, 64, theta=1.0), "theta is 1.0"),
        (lambda: rr.variants.yarn(8, 2.0, 64, beta_fast=1, beta_slow=2), "beta_slow is 2"),
        (lambda: rr.variants.llama3(8, 2.0, low_freq_factor=5.0), "bands run from 5.0 to 4.0"),
        (lambda: rr.variants.longrope(8, [1] * 4, [1] * 3, 64, 65, factor=2), "expected 4 positive numbers"),
        (lambda: rr.variants.longrope(8, [1] * 4, [1] * 3, 64, 1, factor=2), "expected 4 positive numbers"),
        (lambda: rr.variants.longrope(8, [1] * 4, [1] * 4, 64, 1), "both None"),
        (lambda: rr.variants.longrope(8, [1] * 4, [0] * 4, 64, 65, factor=2), "positive numbers"),
        (lambda: rr.variants.mrope(8, (1, 1, 1)), "add up to 4 pairs"),
        (lambda: rr.variants.mrope(8, (5, -1, 0)), "add up to 4 pairs"),
        (lambda: rr.variants.mrope_interleaved(16, (0, 4, 4)), "cannot take turns"),
        (lambda: rr.variants.proportional(8, 1.5), "partial_rotary_factor is 1.5"),
        (lambda: rr.variants.partial(8, -0.5), "partial_rotary_factor is -0.5"),
        (lambda: rr.variants.partial(8, 0.5, exponent="pairs"), "exponent is 'pairs'"),
        (lambda: rr.variants.half_truncated(6), "head_dim is 6"),
        (lambda: frequencies.geometric(8, -1.0), "theta is -1.0"),
    ],
)
def test_bad_arguments_say_what_is_wrong(call, options):
    with pytest.raises(ValueError, match=options):
        call()


def test_the_catalogue_names_every_variant():
    helpers = {"unscaled", "turning", "__getattr__"}
    defined = {name: f for name, f in vars(rr.variants).items() if inspect.isfunction(f) and name not in helpers}
    own = {name: f for name, f in defined.items() if f.__module__ == rr.variants.__name__}
    assert len(own) > 15 and all(rr.CATALOGUE[name] is f for name, f in own.items())
