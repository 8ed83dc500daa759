"""Results too large for the cache are written past it, and in place the next rows are fetched: the same bits."""

import ml_dtypes
import numpy as np
import pytest

import numba_kernels as nk
from numba_kernels import plan
from numba_kernels.intrinsics import LINE


@pytest.fixture
def small_cache(monkeypatch):
    """As if the last cache held 64 KiB: that of this machine may hold more than a test should write."""

    def begin():
        monkeypatch.setattr(plan, "LAST", 1 << 16)
        plan.make.cache_clear()

    yield begin
    monkeypatch.undo()
    plan.make.cache_clear()


def at_a_line(shape, dtype):
    """Memory that begins at a cache line, full of what no rotation gives."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    bytes_ = np.full(size + LINE, 0xAA, np.uint8)
    begin = -bytes_.ctypes.data % LINE
    return bytes_[begin : begin + size].view(dtype).reshape(shape)


@pytest.mark.parametrize(("dtype", "pairing", "start"), [
    (np.float32, "half-split", 0),
    *(pytest.param(*case, marks=pytest.mark.in_turn) for case in (
        (np.float32, "interleaved", 6), (np.float64, "interleaved", 0), (np.float16, "half-split", 6),
        (ml_dtypes.bfloat16, "half-split", 0), (ml_dtypes.bfloat16, "interleaved", 6),
    )),
])  # fmt: skip
def test_the_bits_are_those_of_a_small_rotation(small_cache, dtype, pairing, start):
    generator = np.random.default_rng(0)
    x = generator.standard_normal((5, 33, 128)).astype(dtype)  # 5 heads of 33 tokens
    pairs, wide = 58 if start else 64, np.float64 if dtype == np.float64 else np.float32
    cos, sin = generator.standard_normal((2, 33, pairs)).astype(wide)
    weight = generator.standard_normal(128).astype(np.float32)
    tables, options = (cos, sin), {"pairing": pairing, "start": start}

    def given(turn, *more, **others):
        return turn(x, *more, *tables, out=at_a_line(x.shape, dtype), **options, **others)

    def in_place():
        y = x.copy()
        return nk.rotate(y, *tables, out=y, **options)

    calls = {
        "given": lambda: given(nk.rotate),
        "gathered": lambda: given(nk.rotate, positions=np.arange(33)[::-1]),
        "in place": in_place,
        "normalised": lambda: given(nk.normalise_and_rotate, weight, epsilon=1e-6),
    }
    usual = {name: call().tobytes() for name, call in calls.items()}
    small_cache()
    assert {name: call().tobytes() for name, call in calls.items()} == usual
