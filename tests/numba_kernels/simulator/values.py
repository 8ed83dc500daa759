"""The numbers of the CPU kernels, bit for bit, on the simulator or a GPU, which are backends of test_laws too."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import cuda

import numba_kernels as nk
import numba_kernels.cuda as nc
import rope_ref as rr
from numba_kernels.cuda.arrays import HERE
from numba_kernels.cuda.memory import SIMULATED
from rope_ref.conformance import check
from tests.numba_kernels.simulator.device import Device
from tests.numba_kernels.test_numba_kernels import leading, view_of
from tests.oracles import arithmetic, rounded, stored, value
from tests.strategies import DTYPES, arrange, dtypes, layouts, normal, pairings, ropes, seeds

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, at infinities that GPUs pass in silence


@settings(max_examples=60)
@given(st.data(), ropes(), leading(), seeds, dtypes, st.sampled_from(["new", "given", "in place"]), st.booleans(),
       st.booleans())  # fmt: skip
def test_any_memory_gives_the_bits_of_the_cpu(data, rope, axes, seed, dtype, where, gather, inverse):
    lead, own = axes
    x, block = arrange(stored(normal(seed, *lead, rope.head_dim), dtype), data.draw(layouts(len(lead) + 1)))
    drawn = np.random.default_rng(seed)
    p = drawn.integers(0, 9, own) if gather else drawn.integers(-2000, 2000, (*own, rope.axes) if rope.axes else own)
    tables = rr.tables(rope, np.arange(9) if gather else p, arithmetic(dtype))
    cos, sin = (arrange(t, data.draw(layouts(t.ndim)))[0] for t in tables)
    rows = arrange(p, data.draw(layouts(p.ndim)))[0] if gather and p.ndim else p
    options = dict(pairing=rope.pairing, start=rope.start, inverse=inverse)
    expected = nk.rotate(x, cos, sin, positions=rows if gather else None, **options)
    before = block.copy()
    out, guard = (x, block) if where == "in place" else arrange(np.zeros_like(x), data.draw(layouts(x.ndim)))
    untouched = guard.copy()
    on_device = Device(rows) if gather and data.draw(st.booleans()) else rows
    target = None if where == "new" else Device(out)
    y = nc.rotate(Device(x), Device(cos), Device(sin), positions=on_device if gather else None, out=target, **options)
    assert target is None or y is target
    found = y.copy_to_host() if where == "new" else out
    assert found.tobytes() == expected.tobytes()
    if where != "new":  # leave only what lies between its numbers
        found[...] = 0
        view_of(untouched, out, guard)[...] = 0
        assert guard.tobytes() == untouched.tobytes()
    if where != "in place":
        assert block.tobytes() == before.tobytes()


@settings(max_examples=30)
@given(st.data(), pairings, dtypes, seeds, st.integers(1, 4), st.integers(1, 3))
def test_query_and_key_in_one_launch(data, pairing, dtype, seed, heads, groups):
    """Heads before or behind the sequence, and different numbers of them."""
    width, seq, start, pairs = data.draw(st.sampled_from([(16, 3, 0, 8), (24, 2, 8, 8), (13, 3, 1, 5), (2, 1, 0, 1)]))
    cos, sin = normal(seed, 2, 7, pairs).astype(arithmetic(dtype))
    rows = np.random.default_rng(seed).integers(0, 7, (2, 1, seq))
    q, k = (stored(normal(seed, 2, n, seq, width), dtype) for n in (heads, groups))
    if data.draw(st.booleans()):  # laid as (batch, seq, heads, head_dim)
        q = np.ascontiguousarray(q.swapaxes(1, 2)).swapaxes(1, 2)
    options = dict(pairing=pairing, start=start)
    expected = [nk.rotate(t, cos, sin, positions=rows, **options) for t in (q, k)]
    given = [Device(a) for a in (q, k, cos, sin)]
    results = nc.rotate_query_key(*given, positions=Device(rows), **options)
    for result, wanted in zip(results, expected, strict=True):
        assert result.copy_to_host().tobytes() == wanted.tobytes()
    results = nc.rotate_query_key(*given, positions=Device(rows), out=given[:2], **options)
    assert results == tuple(given[:2])
    assert q.tobytes() == expected[0].tobytes() and k.tobytes() == expected[1].tobytes()


@settings(max_examples=30)
@given(pairings, dtypes, dtypes, seeds, st.sampled_from([(16, 0, 8), (24, 8, 8), (13, 1, 5), (2, 0, 1), (70, 0, 35)]),
       st.booleans())  # fmt: skip
def test_normalisation_then_rotation(pairing, dtype, heavy, seed, sizes, in_place):
    """The weighted root mean square of each row, over all its channels, in float64 but for roundings."""
    width, start, pairs = sizes
    q, k = (rounded(normal(seed + i, 2, n, 3, width), dtype) for i, n in ((0, 4), (1, 2)))
    weights = [rounded(1 + normal(seed + i, width) / 4, heavy) for i in (2, 3)]
    tables = normal(seed, 2, 3, pairs).astype(arithmetic(dtype))
    given = [Device(stored(t, dtype)) for t in (q, k)]
    heavies, options = [Device(stored(w, heavy)) for w in weights], dict(pairing=pairing, start=start, epsilon=1e-5)
    alone = nc.normalise_and_rotate(given[0], heavies[0], *map(Device, tables), **options)
    results = nc.rotate_query_key(
        *given, *map(Device, tables), weights=heavies, out=given if in_place else (None, None), **options
    )
    assert (alone.copy_to_host() == (given[0].array if in_place else results[0].copy_to_host())).all()
    unit = float(np.finfo(arithmetic(dtype)).eps) / 2
    last = {"bfloat16": 2.0**-8, "float16": 2.0**-11}.get(dtype, unit)
    # Squares and their sum, of n terms in any order: (n + 1) units, halved by the root; then a division by n, epsilon,
    # the root, the quotient and two products: 7 units. The pair: two products and a sum of both, 2 units of |a|+|b|.
    allowed = ((width + 1) / 2 + 9) * unit
    for x, w, result in zip((q, k), weights, results, strict=True):
        y = value(result.array if in_place else result.copy_to_host(), dtype)
        scaled = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + 1e-5) * w
        exact = nk.rotate(scaled, *tables.astype(np.float64), pairing=pairing, start=start)
        size = np.abs(tables.astype(np.float64))
        reach = nk.rotate(np.abs(scaled), *size, pairing=pairing, start=start)
        other = nk.rotate(np.abs(scaled), *size, pairing=pairing, start=start, inverse=True)
        reach = np.maximum(np.abs(reach), np.abs(other))  # |a cos| + |b sin| in either channel of a pair
        tiny = {"float16": 2.0**-25}.get(dtype, 0)  # half the step of float16 where it has no exponent left
        assert (np.abs(y - exact) <= (reach * allowed + (np.abs(exact) + reach * allowed) * last + tiny) * 1.01).all()


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4), (3, 0)])
def test_empty_arrays_are_allowed(shape):
    x, table = np.ones(shape), np.ones((shape[-2] if len(shape) > 2 else 1, shape[-1] // 2))
    arrays = Device(x), Device(table), Device(table)
    assert nc.rotate(*arrays, pairing="half-split").shape == shape
    assert nc.rotate(*arrays, pairing="half-split", out=arrays[0]) is arrays[0]


def test_no_heads_of_keys_are_allowed():
    q, k, table = np.ones((2, 3, 4)), np.ones((0, 3, 4)), Device(np.zeros((3, 2)))
    turned, none = nc.rotate_query_key(Device(q), Device(k), table, table, pairing="half-split")
    assert (turned.copy_to_host() == 0).all() and none.shape == (0, 3, 4)


def test_no_pairs_change_nothing():
    x, table = normal(0, 3, 4), Device(np.ones((3, 0)))
    assert np.array_equal(nc.rotate(Device(x), table, table, pairing="interleaved", start=2).copy_to_host(), x)
    nc.rotate(Device(x), table, table, pairing="interleaved", out=(target := Device(x)))
    assert target.array is x


@pytest.mark.parametrize("kind", ["float64", "float32", "float16", "bfloat16"])
def test_tables_of_any_dtype_are_converted_as_on_the_cpu(kind):
    exact = rounded(normal(0, 2, 3, 4), kind)
    tables = [Device(stored(t, kind), typestr="<V2" if kind == "bfloat16" else None) for t in exact]
    for dtype in DTYPES:
        x = stored(normal(1, 3, 8), dtype)
        y = nc.rotate(Device(x), *tables, pairing="half-split").copy_to_host()
        assert y.tobytes() == nk.rotate(x, *exact, pairing="half-split").tobytes()


def test_tables_may_hold_anything():
    x, cos = np.ones((3, 4), np.float32), np.array([[np.inf, np.nan]] * 3, np.float32)
    y = nc.rotate(Device(x), Device(cos), Device(cos), pairing="half-split").copy_to_host()
    assert np.array_equal(y, nk.rotate(x, cos, cos, pairing="half-split"), equal_nan=True)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "uint32", "uint64", "int64"])
def test_positions_outside_the_tables_give_nan(dtype):
    far = np.array([1, 3, np.iinfo(dtype).max, np.iinfo(dtype).min, 0], dtype)
    x, (cos, sin) = normal(0, 5, 6), normal(1, 2, 3, 2)
    y = nc.rotate(Device(x), Device(cos), Device(sin), pairing="half-split", start=1, positions=Device(far))
    y = y.copy_to_host()
    right = np.isin(far, (0, 1, 2))
    assert np.array_equal(np.isnan(y[:, 1:5]).all(1), ~right) and np.array_equal(y[:, [0, 5]], x[:, [0, 5]])
    known = nk.rotate(x[right], cos, sin, pairing="half-split", start=1, positions=far[right].astype(np.int64))
    assert np.array_equal(y[right], known)


def test_every_half_number_has_the_bits_of_the_cpu():
    options = np.arange(2**16, dtype=np.uint16).reshape(-1, 64)
    cos, sin = np.array([[0.6]], np.float32), np.array([[0.8]], np.float32)
    for x in (options, options.view(np.float16)):
        table = [np.repeat(t, 32, 1) for t in (cos, sin)]
        y = nc.rotate(Device(x), *map(Device, table), pairing="half-split").copy_to_host()
        expected = nk.rotate(x, *table, pairing="half-split")
        kind = "bfloat16" if x is options else "float16"  # a GPU has one NaN, and of two that meet either may go on
        nans = [np.isnan(value(t, kind)) for t in (y, expected)]
        assert np.array_equal(*nans)
        y, expected = (np.where(nans[0], 0, t.view(np.uint16)) for t in (y, expected))
        assert y.tobytes() == expected.tobytes()


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
def test_conforms(pairing):
    """The kit that checks other people's implementations finds nothing."""
    rope = rr.Rope(8, pairing=pairing)

    def apply(x, positions):
        tables = rr.tables(rope, positions, "float64" if x.dtype == np.float64 else "float32")
        return nc.rotate(Device(x), *map(Device, tables), pairing=pairing).copy_to_host().view(x.dtype)

    report = check(apply, rope, rows=False, budget="quick")
    assert report.passed, report


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_tensors_are_taken_and_given(dtype):
    x, (cos, sin) = torch.randn(2, 3, 4, 8, device=HERE).to(dtype), torch.randn(2, 4, 4, device=HERE)
    y = nc.rotate(x, cos, sin, pairing="half-split")
    assert y.dtype == dtype and y.device == x.device
    raw = x.view(torch.uint16) if dtype == torch.bfloat16 else x
    expected = nk.rotate(*(t.cpu().numpy() for t in (raw, cos, sin)), pairing="half-split")
    assert y.view(torch.uint8).cpu().numpy().tobytes() == expected.tobytes()
    assert nc.rotate(x, cos, sin, pairing="half-split", out=x) is x and torch.equal(x, y)


