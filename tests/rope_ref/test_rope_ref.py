"""The specification against formulas written out by hand. Its laws are in test_laws."""

import numpy as np
import pytest
from hypothesis import given

import rope_ref as rr
from tests.strategies import normal, ropes, seeds


@given(ropes(), seeds)
def test_rows_take_their_own_positions(rope, seed):
    x, p = normal(seed, 3, 2, 5, rope.head_dim), np.random.default_rng(seed).integers(-50, 50, (3, 5))
    rows = np.stack([rr.rotate(x[i], p[i], rope) for i in range(3)])
    assert np.array_equal(rr.rotate(x, p, rope), rows)


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
