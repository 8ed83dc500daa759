"""More ways into numba_kernels: whatever the strides, the copies, the threads and the direction, it is one rotation.

Each is a path, `f(x, positions)`, that must give what the specification says; `kept_out` and `every_half` check,
before they rotate, what no rotation of ordinary numbers shows.
"""

import functools

import ml_dtypes
import numpy as np

import numba_kernels as nk
import rope_ref as rr
from rope_ref.conformance import Implementation

MANY = 3 << 15  # numbers that are rotated by several threads
STREAMED = 1 << 24  # bytes that are written past the cache
ROWS = 4096


def ways(rope, tables):
    """name -> path, where tables(x, positions) are cos and sin that broadcast to x."""
    options = {"pairing": rope.pairing, "start": rope.start}

    def backwards(x, positions):
        cos, sin = tables(x, positions)
        return nk.rotate(x, cos, -sin, inverse=True, **options)

    def threads(x, positions):
        return one_of(nk.rotate(copies(x, -(-MANY // x.size)), *tables(x, positions), **options))

    def threads_by_token(x, positions):
        """Many tokens, each with a row of its own."""
        cos, sin = tables(x, positions)
        many = -(-MANY // x.size)
        x, cos, sin = (np.concatenate([a] * many, -2) for a in (x, cos, sin))
        y = nk.rotate(x, cos, sin, **options)
        return one_of(np.stack(np.split(y, many, -2)))

    def reversed_in_memory(x, positions):
        back = np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]
        return nk.rotate(back, *tables(x, positions), **options)

    def channels_apart(x, positions):
        wide, target = np.repeat(x, 2, -1)[..., ::2], np.repeat(x, 3, -1)[..., ::3]
        nk.rotate(wide, *tables(x, positions), out=target, **options)
        return target

    def into_apart(x, positions):
        target = np.zeros((*x.shape[:-1], x.shape[-1] + 5), x.dtype)
        y = nk.rotate(x, *tables(x, positions), out=target[..., 3:-2], **options)
        assert not target[..., :3].any() and not target[..., -2:].any(), "it writes beside out"
        return y

    def tables_apart(x, positions):
        cos, sin = tables(x, positions)
        return nk.rotate(x, np.asfortranarray(cos), np.repeat(sin, 2, -1)[..., ::2].astype(np.float64), **options)

    def many_axes(x, positions):
        return one_of(nk.rotate(scattered(x, (3, 2)), *tables(x, positions), **options))

    def many_axes_in_place(x, positions):
        target = scattered(x, (3, 2))
        nk.rotate(target, *tables(x, positions), out=target, **options)
        return one_of(target)

    def own_tables(x, positions):
        """Where every row has a row of the tables, somewhere in memory."""
        cos, sin = (scattered(np.broadcast_to(t, (*x.shape[:-1], t.shape[-1])), (3, 2)) for t in tables(x, positions))
        return one_of(nk.rotate(scattered(x, (3, 2)), cos, sin, **options))

    def bits(x, positions):
        """bfloat16 as the integers that hold it."""
        half = x.dtype == ml_dtypes.bfloat16
        y = nk.rotate(x.view(np.uint16) if half else x, *tables(x, positions), **options)
        return y.view(x.dtype) if half else y

    def kept_out(x, positions):
        refusals()
        return nk.rotate(x, *tables(x, positions), **options)

    def halves(x, positions):
        every_half()
        return nk.rotate(x, *tables(x, positions), **options)

    own = (backwards, threads, threads_by_token, reversed_in_memory, channels_apart, into_apart, tables_apart,
           many_axes, many_axes_in_place, own_tables, bits, kept_out, halves)  # fmt: skip
    return {function.__name__.replace("_", " "): function for function in own}


def gathers(rope, rows):
    """The same for rows of a table, rows(x) being cos and sin (ROWS, pairs), which positions pick."""
    options = {"pairing": rope.pairing, "start": rope.start}

    def index(x, positions):
        """A row for every row of x."""
        each = positions[:, None] if positions.ndim == 2 else positions
        return np.broadcast_to(each, x.shape[:-1])

    def threads(x, positions):
        y = nk.rotate(copies(x, -(-MANY // x.size)), *rows(x), positions=index(x, positions), **options)
        return one_of(y)

    def each_its_own(x, positions):
        places = scattered(index(x, positions), (3, 2))
        return one_of(nk.rotate(scattered(x, (3, 2)), *rows(x), positions=places, **options))

    def threads_each_its_own(x, positions):
        """In opposite order in memory, so that no row is that of its neighbour."""
        many = -(-MANY // x.size)
        places = copies(index(x, positions)[..., ::-1], many)[..., ::-1]
        return one_of(nk.rotate(copies(x, many), *rows(x), positions=places, **options))

    def small_integers(x, positions):
        return nk.rotate(x, *rows(x), positions=index(x, positions).astype(np.uint16), **options)

    own = (threads, each_its_own, threads_each_its_own, small_integers)
    return {function.__name__.replace("_", " "): function for function in own}


def streamed(rope, tables):
    """What is so large that it is written past the cache; whole lines are."""

    def apply(x, positions):
        return one_of(nk.rotate(copies(x, -(-STREAMED // x.nbytes)), *tables(x, positions), pairing=rope.pairing))

    return Implementation(
        apply=apply, arrays="numpy", dtypes=("float32",), angle="exact", rows=False, negative=False, fractional=False,
        strided=False, position_dtypes=("int64",), max_position=ROWS, deviations=(),
    )  # fmt: skip


def weights_of_pairs(rope):
    """Weights (head_dim,) that are the same for the two channels of a pair, so that they commute with its rotation."""
    weight = np.ones(rope.head_dim, np.float32)
    for channels in rr.pairing.channels(rope.pairing, rope.pairs):
        weight[channels] += np.arange(rope.pairs, dtype=np.float32) / rope.head_dim
    return weight


def normalised(rope, tables):
    """The fused norm, of which weights and norm are divided out again: a few roundings more."""
    weight = weights_of_pairs(rope)

    def apply(x, positions, out=None):
        options = {"epsilon": 0.5, "pairing": rope.pairing, "out": out}
        y = nk.normalise_and_rotate(x, weight, *tables(x, positions), **options)
        norm = np.sqrt(np.square(x.astype(np.float64)).mean(-1, keepdims=True) + 0.5)
        return (y.astype(np.float64) * norm / weight).astype(x.dtype)

    def threads(x, positions):
        return one_of(apply(copies(x, -(-MANY // x.size)), positions))

    def given(x, positions):
        return apply(x, positions, np.empty(x.shape, x.dtype))

    return Implementation(
        apply=apply, paths={"threads": threads, "given": given}, arrays="numpy", dtypes=("float32", "float64"),
        table="bfloat16", arithmetic="bfloat16", rows=True, negative=True, fractional=True, strided=True,
    )  # fmt: skip


def copies(x, many):
    return np.ascontiguousarray(np.broadcast_to(x, (many, *x.shape)))


def scattered(x, many):
    """Copies on axes of which none continues another in memory."""
    room = np.zeros((*(n + 1 for n in (*many, *x.shape[:-1])), x.shape[-1]), x.dtype)
    part = room[tuple(slice(n) for n in (*many, *x.shape[:-1]))]
    part[...] = x
    return part


def one_of(copies):
    """One of several copies that must be equal in every bit."""
    axes = copies.ndim - 4
    flat = copies.reshape(-1, *copies.shape[axes:])
    bits = np.ascontiguousarray(flat).view(f"u{flat.itemsize}")
    assert (bits == bits[0]).all(), "equal rows are turned in different ways"
    return flat[-1]


@functools.cache
def every_half():
    """Every half number, times a few others, is rounded as NumPy and ml_dtypes do it."""
    for dtype in (np.float16, ml_dtypes.bfloat16):
        for factor in (1.0, 0.5, -0.75, 1 / 3, 2.0**-13, 3.0):
            x = np.arange(1 << 16, dtype=np.uint16).view(dtype).reshape(-1, 64)
            cos, sin = np.full((1, 64), factor, np.float32), np.zeros((1, 64), np.float32)
            both = np.stack([x, np.zeros_like(x)], -1).reshape(-1, 128)
            y = nk.rotate(both, cos, sin, pairing="interleaved")[:, ::2]
            with np.errstate(all="ignore"):
                expected = (x.astype(np.float32) * np.float32(factor) - np.float32(0)).astype(dtype)
            nan = np.isnan(expected.astype(np.float32))
            same = np.ascontiguousarray(y).view(np.uint16) == expected.view(np.uint16)
            assert (np.isnan(y.astype(np.float32)) == nan).all(), f"NaN of {dtype.__name__}"
            assert (same | nan).all(), f"{dtype.__name__} times {factor}"


def refusals():
    """What cannot be rotated is refused, and nothing is written; what just can is not."""
    x, cos, sin = np.ones((2, 3, 8), np.float32), np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32)
    half = {"pairing": "half-split"}
    twice = np.lib.stride_tricks.as_strided(np.zeros(40, np.float32), (2, 3, 8), (32, 16, 4))
    fixed = np.zeros_like(x)
    fixed.flags.writeable = False
    room = np.ones(60, np.float32)
    overlapping = room[4:52].reshape(2, 3, 8), room[:48].reshape(2, 3, 8)
    for error, given, options in (
        (TypeError, (x, cos, sin), {"pairing": 1}),
        (TypeError, (x, cos, sin), half | {"inverse": 1}),
        (TypeError, (x, cos, sin), half | {"start": True}),
        (TypeError, (x, cos, sin), half | {"start": 0.0}),
        (TypeError, (x.astype(np.int32), cos, sin), half),
        (TypeError, (x.tolist(), cos, sin), half),
        (TypeError, (x, cos.astype(int), sin), half),
        (TypeError, (x, cos, sin), half | {"out": np.zeros((2, 3, 8))}),
        (TypeError, (x, cos, sin), half | {"positions": np.zeros(3)}),
        (ValueError, (x[0, 0, 0:1].reshape(()), cos, sin), half),
        (ValueError, (x, np.float32(1).reshape(()), sin), half),
        (ValueError, (x, cos, sin), {"pairing": "half"}),
        (ValueError, (x, cos, sin[:1]), half),
        (ValueError, (x, cos, sin), half | {"start": -1}),
        (ValueError, (x, cos, sin), half | {"start": 1}),
        (ValueError, (x, cos[:2], sin[:2]), half),
        (ValueError, (x[0, 0], cos, sin), half),
        (ValueError, (x, cos[None], sin[None]), half | {"positions": np.zeros(3, int)}),
        (ValueError, (x, cos, sin), half | {"positions": np.zeros(2, int)}),
        (ValueError, (x, cos, sin), half | {"out": np.zeros((2, 3, 9), np.float32)}),
        (ValueError, (x, cos, sin), half | {"out": twice}),
        (ValueError, (x, cos, sin), half | {"out": fixed}),
        (ValueError, (overlapping[0], cos, sin), half | {"out": overlapping[1]}),
        (ValueError, (room[:6].reshape(1, 3, 2), room[:3].reshape(3, 1), room[8:11].reshape(3, 1)), half | {
            "out": room[:6].reshape(1, 3, 2)}),
        (ValueError, (room[:6].reshape(1, 3, 2), room[8:11].reshape(3, 1), room[:3].reshape(3, 1)), half | {
            "out": room[:6].reshape(1, 3, 2)}),
        (IndexError, (x, cos, sin), half | {"positions": np.array([0, 1, 3])}),
        (IndexError, (x, cos, sin), half | {"positions": np.array([0, -1, 2])}),
        (IndexError, (x, cos, sin), half | {"positions": np.array([[0], [3]])}),
    ):  # fmt: skip
        try:
            nk.rotate(*given, **options)
        except error:
            continue
        raise AssertionError(f"not refused: {error.__name__}, {options}")
    assert (x == 1).all() and not fixed.any()
    for shape in ((0, 8), (3, 0), (0, 3, 8)):
        empty = np.ones(shape, np.float32)
        assert nk.rotate(empty, cos[:1, : shape[-1] // 2], sin[:1, : shape[-1] // 2], **half).shape == shape
    single = nk.rotate(np.ones(2, np.float32), cos[0, :1], sin[0, :1], **half)
    assert single.tolist() == [-1, 1]
    whole = nk.rotate(x, cos[:, :3], sin[:, :3], start=2, **half)  # up to the last channel
    assert (whole == [1, 1, -1, -1, -1, 1, 1, 1]).all()
    last = nk.rotate(x, cos, sin, positions=np.array([0, 1, 2]), **half)
    assert (last == [-1, -1, -1, -1, 1, 1, 1, 1]).all()
