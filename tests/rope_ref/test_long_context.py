"""Rules for distance: what scores see, and that rotating at other positions gives them where it can."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rope_ref as rr
from rope_ref import long_context as lc
from tests.strategies import normal, ropes, seeds

# Scores of keys and queries at positions below 400: angles off by 2^-53 of themselves and a few roundings.
EXACT = 64 * 400 * 2.0**-53


def causal(n):
    return np.tri(n, dtype=bool)


def rotated(q, k, query_positions, key_positions, rope):
    return rr.rotate(q, query_positions, rope) @ rr.rotate(k, key_positions, rope.keys).swapaxes(-1, -2)


def close(a, b, q, k):
    return (np.abs(a - b) <= EXACT * np.abs(q).sum(-1).max() * np.abs(k).sum(-1).max()).all()


@given(ropes(), seeds, st.integers(0, 200))
def test_true_distances_give_the_scores_of_rotation(rope, seed, start):
    q, k = normal(seed, 2, 3, rope.head_dim), normal(seed + 1, 2, 4, rope.head_dim)
    m, n = np.arange(start, start + 3), np.arange(start, start + 4)
    by_distance = lc.scores(q, k, lc.relative(m, n), rope)
    large = rope.attention_scale**2
    if rope.xpos is not None:
        large *= np.max(rr.rotation.magnitude(rope, m)) * np.max(rr.rotation.magnitude(rope.keys, n)) * 4
        large *= max(1, np.max(rr.rotation.magnitude(rope, 0)) * np.max(rr.rotation.magnitude(rope.keys, 0)))
    assert close(by_distance / large, rotated(q, k, m, n, rope) / large, q, k)


@given(ropes(magnitude=False), seeds, st.integers(1, 9), st.integers(1, 12))
def test_rerope_is_two_sets_of_scores(rope, seed, window, n):
    """As published: rotated as always for near pairs; queries at `window` and keys at 0 for the others."""
    q, k, p = normal(seed, n, rope.head_dim), normal(seed + 1, n, rope.head_dim), np.arange(n)
    near, far = rotated(q, k, p, p, rope), rotated(q, k, np.full(n, window), np.zeros(n), rope)
    expected = np.where(lc.relative(p, p) < window, near, far)
    assert close(lc.scores(q, k, lc.rerope(p, p, window), rope), expected, q, k)


@given(ropes(magnitude=False), seeds, st.integers(1, 4), st.integers(0, 9), st.integers(1, 14))
def test_self_extend_is_two_sets_of_scores(rope, seed, group, window, n):
    q, k, p = normal(seed, n, rope.head_dim), normal(seed + 1, n, rope.head_dim), np.arange(n)
    far = rotated(q, k, *lc.grouped(p, group, window), rope)
    expected = np.where(lc.relative(p, p) < window, rotated(q, k, p, p, rope), far)
    assert close(lc.scores(q, k, lc.self_extend(p, p, group, window), rope), expected, q, k)


@given(st.integers(1, 5), st.integers(0, 4), st.integers(1, 40))
def test_self_extend_joins_near_and_far(group, groups, n):
    """For a window of whole groups distances never fall as keys get farther, and reach window at the seam."""
    window, p = group * groups, np.arange(n)
    d = lc.self_extend(p, p, group, window)
    for m in range(n):
        row = d[m, : m + 1][::-1]  # from the query back
        assert row[: window + 1].tolist() == list(range(min(m, window) + 1))
        assert (np.diff(row) >= 0).all() and (np.diff(row) <= 1).all()


def test_grouped_positions_are_the_published_ones():
    """group_query_position = p // g + w - w // g, group_key_position = p // g."""
    p = np.arange(50)
    for g, w in ((1, 0), (4, 8), (3, 10), (8, 5)):
        query, key = lc.grouped(p, g, w)
        assert query.tolist() == [i // g + w - w // g for i in range(50)]
        assert key.tolist() == [i // g for i in range(50)]


@given(ropes(magnitude=False), seeds, st.integers(1, 6), st.integers(0, 5), st.integers(1, 16))
def test_dual_chunks_are_three_sets_of_scores(rope, seed, chunk, local, n):
    q, k, p = normal(seed, n, rope.head_dim), normal(seed + 1, n, rope.head_dim), np.arange(n)
    chunk_size, local_size = chunk + local, local
    at = lc.dual_chunk(p, chunk_size, local_size)
    three = [rotated(q, k, m, at.key, rope) for m in (at.intra, at.successive, at.inter)]
    apart = np.clip(p[:, None] // chunk - p[None] // chunk, 0, 2)
    d = lc.dual_chunk_distances(p, p, chunk_size, local_size)
    seen = causal(n)
    assert close(lc.scores(q, k, d, rope)[seen], np.choose(apart, three)[seen], q, k)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(1, 60))
def test_dual_chunks_see_true_distances_nearby_and_none_too_large(chunk, local, n):
    p = np.arange(n)
    d, true = lc.dual_chunk_distances(p, p, chunk + local, local), lc.relative(p, p)
    assert (d[causal(n)] >= 0).all() and (d[causal(n)] <= chunk + local).all()
    near = causal(n) & (true <= min(local, chunk))
    assert np.array_equal(d[near], true[near])


@pytest.mark.parametrize("chunk_size, local_size", [(8, 2), (100, 20), (5, 0), (9, 8)])
def test_dual_chunk_positions_are_vllms(chunk_size, local_size):
    """Its tables: q at arange(c), qc at min(arange(c) + c, chunk_size), k at p mod c; inter is the last row of qc."""
    c = chunk_size - local_size
    p = np.arange(3 * c + 1)
    qc = np.minimum(np.arange(c) + c, chunk_size)
    at = lc.dual_chunk(p, chunk_size, local_size)
    assert np.array_equal(at.key, p % c) and np.array_equal(at.intra, np.arange(c)[p % c])
    assert np.array_equal(at.successive, qc[p % c]) and (at.inter == qc[c - 1]).all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: lc.rerope([0], [0], 0), "window is 0"),
        (lambda: lc.rerope([0.5], [0], 1), "query_positions is"),
        (lambda: lc.relative([0], [[0]]), "key_positions is"),
        (lambda: lc.grouped([0], 0, 4), "group_size is 0"),
        (lambda: lc.grouped([-1], 2, 4), "positions is"),
        (lambda: lc.grouped([1], 2, -4), "neighbor_window is -4"),
        (lambda: lc.dual_chunk([0], 0, 0), "chunk_size is 0"),
        (lambda: lc.dual_chunk([0], 4, 4), "local_size is 4; expected less than chunk_size 4"),
        (lambda: lc.scores(np.ones((2, 4)), np.ones((3, 4)), np.ones((3, 2)), rr.Rope(4)), "distances have shape"),
    ],
)
def test_bad_input_says_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()
