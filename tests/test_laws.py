"""The laws of rotary embeddings, for the specification, the kernels and the bridge, in every dtype.

Each bound is that of `exactness.budget` for the rotations in the law, carried through
whatever is done to them; MARGIN covers the float64 arithmetic of the bound itself.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rope_ref as rr
from rope_ref.pairing import channels
from tests.backends import BACKENDS, CASES
from tests.oracles import as_complex, bound, carried, rounded
from tests.strategies import EXAMPLES, normal, places, positions, ropes, seeds

MARGIN = 1 + 2.0**-40

law = settings(max_examples=25)
everywhere = pytest.mark.parametrize("backend, dtype", CASES, ids=[f"{b}-{d}" for b, d in CASES])


def close(got, expected, allowed):
    np.testing.assert_array_less(np.abs(got - expected), allowed * MARGIN + 1e-300)


@everywhere
@law
@given(ropes(), seeds)
def test_equals_the_specification(backend, dtype, rope, seed):
    x, p = rounded(normal(seed, 2, 3, 5, rope.head_dim), dtype), places(rope, seed, 5)
    close(BACKENDS[backend](x, p, rope, dtype), rr.rotate(x, p, rope), bound(x, p, rope, dtype))


@everywhere
@pytest.mark.parametrize("name", EXAMPLES)
def test_every_variant_equals_the_specification(backend, dtype, name):
    rope = EXAMPLES[name]
    x, p = rounded(normal(1, 2, 3, 5, rope.head_dim), dtype), places(rope, 1, 5)
    close(BACKENDS[backend](x, p, rope, dtype), rr.rotate(x, p, rope), bound(x, p, rope, dtype))


def test_every_variant_has_an_example():
    assert EXAMPLES.keys() == rr.CATALOGUE.keys()


@everywhere
@law
@given(ropes(magnitude=False), seeds)
def test_equals_complex_multiplication(backend, dtype, rope, seed):
    x, p = rounded(normal(seed, 5, rope.head_dim), dtype), places(rope, seed, 5)
    close(BACKENDS[backend](x, p, rope, dtype), as_complex(x, p, rope), bound(x, p, rope, dtype))


@everywhere
@law
@given(ropes(magnitude=False), seeds)
def test_position_zero_is_identity(backend, dtype, rope, seed):
    x = rounded(normal(seed, 3, rope.head_dim), dtype)
    assert np.array_equal(BACKENDS[backend](x, np.zeros(3), rope, dtype), x)


@everywhere
@law
@given(ropes(), seeds)
def test_norms_scale_by_the_magnitude(backend, dtype, rope, seed):
    x, p = rounded(normal(seed, 4, rope.head_dim), dtype), places(rope, seed, 4)
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    y, allowed = BACKENDS[backend](x, p, rope, dtype), bound(x, p, rope, dtype)
    before = np.hypot(x[..., first], x[..., second]) * rr.rotation.magnitude(rope, p)
    # the length of a sum is at most the sum of lengths
    close(np.hypot(y[..., first], y[..., second]), before, np.hypot(allowed[..., first], allowed[..., second]))


@everywhere
@law
@given(ropes(), seeds, positions, positions, st.integers(-300, 300))
def test_scores_depend_on_relative_position(backend, dtype, rope, seed, m, n, shift):
    m, n = m // 10, n // 10  # so near that xPos magnitudes stay within every dtype
    q, k = rounded(normal(seed, 2, 1, rope.head_dim), dtype)
    scores, allowed = [], 0.0
    for by in (0, shift):
        u, v = (BACKENDS[backend](t, [p + by], r, dtype) for t, p, r in ((q, m, rope), (k, n, rope.keys)))
        a, b = bound(q, [m + by], rope, dtype), bound(k, [n + by], rope.keys, dtype)
        scores.append(np.sum(u * v))
        allowed += np.sum(np.abs(u) * b + a * np.abs(v) + a * b) + np.sum(np.abs(u * v)) * u.size * 2.0**-52
    close(scores[0], scores[1], allowed)


@everywhere
@law
@given(ropes(magnitude=False), seeds, positions, positions)
def test_rotations_compose(backend, dtype, rope, seed, p, q):
    x = rounded(normal(seed, 2, rope.head_dim), dtype)
    once = BACKENDS[backend](x, [p, p], rope, dtype)
    twice = BACKENDS[backend](once, [q, q], rope, dtype)
    allowed = carried(bound(x, [p, p], rope, dtype), [q, q], rope) + bound(once, [q, q], rope, dtype)
    both = BACKENDS[backend](x, [p + q, p + q], rope, dtype)
    close(twice, both, allowed + bound(x, [p + q, p + q], rope, dtype))


@everywhere
@law
@given(ropes(), seeds, positions)
def test_the_inverse_gives_back(backend, dtype, rope, seed, p):
    x, there = rounded(normal(seed, 2, rope.head_dim), dtype), [p // 10] * 2
    y = BACKENDS[backend](x, there, rope, dtype)
    back = BACKENDS[backend](y, there, rope, dtype, inverse=True)
    over = rr.rotation.magnitude(rope, there) ** 2
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    scale = np.ones(y.shape)
    scale[..., first], scale[..., second] = over, over
    # the tables of the inverse are those of the rotation over m^2, a rounding more
    allowed = (carried(bound(x, there, rope, dtype), there, rope) + 2 * bound(y, there, rope, dtype)) / scale
    close(back, x, allowed)


@everywhere
@law
@given(ropes(), seeds)
def test_linear(backend, dtype, rope, seed):
    # whole numbers up to 16, so that sums are exact in every dtype
    a, b = np.random.default_rng(seed).integers(-8, 9, (2, 4, rope.head_dim)).astype(np.float64)
    p, turn = places(rope, seed, 4), BACKENDS[backend]
    allowed = sum(bound(t, p, rope, dtype) for t in (a, b, a + b))
    close(turn(a + b, p, rope, dtype), turn(a, p, rope, dtype) + turn(b, p, rope, dtype), allowed)


@everywhere
@law
@given(ropes(), seeds)
def test_other_channels_are_untouched(backend, dtype, rope, seed):
    x = rounded(normal(seed, 4, rope.head_dim), dtype)
    y, stop = BACKENDS[backend](x, np.arange(4), rope, dtype), rope.start + 2 * rope.pairs
    assert np.array_equal(y[:, : rope.start], x[:, : rope.start]) and np.array_equal(y[:, stop:], x[:, stop:])


@everywhere
@law
@given(ropes(), seeds)
def test_permuted_tokens_give_permuted_results(backend, dtype, rope, seed):
    x, p = rounded(normal(seed, 2, 6, rope.head_dim), dtype), places(rope, seed, 6)
    order = np.random.default_rng(seed).permutation(6)
    whole = BACKENDS[backend](x, p, rope, dtype)
    assert np.array_equal(BACKENDS[backend](x[:, order], p[order], rope, dtype), whole[:, order])


@everywhere
@law
@given(ropes(), seeds, st.integers(0, 6))
def test_any_split_gives_the_whole(backend, dtype, rope, seed, cut):
    x, p = rounded(normal(seed, 2, 6, rope.head_dim), dtype), np.arange(6)
    parts = [BACKENDS[backend](x[:, s], p[s], rope, dtype) for s in (slice(cut), slice(cut, None))]
    assert np.array_equal(np.concatenate(parts, 1), BACKENDS[backend](x, p, rope, dtype))


@everywhere
@law
@given(seeds)
def test_the_order_of_calls_never_matters(backend, dtype, seed):
    calls = []
    for name in ("default", "ntk", "xpos"):
        rope = EXAMPLES[name]
        for length in (1, 7, 3):
            calls.append((rounded(normal(seed, length, rope.head_dim), dtype), places(rope, seed, length), rope))
    first = [BACKENDS[backend](*call, dtype) for call in calls]
    for i in np.random.default_rng(seed).permutation(len(calls)):
        assert np.array_equal(BACKENDS[backend](*calls[i], dtype), first[i])


@given(ropes(), seeds)
def test_the_budget_of_rows_with_their_own_positions(rope, seed):
    x, p = normal(seed, 2, 3, 5, rope.head_dim), places(rope, seed, 2, 5)
    rows = np.stack([bound(x[i], p[i], rope, "float64") for i in range(2)])
    # the error of the angle is taken from the farthest position of a call, so that of a row is at most that of all
    assert (rows <= bound(x, p, rope, "float64") * MARGIN).all()
