"""The laws of rotary embeddings, and values against formulas written out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rope_ref as rr
from tests.strategies import normal, ropes, seeds

# A rotation in float64 from angles below 2,000: the angle is off by 2^-53 of itself and a few more roundings.
EXACT = 2000 * 2.0**-50


@given(ropes(magnitude=False), seeds)
def test_position_zero_is_identity(rope, seed):
    x = normal(seed, 3, rope.head_dim)
    assert np.array_equal(rr.rotate(x, np.zeros(3), rope), x)


@given(ropes(magnitude=False), seeds, st.integers(-900, 900), st.integers(-900, 900))
def test_rotations_compose(rope, seed, p, q):
    x = normal(seed, 2, rope.head_dim)
    twice = rr.rotate(rr.rotate(x, [p, p], rope), [q, q], rope)
    np.testing.assert_allclose(twice, rr.rotate(x, [p + q, p + q], rope), atol=8 * EXACT, rtol=0)


@given(ropes(), seeds, st.integers(-900, 900))
def test_unrotate_inverts(rope, seed, p):
    x = normal(seed, 2, rope.head_dim)
    scale = 1 / np.min(rr.rotation.magnitude(rope, p)) + np.max(rr.rotation.magnitude(rope, p))
    back = rr.unrotate(rr.rotate(x, [p, p], rope), [p, p], rope)
    np.testing.assert_allclose(back, x, atol=8 * EXACT * scale, rtol=0)


@given(ropes(), seeds, st.integers(0, 400), st.integers(0, 400), st.integers(-300, 300))
def test_scores_depend_on_relative_position(rope, seed, m, n, shift):
    q, k = normal(seed, 2, 1, rope.head_dim)

    def score(m, n):
        return float(np.sum(rr.rotate(q, [m], rope) * rr.rotate(k, [n], rope.keys)))

    size = np.abs(q).sum() * np.abs(k).sum() * 1.25**2
    if rope.xpos is not None:  # the magnitudes of query and key may each be large before they cancel
        size *= np.max(rope.xpos.zeta(rope.pairs) ** (-abs(m - n) / rope.xpos.scale_base))
    assert abs(score(m, n) - score(m + shift, n + shift)) <= 64 * EXACT * size


@given(ropes(), seeds)
def test_other_channels_are_untouched(rope, seed):
    x = normal(seed, 4, rope.head_dim)
    y = rr.rotate(x, np.arange(4), rope)
    stop = rope.start + 2 * rope.pairs
    assert np.array_equal(y[:, : rope.start], x[:, : rope.start]) and np.array_equal(y[:, stop:], x[:, stop:])


@given(ropes(), seeds, st.integers(0, 6))
def test_any_split_gives_the_whole(rope, seed, cut):
    x, p = normal(seed, 2, 6, rope.head_dim), np.arange(6)
    parts = [rr.rotate(x[:, :cut], p[:cut], rope), rr.rotate(x[:, cut:], p[cut:], rope)]
    assert np.array_equal(np.concatenate(parts, 1), rr.rotate(x, p, rope))


@given(ropes(), seeds)
def test_rows_take_their_own_positions(rope, seed):
    x, p = normal(seed, 3, 2, 5, rope.head_dim), np.random.default_rng(seed).integers(-50, 50, (3, 5))
    rows = np.stack([rr.rotate(x[i], p[i], rope) for i in range(3)])
    assert np.array_equal(rr.rotate(x, p, rope), rows)


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
def test_complex_multiplication(pairing):
    x = normal(0, 7, 8)
    rope = rr.Rope(head_dim=8, pairing=pairing)
    phase = np.exp(1j * np.arange(7)[:, None] * 10000.0 ** (-np.arange(4) / 4))
    if pairing == "half-split":
        z = (x[:, :4] + 1j * x[:, 4:]) * phase
        expected = np.concatenate([z.real, z.imag], -1)
    else:
        z = (x[:, ::2] + 1j * x[:, 1::2]) * phase
        expected = np.stack([z.real, z.imag], -1).reshape(7, 8)
    np.testing.assert_allclose(rr.rotate(x, np.arange(7), rope), expected, atol=1e-14, rtol=0)


def test_axial_turns_each_block_by_its_axis():
    rope = rr.variants.axial(8, (4, 4), pairing="interleaved")
    x, grid = normal(1, 6, 8), np.stack(np.meshgrid(range(2), range(3), indexing="ij"), -1).reshape(-1, 2)
    block = rr.Rope(head_dim=4, pairing="interleaved")
    expected = [rr.rotate(x[:, 4 * a : 4 * a + 4], grid[:, a], block) for a in range(2)]
    np.testing.assert_allclose(rr.rotate(x, grid, rope), np.concatenate(expected, 1), atol=1e-15, rtol=0)


def test_ntk_stretches_the_slowest_pair_alone():
    plain, ntk = rr.variants.default(64).omega, rr.variants.ntk(64, 4.0).omega
    assert ntk[0] == plain[0] == 1
    np.testing.assert_allclose(ntk[-1], plain[-1] / 4, rtol=1e-14)


def test_linear_divides_frequencies():
    assert np.array_equal(rr.variants.linear(64, 4.0).omega, rr.variants.default(64).omega / 4)


def test_float32_angles_are_rounded_products():
    rope = rr.Rope(head_dim=8, angle_dtype="float32")
    expected = np.float32(100003) * rope.omega.astype(np.float32)
    assert np.array_equal(rr.angles(rope, 100003), expected.astype(np.float64))


@given(ropes())
def test_repr_makes_an_equal_rope(rope):
    assert eval(repr(rope), {"Rope": rr.Rope, "XPos": rr.XPos}) == rope


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(head_dim=0), "head_dim"),
        (dict(head_dim=8, rotary_dim=5), "rotary_dim is 5"),
        (dict(head_dim=8, rotary_dim=10), "rotary_dim is 10"),
        (dict(head_dim=8, theta=-1.0), "theta"),
        (dict(head_dim=8, pairing="pairs"), "pairing is 'pairs'"),
        (dict(head_dim=8, inv_freq=(float("nan"),)), "inv_freq"),
        (dict(head_dim=8, angle_dtype="float16"), "angle_dtype"),
    ],
)
def test_bad_ropes_say_what_is_wrong(arguments, words):
    with pytest.raises(ValueError, match=words):
        rr.Rope(**arguments)


def test_bad_positions_say_what_is_wrong():
    rope = rr.Rope(head_dim=4)
    for positions in ([np.nan], [True], ["a"], np.arange(3)):
        with pytest.raises(ValueError, match="positions"):
            rr.rotate(np.ones((2, 4)), positions, rope)
