"""What ends in the same rotation: mixtures of angles, magnitudes, other bases, and a rotary part on its own."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.deepseek_v3.modeling_deepseek_v3 import apply_rotary_pos_emb_interleave

import rope_ref as rr
from rope_ref import beyond
from tests.strategies import normal, pairings, ropes, seeds

# --- FoPE -------------------------------------------------------------------------------------------------

LENGTH = 50  # of the frequencies of 16 channels, 1, .316, .1, ..., two exceed 2 pi / 50 = .126


def coefficients(seed, *shape):
    return np.eye(2) + 0.1 * normal(seed, *shape, 2, 2)


@given(seeds, pairings)
def test_fourier_with_identities_is_rope_without_its_slow_pairs(seed, pairing):
    rope = rr.Rope(16, pairing=pairing, attention_scale=1.5, xpos=rr.XPos())
    x, p = normal(seed, 2, 3, 5, 16), np.arange(5) * 7
    y = beyond.fourier(x, p, rope, np.eye(2), np.eye(2), LENGTH)
    clipped = replace(rope, inv_freq=np.where(np.arange(8) < 2, rope.omega, 0))
    # times one and zero, summed: no rounding
    assert np.array_equal(y, rr.rotate(x, p, clipped))


def test_fourier_is_the_published_table():
    """einsum of sines and cosines with coefficients per head, half-split, as in serving code; ones where padded."""
    rope, heads, p = rr.Rope(16), 3, np.arange(9)
    x = torch.from_numpy(normal(1, heads, 9, 16))
    c, s = (torch.from_numpy(coefficients(seed, heads)) for seed in (2, 3))
    angle = torch.outer(torch.arange(9.0, dtype=torch.float64), torch.from_numpy(rope.omega[:2]))
    cos, sin = (torch.einsum("tD,hDd->htd", f(angle), k) for f, k in ((torch.cos, c), (torch.sin, s)))
    cos, sin = (torch.nn.functional.pad(t, (0, 6), value=1.0).repeat(1, 1, 2) for t in (cos, sin))
    theirs = (x * cos + torch.cat([-x[..., 8:], x[..., :8]], -1) * sin).numpy()
    ours = beyond.fourier(x.numpy(), p, rope, c.numpy(), s.numpy(), LENGTH)
    trained = [0, 1, 8, 9]
    # angles below 9, a sum of two products, then another
    np.testing.assert_allclose(ours[..., trained], theirs[..., trained], atol=16 * 9 * 2.0**-53 * 6, rtol=0)
    a, b = np.split(ours[..., [*range(2, 8), *range(10, 16)]], 2, axis=-1)  # the padded pairs, left as they were
    assert np.array_equal(a, x[..., 2:8].numpy()) and np.array_equal(b, x[..., 10:].numpy())
    np.testing.assert_allclose(theirs[..., 2:8], a - b, atol=2.0**-50, rtol=0)
    np.testing.assert_allclose(theirs[..., 10:], a + b, atol=2.0**-50, rtol=0)


def test_fourier_heads_are_their_own():
    rope, x, c, s = rr.Rope(16), normal(1, 2, 3, 5, 16), coefficients(2, 3), coefficients(3, 3)
    y = beyond.fourier(x, np.arange(5), rope, c, s, LENGTH)
    for h in range(3):
        alone = beyond.fourier(x[:, h], np.arange(5), rope, c[h], s[h], LENGTH)
        np.testing.assert_allclose(y[:, h], alone, atol=32 * 2.0**-53 * 6, rtol=0)


# --- PoPE -------------------------------------------------------------------------------------------------


def softplus(x):
    return np.log1p(np.exp(x))


@given(seeds, st.integers(-100, 100))
def test_polar_scores_are_a_sum_of_cosines(seed, shift):
    d, heads = 6, 2
    q, k = normal(seed, 2, heads, 4, d)
    bias = -np.abs(normal(seed + 1, heads, 1, d))
    m, n = np.arange(4) + shift, np.arange(4) + shift
    y = beyond.polar(q, m) @ beyond.polar(k, n, bias=bias).swapaxes(-1, -2)
    w, away = 10000.0 ** (-np.arange(d) / d), (np.arange(4)[:, None] - np.arange(4))[..., None]
    cosines = np.cos(away * w - bias[:, :, None])
    expected = (softplus(q)[:, :, None] * softplus(k)[:, None] * cosines).sum(-1)
    # six terms below 36, angles below 105
    np.testing.assert_allclose(y, expected, atol=16 * 105 * 6 * 36 * 2.0**-53, rtol=0)


def test_polar_is_the_published_layout():
    """q cos and q sin of every feature beside each other: twice the width."""
    x, p = normal(0, 2, 5, 6), np.arange(5)
    phi = torch.from_numpy(np.outer(p, 10000.0 ** (-np.arange(6) / 6)))
    size = torch.nn.functional.softplus(torch.from_numpy(x))
    theirs = torch.stack([size * phi.cos(), size * phi.sin()], -1).flatten(-2)
    ours = beyond.polar(x, p)
    assert ours.shape == (2, 5, 12)
    # torch turns softplus into the identity above 20; here all are below
    np.testing.assert_allclose(ours, theirs.numpy(), atol=32 * 2.0**-53 * 6, rtol=0)


def test_polar_clamps_the_bias_and_survives_large_features():
    x, p = np.ones((3, 2)), np.arange(3)
    assert np.array_equal(beyond.polar(x, p, bias=[1.0, 5.0]), beyond.polar(x, p))
    assert np.array_equal(beyond.polar(x, p, bias=-9.0), beyond.polar(x, p, bias=-2 * np.pi))
    assert beyond.polar([[1000.0, -1000.0]], [0]).tolist() == [[1000, 0, 0, 0]]


# --- commuting generators ---------------------------------------------------------------------------------


def orthogonal(seed, n):
    return np.linalg.qr(normal(seed, n, n))[0]


@given(seeds, st.integers(1, 3), st.integers(1, 3), pairings)
def test_another_basis_is_the_exponential_of_commuting_generators(seed, pairs, axes, pairing):
    d, omega = 2 * pairs, normal(seed, pairs, axes)
    rope, basis = rr.Rope(d, inv_freq=omega, pairing=pairing), orthogonal(seed, d)
    first, second = rr.pairing.channels(pairing, pairs)
    generators = np.zeros((axes, d, d))
    generators[:, second, first], generators[:, first, second] = omega.T, -omega.T
    generators = basis @ generators @ basis.T
    x, p = normal(seed, 4, d), normal(seed + 1, 4, axes)
    matrices = torch.linalg.matrix_exp(torch.from_numpy(np.einsum("sa,aij->sij", p, generators))).numpy()
    expected = np.einsum("sij,sj->si", matrices, x)
    # angles below 60: scaling and squaring of the exponential doubles its error six times
    np.testing.assert_allclose(beyond.in_basis(x, p, rope, basis), expected, atol=64 * 60 * d * 2.0**-53 * 6, rtol=0)


@given(ropes(magnitude=False), seeds, st.integers(-300, 300))
def test_scores_in_another_basis_are_relative_and_need_no_way_back(rope, seed, shift):
    basis, (q, k), p = orthogonal(seed, rope.head_dim), normal(seed, 2, 3, rope.head_dim), np.arange(3)
    a, b = (beyond.in_basis(q, at, rope, basis) @ beyond.in_basis(k, at, rope, basis).T for at in (p, p + shift))
    c = rr.rotate(q @ basis, p, rope) @ rr.rotate(k @ basis, p, rope).T
    # angles below 302; two more products of matrices of at most 24 channels
    bound = 16 * (302 + 24) * 2.0**-53 * rope.head_dim * np.abs(q).sum(1).max() * np.abs(k).sum(1).max()
    assert np.abs(a - b).max() <= bound and np.abs(a - c).max() <= bound


# --- the decoupled part of latent attention ---------------------------------------------------------------


@given(seeds, st.integers(0, 5), st.integers(1, 4), pairings)
def test_one_rotated_key_serves_every_head(seed, content, pairs, pairing):
    """Scores of whole heads equal those of the content plus those of one shared rotary key."""
    heads, n, width = 3, 4, 2 * pairs
    q, k = normal(seed, heads, n, content + width), normal(seed + 1, heads, n, content)
    shared = normal(seed + 2, 1, n, width)  # one head
    whole, part = rr.decoupled(content, width, pairing=pairing), rr.Rope(width, pairing=pairing)
    p = np.arange(n)
    keys = np.concatenate([k, np.broadcast_to(shared, (heads, n, width))], -1)
    together = rr.rotate(q, p, whole) @ rr.rotate(keys, p, whole).swapaxes(-1, -2)
    apart = q[..., :content] @ k.swapaxes(-1, -2)
    apart = apart + rr.rotate(q[..., content:], p, part) @ rr.rotate(shared, p, part).swapaxes(-1, -2)
    # sums of at most 13 products below 36, in another order
    np.testing.assert_allclose(together, apart, atol=13 * 13 * 36 * 2.0**-53, rtol=0)


def test_deepseek_of_transformers_permutes_channels():
    """It takes interleaved channels and gives half-split ones: other numbers, the same scores."""
    q, k, p = normal(0, 1, 3, 5, 8), normal(1, 1, 1, 5, 8), np.arange(5)
    rope = rr.decoupled(0, 8)
    cos, sin = (torch.from_numpy(np.concatenate([t, t], -1))[None] for t in rr.tables(rope, p))
    a, b = apply_rotary_pos_emb_interleave(torch.from_numpy(q), torch.from_numpy(k), cos, sin)
    ours, theirs = rr.rotate(q, p, rope), a.numpy()
    split = rr.pairing.channels("interleaved", 4)
    np.testing.assert_allclose(theirs, ours[..., np.concatenate(split)], atol=4 * 2.0**-53 * 6, rtol=0)
    scores = ours @ rr.rotate(k, p, rope).swapaxes(-1, -2)
    np.testing.assert_allclose((a @ b.mT).numpy(), scores, atol=16 * 8 * 36 * 2.0**-53, rtol=0)


R, X, T = rr.Rope(16), np.ones((3, 16)), [0, 1, 2]


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: beyond.fourier(X, T, R, np.eye(3), np.eye(3), LENGTH), "expected .* 2, 2"),
        (lambda: beyond.fourier(X, T, R, np.eye(2), np.ones((1, 2, 2)), LENGTH), "sin_coef"),
        (lambda: beyond.fourier(X, [T], R, np.eye(2), np.eye(2), LENGTH), "positions have shape"),
        (lambda: beyond.in_basis(X, T, R, np.ones((16, 16))), "basis has shape"),
        (lambda: beyond.in_basis(X, T, R, np.eye(3)), r"orthogonal \(16, 16\)"),
        (lambda: rr.decoupled(2, 3), "rotary_dim is 3"),
        (lambda: rr.decoupled(-1, 4), "start is -1"),
    ],
)
def test_bad_input_says_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()
