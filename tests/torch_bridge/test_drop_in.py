"""The drop-in: equal to rotary-embedding-torch where that is right, to the specification where it is not."""

import copy
import inspect
import pickle
import shutil

import numpy as np
import pytest
import rotary_embedding_torch as original
import torch
import torch.fx.experimental.proxy_tensor
from hypothesis import given
from hypothesis import strategies as st

import rope_ref as rr
import torch_bridge as ours
from rope_ref.exactness import UNIT
from tests.oracles import bound
from tests.strategies import DTYPES

METHODS = [name for name, _ in inspect.getmembers(original.RotaryEmbedding, inspect.isfunction)
           if name in vars(original.RotaryEmbedding)]  # fmt: skip
FUNCTIONS = ["apply_rotary_emb", "apply_learned_rotations", "broadcat"]


def parity(t, reach, frequency=1.0, magnitude=1.0):
    """How far float32 angles up to reach * frequency may put the original from the exact rotation.

    Its angle is a float32 product of a float32 frequency (a power and a reciprocal) and a float32
    position (a sum and a quotient): six roundings of the angle. Its result has products, a sum and
    cos, sin and scale of a unit or two each: sixteen roundings of the length at most.
    """
    length = t.detach().abs().max().double() * 2**0.5 * magnitude
    return float(length * UNIT["float32"] * (6 * max(reach, 1) * frequency + 16))


def close(got, expected, tolerance):
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert (got - expected).abs().max() <= tolerance if got.numel() else True


# --- the same names


@pytest.mark.parametrize("name", ["__init__", *METHODS])
def test_methods_have_the_same_arguments_and_defaults(name):
    theirs, ours_ = (inspect.signature(getattr(m.RotaryEmbedding, name)).parameters.values() for m in (original, ours))
    assert [(p.name, p.default, p.kind) for p in ours_] == [(p.name, p.default, p.kind) for p in theirs]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_same_arguments_and_defaults(name):
    theirs, mine = (inspect.signature(getattr(m, name)).parameters for m in (original.rotary_embedding_torch, ours))
    assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in theirs.values()]


# --- parity


