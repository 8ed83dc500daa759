"""The kernels against the specification, with NumPy and Numba alone."""

import numpy as np
import pytest

import numba_kernels as nk
import rope_ref as rr


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_kernels_agree_with_the_specification(pairing, dtype):
    rope, p = rr.variants.partial(64, 0.5, pairing=pairing), np.arange(300)
    x = np.random.default_rng(0).standard_normal((2, 8, 300, 64)).astype(dtype)
    cos, sin = rr.tables(rope, p, np.float64 if dtype == "float64" else np.float32)
    kind = "float64" if dtype == "float64" else "float32"
    bound = rr.exactness.budget(x, p, rope, store=dtype, arithmetic=kind, table=kind)
    y = nk.rotate(x, cos, sin, pairing=pairing)
    assert (np.abs(y - rr.rotate(x, p, rope)) <= bound).all()
    assert nk.rotate(x, cos, sin, pairing=pairing, out=x) is x and np.array_equal(x, y)
