"""The operators through every part of torch that may call them. Gradients are in test_bridge, values in test_laws."""

import itertools
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

import torch_bridge.rotation as bridge
from tests.strategies import pairings
from torch_bridge import operators
from torch_bridge.kernel import KINDS
from torch_bridge.plain import arithmetic, plain

PAIRINGS = ("half-split", "interleaved")
FORMS = [(pairing, start, inverse) for pairing in PAIRINGS for start, inverse in ((0, False), (1, True))]


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def sample(dtype=torch.float32, seq=4, pairs=3, requires_grad=False):
    """query, key, cos, sin with eight channels; 4 query heads, 2 key heads."""
    wide = arithmetic(dtype)
    shapes = ((2, 4, seq, 8), dtype), ((2, 2, seq, 8), dtype), ((seq, pairs), wide), ((seq, pairs), wide)
    return [numbers(*shape, dtype=d, seed=i).requires_grad_(requires_grad) for i, (shape, d) in enumerate(shapes)]


# --- opcheck: schema, autograd, shapes, and the compiler with dynamic shapes


@pytest.mark.in_turn
@pytest.mark.parametrize(
    "form, dtype, needs",
    [(form, torch.float32, "all") for form in FORMS]
    + [(FORMS[1], dtype, "all") for dtype in (torch.float64, torch.bfloat16)]
    + [(FORMS[-1], torch.float32, needs) for needs in ("nothing", "x", "tables")],
)
def test_opcheck(form, dtype, needs):
    query, key, cos, sin = sample(dtype)
    for tensors, who in (((query, key), ("x", "all")), ((cos, sin), ("tables", "all"))):
        for t in tensors:
            t.requires_grad_(needs in who)
    torch.library.opcheck(operators.rotate, (query, cos, sin, *form))
    torch.library.opcheck(operators.rotate_qk, (query, key, cos, sin, *form))
    torch.library.opcheck(operators.rotate_backward, (query.detach().clone(), query, cos, sin, *form))
    if needs == "nothing":
        torch.library.opcheck(operators.rotate_, (query, cos, sin, *form))


@pytest.mark.parametrize("shape", [(8,), (4, 8), (0, 4, 8), (2, 3, 4, 8)])
def test_opcheck_of_any_rank_and_of_views(shape):
    cos, sin = numbers(2, *shape[-2:-1], 3)
    x = numbers(*shape)
    for view in (x, x.expand(2, *shape), x.flip(0).movedim(0, -1).contiguous().movedim(-1, 0)):
        torch.library.opcheck(operators.rotate, (view, cos, sin, "interleaved", 1))


# --- the three forms are one rotation


@settings(max_examples=25)
@given(pairings, st.integers(0, 2), st.booleans(), st.sampled_from(tuple(KINDS)), st.integers(0, 3))
def test_every_form_gives_the_same_bits(pairing, start, inverse, dtype, seq):
    query, key, cos, sin = sample(dtype, seq)
    form = (pairing, start, inverse)
    expected = [plain(t, cos, sin, *form) for t in (query, key)]
    assert all(map(torch.equal, operators.rotate_qk(query, key, cos, sin, *form), expected))
    for t, turned in zip((query, key), expected, strict=True):
        assert torch.equal(operators.rotate(t, cos, sin, *form), turned)
        here = t.clone()
        assert operators.rotate_(here, cos, sin, *form) is None and torch.equal(here, turned)
    keywords = dict(pairing=pairing, start=start, inverse=inverse)
    assert all(map(torch.equal, bridge.rotate_qk(query, key, cos, sin, **keywords), expected))
    assert bridge.rotate(query, cos, sin, **keywords, inplace=True) is query and torch.equal(query, expected[0])


@pytest.mark.parametrize("pairing", PAIRINGS)
def test_the_inverse_turns_back(pairing):
    x, _, angle, _ = sample(torch.float64)
    there = operators.rotate(x, angle.cos(), angle.sin(), pairing, 1)
    back = operators.rotate(there, angle.cos(), angle.sin(), pairing, 1, True)
    # two rotations, each with two products and a sum of numbers below 8
    assert (back - x).abs().max() <= 2 * 3 * 8 * 2.0**-53