@st.composite
def options(draw):
    dim = 2 * draw(st.integers(2, 9))
    return dict(
        dim=dim,
        freqs_for=draw(st.sampled_from(["lang", "constant", "pixel"])),
        theta=draw(st.sampled_from([10.0, 10000.0])),
        num_freqs=dim // 2,
        interpolate_factor=draw(st.sampled_from([1.0, 2.0, 3.0])),
        theta_rescale_factor=draw(st.sampled_from([0.5, 1.0, 4.0])),
        seq_before_head_dim=draw(st.booleans()),
        learned_freq=draw(st.booleans()),
        cache_if_possible=draw(st.booleans()),
        cache_max_seq_len=draw(st.sampled_from([16, 8192])),
        custom_freqs=draw(st.sampled_from([None, torch.linspace(1, 0.1, dim // 2)])),
    )


def both(options):
    """Fresh modules with the same frequencies, bit for bit."""
    a, b = ours.RotaryEmbedding(**options), original.RotaryEmbedding(**options)
    assert a.state_dict().keys() == b.state_dict().keys()
    for first, second in ((a, b), (b, a)):
        second.load_state_dict(first.state_dict())
    return a, b


@given(options(), st.integers(0, 40), st.integers(0, 20), st.sampled_from([None, 0.5, "rows"]))
def test_rotate_queries_or_keys(options, seq, offset, scale):
    a, b = both(options)
    t = torch.randn(2, seq, 3, options["dim"] + 2) if options["seq_before_head_dim"] else torch.randn(
        2, 3, seq, options["dim"] + 2)
    if scale == "rows":
        scale = torch.rand(*((seq, 1) if options["seq_before_head_dim"] else (seq,)), options["dim"])
    x, y = (m.rotate_queries_or_keys(t, offset=offset, scale=scale) for m in (a, b))
    close(x, y, parity(t, seq + offset, float(a.freqs.detach().abs().max())) if seq else 0)


@given(options(), st.integers(1, 20), st.integers(0, 20), st.integers(0, 5))
def test_rotate_queries_with_cached_keys(options, new, old, offset):
    a, b = both(options)
    axis = -3 if options["seq_before_head_dim"] else -2
    q, k = (torch.randn(2, n, 3, options["dim"]).transpose(1, axis) for n in (new, new + old))
    for x, y in zip(*(m.rotate_queries_with_cached_keys(q, k, offset=offset) for m in (a, b)), strict=True):
        close(x, y, parity(torch.cat((q, k), axis), 45, float(a.freqs.detach().abs().max())))


@given(options(), st.integers(1, 40))
def test_xpos(options, seq):
    options |= dict(use_xpos=True, xpos_scale_base=64, num_freqs=options["dim"] // 2)
    a, b = both(options)
    axis = -3 if options["seq_before_head_dim"] else -2
    q, k = torch.randn(2, 2, seq, 3, options["dim"]).transpose(2, axis)
    # 3.5^(20/64), and a float32 power adds a few roundings of its exponent
    for x, y in zip(*(m.rotate_queries_and_keys(q, k) for m in (a, b)), strict=True):
        close(x, y, parity(torch.stack((q, k)), 40, float(a.freqs.detach().abs().max()), 3.5 ** (40 / 64)))
    places = torch.arange(seq).float()
    close(a.get_scale(places), b.get_scale(places), 32 * UNIT["float32"] * 3.5 ** (40 / 64))


@given(options(), st.lists(st.integers(1, 5), min_size=1, max_size=3), st.sampled_from([None, "tuple", "tensor"]))
def test_get_axial_freqs(options, dims, offsets):
    if offsets is not None:
        options["cache_if_possible"] = False  # the cache of the original forgets the offsets of all axes but the first
    a, b = both(options)
    values = tuple(float(i) - 0.5 for i in range(len(dims)))
    offsets = {None: None, "tuple": values, "tensor": torch.tensor(values)}[offsets]
    x, y = (m.get_axial_freqs(*dims, offsets=offsets) for m in (a, b))
    close(x, y, 8 * UNIT["float32"] * 8 * float(a.freqs.detach().abs().max()))


@pytest.mark.parametrize("shape, freqs", [((5, 8), (7, 6)), ((2, 5, 8), (7, 6)), ((5, 2, 8), (9, 1, 6)),
                                          ((2, 3, 5, 8), (5, 6)), ((2, 3, 5, 8), (2, 1, 5, 6)), ((2, 5, 8), (2, 5, 6))])
@pytest.mark.parametrize("scale", [1.0, 0.5, "tensor"])
@pytest.mark.parametrize("twice", [True, False])
def test_apply_rotary_emb(shape, freqs, scale, twice):
    t, angles = torch.randn(shape), torch.randn(freqs)
    if twice:
        angles = angles[..., ::2].repeat_interleave(2, -1)
    seq_dim = -3 if freqs == (9, 1, 6) else -2
    scale = torch.rand(6) if scale == "tensor" else scale
    x, y = (m.apply_rotary_emb(angles, t, start_index=1, scale=scale, seq_dim=seq_dim) for m in (ours, original))
    close(x, y, parity(t, 1))


@pytest.mark.parametrize("ranges", [None, torch.tensor([1.0, 2.0])])
@pytest.mark.parametrize("shape", [(2, 5, 3), (5, 3), (2, 1, 5, 3)])
def test_apply_learned_rotations(ranges, shape):
    angles, t = torch.randn(shape), torch.randn(2, 4, 5, 16) if len(shape) > 3 else torch.randn(2, 5, 16)
    x, y = (m.apply_learned_rotations(angles, t, start_index=2, freq_ranges=ranges)
            for m in (ours, original.rotary_embedding_torch))  # fmt: skip
    close(x, y, parity(t, 8))


def test_broadcat():
    tensors = (torch.randn(2, 1, 3), torch.randn(1, 4, 2 + 1))
    assert torch.equal(ours.broadcat(tensors), original.broadcat(tensors))


def test_forward_and_positions():
    a, b = both(dict(dim=8, interpolate_factor=2.0))
    for dtype in (None, torch.float64, torch.long):
        close(a.get_seq_pos(5, dtype=dtype, offset=2), b.get_seq_pos(5, dtype=dtype, offset=2), 0)
    places = torch.arange(5).float()
    close(a(places), b(places), 8 * UNIT["float32"] * 5)


# --- where the original is wrong


def exact(t, positions, dim, **fields):
    rope = rr.Rope(t.shape[-1], dim, pairing="interleaved", **fields)
    return rr.rotate(t.double().numpy(), positions, rope), bound(
        t.double().numpy(), positions, rope, str(t.dtype).removeprefix("torch."))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cast", DTYPES)
def test_no_dtype_and_no_cast_loses_a_position(dtype, cast):
    module = ours.RotaryEmbedding(dim=64).to(getattr(torch, cast))
    t = torch.randn(1, 2, 2048, 64).to(getattr(torch, dtype))
    expected, allowed = exact(t, np.arange(2048), 64)
    assert (np.abs(module.rotate_queries_or_keys(t).double().numpy() - expected) <= allowed).all()


calls = st.tuples(
    st.sampled_from(DTYPES),
    st.integers(0, 90),
    st.sampled_from([0, 1, 7, 60, 500, -3, 0.5, 2.25, -0.75]),
    st.sampled_from(["turn", "cached", "angles", "half", "copy", "inference"]),
)


@given(st.lists(calls, min_size=2, max_size=8), st.sampled_from([32, 8192]))
def test_the_order_of_calls_never_matters(sequence, most):
    module = ours.RotaryEmbedding(dim=8, cache_max_seq_len=most)
    for dtype, seq, offset, how in sequence:
        t = torch.ones(1, 1, seq, 8).to(getattr(torch, dtype))
        if how == "half":
            module = module.half()
        if how == "copy":
            module = copy.deepcopy(module)
        with torch.inference_mode(how == "inference"):
            if how == "angles":
                module(torch.arange(seq).to(t.dtype), seq_len=seq, offset=offset)
            if how == "cached":
                module.rotate_queries_with_cached_keys(t[..., :1, :], t)
            y = module.rotate_queries_or_keys(t, offset=offset)
            assert torch.equal(y, ours.RotaryEmbedding(dim=8).rotate_queries_or_keys(t, offset=offset))
        expected, allowed = exact(t, np.arange(seq) + offset, 8)
        assert (np.abs(y.double().numpy() - expected) <= allowed).all()


@given(st.integers(1, 60), st.integers(1, 60), st.booleans())
def test_cached_xpos_scores_equal_uncached(keys, queries, before):
    queries, axis = min(queries, keys), -3 if before else -2
    module = ours.RotaryEmbedding(dim=32, use_xpos=True, seq_before_head_dim=before)
    q, k = torch.randn(2, 1, keys, 1, 32, dtype=torch.float64).transpose(2, axis)
    whole = [t.transpose(1, axis) for t in module.rotate_queries_and_keys(q, k)]
    last = module.rotate_queries_with_cached_keys(q.narrow(axis, keys - queries, queries), k)
    expected = torch.einsum("bihd,bjhd->bhij", *whole)[..., -queries:, :]
    scores = torch.einsum("bihd,bjhd->bhij", *(t.transpose(1, axis) for t in last))
    # both centre on keys // 2, so the factors are the same numbers
    assert torch.allclose(scores, expected, rtol=0, atol=2.0**-40)


def test_every_axis_has_its_own_offset():
    module = ours.RotaryEmbedding(dim=4)
    shifted, plain = module.get_axial_freqs(3, 3, offsets=(0, 5)), module.get_axial_freqs(3, 8)
    assert torch.equal(shifted, plain[:, 5:])


def test_batches_larger_than_a_sequence_keep_their_own_rotations():
    t, angles = torch.randn(7, 3, 4), torch.randn(7, 3, 2)
    rows = [ours.apply_learned_rotations(angles[i], t[i]) for i in range(7)]
    assert torch.equal(ours.apply_learned_rotations(angles, t), torch.stack(rows))


# --- the rest of torch


def test_frequencies_survive_every_way_of_moving_a_module():
    t, fresh = torch.randn(1, 40, 64), ours.RotaryEmbedding(dim=64)
    expected = fresh.rotate_queries_or_keys(t)
    with torch.device("meta"):
        empty = ours.RotaryEmbedding(dim=64)
    half = ours.RotaryEmbedding(dim=64).half()
    half.load_state_dict({"freqs": fresh.freqs.detach().bfloat16()})
    warm = ours.RotaryEmbedding(dim=64)
    warm.rotate_queries_or_keys(torch.randn(1, 1000, 64).bfloat16())
    for module in (empty.to_empty(device="cpu"), half, copy.deepcopy(warm), pickle.loads(pickle.dumps(warm)),
                   warm.double(), warm.bfloat16().float(), torch.nn.Sequential(warm).half()[0]):  # fmt: skip
        assert torch.equal(module.rotate_queries_or_keys(t), expected)
    assert len(pickle.dumps(warm)) < 10_000
    assigned = ours.RotaryEmbedding(dim=64)
    assigned.load_state_dict({"freqs": fresh.freqs.detach().bfloat16()}, assign=True)
    assert torch.equal(assigned.rotate_queries_or_keys(t), expected)


def test_frequencies_learn_from_when_they_are_asked_to():
    module, t = ours.RotaryEmbedding(dim=4, learned_freq=True).requires_grad_(False), torch.randn(1, 5, 4)
    module.rotate_queries_or_keys(t)
    module.freqs.requires_grad_(True)
    module.rotate_queries_or_keys(t).square()[..., 0].sum().backward()
    assert module.freqs.grad.abs().max() > 0


def test_the_default_device_is_not_that_of_the_queries():
    module, t = ours.RotaryEmbedding(dim=8), torch.randn(1, 5, 8)
    expected = module.rotate_queries_or_keys(t)
    with torch.device("meta"):
        assert torch.equal(module.rotate_queries_or_keys(t), expected)


def test_traces():
    module, t = ours.RotaryEmbedding(dim=8), torch.randn(1, 5, 8)
    traced = torch.fx.experimental.proxy_tensor.make_fx(lambda t: module.rotate_queries_or_keys(t))(t)
    assert (traced(t) - module.rotate_queries_or_keys(t)).abs().max() <= parity(t, 5)


def test_other_frequencies_take_effect_however_they_arrive():
    t, other = torch.randn(1, 40, 8), ours.RotaryEmbedding(dim=8, theta=50.0)
    expected = other.rotate_queries_or_keys(t)

    def loaded(module):
        module.load_state_dict(other.state_dict())

    def written(module):
        module.freqs.data.copy_(other.freqs.data)

    def replaced(module):
        module.freqs = torch.nn.Parameter(other.freqs.detach().clone(), requires_grad=False)

    narrow = ours.RotaryEmbedding(dim=8)
    narrow.freqs = torch.nn.Parameter(torch.ones(2), requires_grad=False)
    assert torch.equal(narrow.rotate_queries_or_keys(t)[..., 4:], t[..., 4:])
    for change in (loaded, written, replaced):
        module = ours.RotaryEmbedding(dim=8)
        module.rotate_queries_or_keys(t)
        change(module)
        # these frequencies are float32 now: off by half a unit, times 40 positions
        assert (module.rotate_queries_or_keys(t) - expected).abs().max() <= parity(t, 40)
    module = ours.RotaryEmbedding(dim=8)
    module.rotate_queries_or_keys(t)
    module.interpolate_factor = 2.0
    assert torch.equal(module.rotate_queries_or_keys(t),
                       ours.RotaryEmbedding(dim=8, interpolate_factor=2.0).rotate_queries_or_keys(t))


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiles_whole(learned, backend):
    if backend == "inductor" and shutil.which("g++") is None:
        pytest.skip("inductor compiles with g++, which is not here")
    module = ours.RotaryEmbedding(dim=8, learned_freq=learned)
    t = torch.randn(2, 3, 10, 12)
    compiled = torch.compile(lambda t, n: module.rotate_queries_or_keys(t, offset=n), fullgraph=True, backend=backend)
    for offset in (0, 3):
        assert (compiled(t, offset) - module.rotate_queries_or_keys(t, offset=offset)).abs().max() <= parity(t, 13)


def test_autocast_changes_nothing():
    module, t = ours.RotaryEmbedding(dim=64), torch.randn(1, 2048, 64)
    expected = module.rotate_queries_or_keys(t)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ours.RotaryEmbedding(dim=64).rotate_queries_or_keys(t), expected)


def test_tables_made_in_inference_mode_serve_training():
    module, t = ours.RotaryEmbedding(dim=8), torch.randn(1, 5, 8)
    with torch.inference_mode():
        module.rotate_queries_or_keys(t)
    t.requires_grad_()
    module.rotate_queries_or_keys(t).sum().backward()
    assert t.grad is not None


def test_gradients_of_every_learned_part():
    module = ours.RotaryEmbedding(dim=4, learned_freq=True).double()
    generator = torch.Generator().manual_seed(0)

    def leaf(*shape):
        return torch.rand(shape, generator=generator, dtype=torch.float64).requires_grad_()

    def turn(t, freqs, scale):
        return torch.func.functional_call(Turn(module), {"module.freqs": freqs}, (t, scale))

    checks = [
        (turn, (leaf(1, 3, 6), leaf(2), leaf(3, 4))),
        (ours.apply_learned_rotations, (leaf(1, 3, 2), leaf(1, 3, 6))),
        (lambda r, t, g: ours.apply_learned_rotations(r, t, 1, g), (leaf(1, 3, 2), leaf(1, 3, 6), leaf(1))),
        (lambda f, t, s: ours.apply_rotary_emb(f, t, 1, s), (leaf(3, 4), leaf(1, 3, 6), leaf(4))),
    ]
    for function, inputs in checks:
        assert torch.autograd.gradcheck(function, inputs) and torch.autograd.gradgradcheck(function, inputs)


class Turn(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, t, scale):
        return self.module.rotate_queries_or_keys(t, scale=scale)


def test_two_backward_passes_of_one_module():
    module, t = ours.RotaryEmbedding(dim=4, learned_freq=True), torch.randn(1, 3, 4)
    gradients = []
    for _ in range(2):
        module.rotate_queries_or_keys(t).square().sum().backward()
        module.rotate_queries_or_keys(t)[..., 0].sum().backward()
        gradients.append(module.freqs.grad.clone())
        module.zero_grad()
    assert torch.equal(*gradients) and gradients[0].abs().max() > 0


# --- bad input


Q = torch.ones(1, 2, 3, 4)


@pytest.mark.parametrize(
    "error, message, call",
    [
        (ValueError, "dim is 3", lambda: ours.RotaryEmbedding(dim=3)),
        (TypeError, "dim is 32.0", lambda: ours.RotaryEmbedding(dim=32.0)),
        (TypeError, "custom_freqs are", lambda: ours.RotaryEmbedding(4, custom_freqs=[1.0, 2.0])),
        (ValueError, "xpos_scale_base is 0", lambda: ours.RotaryEmbedding(4, use_xpos=True, xpos_scale_base=0)),
        (ValueError, "seq_dim is 4", lambda: ours.RotaryEmbedding(4).rotate_queries_or_keys(Q, seq_dim=4)),
        (ValueError, "dim is 0", lambda: ours.RotaryEmbedding(dim=0)),
        (ValueError, "freqs_for is 'words'", lambda: ours.RotaryEmbedding(dim=4, freqs_for="words")),
        (ValueError, "interpolate_factor is 0.5", lambda: ours.RotaryEmbedding(dim=4, interpolate_factor=0.5)),
        (ValueError, "custom_freqs have shape", lambda: ours.RotaryEmbedding(4, custom_freqs=torch.ones(2, 2))),
        (TypeError, "t has dtype torch.int64", lambda: ours.RotaryEmbedding(4).rotate_queries_or_keys(Q.long())),
        (ValueError, "4 channels; expected at least 8", lambda: ours.RotaryEmbedding(8).rotate_queries_or_keys(Q)),
        (ValueError, "use_xpos is False", lambda: ours.RotaryEmbedding(4).rotate_queries_and_keys(Q, Q)),
        (ValueError, "use_xpos is False", lambda: ours.RotaryEmbedding(4).get_scale(torch.arange(3))),
        (ValueError, "scale is None", lambda: ours.RotaryEmbedding(4, use_xpos=True).rotate_queries_or_keys(Q)),
        (ValueError, "q has 3 positions; expected at most the 1 of k",
         lambda: ours.RotaryEmbedding(4).rotate_queries_with_cached_keys(Q, Q[..., :1, :])),
        (ValueError, "offsets has 1 entries", lambda: ours.RotaryEmbedding(4).get_axial_freqs(2, 3, offsets=(1,))),
        (TypeError, "t has dtype torch.int64", lambda: ours.apply_rotary_emb(torch.ones(3, 4), Q.long())),
        (ValueError, "freqs turn channels 0 to 6", lambda: ours.apply_rotary_emb(torch.ones(3, 6), Q)),
        (ValueError, "freqs turn channels -2 to 2", lambda: ours.apply_rotary_emb(torch.ones(3, 4), Q, -2)),
        (ValueError, "freqs turn channels 0 to 3", lambda: ours.apply_rotary_emb(torch.ones(3, 3), Q)),
        (ValueError, "freqs have shape", lambda: ours.apply_rotary_emb(torch.ones(2, 4), Q)),
        (ValueError, "freqs have shape", lambda: ours.apply_rotary_emb(torch.ones(5, 2, 3, 4), Q)),
    ],
)  # fmt: skip
def test_bad_input_says_what_is_wrong(error, message, call):
    with pytest.raises(error, match=message):
        call()
    assert (Q == 1).all()
