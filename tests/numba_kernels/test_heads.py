"""One Omega for each head: the same equation with one more axis."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import numba_kernels as nk
import rope_ref as rr
from rope_ref.exactness import budget
from tests.strategies import normal, pairings, seeds


@st.composite
def dense(draw):
    heads, pairs, axes = draw(st.integers(1, 4)), draw(st.integers(1, 5)), draw(st.integers(1, 3))
    start = draw(st.integers(0, 2))
    omega = normal(draw(seeds), heads, pairs, axes)
    return rr.Rope(start + 2 * pairs + draw(st.integers(0, 2)), start=start, inv_freq=omega, pairing=draw(pairings))


def of_head(rope, h):
    return rr.Rope(rope.head_dim, start=rope.start, inv_freq=rope.omega[h], pairing=rope.pairing)


@given(dense(), seeds, st.booleans(), st.booleans())
def test_each_head_is_a_rope_of_its_own(rope, seed, batch, rows):
    lead = (2,) if batch or rows else ()
    x = normal(seed, *lead, rope.heads, 5, rope.head_dim)
    p = normal(seed, *(lead if rows else ()), 5, rope.axes)
    y = rr.rotate(x, p, rope)
    assert rr.angles(rope, p).shape == (*p.shape[:-2], rope.heads, 5, rope.pairs)
    for h in range(rope.heads):
        assert np.array_equal(y[..., h, :, :], rr.rotate(x[..., h, :, :], p, of_head(rope, h)))


@given(dense(), seeds)
def test_scores_depend_on_displacement(rope, seed):
    q, k = normal(seed, 2, rope.heads, 4, rope.head_dim)
    p, shift = normal(seed, 4, rope.axes) * 20, normal(seed + 1, rope.axes) * 20
    a, b = (rr.rotate(q, at, rope) @ rr.rotate(k, at, rope).swapaxes(-1, -2) for at in (p, p + shift))
    # an angle is a sum of at most three products, each rounded, below this; so is p + shift itself
    angle = np.abs(rope.omega).sum(-1).max() * (np.abs(p).max() + np.abs(shift).max())
    assert np.abs(a - b).max() <= 2 * (8 * angle + 8) * 2.0**-53 * np.abs(q).sum(-1).max() * np.abs(k).sum(-1).max()


@given(dense(), seeds)
def test_unrotate_inverts(rope, seed):
    x, p = normal(seed, 2, rope.heads, 3, rope.head_dim), normal(seed, 3, rope.axes)
    np.testing.assert_allclose(rr.unrotate(rr.rotate(x, p, rope), p, rope), x, atol=16 * 2.0**-53 * 6, rtol=0)


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=5), st.lists(st.integers(-1000, 1000), min_size=1, max_size=5))
def test_the_three_kinds_of_omega_are_one_equation(omega, positions):
    omega, p = np.array(omega), np.array(positions)
    width = 2 * len(omega)
    plain = rr.angles(rr.Rope(width, inv_freq=omega), p)
    assert np.array_equal(plain, rr.angles(rr.Rope(width, inv_freq=omega[:, None]), p[:, None]))
    assert np.array_equal(plain, rr.angles(rr.Rope(width, inv_freq=omega[None, :, None]), p[:, None])[0])


@given(dense())
def test_repr_makes_an_equal_rope(rope):
    again = eval(repr(rope), {"Rope": rr.Rope})
    assert again == rope and hash(again) == hash(rope) and np.array_equal(again.omega, rope.omega)


@given(dense(), seeds)
def test_kernels_take_the_tables_of_heads(rope, seed):
    x, p = normal(seed, 2, rope.heads, 5, rope.head_dim), normal(seed, 5, rope.axes)
    cos, sin = rr.tables(rope, p)
    assert cos.shape == sin.shape == (rope.heads, 5, rope.pairs)
    y = nk.rotate(x, cos, sin, pairing=rope.pairing, start=rope.start)
    bound = budget(x, p, rope, store="float64", arithmetic="float64", table="float64")
    assert (np.abs(y - rr.rotate(x, p, rope)) <= bound).all()


@pytest.mark.parametrize("pairs", [2, 6])
def test_mixed_is_the_published_initialisation(pairs):
    """Angles of x and y as the paper writes them, and complex multiplication of interleaved pairs."""
    d, heads, theta, (height, width) = 2 * pairs, 3, 10.0, (2, 5)
    rope = rr.vision.mixed(d, heads, np.random.default_rng(7))
    u = np.random.default_rng(7).uniform(0, 2 * np.pi, heads)
    x = normal(3, heads, height * width, d)
    t = np.arange(height * width)
    column, row = t % width, t // width
    magnitude = theta ** (-np.arange(0, d, 4) / d)
    expected = np.empty_like(x)
    for h in range(heads):
        fx = np.concatenate([magnitude * np.cos(u[h]), magnitude * np.cos(np.pi / 2 + u[h])])
        fy = np.concatenate([magnitude * np.sin(u[h]), magnitude * np.sin(np.pi / 2 + u[h])])
        z = (x[h, :, ::2] + 1j * x[h, :, 1::2]) * np.exp(1j * (np.outer(column, fx) + np.outer(row, fy)))
        expected[h] = np.stack([z.real, z.imag], -1).reshape(-1, d)
    # angles below 7, two products and a sum, against the same in another order
    ours = rr.rotate(x, rr.positions.grid(height, width), rope)
    np.testing.assert_allclose(ours, expected, atol=8 * 7 * 2.0**-53 * np.abs(x).max(), rtol=0)


def test_a_generator_decides_the_directions():
    a, b, c = (rr.vision.mixed(8, 4, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert a == b != c
    assert len({tuple(map(tuple, head)) for head in a.inv_freq}) == 4


def test_heads_obey_float32_angles():
    omega = normal(0, 2, 3, 2)
    p = normal(1, 4, 2) * 1000
    phi = rr.angles(rr.Rope(6, inv_freq=omega, angle_dtype="float32"), p)
    single = np.einsum("hia,sa->hsia", omega.astype(np.float32), p.astype(np.float32))
    assert np.array_equal(phi, (single[..., 0] + single[..., 1]).astype(np.float64))


H = rr.Rope(4, inv_freq=np.ones((3, 2, 2)))


@pytest.mark.parametrize(
    "x, positions, words",
    [
        (np.ones((3, 5, 4)), np.ones(2), r"positions have shape \(2,\); expected \(..., seq, 2\)"),
        (np.ones((3, 5, 4)), np.ones((5, 3)), r"expected \(..., seq, 2\)"),
        (np.ones((2, 5, 4)), np.ones((5, 2)), r"tables of shape \(3, 5, 2\)"),
        (np.ones((5, 4)), np.ones((5, 2)), r"tables of shape \(3, 5, 2\)"),
        (np.ones((3, 3, 5, 4)), np.ones((2, 5, 2)), "tables of shape"),
    ],
)
def test_bad_shapes_say_what_is_wrong(x, positions, words):
    with pytest.raises(ValueError, match=words):
        rr.rotate(x, positions, H)


@pytest.mark.parametrize("omega", [np.ones((1, 2, 2, 2)), np.ones((2, 0, 2)), np.full((1, 1, 1), np.nan)])
def test_bad_omegas_say_what_is_wrong(omega):
    with pytest.raises(ValueError, match="inv_freq has shape"):
        rr.Rope(4, inv_freq=omega)
