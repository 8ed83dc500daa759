"""More than 2^31 numbers, steps of more than 2^32 bytes, and sizes at the ends of what there is."""

import mmap
import sys

import numpy as np
import pytest
import torch

import numba_kernels as nk
import torch_bridge.rotation as bridge
from tests.numba_kernels.fuzz import BFLOAT16, Case, formula, same
from tests.strategies import DTYPES, normal

GIB = 1 << 30


def available():
    with open("/proc/meminfo") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))


def right(x, cos, sin, pairing):
    return formula(Case({}, {"pairing": pairing, "start": 0}, False), {"x": x, "cos": cos, "sin": sin})


@pytest.mark.in_turn
@pytest.mark.skipif(sys.platform != "linux" or available() < 12 * GIB, reason="takes 6 GiB of memory")
def test_more_than_2_to_the_31_numbers():
    """Rows at both ends, around the number 2^31 and far from it; by the checked path, the short one and NumPy."""
    heads, width = 8, 128
    seq = 2**31 // (heads * width) + 5
    x = torch.empty(heads, seq, width, dtype=torch.bfloat16)
    words, row = x.view(torch.uint16).numpy(), np.random.default_rng(0).integers(0, 2**14, width).astype(np.uint16)
    cos, sin = np.empty((2, seq, width // 2), np.float32)
    cos[...] = (1 + np.arange(seq) % 1000)[:, None]
    sin[...] = cos / 8
    edge = 2**31 // width - (heads - 1) * seq  # in the last head
    rows = [0, 1, edge - 1, edge, edge + 1, seq // 2, seq - 2, seq - 1]
    assert x.numel() > 2**31 and 0 < edge < seq - 1
    expected = right(np.broadcast_to(row.view(BFLOAT16), (len(rows), width)), cos[rows], sin[rows], "half-split")
    for way in ("checked", "short", "numpy"):
        words[...] = row
        if way == "numpy":
            nk.rotate(words, cos, sin, pairing="half-split", out=words)
        else:
            bridge.rotate(x, *map(torch.from_numpy, (cos, sin)), pairing="half-split", inplace=True)
        for head in (0, heads // 2, heads - 1):
            assert np.array_equal(words[head, rows], expected.view(np.uint16)), (way, head)


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
@pytest.mark.parametrize("step", [2**31 - 64, 2**31 + 8, 2**32 + 24])
def test_steps_beyond_32_bits(tmp_path, step, pairing):
    """A file with holes is as large as it likes."""
    with open(tmp_path / "holes", "w+b") as file:
        file.truncate(3 * step)
        memory = np.frombuffer(mmap.mmap(file.fileno(), 0), np.uint8)
        x = np.ndarray((3, 5, 24), np.float32, memory.data, 0, (step, 96, 4))
        cos, sin = (np.ndarray((3, 1, 12), np.float32, memory.data, place, (step, 48, 4)) for place in (512, 576))
        x[...], cos[...], sin[...] = normal(0, 3, 5, 24), normal(1, 3, 1, 12), normal(2, 3, 1, 12)
        expected = right(x, cos, sin, pairing)
        assert same(nk.rotate(x, cos, sin, pairing=pairing), expected)
        assert same(nk.rotate(x[::-1], cos[::-1], sin[::-1], pairing=pairing), expected[::-1])
        floats = torch.frombuffer(memory.data, dtype=torch.float32)
        t, c, s = (floats.as_strided(a.shape, [n // 4 for n in a.strides], place // 4)
                   for a, place in ((x, 0), (cos, 512), (sin, 576)))  # fmt: skip
        for _ in range(2):
            assert same(bridge.rotate(t, c, s, pairing=pairing).numpy(), expected)
        index = np.ndarray((3, 1), np.int64, memory.data, 1024, (step, 8))
        index[...] = [[2], [0], [1]]
        tables = (np.ascontiguousarray(a[:, 0]) for a in (cos, sin))
        nk.rotate(x, *tables, pairing=pairing, positions=index, out=x)
        assert not same(x, expected) and np.isfinite(x).all()


@pytest.mark.parametrize("kind", DTYPES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 4), (2, 0, 4), (0, 2, 3, 4), (2, 3, 0)])
def test_nothing_is_rotated(shape, kind):
    x = torch.ones(shape, dtype=getattr(torch, kind))
    cos, sin = torch.ones(2, *shape[-2:-1], shape[-1] // 2)
    for _ in range(2):
        for inplace in (False, True):
            assert bridge.rotate(x, cos, sin, pairing="half-split", inplace=inplace).shape == shape
            assert bridge.rotate_qk(x, x.clone(), cos, sin, pairing="interleaved", inplace=inplace)[0].shape == shape


@pytest.mark.parametrize("place", [-1, -(2**63), 5, 2**31, 2**32, 2**63 - 1])
def test_positions_far_outside(place):
    x, table = np.ones((3, 4), np.float32), np.ones((5, 2), np.float32)
    with pytest.raises(IndexError, match="positions span"):
        nk.rotate(x, table, table, pairing="half-split", positions=np.array([0, 4, place]), out=x)
    assert (x == 1).all()


@pytest.mark.parametrize("width", [2, 6, 30, 62, 66, 126, 130, 256, 510, 1022, 1024])
@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_widths(width, kind):
    x = normal(0, 3, 4, width).astype(kind)
    cos, sin = normal(1, 2, 4, width // 2).astype("float64" if kind == "float64" else "float32")
    for pairing in ("half-split", "interleaved"):
        expected = right(x, cos, sin, pairing)
        assert same(nk.rotate(x, cos, sin, pairing=pairing), expected)
        for _ in range(2):
            assert same(bridge.rotate(*map(torch.from_numpy, (x, cos, sin)), pairing=pairing).numpy(), expected)
