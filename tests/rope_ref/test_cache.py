"""Keys rotated already: moving them equals rotating anew."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import rope_ref as rr
from tests.strategies import normal, ropes, seeds

places = st.integers(0, 400)

# Three rotations meet, by angles below 1,600 together, each off by 2^-53 of itself and a few roundings.
# The magnitudes of xPos that are divided out and multiplied in again are in `size`.
EXACT = 8 * 1600 * 2.0**-53


def size(x, *tables):
    """How large numbers get on the way: |x| times the magnitudes and their inverses."""
    return np.abs(x).max() * np.prod([max(1, np.max(m)) * max(1, np.max(1 / m)) for m in tables])


@given(ropes(), seeds, places, st.integers(-400, 400))
def test_a_shift_equals_rotating_anew(rope, seed, start, by):
    x, p = normal(seed, 2, 3, rope.head_dim), np.arange(start, start + 3)
    moved = rr.cache.shift(rr.rotate(x, p, rope.keys), by, rope)
    fresh = rr.rotate(x, p + by, rope.keys)
    scale = size(x, *(rr.rotation.magnitude(rope.keys, q) for q in (p, p + by)))
    np.testing.assert_allclose(moved, fresh, atol=EXACT * scale, rtol=0)


@given(ropes(magnitude=False), seeds, st.lists(st.integers(-60, 60), max_size=5))
def test_shifts_add_up(rope, seed, steps):
    x = keys = normal(seed, 4, rope.head_dim)
    for by in steps:
        keys = rr.cache.shift(keys, by, rope)
    np.testing.assert_allclose(keys, rr.rotate(x, np.full(4, sum(steps)), rope), atol=6 * EXACT * size(x), rtol=0)


@given(ropes(), seeds)
def test_a_shift_leaves_the_other_channels_alone(rope, seed):
    keys = normal(seed, 4, rope.head_dim)
    moved = rr.cache.shift(keys, [3, 1, 0, -2], rope)
    stop = rope.start + 2 * rope.pairs
    assert np.array_equal(moved[:, : rope.start], keys[:, : rope.start])
    assert np.array_equal(moved[:, stop:], keys[:, stop:])


@given(ropes(), ropes(), seeds, places, places)
def test_keys_go_from_one_rope_to_another(old, new, seed, before, after):
    width = max(old.head_dim, new.head_dim)
    old, new = (replace(r, head_dim=width) for r in (old, new))
    x, p, q = normal(seed, 3, width), np.arange(before, before + 3), np.arange(after, after + 3)
    moved = rr.cache.rerotate(rr.rotate(x, p, old.keys), p, q, old, new)
    scale = size(x, rr.rotation.magnitude(old.keys, p), rr.rotation.magnitude(new.keys, q))
    np.testing.assert_allclose(moved, rr.rotate(x, q, new.keys), atol=EXACT * scale, rtol=0)


@given(ropes(magnitude=False), seeds, st.integers(0, 3), st.integers(1, 5), st.integers(1, 30))
def test_a_rolling_cache_scores_like_a_fresh_sequence(rope, seed, sinks, window, length):
    """Token by token: append, evict, shift what stood behind; at the end all keys stand at their places."""
    x, cache = normal(seed, length, rope.head_dim), []
    for token in range(length):
        cache.append(rr.rotate(x[token][None], [len(cache)], rope)[0])
        if len(cache) > sinks + window:
            del cache[sinks]
            cache[sinks:] = list(rr.cache.shift(cache[sinks:], -1, rope))
    kept, positions = rr.positions.streaming(length, sinks, window)
    fresh = rr.rotate(x[kept], positions, rope)
    # at most 30 shifts by one radian, after one rotation by at most 9
    np.testing.assert_allclose(np.array(cache), fresh, atol=8 * 39 * 2.0**-53 * size(x), rtol=0)


def test_several_axes_and_heads_shift_by_a_vector():
    generator = np.random.default_rng(0)
    flat = rr.vision.sam2(8)
    heads = rr.vision.mixed(8, heads=3, generator=generator)
    for rope, shape in ((flat, (6, 8)), (heads, (2, 3, 6, 8))):
        x, p = normal(1, *shape), rr.positions.grid(2, 3)
        moved = rr.cache.shift(rr.rotate(x, p, rope), [[4, -2]], rope)
        np.testing.assert_allclose(moved, rr.rotate(x, p + [4, -2], rope), atol=EXACT * size(x), rtol=0)