@pytest.mark.parametrize("form", FORMS)
def test_the_cpu_equals_plain_torch_by_name_of_its_kernel(form):
    """What a device without a kernel runs, called for the CPU's tensors."""
    query, key, cos, sin = sample()
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    turned = operators.rotate.redispatch(keys, query, cos, sin, *form)
    assert torch.equal(turned, operators.rotate(query, cos, sin, *form))


def test_a_device_without_a_kernel_takes_plain_torch():
    """The meta device runs the same path up to its numbers; its shapes are those of the CPU."""
    meta = [t.to("meta") for t in sample()]
    assert [t.shape for t in operators.rotate_qk(*meta, "half-split")] == [t.shape for t in meta[:2]]
    for name in ("rotate", "rotate_", "rotate_qk", "normalise_and_rotate"):
        for key in ("CompositeExplicitAutograd", "Meta", "CPU", "Autograd", "FuncTorchBatched"):
            assert torch._C._dispatch_has_kernel_for_dispatch_key(f"rope_ref::{name}", key)


def test_dtypes_without_a_kernel_and_lazy_bits():
    query, _, cos, sin = sample()
    negated = torch.complex(query, query).conj().imag
    assert negated.is_neg()
    expected = operators.rotate(-query, cos, sin, "half-split")
    assert torch.equal(operators.rotate(negated, cos, sin, "half-split"), expected)
    operators.rotate_(negated, cos, sin, "half-split")
    assert torch.equal(negated, expected)


# --- autograd


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_both_orders(form):
    tensors = sample(torch.float64, seq=2, requires_grad=True)
    for function in (lambda *t: operators.rotate_qk(*t, *form), lambda q, k, c, s: in_place(q, c, s, *form)):
        assert torch.autograd.gradcheck(function, tensors, check_forward_ad=True, check_batched_grad=True)
        assert torch.autograd.gradgradcheck(function, tensors, check_fwd_over_rev=True)


def in_place(x, *rest):
    x = x.clone()
    operators.rotate_(x, *rest)
    return x


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_learned_frequencies_and_magnitudes(form):
    x, position = numbers(2, 4, 8, dtype=torch.float64), torch.arange(4.0, dtype=torch.float64)
    learned = [numbers(*shape, dtype=torch.float64, seed=1).requires_grad_() for shape in ((3,), (4, 1))]

    def turn(frequency, magnitude):
        angle = position[:, None] * frequency
        return operators.rotate(x, magnitude * angle.cos(), magnitude * angle.sin(), *form)

    assert torch.autograd.gradcheck(turn, learned) and torch.autograd.gradgradcheck(turn, learned)


def test_the_graph_names_rotations_and_what_changed_in_place_is_known():
    query, key, cos, sin = sample(requires_grad=True)
    assert "Rotation" in operators.rotate(query, cos, sin, "half-split").grad_fn.name()
    with pytest.raises(RuntimeError, match="leaf Variable"):
        operators.rotate_(query, cos, sin, "half-split")
    square = query.detach().clone().requires_grad_().clone()
    loss = square.square().sum()
    with torch.no_grad():
        operators.rotate_(square, cos, sin, "half-split")
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpointing(reentrant):
    gradients = []
    for wrap in (lambda f, *t: f(*t), lambda f, *t: checkpoint(f, *t, use_reentrant=reentrant)):
        tensors = sample(requires_grad=True)
        q, k = wrap(lambda *t: operators.rotate_qk(*t, "half-split"), *tensors)
        (q.sum() + k.square().sum()).backward()
        gradients.append([t.grad for t in tensors])
    assert all(map(torch.equal, *gradients))


def test_autocast_rounds_nothing():
    query, key, cos, sin = sample()
    expected = operators.rotate_qk(query, key, cos, sin, "half-split")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(map(torch.equal, operators.rotate_qk(query, key, cos, sin, "half-split"), expected))