def test_arrays_of_numba_and_their_streams():
    stream = 7 if SIMULATED else torch.cuda.Stream().cuda_stream
    x = np.ones((3, 4), np.float32)
    table = cuda.to_device(np.zeros((3, 2), np.float32))
    assert (nc.rotate(cuda.to_device(x), table, table, pairing="half-split").copy_to_host() == 0).all()
    zeros = np.zeros((3, 2), np.float32)
    y = nc.rotate(Device(x, stream=stream), Device(zeros, stream=stream), Device(zeros), pairing="half-split")
    assert (y.copy_to_host() == 0).all()


def test_interleaved_views_of_one_buffer_are_apart():
    """Queries and keys of one projection, side by side in every row: ranges of memory meet, numbers do not."""
    whole = stored(normal(0, 3, 5, 8), "float32")
    q, k = whole[:, :3], whole[:, 3:]
    cos, sin = normal(1, 2, 3, 1, 4).astype(np.float32)
    expected = nk.rotate(whole, cos, sin, pairing="interleaved")
    arrays = [Device(t) for t in (q, k)]
    nc.rotate_query_key(*arrays, Device(cos), Device(sin), pairing="interleaved", out=arrays)
    assert np.array_equal(whole, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("inverse", [False, True])
def test_the_operator_of_a_device(dtype, inverse):
    """The simulator takes tensors of the CPU for those of a device; numbers are plain torch's."""
    from torch_bridge import operators
    from torch_bridge.plain import plain

    assert operators.installed()
    x, (cos, sin) = torch.randn(2, 3, 4, 10, device=HERE).to(dtype), torch.randn(2, 4, 4, device=HERE)
    form = (cos, sin, "interleaved", 1, inverse)
    assert torch.equal(operators.on_cuda(x, *form), plain(x, *form))
    for turned, one in zip(operators.qk_on_cuda(x, x[:, :1], *form), (x, x[:, :1]), strict=True):
        assert torch.equal(turned, plain(one, *form))
    turned, here, place = plain(x, *form), x.transpose(1, 2).contiguous().transpose(1, 2), x.data_ptr()
    for one in (x, here):
        assert operators.on_cuda_(one, *form) is None and torch.equal(one, turned)
    assert x.data_ptr() == place
    with pytest.raises(ValueError, match="x cannot be rotated in place: .* written twice"):
        operators.on_cuda_(x[:1].expand(2, 3, 4, 10), *form)
    assert torch.equal(x, turned)
