"""What kernels read and write: how wide, how often, how far."""

import numpy as np
import pytest

import numba_kernels as nk
import numba_kernels.cuda as nc
from numba_kernels.cuda import kernel, plan
from tests.numba_kernels.simulator.device import Device, Watch, touched
from tests.oracles import arithmetic, stored
from tests.strategies import DTYPES, normal

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy's, at infinities that GPUs pass in silence


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
@pytest.mark.parametrize("width, pairs, shift, lanes", [(32, 16, 0, 8), (32, 8, 0, 8), (36, 18, 0, 2), (32, 16, 1, 1)])
def test_vectors_are_aligned_and_each_number_is_moved_once(monkeypatch, dtype, pairing, width, pairs, shift, lanes):
    watch = Watch(monkeypatch)
    size = stored(np.zeros(1), dtype).itemsize
    room = [np.zeros(2 * 3 * width + 32, stored(np.zeros(1), dtype).dtype) for _ in range(2)]
    to_line = [-r.__array_interface__["data"][0] % 64 // size for r in room]
    x, out = (r[t + shift :][: 2 * 3 * width].reshape(2, 3, width) for r, t in zip(room, to_line, strict=True))
    x[...] = stored(normal(0, 2, 3, width), dtype)
    block = np.zeros(2 * 3 * pairs + 16, arithmetic(dtype))
    cos, sin = block[-block.__array_interface__["data"][0] % 64 // block.itemsize :][: 6 * pairs].reshape(2, 3, pairs)
    cos[...], sin[...] = normal(1, 2, 3, pairs)
    nc.rotate(Device(x), Device(cos), Device(sin), pairing=pairing, out=Device(out))
    assert np.array_equal(out, nk.rotate(x, cos, sin, pairing=pairing))
    for log, array in ((watch.loads, x), (watch.stores, out)):
        assert (touched(log, array) == 1).all()
    assert all(at % min(n, 16) == 0 for at, n in watch.loads + watch.stores)
    assert {n for _, n in watch.stores} == {max(size, min(lanes * size, plan.VECTOR))}


def test_in_place_moves_only_what_turns(monkeypatch):
    watch, x, (cos, sin) = Watch(monkeypatch), np.ones((3, 12)), np.ones((2, 3, 2))
    nc.rotate(Device(x), Device(cos), Device(sin), pairing="half-split", start=2, out=Device(x))
    assert (touched(watch.stores, x) == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]).all()


@pytest.mark.parametrize("each", [1, 2, 3, 8])
def test_rows_that_share_angles_load_them_once(monkeypatch, each):
    """However many rows a thread turns, and where they do not divide, the numbers are the same."""
    monkeypatch.setattr(plan, "ENOUGH", 1)
    monkeypatch.setattr(plan, "MOST_ROWS", each)
    plan.make.cache_clear()
    watch, x, (cos, sin) = Watch(monkeypatch), normal(0, 5, 4, 8), normal(1, 2, 4, 4)
    y = nc.rotate(Device(x), Device(cos), Device(sin), pairing="interleaved")
    plan.make.cache_clear()
    assert np.array_equal(y.copy_to_host(), nk.rotate(x, cos, sin, pairing="interleaved"))
    assert (touched(watch.loads, cos) == -(-5 // each)).all()


def test_threads_out_of_range_touch_nothing(monkeypatch):
    """5 rows of 3 units in blocks of 2 rows and 3 units: a row of threads is idle, and its memory would be beyond x."""
    monkeypatch.setattr(kernel, "BLOCK", 6)
    plan.make.cache_clear()
    watch = Watch(monkeypatch)
    x, cos = np.ones((5, 6)), np.ones((5, 3))
    nc.rotate(Device(x), Device(cos), Device(cos), pairing="half-split", out=Device(x))
    plan.make.cache_clear()
    assert len(watch.stores) == 30 and (touched(watch.stores, x) == 1).all()
    assert (touched(watch.loads, cos) == 2).all()  # as cos and as sin
    q, k, cos, weight = np.ones((5, 6)), np.ones((4, 6)), np.ones((1, 3)), np.ones(6)
    nc.rotate_query_key(
        *map(Device, (q, k, cos, cos)), pairing="half-split", weights=[Device(weight)] * 2, out=[Device(q), Device(k)]
    )
    for array in (q, k):
        assert (touched(watch.loads, array) == 2).all()  # for the sum of squares, and to be turned
    own = [(a.__array_interface__["data"][0], a.nbytes) for a in (x, q, k, cos, weight)]
    assert all(any(start <= at < start + n for start, n in own) for at, _ in watch.loads[-9 * 18 :])


def test_rows_are_counted_in_64_bits():
    last = kernel.flat(np.int32(2**31 - 1), np.int32(256), np.int32(255))
    assert last == 2**31 * 256 - 1 and last.dtype == np.int64


def test_launches_beyond_2_to_the_31_reach_the_far_end(monkeypatch):
    """Memory that is not there: the addresses of the last rows are computed, and written down instead of followed."""
    seen = []
    for name in ("load", "store"):
        monkeypatch.setattr(kernel, name, lambda address, vector, first, count: seen.append(int(address)))
    kernel.compiled.cache_clear()
    lead, size = (3, 5, 2**29), 2 * 128
    steps = (5 * 2**29 * size, 2**29 * size, size, 2)
    side, table = plan.Side((*lead, 128), steps, (*lead, 128), steps), plan.Table(
        "float32", (2**29, 64), (2**29, 64), (256, 4), (256, 4))
    found = plan.make("bfloat16", (side,), "half-split", 0, False, False, table, None, None, (0, 0, 0))
    numbers, elements = list(found.numbers), int(np.prod((*lead, 128)))
    assert elements > 2**31 and found.blocks <= plan.MOST_BLOCKS
    run, far = kernel.compiled(found.form), found.blocks - 1
    body = run.fn
    place = type("Place", (), {})
    fake = type("cuda", (), {"local": type("local", (), {"array": staticmethod(np.zeros)})})
    fake.blockIdx, fake.blockDim, fake.threadIdx = place(), place(), place()
    fake.blockIdx.x = np.int32(far)
    fake.blockDim.x, fake.blockDim.y = map(np.int32, found.threads)
    fake.threadIdx.x, fake.threadIdx.y = (np.int32(n - 1) for n in found.threads)
    monkeypatch.setattr(kernel, "cuda", fake)
    body(tuple(numbers), 0.0)
    kernel.compiled.cache_clear()
    assert max(seen) == 2 * elements - plan.VECTOR


def test_launches_are_cached_by_signature():
    plan.make.cache_clear()
    kernels = kernel.compiled.cache_info().currsize
    x, cos = normal(0, 3, 4), normal(1, 3, 2)
    for _ in range(5):
        nc.rotate(Device(x), Device(cos), Device(cos), pairing="half-split", out=Device(x))
    assert plan.make.cache_info().misses == 1
    assert kernel.compiled.cache_info().currsize <= kernels + 1