def test_inference_mode():
    query, key, cos, sin = sample()
    expected = operators.rotate_qk(query, key, cos, sin, "half-split")
    with torch.inference_mode():
        turned = operators.rotate_qk(query, key, cos, sin, "half-split")
        assert all(t.is_inference() for t in turned) and all(map(torch.equal, turned, expected))
        fresh = query.clone()
        operators.rotate_(fresh, cos, sin, "half-split")
        assert torch.equal(fresh, expected[0])
        before = key._version
        operators.rotate_(key, cos, sin, "half-split")
        assert key._version == before + 1


# --- transforms of functions


@pytest.mark.parametrize("axes", list(itertools.product([None, 0, 1], [None, 0, -1], [None, 1])))
def test_vmap(axes):
    if axes == (None, None, None):
        pytest.skip("nothing to map")
    query, _, cos, sin = sample(torch.float64)
    given = zip((query, cos, sin), axes, strict=True)
    tensors = [t if a is None else torch.stack([t, t + 1, t * 2], a) for t, a in given]
    for form in FORMS:
        mapped = torch.func.vmap(lambda *t, form=form: operators.rotate(*t, *form), in_dims=axes)(*tensors)
        for i in range(3):
            row = [t if a is None else t.select(a, i) for t, a in zip(tensors, axes, strict=True)]
            assert torch.equal(mapped[i], operators.rotate(*row, *form))


def test_grad_jvp_and_their_nesting():
    query, key, cos, sin = sample(torch.float64)

    def loss(q, k, c, s):
        return (torch.stack([t.sin().sum() for t in operators.rotate_qk(q, k, c, s, "interleaved", 1)])).sum()

    tensors = [t.clone().requires_grad_() for t in (query, key, cos, sin)]
    expected = torch.autograd.grad(loss(*tensors), tensors)
    got = torch.func.grad(loss, argnums=(0, 1, 2, 3))(query, key, cos, sin)
    # the same products, summed in another order: tables over 2 x 6 rows of numbers below 64
    assert all(torch.allclose(g, e, rtol=0, atol=12 * 64 * 2.0**-53) for g, e in zip(got, expected, strict=True))
    ones = tuple(map(torch.ones_like, (query, key, cos, sin)))
    value, tangent = torch.func.jvp(loss, (query, key, cos, sin), ones)
    assert torch.allclose(tangent, sum(e.sum() for e in expected), rtol=0, atol=200 * 64 * 2.0**-53)
    small = lambda c: operators.rotate(query[:1, :1, :1], c[None], sin[:1], "half-split", 1).sin().sum()  # noqa: E731
    forward, reverse = (f(torch.func.grad(small))(cos[0]) for f in (torch.func.jacfwd, torch.func.jacrev))
    assert torch.allclose(forward, reverse, rtol=0, atol=64 * 2.0**-53) and forward.abs().max() > 0


def test_gradients_of_every_sample():
    x, (cos, sin) = numbers(3, 4, 8, dtype=torch.float64), numbers(2, 4, 3, dtype=torch.float64, seed=1)
    one = torch.func.grad(lambda c, x: operators.rotate(x, c, sin, "half-split").square().sum())
    for row, sample_ in zip(torch.func.vmap(one, (None, 0))(cos, x), x, strict=True):
        assert torch.allclose(row, one(cos, sample_), rtol=0, atol=64 * 2.0**-53)


# --- export and the compiler


class Turn(torch.nn.Module):
    def forward(self, query, key, cos, sin):
        return bridge.rotate_qk(query, key, cos, sin, pairing="half-split", start=1)


def test_export_keeps_the_operator_and_any_length():
    seq = torch.export.Dim("seq", min=2, max=4096)
    exported = torch.export.export(Turn(), tuple(sample()), dynamic_shapes=({2: seq}, {2: seq}, {0: seq}, {0: seq}))
    assert "torch.ops.rope_ref.rotate_qk" in exported.graph_module.code
    for length in (2, 9):
        tensors = sample(seq=length)
        assert all(map(torch.equal, exported.module()(*tensors), Turn()(*tensors)))


