"""The contract of the kernels: any strides, any target, every rounding, and everything bad that may be handed in."""

import os
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_kernels as nk
import rope_ref as rr
from tests.oracles import arithmetic, bound, rounded, stored, value
from tests.strategies import DTYPES, arrange, dtypes, layouts, normal, pairings, places, ropes, seeds


@st.composite
def leading(draw):
    """Leading axes of x, and those of a table or of positions that broadcast to them."""
    lead = draw(st.lists(st.integers(1, 4), min_size=0, max_size=4))
    kept = draw(st.integers(0, len(lead)))
    return tuple(lead), tuple(draw(st.sampled_from([1, n])) for n in lead[kept:])


@settings(max_examples=300)
@given(st.data(), ropes(), leading(), seeds, dtypes, st.sampled_from(["new", "given", "in place"]), st.booleans())
def test_any_memory_gives_the_specification(data, rope, axes, seed, dtype, where, gather):
    lead, own = axes
    exact = rounded(normal(seed, *lead, rope.head_dim), dtype)
    x, block = arrange(stored(exact, dtype), data.draw(layouts(exact.ndim)))
    p = np.random.default_rng(seed).integers(0, 9, own) if gather else places(rope, seed, *own)
    tables = rr.tables(rope, np.arange(9) if gather else p, arithmetic(dtype))
    cos, sin = (arrange(t, data.draw(layouts(t.ndim)))[0] for t in tables)
    rows = arrange(p, data.draw(layouts(p.ndim)))[0] if gather and p.ndim else p
    before, out = block.copy(), x if where == "in place" else None
    if where == "given":
        out, guard = arrange(np.zeros_like(x), data.draw(layouts(x.ndim)))
        untouched = guard.copy()
    y = nk.rotate(x, cos, sin, pairing=rope.pairing, start=rope.start, positions=rows if gather else None, out=out)
    assert out is None or y is out
    p = np.broadcast_to(p, lead) if p.ndim or lead else p
    flat, p = exact.reshape(-1, rope.head_dim), np.asarray(p).reshape(-1)
    allowed = bound(flat, p, rope, dtype)
    assert (np.abs(value(y, dtype).reshape(flat.shape) - rr.rotate(flat, p, rope)) <= allowed).all()
    check_gaps(where, y, block, before, *((guard, untouched) if where == "given" else ()))


def check_gaps(where, y, block, before, guard=None, untouched=None):
    """That all memory around x and out is as it was, of which these two pairs are the state now and before."""
    if where == "in place":  # leave only the gaps between its numbers, which must keep their poison
        y[...] = 0
        view_of(before, y, block)[...] = 0
    assert block.tobytes() == before.tobytes()
    if where == "given":
        y[...] = 0
        assert guard.tobytes() == untouched.tobytes()


