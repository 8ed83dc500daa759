"""Tensors through autograd, the compiler and every mode of torch. Values are in test_laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import torch_bridge.rotation as bridge
from tests.strategies import pairings
from torch_bridge import apply_learned_rotations, apply_rotary_emb
from torch_bridge.kernel import KINDS
from torch_bridge.plain import arithmetic, plain


def sample(dtype=torch.float64, start=1, pairs=3, **options):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 4, start + 2 * pairs + 1, generator=generator, dtype=torch.float64)
    tables = torch.randn(2, 4, pairs, generator=generator, dtype=torch.float64)
    kind = arithmetic(dtype)
    return [t.to(d).requires_grad_(**options) for t, d in ((x, dtype), (tables[0], kind), (tables[1], kind))]


@settings(max_examples=8)
@given(pairings, st.tuples(st.booleans(), st.booleans()).filter(any))
def test_gradients_of_both_orders(pairing, needed):
    x, cos, sin = sample()
    x.requires_grad_(needed[0]), cos.requires_grad_(needed[1]), sin.requires_grad_(needed[1])

    def turn(x, cos, sin):
        return bridge.rotate(x, cos, sin, pairing=pairing, start=1)

    assert torch.autograd.gradcheck(turn, (x, cos, sin))
    assert torch.autograd.gradgradcheck(turn, (x, cos, sin))


@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
@pytest.mark.parametrize("dtype", tuple(KINDS))
def test_gradients_equal_those_of_plain_torch(dtype, pairing):
    results = []
    for turn in (bridge.rotate, plain):
        x, cos, sin = sample(dtype)
        y = turn(x, cos, sin, pairing=pairing, start=1)
        upstream = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view(y.shape).to(dtype)
        results.append((y, *torch.autograd.grad(y, (x, cos, sin), upstream)))
    for kernel, formula in zip(*results, strict=True):
        assert kernel.dtype == formula.dtype
        # the same products, whose sums may be taken in another order: 4 terms and tables over 4 rows of 2 x 2
        unit = torch.finfo(kernel.dtype).eps
        assert torch.allclose(kernel, formula, rtol=unit, atol=16 * unit)


def test_no_memory_is_kept_for_tables_that_need_no_gradient():
    x, cos, sin = sample()
    y = bridge.rotate(x, cos.detach(), sin.detach(), pairing="half-split")
    assert not any(t is not None and t.shape == x.shape for t in y.grad_fn.saved_tensors)


def test_expanded_and_transposed_gradients():
    x, cos, sin = sample()
    whole = bridge.rotate(x, cos, sin, pairing="half-split", start=1)
    formula = plain(x, cos, sin, "half-split", 1)
    for upstream in (torch.ones(()).double().expand(x.shape), torch.randn(*x.shape[::-1]).double().permute(3, 2, 1, 0)):
        a, b = (torch.autograd.grad(y, x, upstream, retain_graph=True)[0] for y in (whole, formula))
        assert torch.allclose(a, b, rtol=0, atol=2.0**-48)


def test_transforms_and_forward_mode_take_plain_torch():
    x, cos, sin = sample(requires_grad=False)

    def turn(x):
        return bridge.rotate(x, cos, sin, pairing="interleaved", start=1)

    assert torch.equal(torch.func.vmap(turn)(x), turn(x))
    tangent = torch.randn_like(x)
    assert torch.equal(torch.func.jvp(turn, (x,), (tangent,))[1], turn(tangent))
    gradient = torch.func.grad(lambda t: turn(t).square().sum())(x)
    assert gradient.shape == x.shape
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, tangent)
        assert torch.equal(torch.autograd.forward_ad.unpack_dual(turn(dual)).tangent, turn(tangent))


def test_batched_gradients_and_negative_bits():
    x, cos, sin = sample()
    y = bridge.rotate(x, cos, sin, pairing="half-split", start=1)
    upstream = torch.randn(3, *y.shape, dtype=torch.float64)
    batched = torch.autograd.grad(y, x, upstream, is_grads_batched=True, retain_graph=True)[0]
    single = [torch.autograd.grad(y, x, u, retain_graph=True)[0] for u in upstream]
    assert torch.allclose(batched, torch.stack(single), rtol=0, atol=2.0**-48)
    lazy = torch.complex(x, x).detach().conj().imag
    assert lazy.is_neg() and torch.equal(bridge.rotate(lazy, cos, sin, pairing="half-split", start=1), -y)


def test_tables_of_any_dtype():
    x, cos, sin = sample(torch.float32)
    half = [t.bfloat16() for t in (cos, sin)]
    expected = bridge.rotate(x, half[0].float(), half[1].float(), pairing="half-split", start=1)
    assert torch.equal(bridge.rotate(x, *half, pairing="half-split", start=1), expected)


def test_meta_tensors_give_shapes():
    x, cos, sin = (t.to("meta") for t in sample())
    y = bridge.rotate(x, cos, sin, pairing="half-split", start=1)
    assert y.is_meta and y.shape == x.shape


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "x has dtype torch.int64", dict(x=torch.ones(4, 8, dtype=torch.long))),
        (ValueError, "start is 3 with 3 pairs", dict(start=3)),
        (ValueError, "start is -1", dict(start=-1)),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
        (ValueError, "cos and sin have shapes", dict(sin=torch.ones(4, 2))),
        (ValueError, "cos and sin have shapes", dict(cos=torch.ones(5, 3), sin=torch.ones(5, 3))),
        (ValueError, "cos and sin have shapes", dict(cos=torch.ones(1, 4, 3), sin=torch.ones(1, 4, 3))),
    ],
)
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_bad_input_says_what_is_wrong(error, words, arguments, device):
    call = dict(x=torch.ones(4, 8), cos=torch.ones(4, 3), sin=torch.ones(4, 3), pairing="half-split") | arguments
    call = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in call.items()}
    with pytest.raises(error, match=words):
        bridge.rotate(**call)


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "query is a ndarray; expected a tensor", dict(query=np.ones((4, 8), np.float32))),
        (TypeError, "sin is a list; expected a tensor", dict(sin=[1.0])),
        (TypeError, "cos has dtype torch.complex64; expected real", dict(cos=torch.ones(4, 3, dtype=torch.complex64))),
        (TypeError, "key has layout torch.sparse_coo; expected torch.strided", dict(key=torch.ones(4, 8).to_sparse())),
        (TypeError, "cos has layout torch.sparse_coo", dict(cos=torch.ones(4, 3).to_sparse())),
        (TypeError, "key has dtype torch.int32", dict(key=torch.ones(4, 8).int())),
        (ValueError, "cos is on meta; expected cpu, as query", dict(cos=torch.ones(4, 3, device="meta"))),
        (ValueError, "cos is on cpu; expected meta, as key", dict(key=torch.ones(4, 8, device="meta"))),
        (TypeError, "in which key of torch.float64 is rotated", dict(key=torch.ones(4, 8).double())),
        (ValueError, r"broadcasts to key, \(5, 8\)", dict(key=torch.ones(5, 8))),
    ],
)
@pytest.mark.parametrize("inplace", [False, True])
def test_bad_input_of_two_leaves_both_alone(error, words, arguments, inplace):
    call = dict(query=torch.ones(4, 8), key=torch.ones(2, 4, 8), cos=torch.full((4, 3), 2.0), sin=torch.ones(4, 3),
                pairing="half-split") | arguments  # fmt: skip
    with pytest.raises(error, match=words):
        bridge.rotate_qk(**call, inplace=inplace)
    assert (torch.as_tensor(call["query"]) == 1).all()


def test_a_key_that_cannot_be_rotated_in_place_leaves_the_query_alone():
    query, (cos, sin) = torch.ones(2, 4, 8), torch.full((2, 4, 3), 2.0)
    for key, words in ((torch.ones(4, 8).expand(2, 4, 8), "key has strides"), (query, "query shares memory with key")):
        with pytest.raises(ValueError, match=words):
            bridge.rotate_qk(query, key, cos, sin, pairing="half-split", inplace=True)
    assert (query == 1).all()


@pytest.mark.parametrize("turn", [apply_rotary_emb, apply_learned_rotations])
def test_angles_elsewhere(turn):
    for places in (("meta", "cpu"), ("cpu", "meta")):
        with pytest.raises(ValueError, match="freqs are on {}; expected {}, as t".format(*places)):
            turn(*(torch.ones(4, 8, device=place) for place in places))