def fresh_compiler():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


BACKENDS = ["aot_eager", pytest.param("inductor", marks=pytest.mark.skipif(not shutil.which("g++"), reason="no g++"))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("needs", [False, True])
def test_no_recompilation_as_the_sequence_grows(backend, needs):
    fresh_compiler()
    compiled = torch.compile(Turn(), fullgraph=True, dynamic=True, backend=backend)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for length in range(9, 15):  # unlike all other sizes, which torch would take for the same symbol
            tensors = sample(seq=length, requires_grad=needs)
            turned, expected = compiled(*tensors), Turn()(*tensors)
            assert all(map(torch.equal, turned, expected))
            if needs:
                gradients = [torch.autograd.grad(sum(t.sum() for t in y), tensors) for y in (turned, expected)]
                for a, b in zip(*gradients, strict=True):
                    assert torch.allclose(a, b, rtol=0, atol=64 * 64 * 2.0**-24)  # 64 terms below 64 in any order
    counters = torch._dynamo.utils.counters
    assert counters["stats"]["unique_graphs"] == 1 and not counters["graph_break"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_recompilation_while_decoding(backend):
    """One token at a time, whose row of the tables moves on, into a cache in place."""
    fresh_compiler()
    query, key, cos, sin = sample(seq=1)
    cos, sin = numbers(2, 64, 3)

    def step(query, cache, place):
        turned = operators.rotate(query, cos[place : place + 1], sin[place : place + 1], "half-split")
        here = cache[:, :, place : place + 1]
        operators.rotate_(here, cos[place : place + 1], sin[place : place + 1], "half-split")
        return turned

    compiled = torch.compile(step, fullgraph=True, dynamic=True, backend=backend)
    caches = [numbers(2, 2, 64, 8) for _ in range(2)]
    with torch._dynamo.config.patch(error_on_recompile=True):
        for place in range(2, 9):
            assert torch.equal(compiled(query, caches[0], place), step(query, caches[1], place))
            assert torch.equal(*caches)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_compiled_transforms():
    fresh_compiler()
    query, _, cos, sin = sample(torch.float64)
    gradient = torch.func.grad(lambda x: operators.rotate(x, cos, sin, "half-split").sin().sum())
    compiled = torch.compile(gradient, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(query), gradient(query), rtol=0, atol=16 * 2.0**-53)


# --- bad input


@pytest.mark.parametrize(
    "error, words, arguments",
    [
        (TypeError, "cos has dtype torch.float64; expected torch.float32", dict(cos=torch.ones(4, 3).double())),
        (TypeError, "sin has dtype torch.bfloat16", dict(sin=torch.ones(4, 3).bfloat16())),
        (ValueError, "cos is on meta; expected cpu", dict(cos=torch.ones(4, 3, device="meta"))),
        (TypeError, "query has dtype torch.int64", dict(query=torch.ones(4, 8).long())),
        (ValueError, r"broadcasts to key, \(5, 8\)", dict(key=torch.ones(5, 8))),
        (ValueError, "start is 3 with 3 pairs", dict(start=3)),
        (ValueError, "pairing is 'both'", dict(pairing="both")),
    ],
)
def test_bad_input_says_what_is_wrong(error, words, arguments):
    call = dict(query=torch.ones(4, 8), key=torch.ones(2, 4, 8), cos=torch.ones(4, 3), sin=torch.ones(4, 3),
                pairing="half-split") | arguments  # fmt: skip
    with pytest.raises(error, match=words):
        operators.rotate_qk(**call)


def test_memory_that_cannot_be_rotated_in_place():
    wide, (cos, sin) = torch.ones(5, 4, 4), torch.ones(2, 4, 4)[..., :2]
    with pytest.raises(ValueError, match="x has strides"):
        operators.rotate_(torch.ones(4, 4).expand(2, 4, 4), cos, sin, "half-split")
    with pytest.raises(ValueError, match="x shares memory with cos"):
        operators.rotate_(wide, wide[0, :, :2], sin, "half-split")
    assert (wide == 1).all()
