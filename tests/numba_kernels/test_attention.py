"""Decoding: the loops of numba_kernels against the specification, within the roundings that they make."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_kernels as nk
from numba_kernels import attention, threads
from rope_ref.attention import attend, scores, softmax
from tests.oracles import stored, value

UNIT = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def drawn(seed, dtype, batch, kv_heads, group, new, tokens, head_dim, value_dim, spread=1.0):
    rng = np.random.default_rng(seed)
    q, k, v = (kv_heads * group, new, head_dim), (kv_heads, tokens, head_dim), (kv_heads, tokens, value_dim)
    return tuple(stored(spread * rng.standard_normal((batch, *shape)), dtype) for shape in (q, k, v))


def bound(q, k, v, dtype, scale, soft_cap=None):
    """How far a sum of float32 may be from that of float64.

    A score is a sum of head_dim products: each, the query's scale and the sum round, so |ds| <= (d + 2) u sum|q k|, and
    four units of the cap where there is one. An exponential is off by ds twice, its own and that of the greatest score,
    by the rounding of their difference, and by two units of its own; sums of n weights and of n weighted values by n
    units each. Then the result is rounded once, or falls among the subnormals.
    """
    u, group, tokens = 2.0**-24, q.shape[1] // k.shape[1], k.shape[2]
    k, v = np.repeat(k, group, axis=1), np.repeat(v, group, axis=1)
    size = scores(np.abs(q), np.abs(k), abs(scale)).max(-1, keepdims=True, initial=0)
    ds = (q.shape[-1] + 2) * u * size + (0 if soft_cap is None else 4 * u * soft_cap)
    relative = 2 * ds + 2 * u * size + 4 * u + 2 * (tokens + 8) * u
    largest = np.abs(v).max(-2, keepdims=True, initial=0)
    return 1.01 * largest * (relative + (UNIT[dtype] if dtype != "float32" else u)) + 2.0**-24


FORMS = ("float32", 40, 24), ("float16", 32, 32), ("bfloat16", 64, 64)  # of these, kernels are compiled


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99), form=st.sampled_from(FORMS), batch=st.integers(1, 3), kv_heads=st.integers(1, 3),
    group=st.sampled_from([1, 2, 4, 7]), new=st.sampled_from([1, 2, 5, 16]),
    tokens=st.sampled_from([16, 17, 255, 256, 257, 700]),
    window=st.sampled_from([None, 1, 20, 300]), soft_cap=st.sampled_from([None, 5.0]), sinks=st.booleans(),
    padded=st.booleans(), spread=st.sampled_from([1.0, 6.0]),
)  # fmt: skip
def test_the_kernel_is_the_specification(
    seed, form, batch, kv_heads, group, new, tokens, window, soft_cap, sinks, padded, spread
):
    dtype, *widths = form
    q, k, v = drawn(seed, dtype, batch, kv_heads, group, new, tokens, *widths, spread)
    rng = np.random.default_rng(seed + 1)
    options = {"window": window, "soft_cap": soft_cap}
    if sinks:
        options["sinks"] = rng.standard_normal(kv_heads * group).astype(np.float32)
    if padded:
        options["lengths"] = rng.integers(new, tokens + 1, batch)
        options["starts"] = rng.integers(0, options["lengths"] + 1)
    wide = [value(x, dtype) for x in (q, k, v)]
    scale = widths[0] ** -0.5
    error = np.abs(value(nk.attend(q, k, v, **options), dtype) - attend(*wide, **options))
    assert (error <= bound(*wide, dtype, scale, soft_cap)).all()


@pytest.mark.parametrize("new", [1, 3])
def test_no_bit_depends_on_threads_batch_or_strides(new, monkeypatch):
    q, k, v = drawn(0, "float32", 2, 2, 2, new, 1500, 40, 24)
    y = nk.attend(q, k, v)
    monkeypatch.setattr(threads, "allowed", lambda: 1)
    assert np.array_equal(y, nk.attend(q, k, v))
    monkeypatch.setattr(threads, "allowed", lambda: 3)
    room = np.full((2, 1600, 2, 56), np.nan, np.float32)
    room[:, 50:1550, :, 8:48] = k.transpose(0, 2, 1, 3)
    apart = room[:, 50:1550, :, 8:48].transpose(0, 2, 1, 3)
    assert np.array_equal(y, nk.attend(q, apart, v))
    assert np.array_equal(y[:1], nk.attend(q[:1], k[:1], v[:1]))


def test_what_a_row_does_not_hold_may_be_anything():
    q, k, v = drawn(0, "float32", 1, 1, 1, 1, 600, 40, 24)
    y = nk.attend(q, k[:, :, 100:400], v[:, :, 100:400])
    for t in (k, v):
        t[:, :, :100], t[:, :, 400:] = np.nan, np.inf
    assert np.allclose(y, nk.attend(q, k, v, starts=[100], lengths=[400]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("place", [0, 299])
def test_a_nan_that_is_seen_comes_back(place):
    q, k, v = drawn(0, "bfloat16", 1, 1, 2, 1, 300, 64, 64)
    k[0, 0, place, 3] = 0x7FC0
    assert np.isnan(value(nk.attend(q, k, v), "bfloat16")).all()


def test_huge_scores_do_not_overflow():
    q, k, v = drawn(0, "float32", 1, 1, 1, 1, 300, 40, 24, spread=1e4)
    assert np.allclose(nk.attend(q, k, v), attend(q, k, v), rtol=1e-2)


def test_a_query_that_sees_nothing_gives_zeros():
    q, k, v = drawn(0, "float32", 2, 1, 1, 2, 20, 40, 24)
    y = nk.attend(q, k, v, starts=[20, 0])
    assert (y[0] == 0).all() and (y[1] != 0).all()


def test_out_is_written_as_it_lies():
    q, k, v = drawn(0, "float16", 1, 2, 2, 3, 300, 32, 32)
    room = np.zeros((1, 3, 4, 32), np.float16)
    assert nk.attend(q, k, v, out=room.transpose(0, 2, 1, 3)).base is room
    assert np.array_equal(room.transpose(0, 2, 1, 3), nk.attend(q, k, v))


@pytest.mark.parametrize("dtype", sorted(UNIT))
def test_a_layer_at_once_is_its_three_steps(dtype):
    q, k, v = (t[:, :, :3].copy() for t in drawn(0, dtype, 2, 2, 2, 3, 3, 32, 32))
    cos, sin = np.random.default_rng(0).standard_normal((2, 3, 16)).astype(np.float32)
    keys, values = drawn(1, dtype, 2, 2, 1, 1, 40, 32, 32)[1:]
    options, before = {"pairing": "interleaved"}, (keys.copy(), values.copy())
    y = nk.rotate_append_attend(q, k, v, cos, sin, keys, values, 30, **options)
    before[0][:, :, 30:33], before[1][:, :, 30:33] = nk.rotate(k, cos, sin, **options), v
    assert np.array_equal(keys, before[0]) and np.array_equal(values, before[1])
    assert np.array_equal(y, nk.attend(nk.rotate(q, cos, sin, **options), keys[:, :, :33], values[:, :, :33]))


@pytest.mark.parametrize(("wrong", "text"), [
    ({"length": 38}, "length is 38, and 3 tokens come"), ({"length": -1}, "length is -1"),
    ({"keys": np.zeros((2, 2, 40, 31), "f4")}, "keys have shape"),
    ({"values": np.zeros((2, 1, 40, 32), "f4")}, "values have shape"),
    ({"window": 0}, "window is 0"), ({"pairing": "x"}, "pairing is 'x'"), ({"sinks": np.zeros(3)}, "sinks have shape"),
    ({"cos": np.zeros((4, 16), "f4")}, "sin has shape"),
])  # fmt: skip
def test_a_layer_writes_nothing_where_something_is_wrong(wrong, text):
    q, k, v = (t[:, :, :3].copy() for t in drawn(0, "float32", 2, 2, 2, 3, 3, 32, 32))
    keys, values = np.zeros((2, 2, 2, 40, 32), "f4")
    options = {"query": q, "key": k, "value": v, "cos": np.zeros((3, 16), "f4"), "sin": np.zeros((3, 16), "f4"),
             "keys": keys, "values": values, "length": 30, "pairing": "half-split"}  # fmt: skip
    with pytest.raises(ValueError, match=text):
        nk.rotate_append_attend(**options | wrong)
    assert not keys.any() and not values.any()


def changed(**by):
    q, k, v = drawn(0, "float32", 2, 2, 2, 1, 20, 40, 24)
    return {"query": q, "key": k, "value": v} | by


WRONG = [
    ({"query": np.zeros((2, 4, 1, 40))}, TypeError, "query has dtype float64"),
    ({"key": np.zeros((2, 2, 20, 40), np.float16)}, TypeError, "key has dtype float16; expected that of query"),
    ({"key": np.zeros((2, 3, 20, 40), "f4")}, ValueError, "key has shape"),
    ({"key": np.zeros((2, 2, 20, 16), "f4")}, ValueError, "key has shape"),
    ({"value": np.zeros((2, 2, 19, 24), "f4")}, ValueError, "value has shape"),
    ({"query": np.zeros((2, 4, 17, 40), "f4")}, ValueError, "1 to 16 new tokens"),
    ({"query": np.zeros((4, 1, 32), "f4")}, ValueError, "query has shape"),
    ({"lengths": [20, 21]}, ValueError, r"lengths \[20, 21\]"),
    ({"lengths": [20, 0]}, ValueError, "lengths"),
    ({"lengths": [20]}, ValueError, "one for each row"),
    ({"lengths": [20.0, 20.0]}, TypeError, "lengths have dtype float64"),
    ({"starts": [-1, 0]}, ValueError, r"starts are \[-1, 0\]"),
    ({"window": 0}, ValueError, "window is 0"),
    ({"window": 2.5}, TypeError, "window is 2.5"),
    ({"soft_cap": -1}, ValueError, "soft_cap is -1"),
    ({"scale": np.nan}, ValueError, "scale is nan"),
    ({"scale": "1"}, TypeError, "scale is '1'"),
    ({"sinks": np.zeros(3)}, ValueError, "sinks have shape"),
    ({"out": np.zeros((2, 4, 1, 25), "f4")}, ValueError, "out has shape"),
    ({"out": np.zeros((2, 4, 1, 24), "f2")}, TypeError, "out has dtype"),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), WRONG, ids=str)
def test_what_is_wrong_is_named(wrong, kind, text):
    with pytest.raises(kind, match=text):
        nk.attend(**changed(**wrong))


def test_out_may_not_overlap():
    q, k, v = drawn(0, "float16", 1, 2, 2, 3, 300, 32, 32)
    with pytest.raises(ValueError, match="out overlaps query"):
        nk.attend(q, k, v, out=q)


def test_the_softmax_of_the_specification_sums_to_one_beside_its_sink():
    s = np.array([[1.0, 2.0, -np.inf]])
    assert softmax(s).sum() == pytest.approx(1)
    assert softmax(s, np.array([0.0])).sum() == pytest.approx(1 - 1 / (1 + np.e + np.e**2))


def test_exponentials_are_within_two_units():
    x = -np.logspace(-8, np.log10(87), 20000).astype(np.float32)
    y = np.array([attention.exponential(number) for number in x[::10]], np.float64)
    exact = np.exp(x[::10].astype(np.float64))
    assert (np.abs(y / exact - 1) <= 2 * 2.0**-23).all()
