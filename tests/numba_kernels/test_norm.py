"""Rows divided by their root mean square, then rotated: against float64, and through every part of torch."""

import os
import subprocess
import sys

import numba
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import numba_kernels as nk
import rope_ref as rr
import torch_bridge
from rope_ref.exactness import SMALLEST, UNIT
from tests.numba_kernels.test_numba_kernels import check_gaps, leading
from tests.oracles import arithmetic, rounded, stored, value
from tests.strategies import DTYPES, arrange, dtypes, layouts, normal, pairings, ropes, seeds
from tests.torch_bridge.test_operators import PAIRINGS, numbers, sample
from torch_bridge import operators
from torch_bridge.kernel import KINDS

EPSILON = 1e-5


def oracle(x, weight, cos, sin, rope, epsilon=EPSILON):
    """float64, by another formula than the kernel's, and the reach |a cos| + |b sin| of both channels of a pair."""
    scaled = x / np.sqrt(np.mean(x**2, -1, keepdims=True) + epsilon) * weight
    exact, reach = scaled.copy(), np.abs(scaled)
    first, second = rr.pairing.channels(rope.pairing, rope.pairs, rope.start)
    a, b = scaled[..., first], scaled[..., second]
    exact[..., first], exact[..., second] = a * cos - b * sin, a * sin + b * cos
    reach[..., first], reach[..., second] = (np.abs(a * c) + np.abs(b * s) for c, s in ((cos, sin), (sin, cos)))
    return exact, reach


