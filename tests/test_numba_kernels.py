"""The kernels against the specification, and everything bad that may be handed to them."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_kernels as nk
import rope_ref as rr
from rope_ref.exactness import budget
from tests.strategies import normal, pairings, ropes, seeds

DTYPES = ["float64", "float32", "float16", "bfloat16"]


def stored(x, dtype):
    """x rounded to dtype, as the kernels take it, and as the float64 it stands for."""
    if dtype == "bfloat16":
        t = torch.from_numpy(x).to(torch.bfloat16)
        return t.view(torch.uint16).numpy().copy(), t.double().numpy()
    return x.astype(dtype), x.astype(dtype).astype(np.float64)


def value(y, dtype):
    if dtype == "bfloat16":
        return torch.from_numpy(y.copy()).view(torch.bfloat16).double().numpy()
    return y.astype(np.float64)


def arrange(x, how):
    """The same numbers under other strides."""
    if how == "wide":
        base = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
        base[..., 1:-2] = x
        return base[..., 1:-2]
    if how == "swapped":
        return np.ascontiguousarray(x.swapaxes(0, -2)).swapaxes(0, -2)
    if how == "backwards":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    return x


@settings(deadline=None)
@given(ropes(), seeds, st.sampled_from(DTYPES), st.sampled_from(["plain", "wide", "swapped", "backwards"]),
       st.sampled_from(["new", "given", "in place"]), st.booleans())
def test_kernel_equals_specification(rope, seed, dtype, how, where, gather):
    x, exact = stored(normal(seed, 2, 3, 5, rope.head_dim), dtype)
    x = arrange(x, how)
    positions = np.random.default_rng(seed).integers(0, 9, 5) if gather else np.arange(5)
    arithmetic = "float64" if dtype == "float64" else "float32"
    cos, sin = rr.tables(rope, np.arange(9) if gather else positions, arithmetic)
    before = x.copy()
    out = {"new": None, "given": np.full_like(x, 1), "in place": x}[where]
    y = nk.rotate(x, cos, sin, pairing=rope.pairing, start=rope.start, positions=positions if gather else None, out=out)
    assert where == "in place" or np.array_equal(x, before)
    bound = budget(exact, positions, rope, store=dtype, arithmetic=arithmetic, table=arithmetic)
    assert (np.abs(value(y, dtype) - rr.rotate(exact, positions, rope)) <= bound).all()


@settings(deadline=None)
@given(pairings, seeds)
def test_inverse_is_the_opposite_angle(pairing, seed):
    rope, x = rr.Rope(head_dim=8, pairing=pairing), normal(seed, 4, 8)
    cos, sin = rr.tables(rope, np.arange(4))
    turned = nk.rotate(x, cos, sin, pairing=pairing, inverse=True)
    assert np.array_equal(turned, nk.rotate(x, cos, -sin, pairing=pairing))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_half_number_survives_a_rotation_by_zero(dtype):
    words = np.arange(2**16, dtype=np.uint16).reshape(-1, 2)
    x = words.view(np.float16) if dtype == "float16" else words
    y = nk.rotate(x, np.ones((1, 1)), np.zeros((1, 1)), pairing="half-split").view(np.uint16)
    as_torch = torch.from_numpy(words.copy()).view(torch.float16 if dtype == "float16" else torch.bfloat16)
    finite = torch.isfinite(as_torch).all(-1).numpy()
    nonzero = (as_torch != 0).all(-1).numpy()  # b * 0 added to -0 gives +0
    assert np.array_equal(y[finite & nonzero], words[finite & nonzero])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_is_to_nearest_even_like_torch(dtype):
    words = np.random.default_rng(0).integers(0, 2**32, (1 << 18, 1), dtype=np.uint32)
    c = words.view(np.float32)
    c = c[np.isfinite(c[:, 0])]
    x = torch.ones(len(c), 2, dtype=dtype)
    raw = x.numpy() if dtype == torch.float16 else x.view(torch.uint16).numpy()
    y = nk.rotate(raw, c, np.zeros_like(c), pairing="half-split")
    expected = torch.from_numpy(c[:, 0].copy()).to(dtype).view(torch.int16).numpy()
    assert np.array_equal(y.view(np.int16)[:, 0], expected)


def test_other_channels_keep_every_bit_of_nan():
    x = np.full((2, 4), 0x7FA00001, np.uint32).view(np.float32)
    y = nk.rotate(x, np.ones((2, 1)), np.zeros((2, 1)), pairing="half-split")
    assert (y.view(np.uint32)[:, 2:] == 0x7FA00001).all()


def test_large_inputs_give_the_same_bits_in_parallel():
    x, rope = normal(3, 4, 300, 64).astype(np.float32), rr.Rope(head_dim=64)
    cos, sin = rr.tables(rope, np.arange(300), np.float32)
    whole = nk.rotate(x, cos, sin, pairing=rope.pairing)
    parts = [nk.rotate(x[:, i : i + 1], cos[i : i + 1], sin[i : i + 1], pairing=rope.pairing) for i in range(300)]
    assert np.array_equal(whole, np.concatenate(parts, 1))


def big():
    x = np.ones((4, 512, 64), np.float32)
    return nk.rotate(x, np.full((512, 32), 2.0), np.zeros((512, 32)), pairing="half-split")


def test_threads_may_rotate_at_once():
    wrong = []
    threads = [threading.Thread(target=lambda: wrong.extend(1 for _ in range(20) if not (big() == 2).all()))
               for _ in range(8)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_rotates_too():
    big()
    child = multiprocessing.get_context("fork").Process(target=big)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" in os.environ, reason="this is that run")
def test_kernels_stay_in_bounds(tmp_path):
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-q", __file__, "-k", "specification or parallel"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


X, C = np.ones((2, 3, 4), np.float32), np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "x is a list", dict(x=[1.0])),
        (TypeError, "int64", dict(x=np.ones((3, 4), np.int64))),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
        (ValueError, "sin has shape", dict(sin=C[:2])),
        (ValueError, "cos has leading axes", dict(cos=np.ones((5, 2)), sin=np.ones((5, 2)))),
        (ValueError, "start is 1", dict(start=1)),
        (ValueError, "start is -1", dict(start=-1, cos=C[:, :1], sin=C[:, :1])),
        (IndexError, "positions span", dict(positions=np.array([0, 1, 3]))),
        (IndexError, "positions span", dict(positions=np.array([0, -1, 2]))),
        (TypeError, "positions have dtype", dict(positions=np.array([0.0, 1, 2]))),
        (ValueError, "out is float32", dict(out=np.ones((2, 3, 5), np.float32))),
    ],
)
def test_bad_input_says_what_is_wrong(error, words, arguments):
    call = dict(x=X, cos=C, sin=C, pairing="half-split") | arguments
    with pytest.raises(error, match=words):
        nk.rotate(**call)
    assert (X == 1).all()


def test_targets_that_overlap_are_refused():
    base = np.ones((3, 4), np.float32)
    twice = np.lib.stride_tricks.as_strided(base, (2, 3, 4), (0, 16, 4))
    with pytest.raises(ValueError, match="written twice"):
        nk.rotate(twice, C, C, pairing="half-split", out=twice)
    long = np.ones((5, 4), np.float32)
    with pytest.raises(ValueError, match="overlaps x"):
        nk.rotate(long[:3], C, C, pairing="half-split", out=long[1:4])
    assert (long == 1).all()


def test_empty_sequences_are_allowed():
    assert nk.rotate(np.ones((2, 0, 4)), np.ones((0, 2)), np.ones((0, 2)), pairing="half-split").shape == (2, 0, 4)