def view_of(copy, view, block):
    """The part of `copy` that `view` is of `block`."""
    shift = view.__array_interface__["data"][0] - block.__array_interface__["data"][0]
    at = copy.reshape(-1)[shift // copy.itemsize :]
    return np.lib.stride_tricks.as_strided(at, view.shape, view.strides)


@given(pairings, seeds, dtypes)
def test_inverse_is_the_opposite_angle(pairing, seed, dtype):
    rope, x = rr.Rope(head_dim=72, pairing=pairing), stored(normal(seed, 4, 72), dtype)
    cos, sin = rr.tables(rope, np.arange(4))
    turned = nk.rotate(x, cos, sin, pairing=pairing, inverse=True)
    assert np.array_equal(turned, nk.rotate(x, cos, -sin, pairing=pairing))


def test_bfloat16_of_ml_dtypes_is_taken():
    x, rope = normal(0, 3, 8).astype(ml_dtypes.bfloat16), rr.Rope(head_dim=8)
    cos, sin = rr.tables(rope, np.arange(3))
    y = nk.rotate(x, cos, sin, pairing="half-split")
    assert y.dtype == ml_dtypes.bfloat16
    assert np.array_equal(y.view(np.uint16), nk.rotate(x.view(np.uint16), cos, sin, pairing="half-split"))


@pytest.mark.parametrize("lanes", [1, 8, 32])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_half_number_survives_a_rotation_by_zero(dtype, lanes):
    words = np.arange(2**16, dtype=np.uint16).reshape(-1, 2 * lanes)
    x = words.view(np.float16) if dtype == "float16" else words
    y = nk.rotate(x, np.ones((1, lanes)), np.zeros((1, lanes)), pairing="half-split").view(np.uint16)
    numbers, result = value(x, dtype), value(y.view(x.dtype), dtype)
    partner = np.roll(numbers, lanes, -1)
    exact = np.isfinite(partner) & (numbers != 0)  # a * 1 - b * 0 is NaN for an infinite b, +0 for a = -0
    assert np.array_equal(y[exact & ~np.isnan(numbers)], words[exact & ~np.isnan(numbers)])
    assert np.isnan(result[np.isnan(numbers)]).all()
    assert np.isinf(result[exact & np.isinf(numbers)]).all()


@pytest.mark.parametrize("lanes", [1, 8, 32])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rounding_is_to_nearest_even_like_torch(dtype, lanes):
    torch = pytest.importorskip("torch")
    c = np.random.default_rng(0).integers(0, 2**32, (1 << 13, lanes), dtype=np.uint32).view(np.float32)
    c = np.where(np.isfinite(c), c, np.float32(1))
    x = stored(np.ones((len(c), 2 * lanes)), dtype)
    y = nk.rotate(x, c, np.zeros_like(c), pairing="half-split")
    expected = torch.from_numpy(c).to(getattr(torch, dtype)).view(torch.int16).numpy()
    assert np.array_equal(y.view(np.int16)[:, :lanes], expected)


def test_other_channels_keep_every_bit_of_nan():
    x = np.full((2, 4), 0x7FA00001, np.uint32).view(np.float32)
    y = nk.rotate(x, np.ones((2, 1)), np.zeros((2, 1)), pairing="half-split")
    assert (y.view(np.uint32)[:, 2:] == 0x7FA00001).all()


@settings(max_examples=10)
@given(pairings, dtypes, st.sampled_from([(4, 300, 64), (300, 4, 64), (1, 2, 70_000)]))
def test_parallel_gives_the_bits_of_serial(pairing, dtype, shape):
    x, rope = stored(normal(3, *shape), dtype), rr.Rope(head_dim=shape[-1], pairing=pairing)
    cos, sin = rr.tables(rope, np.arange(shape[1]), arithmetic(dtype))
    whole = nk.rotate(x, cos, sin, pairing=pairing)
    parts = [nk.rotate(x[:, [i]], cos[[i]], sin[[i]], pairing=pairing) for i in range(shape[1])]
    assert np.array_equal(whole, np.concatenate(parts, 1))


@pytest.mark.in_turn
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
def test_a_result_larger_than_cache_has_the_bits_of_a_small_one(dtype, pairing):
    """From 16 MiB on vectors are stored past the cache, which only whole lines allow."""
    few = stored(normal(0, 2, 64), dtype)
    x = np.ascontiguousarray(np.broadcast_to(few, (2**18 // few.itemsize, 2, 64)))
    room = np.empty(x.size + 64, x.dtype)
    to_line = -room.__array_interface__["data"][0] % 64 // x.itemsize
    for width in (64, 60):
        rope = rr.Rope(64, width, pairing=pairing)
        cos, sin = rr.tables(rope, np.array([3]), arithmetic(dtype))
        expected = nk.rotate(few, cos, sin, pairing=pairing)
        for shift in (to_line, to_line + 1):
            out = room[shift : shift + x.size].reshape(x.shape)
            assert (nk.rotate(x, cos, sin, pairing=pairing, out=out) == expected).all()


X, C = np.ones((2, 3, 4), np.float32), np.ones((3, 2), np.float32)
TWICE = np.lib.stride_tricks.as_strided(np.ones((3, 4), np.float32), (2, 3, 4), (0, 16, 4))
LONG = np.ones((4, 3, 4), np.float32)
FROZEN = np.ones((2, 3, 4), np.float32)
OTHER = np.ones((3, 4), np.float32)[:, :2]
PLACES = np.zeros((2, 2, 3), np.int64)
FROZEN.flags.writeable = False


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "x is a list", dict(x=[1.0])),
        (TypeError, "x has dtype int64", dict(x=np.ones((3, 4), np.int64))),
        (TypeError, "x has dtype >f4", dict(x=np.ones((3, 4), ">f4"))),
        (ValueError, r"x has shape \(\)", dict(x=np.array(1.0))),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
        (ValueError, "sin has shape", dict(sin=C[:2])),
        (TypeError, "sin has dtype int64", dict(sin=np.ones((3, 2), int))),
        (ValueError, r"cos has shape \(\)", dict(cos=np.float32(1), sin=np.float32(1))),
        (ValueError, "cos has leading axes", dict(cos=np.ones((5, 2)), sin=np.ones((5, 2)))),
        (ValueError, "cos has leading axes", dict(cos=np.ones((1, 2, 3, 2)), sin=np.ones((1, 2, 3, 2)))),
        (ValueError, "cos has leading axes", dict(cos=np.ones((0, 2)), sin=np.ones((0, 2)))),
        (ValueError, "start is 1", dict(start=1)),
        (ValueError, "start is -1", dict(start=-1, cos=C[:, :1], sin=C[:, :1])),
        (TypeError, "pairing is", dict(pairing=["half-split"])),
        (TypeError, "inverse is 'no'", dict(inverse="no")),
        (TypeError, "x has dtype", dict(x=np.ones((3, 4), np.dtype(ml_dtypes.bfloat16).newbyteorder(">")))),
        (IndexError, "to 18446744073709551615", dict(positions=np.array([0, 1, 2**64 - 1], np.uint64))),
        (TypeError, "start is True", dict(start=True)),
        (TypeError, "start is 0.0", dict(start=0.0)),
        (IndexError, "positions span 0 to 3; expected 0 to 2", dict(positions=np.array([0, 1, 3]))),
        (IndexError, "positions span -1 to 2", dict(positions=np.array([0, -1, 2]))),
        (IndexError, "positions span", dict(positions=np.array([0, 1, 2**64 - 1], np.uint64))),
        (IndexError, "expected 0 to -1", dict(positions=np.array(0), cos=C[:0], sin=C[:0])),
        (TypeError, "positions have dtype float64", dict(positions=np.array([0.0, 1, 2]))),
        (ValueError, "positions has leading axes", dict(positions=np.array([0, 1]))),
        (ValueError, "where positions are given", dict(positions=np.zeros(3, int), cos=C[None], sin=C[None])),
        (ValueError, "out has shape", dict(out=np.ones((2, 3, 5), np.float32))),
        (TypeError, "out has dtype float64", dict(out=np.ones((2, 3, 4)))),
        (TypeError, "out is a list", dict(out=[1.0])),
        (ValueError, "out is read-only", dict(out=FROZEN)),
        (ValueError, "written twice", dict(x=TWICE, out=TWICE)),
        (ValueError, "overlaps x", dict(x=LONG[:2], out=LONG[1:3])),
        (ValueError, "overlaps cos", dict(out=LONG[:2], cos=LONG[0, :, :2], sin=OTHER)),
        (ValueError, "overlaps sin", dict(out=LONG[:2], cos=OTHER, sin=LONG[0, :, 2:])),
        (ValueError, "overlaps positions", dict(out=PLACES.view(np.float32).reshape(2, 3, 4), positions=PLACES[0, 0])),
    ],
)
def test_bad_input_says_what_is_wrong(error, words, arguments):
    call = dict(x=X, cos=C, sin=C, pairing="half-split") | arguments
    with pytest.raises(error, match=words):
        nk.rotate(**call)
    assert all((a == 1).all() for a in (X, C, LONG, TWICE, FROZEN))


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4)])
def test_empty_sequences_are_allowed(shape):
    x, table = np.ones(shape), np.ones((shape[1], 2))
    assert nk.rotate(x, table, table, pairing="half-split").shape == shape
    assert nk.rotate(x, table, table, pairing="half-split", out=x) is x


def test_the_same_memory_is_in_place_whatever_the_step_of_a_single_row():
    a = np.ones((3, 5, 4), np.float32)
    expected = nk.rotate(a[:, :1], C[:1] * 2, C[:1], pairing="half-split")
    nk.rotate(a[:, :1], C[:1] * 2, C[:1], pairing="half-split", out=a[:, 0][:, None])
    assert np.array_equal(a[:, :1], expected) and (a[:, 1:] == 1).all()


def test_no_pairs_change_nothing():
    assert np.array_equal(nk.rotate(X, C[:, :0], C[:, :0], pairing="interleaved", start=2), X)


@pytest.mark.in_turn
@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="this is that run")
def test_indexing_stays_in_bounds(tmp_path):
    """Once more as Numba checks it: indices of arrays. Accesses by address are the next test's."""
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", "memory or bad"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.in_turn
@pytest.mark.skipif(sys.platform != "linux", reason="protects pages as Linux does")
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_byte_outside_the_arrays_is_touched(dtype):
    """Bounds checking sees no access by address, so every array stands against a page that ends the process."""
    done = subprocess.run([sys.executable, "-m", "tests.numba_kernels.guard", dtype], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("rotations")