def bound(exact, reach, dtype, width, sums=None):
    """What the roundings of the kernel add up to.

    A square passes, rounded once, through the sums of its lane, four halvings and one sum more, or through up to 15
    sums of the rest and that one; any order has at most width - 1 (`sums`). The root halves these, and those of the
    mean and of epsilon, itself rounded as it is stored; root, quotient and two products are whole, and so are product
    and sum of a pair, each on what the others left: 1.01 stands for their products. Then the store. Below the normal
    numbers each of three products of a pair's two channels may lose half the smallest number, and so may the store.
    """
    unit = UNIT[arithmetic(dtype)]
    sums = max(width // 16 + 4, width % 16) + 1 if sums is None else sums
    allowed = ((1 + sums + 3) / 2 + 4 + 2) * unit * reach * 1.01
    allowed = allowed + 8 * np.abs(reach) * UNIT["float64"] * width  # the oracle's own sum
    return allowed + (np.abs(exact) + allowed) * UNIT[dtype] + SMALLEST[dtype] + 8 * SMALLEST[arithmetic(dtype)]


@settings(max_examples=200)
@given(st.data(), ropes(magnitude=False), leading(), seeds, dtypes, dtypes,
       st.sampled_from(["new", "given", "in place"]), st.booleans())  # fmt: skip
def test_any_memory_gives_the_normalised_rotation(data, rope, axes, seed, dtype, heavy, where, gather):
    lead, own = axes
    exact = rounded(normal(seed, *lead, rope.head_dim), dtype)
    x, block = arrange(stored(exact, dtype), data.draw(layouts(exact.ndim)))
    p = np.random.default_rng(seed).integers(0, 9, own)
    tables = rr.tables(rope, np.arange(9) if gather else p, arithmetic(dtype))
    cos, sin = (arrange(t, data.draw(layouts(t.ndim)))[0] for t in tables)
    weight = rounded(1 + normal(seed + 1, rope.head_dim) / 4, heavy)
    given = arrange(stored(weight, heavy), data.draw(layouts(1)))[0]
    before, out = block.copy(), x if where == "in place" else None
    if where == "given":
        out, guard = arrange(np.zeros_like(x), data.draw(layouts(x.ndim)))
        untouched = guard.copy()
    y = nk.normalise_and_rotate(x, given, cos, sin, epsilon=EPSILON, pairing=rope.pairing, start=rope.start,
                                positions=p if gather else None, out=out)  # fmt: skip
    assert out is None or y is out
    cos, sin = (np.float64(t[p] if gather else t) for t in tables)
    weight = weight.astype(arithmetic(dtype)).astype(np.float64)
    right, reach = oracle(exact, weight, cos, sin, rope)
    assert (np.abs(value(y, dtype) - right) <= bound(right, reach, dtype, rope.head_dim)).all()
    check_gaps(where, y, block, before, *((guard, untouched) if where == "given" else ()))


@settings(max_examples=30)
@given(pairings, dtypes, seeds, st.sampled_from([(128, 0, 64), (300, 10, 100), (72, 4, 30), (1030, 0, 515), (7, 2, 1)]))
def test_every_width(pairing, dtype, seed, sizes):
    width, start, pairs = sizes
    rope = rr.Rope(width, 2 * pairs, start=start, pairing=pairing)
    x, weight = rounded(normal(seed, 2, 9, width), dtype), normal(seed + 1, width).astype(np.float32)
    cos, sin = rr.tables(rope, np.arange(9), arithmetic(dtype))
    options = dict(epsilon=EPSILON, pairing=pairing, start=start)
    y = nk.normalise_and_rotate(stored(x, dtype), weight, cos, sin, **options)
    right, reach = oracle(x, np.float64(weight), np.float64(cos), np.float64(sin), rope)
    assert (np.abs(value(y, dtype) - right) <= bound(right, reach, dtype, width)).all()
    for i in range(9):  # alone, in another place of its group of rows
        one = nk.normalise_and_rotate(stored(x, dtype)[:, [i]], weight, cos[[i]], sin[[i]], **options)
        assert np.array_equal(one, y[:, [i]])


def test_sums_of_squares_have_the_order_that_is_documented():
    """In float32, where another order gives other bits: lanes, halves, then the rest."""
    differs = 0
    for width in (16, 40, 128, 144, 150):
        x = normal(width, 200, width).astype(np.float32) ** 3
        sums = np.zeros((200, 16), np.float32)
        for block in range(width // 16):
            part = x[:, 16 * block : 16 * block + 16]
            sums = sums + part * part
        for half in (8, 4, 2, 1):
            sums = sums[:, :half] + sums[:, half:]
        total = sums[:, 0]
        for k in range(width // 16 * 16, width):
            total = total + x[:, k] * x[:, k]
        scale = np.float32(1) / np.sqrt(total / np.float32(width) + np.float32(EPSILON))
        none = np.ones((1, 0), np.float32)
        y = nk.normalise_and_rotate(x, np.ones(width), none, none, epsilon=EPSILON, pairing="half-split")
        assert np.array_equal(y, x * scale[:, None])
        other = np.float32(1) / np.sqrt((x * x).mean(-1) + np.float32(EPSILON))
        differs += (other != scale).sum()
    assert differs  # so the bits do tell orders apart


def example(dtype, pairing, size=300):
    x, weight = stored(normal(0, 4, size, 136), dtype), normal(1, 136)
    cos, sin = normal(2, 2, size, 60)
    return nk.normalise_and_rotate(x, weight, cos, sin, epsilon=EPSILON, pairing=pairing, start=7)


@pytest.mark.in_turn
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_number_of_threads_gives_the_same_bits(dtype):
    most, results = numba.get_num_threads(), []
    torches = torch.get_num_threads()
    try:
        for threads in (1, 2):
            numba.set_num_threads(min(threads, most))
            torch.set_num_threads(threads)
            results.append(example(dtype, "interleaved"))
    finally:
        numba.set_num_threads(most)
        torch.set_num_threads(torches)
    assert np.array_equal(*results)


def every_example():
    return b"".join(example(dtype, pairing, 3).tobytes() for dtype in DTYPES for pairing in PAIRINGS).hex()


@pytest.mark.in_turn
def test_any_processor_gives_the_same_bits(tmp_path):
    """The least that is compiled for this architecture has no vectors as wide as a line, and no float16."""
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "",
                   "NUMBA_CACHE_DIR": str(tmp_path)}  # fmt: skip
    command = [sys.executable, "-c", "import tests.numba_kernels.test_norm as t; print(t.every_example())"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == every_example()


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_zeros_and_of_huge_numbers(dtype):
    none, options = np.ones((1, 0)), dict(pairing="half-split")
    rows = stored(np.stack([np.zeros(20), np.full(20, 6e4)]), dtype)
    y = value(nk.normalise_and_rotate(rows, np.full(20, 2.0), none, none, epsilon=1e-6, **options), dtype)
    assert (y[0] == 0).all() and (np.abs(y[1] - 2) <= 2 * (2 * UNIT[dtype] + 10 * UNIT[arithmetic(dtype)])).all()
    with np.errstate(all="ignore"):
        y = nk.normalise_and_rotate(rows[:1], np.ones(20), none, none, epsilon=0, **options)
    assert np.isnan(value(y, dtype)).all()
    if dtype in ("float32", "bfloat16"):
        far = stored(np.full((1, 20), 1e20), dtype)
        assert (value(nk.normalise_and_rotate(far, np.ones(20), none, none, epsilon=0.0, **options), dtype) == 0).all()


X, W, C = np.ones((2, 3, 4), np.float32), np.ones(4), np.ones((3, 2), np.float32)


@pytest.mark.parametrize(
    "error, options, arguments",
    [
        (ValueError, r"weight has shape \(3,\); expected \(4,\)", dict(weight=W[:3])),
        (ValueError, r"weight has shape \(1, 4\)", dict(weight=W[None])),
        (TypeError, "weight has dtype int64", dict(weight=W.astype(int))),
        (ValueError, "epsilon is -1.0; expected at least 0", dict(epsilon=-1.0)),
        (ValueError, "epsilon is nan", dict(epsilon=np.nan)),
        (TypeError, "epsilon is '1'; expected a number", dict(epsilon="1")),
        (TypeError, "epsilon is True", dict(epsilon=True)),
        (TypeError, "x has dtype int64", dict(x=np.ones((3, 4), np.int64))),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
        (ValueError, "start is 1", dict(start=1)),
        (ValueError, "sin has shape", dict(sin=C[:2])),
        (IndexError, "positions span 0 to 3", dict(positions=np.array([0, 1, 3]))),
        (ValueError, "out has shape", dict(out=np.ones((2, 3, 5), np.float32))),
    ],
)
def test_bad_input_says_what_is_wrong(error, options, arguments):
    call = dict(x=X, weight=W, cos=C, sin=C, pairing="half-split", epsilon=1e-6) | arguments
    with pytest.raises(error, match=options):
        nk.normalise_and_rotate(**call)
    assert (X == 1).all()


@pytest.mark.parametrize("shape", [(2, 0, 4), (0, 3, 4)])
def test_empty_sequences_are_allowed(shape):
    x, table = np.ones(shape), np.ones((shape[1], 2))
    y = nk.normalise_and_rotate(x, W, table, table, epsilon=0.0, pairing="half-split")
    assert y.shape == shape


# --- torch


FORMS = [(EPSILON, pairing, start) for pairing, start in (("half-split", 0), ("interleaved", 1))]


def tensors(dtype=torch.float32, requires_grad=False, heavy=None):
    query, key, cos, sin = sample(dtype)
    weights = (numbers(8, seed=s, dtype=heavy or dtype) for s in (5, 6))
    return [t.detach().requires_grad_(requires_grad) for t in (query, key, *weights, cos, sin)]


@pytest.mark.in_turn
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("needs", [False, True])
def test_opcheck(form, dtype, needs):
    torch.library.opcheck(operators.rotate_qk_norm, (*tensors(dtype, needs), *form))


@settings(max_examples=30)
@given(pairings, st.integers(0, 2), st.sampled_from(tuple(KINDS)),
       st.sampled_from(tuple(KINDS)))  # fmt: skip
def test_every_form_is_within_the_bound(pairing, start, dtype, heavy):
    """The kernel, torch's own operations, and those with gradients; all in the roundings of any order of the sum."""
    given = tensors(dtype, heavy=heavy)
    options = dict(epsilon=EPSILON, pairing=pairing, start=start)
    rope, name = rr.Rope(8, 6, start=start, pairing=pairing), str(dtype).removeprefix("torch.")
    kernel = torch_bridge.rotate_qk_norm(*given, **options)
    plain = [operators.plain_norm(x, w, *given[4:], EPSILON, pairing, start) for x, w in zip(given, given[2:4])]  # noqa: B905
    needing = torch_bridge.rotate_qk_norm(*(t.clone().requires_grad_() for t in given), **options)
    cos, sin = (t.double().numpy() for t in given[4:])
    for i, results in enumerate(zip(kernel, plain, needing, strict=True)):
        weight = given[2 + i].to(cos_type(dtype)).double().numpy()
        right, reach = oracle(given[i].double().numpy(), weight, cos, sin, rope)
        for y in results:
            assert y.dtype == dtype and y.is_contiguous()
            off = np.abs(y.detach().double().numpy() - right)
            assert (off <= bound(right, reach, name, 8, sums=7)).all()


def cos_type(dtype):
    return torch.float64 if dtype == torch.float64 else torch.float32


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_both_orders(form):
    given = [t[:1, :1, :2] if t.ndim == 4 else t for t in tensors(torch.float64)]
    given[4:] = (t[:2] for t in given[4:])
    given = [t.clone().requires_grad_() for t in given]
    assert torch.autograd.gradcheck(lambda *t: operators.rotate_qk_norm(*t, *form), given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda *t: operators.rotate_qk_norm(*t, *form), given)


def test_transforms_and_the_compiler():
    given, form = tensors(torch.float64), FORMS[1]
    expected = operators.rotate_qk_norm(*given, *form)
    batched = torch.func.vmap(lambda q, k: operators.rotate_qk_norm(q, k, *given[2:], *form))(*given[:2])
    torch._dynamo.reset()
    turn = torch.compile(lambda *t: operators.rotate_qk_norm(*t, *form), fullgraph=True, backend="aot_eager")
    compiled = turn(*given)
    assert all(map(torch.equal, compiled, expected))
    for a, b in zip(batched, expected, strict=True):  # numbers below 8, by another order of eight squares
        assert torch.allclose(a, b, rtol=0, atol=8 * 16 * UNIT["float64"])


def test_a_device_without_a_kernel_takes_plain_torch():
    meta = operators.rotate_qk_norm(*(t.to("meta") for t in tensors()), *FORMS[0])
    assert [t.shape for t in meta] == [t.shape for t in tensors()[:2]]


@pytest.mark.parametrize(
    "error, options, place, tensor",
    [
        (ValueError, r"query_weight is \(7,\), torch.float32; expected floating point \(8,\)", 2, torch.ones(7)),
        (ValueError, "key_weight is .*int64", 3, torch.ones(8).long()),
        (ValueError, "key_weight is on meta; expected cpu, as key", 3, torch.ones(8, device="meta")),
        (TypeError, "key has dtype torch.int64", 1, torch.ones(4, 8).long()),
        (ValueError, "cos and sin have shapes", 4, torch.ones(5, 3)),
    ],
)
def test_bad_tensors_are_named(error, options, place, tensor):
    given = tensors()
    given[place] = tensor
    with pytest.raises(error, match=options):
        torch_bridge.rotate_qk_norm(*given, epsilon=EPSILON, pairing="half-split")
