"""From tensors to the loops: what is known again is right, memory that is gone or shared refused, results torch's."""

import gc
import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import torch_bridge.rotation as bridge
from tests.strategies import pairings
from tests.torch_bridge.test_operators import numbers, sample
from torch_bridge import doors, kernel, operators
from torch_bridge.kernel import KINDS, at_hand
from torch_bridge.plain import normalised, plain

FORM = {"pairing": "half-split"}


@pytest.fixture(params=["known", "through the operators", "under a transform"])
def way(request, monkeypatch):
    """As it is; and as where torch has lost a private name."""
    if request.param != "known":
        monkeypatch.setattr(doors, "modes", lambda: True)
    if request.param == "under a transform":
        monkeypatch.setattr(doors, "transforms", lambda: True)
    return request.param


def inside(t):
    """The same numbers within a larger storage."""
    block = torch.full((t.numel() + 20,), 77.0, dtype=t.dtype)
    return block[13 : 13 + t.numel()].view(t.shape).copy_(t)


LAYOUTS = {
    "contiguous": lambda t: t.contiguous(),
    "transposed": lambda t: t.transpose(-3, -2).contiguous().transpose(-3, -2),
    "fused": lambda t: torch.cat((t, t), -1)[..., : t.shape[-1]],
    "inside": inside,
    "channels apart": lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2),
    "every other channel": lambda t: torch.stack((t, t), -1).flatten(-2)[..., ::2],
}
TABLES = {name: LAYOUTS[name] for name in ("contiguous", "fused", "inside", "channels apart")}


@settings(max_examples=100)
@given(
    st.sampled_from(tuple(KINDS)), st.integers(1, 4), pairings, st.integers(0, 2), st.booleans(),
    *2 * [st.sampled_from(sorted(LAYOUTS))], *2 * [st.sampled_from(sorted(TABLES))], st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_the_second_call_gives_the_bits_of_the_first(
    dtype, seq, pairing, start, inverse, of_query, of_key, of_cos, of_sin, one_row, seed
):
    """And the first those of torch's own operations: new tensors, in place, query and key at once and apart."""
    form = {"pairing": pairing, "start": start, "inverse": inverse}
    for again in range(3):
        query, key, cos, sin = sample(dtype, seq)
        query, key = (t + numbers(*t.shape, dtype=dtype, seed=seed + again) for t in (query, key))
        cos, sin = TABLES[of_cos](cos), TABLES[of_sin](sin)
        if one_row:
            cos, sin = cos[0], sin[0]
        query, key = LAYOUTS[of_query](query), LAYOUTS[of_key](key)
        expected = [plain(t, cos, sin, *form.values()) for t in (query, key)]
        apart = [bridge.rotate(t, cos, sin, **form) for t in (query, key)]
        for turned in (apart, bridge.rotate_qk(query, key, cos, sin, **form)):
            assert all(map(torch.equal, turned, expected)) and all(t.is_contiguous() for t in turned)
        assert bridge.rotate(query, cos, sin, **form, inplace=True) is query and torch.equal(query, expected[0])
        query = LAYOUTS[of_query](sample(dtype, seq)[0])
        once = plain(query, cos, sin, *form.values())
        both = bridge.rotate_qk(query, key, cos, sin, **form, inplace=True)
        assert both[0] is query and both[1] is key and torch.equal(query, once) and torch.equal(key, expected[1])


def test_every_part_of_what_is_known_counts():
    """Each call differs from one that is known in one thing alone, and that thing is seen."""
    query, _, cos, sin = sample()
    column = lambda t: t.T.contiguous().T  # noqa: E731
    wrong = []
    calls = [
        (query, cos, sin, "interleaved", 0, False), (query, cos, sin, "half-split", 1, False),
        (query, cos, sin, "half-split", 0, True), (query.flatten(0, 1), cos, sin, "half-split", 0, False),
        (query[:, :, :3], cos[:3], sin[:3], "half-split", 0, False), (query, cos[:1], sin[:1], "half-split", 0, False),
        (query, cos[:, :2], sin[:, :2], "half-split", 0, False), (query, cos[0], sin[0], "half-split", 0, False),
        (query, column(cos), column(sin), "half-split", 0, False), (query, column(cos), sin, "half-split", 0, False),
        (query, cos, column(sin), "half-split", 0, False), (query, cos.flip(0)[::1], sin, "half-split", 0, False),
        (query, torch.cat((cos, cos), -1)[:, :3], torch.cat((sin, sin), -1)[:, :3], "half-split", 0, False),
        (torch.cat((query, query), -1)[..., :8], cos, sin, "half-split", 0, False),
        (query.transpose(0, 1).contiguous().transpose(0, 1), cos, sin, "half-split", 0, False),
        (query.bfloat16(), cos, sin, "half-split", 0, False), (query.half(), cos, sin, "half-split", 0, False),
        (query.double(), cos.double(), sin.double(), "half-split", 0, False),
    ]  # fmt: skip
    for call in calls:
        bridge.rotate(query, cos, sin, **FORM)
        x, c, s, pairing, start, inverse = call
        for inplace in (False, True, False):
            y = bridge.rotate(x.clone(), c, s, pairing=pairing, start=start, inverse=inverse, inplace=inplace)
            wrong += [call] * (not torch.equal(y, plain(*call)))
    assert not wrong


@pytest.mark.parametrize("change, error", [
    (dict(start=0.0), TypeError), (dict(start=True), TypeError), (dict(start=False), TypeError),
    (dict(start=-1), ValueError), (dict(start=3), ValueError), (dict(pairing="both"), ValueError),
    (dict(pairing=0), TypeError), (dict(inverse=1), TypeError), (dict(inverse=0), TypeError),
])  # fmt: skip
def test_options_of_another_kind_are_not_known(change, error):
    """Though 0.0, False and 0 are one number, which is known."""
    query, _, cos, sin = sample()
    for start, inverse in ((0, False), (1, False), (0, True)):
        bridge.rotate(query, cos, sin, pairing="half-split", start=start, inverse=inverse)
    with pytest.raises(error):
        bridge.rotate(query, cos, sin, **{"pairing": "half-split", **change})


# --- memory that is gone


def resized(t, size):
    t.untyped_storage().resize_(size)


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("name", ["query", "key", "cos", "sin"])
def test_storage_that_was_freed_or_shortened_is_named(name, inplace, way):
    if way == "under a transform" and not inplace:
        pytest.skip("torch's own operations read what is not there")
    tensors = dict(zip(("query", "key", "cos", "sin"), (t.clone() for t in sample()), strict=True))
    before = {n: t.clone() for n, t in tensors.items()}
    expected = bridge.rotate_qk(*before.values(), **FORM)
    whole = tensors[name].untyped_storage().nbytes()
    for size in (0, whole - 1, 1):
        resized(tensors[name], size)
        if way == "known":
            with pytest.raises(ValueError, match=f"{name} reaches to byte {whole} of its storage, which has {size}"):
                bridge.rotate_qk(*tensors.values(), **FORM, inplace=inplace)
        else:
            with pytest.raises((ValueError, RuntimeError)):
                bridge.rotate_qk(*tensors.values(), **FORM, inplace=inplace)
        resized(tensors[name], whole)
        tensors[name].copy_(before[name])
        assert all(torch.equal(t, before[n]) for n, t in tensors.items())
    assert all(map(torch.equal, bridge.rotate_qk(*tensors.values(), **FORM, inplace=inplace), expected))


def test_a_weight_that_was_freed_is_named():
    query, key, cos, sin = sample()
    weight = torch.ones(8)
    resized(weight, 0)
    with pytest.raises(ValueError, match="weight reaches to byte 32 of its storage, which has 0"):
        bridge.rotate_qk_norm(query, key, torch.ones(8), weight, cos, sin, epsilon=1e-5, **FORM)


def test_nothing_holds_the_memory_of_the_caller(way):
    """Once it was rotated, it can be freed without being let go, as sharded models do."""
    query, key, cos, sin = (t.clone() for t in sample())
    weights = torch.ones(8), torch.ones(8)
    for _ in range(2):
        bridge.rotate_qk(query, key, cos, sin, **FORM)
        bridge.rotate_qk(query, key, cos, sin, **FORM, inplace=True)
        bridge.rotate_qk_norm(query, key, *weights, cos, sin, epsilon=1e-5, **FORM)
    for t in (query, key, cos, sin, *weights):
        resized(t, 0)


# --- memory of results


SIZES = {"4 KiB": (16, 64), "64 MiB": (1 << 18, 64)}
CHANGES = {
    "zero_": lambda y: y.zero_(),
    "relu_": lambda y: torch.relu_(y),
    "dropout": lambda y: torch.nn.functional.dropout(y, 0.5, True, inplace=True),
    "a slice": lambda y: y[:1].zero_(),
    "mul_": lambda y: y.mul_(0.125),
}
ALONE = {
    "detach_": lambda y: y.detach_(),
    "resize_(0)": lambda y: y.untyped_storage().resize_(0),
    "out=": lambda y: torch.cat((y.clone(), y.clone()), out=y.resize_(0)),
}


@pytest.mark.in_turn
@pytest.mark.parametrize("size", SIZES)
def test_results_own_their_memory(size, way):
    """Small ones, and ones whose memory is asked for in large pages."""
    x, (cos, sin) = numbers(*SIZES[size]).requires_grad_(), numbers(2, SIZES[size][0], 32)
    for change in CHANGES.values():
        y = bridge.rotate(x, cos, sin, **FORM)
        change(y)
        y.sum().backward()
    with torch.no_grad():
        for change in (CHANGES | ALONE).values():
            change(bridge.rotate(x, cos, sin, **FORM))
        y = bridge.rotate(x, cos, sin, **FORM)
        kept = y.clone()
        bridge.rotate(-x, cos, sin, **FORM)
        gc.collect()
        assert torch.equal(y, kept)


# --- in place


def refused(tensors, words):
    before = [t.clone() for t in tensors]
    with pytest.raises(ValueError, match=words):
        bridge.rotate_qk(*tensors, **FORM, inplace=True)
    assert all(map(torch.equal, tensors, before))


def overlapping(query, key):
    block = torch.cat((query.flatten(), key.flatten()))
    yield query, query
    yield query, query.view(query.shape)
    yield query, query[:1]
    yield query[:1], query
    yield block[:64].view(2, 4, 8), block[56:120].view(2, 4, 8)
    yield block.as_strided((2, 4, 8), (64, 16, 1)), block.as_strided((2, 4, 8), (64, 16, 1), 7)
    yield query.transpose(-1, -2)[..., :4, :].transpose(-1, -2), query  # channels that are not side by side


def test_query_and_key_in_one_memory(way):
    query, key, cos, sin = sample()
    cos, sin = cos[:, :2], sin[:, :2]
    for q, k in overlapping(query.clone(), key.clone()):
        for _ in range(2):
            refused((q, k, cos, sin), "query shares memory with key")


def test_query_and_key_between_each_other(way):
    """Slices of one product, for whose sake no one looks at bounds alone."""
    fused = numbers(2, 4, 3, 8)
    _, _, cos, sin = sample()
    for split in (lambda t: t.unbind(2), lambda t: t.flatten(1, 2).view(2, 4, 24).split(8, -1)):
        memory = fused.clone()
        query, key, value = split(memory)
        expected = [plain(t, cos, sin, "half-split") for t in (query, key)]
        before = value.clone()
        for _ in range(2):
            bridge.rotate_qk(query, key, cos, sin, **FORM, inplace=True)
            assert torch.equal(query, expected[0]) and torch.equal(key, expected[1]) and torch.equal(value, before)
            memory.copy_(fused)


@pytest.mark.parametrize("name", ["cos", "sin"])
def test_tables_inside_of_what_is_written(name, way):
    query, key, cos, sin = (t.clone() for t in sample())
    bridge.rotate_qk(query, key, cos, sin, **FORM, inplace=True)
    for memory, who in ((query, "query"), (key, "key")):
        within = memory.view(-1)[20 : 20 + cos.numel()].view(cos.shape)
        refused((query, key, within, sin) if name == "cos" else (query, key, cos, within), f"{who}.* {name}")


def test_all_or_none(way):
    """A key that cannot be rotated leaves the query alone."""
    query, _, cos, sin = sample()
    for key in (numbers(100).as_strided((2, 2, 4, 8), (20, 10, 3, 1)), numbers(2, 4, 8).expand(2, 2, 4, 8),
                numbers(2, 2, 3, 8), numbers(2, 2, 4, 4)):  # fmt: skip
        before = query.clone(), key.clone()
        with pytest.raises((ValueError, RuntimeError)):
            bridge.rotate_qk(query, key, cos, sin, **FORM, inplace=True)
        assert torch.equal(query, before[0]) and torch.equal(key, before[1])


@pytest.mark.parametrize("steps", [(0, 0, 0), (1, 2, 10)])
def test_channels_that_are_not_side_by_side(steps, way):
    """As in the gradient of a sum, or of a transposed product: untouched themselves, and the result contiguous."""
    x = numbers(100)[:60].as_strided((2, 5, 6), steps)
    before, (cos, sin) = x.clone(), numbers(2, 5, 3)
    turned = bridge.rotate(x, cos, sin, **FORM)
    assert torch.equal(turned, plain(before, cos, sin, "half-split")) and turned.is_contiguous()
    assert torch.equal(x, before)


# --- what others must see


def test_at_hand_are_numbers_that_nobody_watches():
    query, _, cos, sin = sample()
    assert at_hand(query, cos, sin) and at_hand(torch.nn.Parameter(query))
    for other in (torch._neg_view(query), query.to("meta"), query.to_sparse()):
        assert not at_hand(other, cos, sin)
    with torch.inference_mode():
        assert at_hand(query, cos, sin)
    with torch.autograd.forward_ad.dual_level():
        assert not at_hand(query)
    assert at_hand(query, cos, sin)


def test_a_mode_sees_the_operator():
    query, _, cos, sin = sample()
    bridge.rotate(query, cos, sin, **FORM)
    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **kwargs or {})

    with Watch():
        bridge.rotate(query, cos, sin, **FORM)
        bridge.rotate(query.clone(), cos, sin, **FORM, inplace=True)
    assert {operators.OPS.rotate_kernel.default, operators.OPS.rotate_kernel_.default} <= {*seen}


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_tracers_and_transforms_see_the_operator():
    query, _, cos, sin = sample()

    def turn(x):
        return bridge.rotate(x, cos, sin, **FORM)

    expected = turn(query)
    traced = torch.jit.trace(turn, query, check_trace=False)
    assert torch.equal(traced(query + 1), turn(query + 1))
    with torch.device("cpu"):
        assert torch.equal(turn(query), expected)
    with torch.device("meta"):
        assert torch.equal(turn(query), expected)
    torch.testing.assert_close(torch.func.vmap(turn)(query), expected, rtol=0, atol=1e-6)
    value, tangent = torch.func.jvp(turn, (query,), (torch.ones_like(query),))
    torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(tangent, turn(torch.ones_like(query)), rtol=0, atol=1e-6)
    with torch.autograd.forward_ad.dual_level():
        dual = turn(torch.autograd.forward_ad.make_dual(query, torch.ones_like(query)))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(dual).tangent, tangent, rtol=0, atol=1e-6)
    with torch._subclasses.FakeTensorMode() as fake:
        y = bridge.rotate(*(fake.from_tensor(t) for t in (query, cos, sin)), **FORM)
        assert isinstance(y, torch._subclasses.FakeTensor) and y.shape == query.shape


def test_without_private_names_all_is_as_right(way):
    for dtype in KINDS:
        query, key, cos, sin = sample(dtype)
        near = {"rtol": 0, "atol": 8 * torch.finfo(dtype).eps}  # torch may fuse what the kernels round
        weight = numbers(8, seed=7)
        for turned in (bridge.rotate_qk(query, key, cos, sin, **FORM),
                       bridge.rotate_qk(query.clone(), key.clone(), cos, sin, **FORM, inplace=True)):  # fmt: skip
            torch.testing.assert_close(list(turned), [plain(t, cos, sin, "half-split") for t in (query, key)], **near)
        turned = bridge.rotate_qk_norm(query, key, weight, weight, cos, sin, epsilon=1e-5, **FORM)
        exact = [plain(normalised(t.double(), weight, torch.float64, 1e-5), cos.double(), sin.double(), "half-split")
                 for t in (query, key)]  # fmt: skip
        torch.testing.assert_close([t.double() for t in turned], exact, rtol=0, atol=100 * torch.finfo(dtype).eps)


# --- many


def test_more_shapes_than_are_known_at_once(monkeypatch):
    monkeypatch.setattr(kernel, "MAX_PLANS", 20)
    kernel.PLANS.clear()
    for n in range(1, 60):
        x, (cos, sin) = numbers(n, 4), numbers(2, n, 2, seed=1)
        for rows in (x, x.expand(2, n, 4), x.expand(n % 7 + 1, n, 4)):
            for _ in range(2):
                assert torch.equal(bridge.rotate(rows, cos, sin, **FORM), plain(rows, cos, sin, "half-split"))
        assert sum(map(len, kernel.PLANS.values())) <= 20


def test_many_shapes_for_each_of_few_tables(monkeypatch):
    """As of a decoder: one row of the tables, and batches of all sizes."""
    monkeypatch.setattr(kernel, "MAX_PLANS", 20)
    kernel.PLANS.clear()
    for pairs in (1, 2, 3):
        cos, sin = numbers(2, 1, pairs, seed=1)
        for n in range(1, 60):
            x = numbers(n, 1, 6)
            assert torch.equal(bridge.rotate(x, cos, sin, **FORM), plain(x, cos, sin, "half-split"))
            assert sum(map(len, kernel.PLANS.values())) <= 20


def test_threads(monkeypatch):
    monkeypatch.setattr(kernel, "MAX_PLANS", 20)
    wrong = []

    def work(seed):
        for n in range(1, 80):
            x, (cos, sin) = numbers(n + seed, 4, seed=seed), numbers(2, n + seed, 2, seed=1)
            for _ in range(3):
                y = bridge.rotate(x, cos, sin, **FORM)
                if not torch.equal(y, plain(x, cos, sin, "half-split")):
                    wrong.append(n)

    several = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("shape, pairs", [((0, 8), 4), ((2, 0, 3, 8), 4), ((3, 8), 0), ((3, 0), 0), ((0,), 0)])
def test_nothing_to_turn(shape, pairs, way):
    x, (cos, sin) = numbers(*shape), torch.ones(2, *shape[-2:-1], pairs)
    for inplace in (False, True):
        for _ in range(2):
            y = bridge.rotate(x, cos, sin, **FORM, inplace=inplace)
            assert y.shape == x.shape and torch.equal(y, x)
    resized(x, 0) if not x.numel() else None
    assert bridge.rotate(x, cos, sin, **FORM).shape == x.shape


def test_tables_that_lie_alike_but_for_axes_of_one_place_or_of_none():
    """Strides along such axes say nothing: they are neither copied in vain nor for ever."""
    x = numbers(3, 4, 8)
    for shape, steps in (((1, 4, 3), (7, 3, 1)), ((4, 0), (5, 1))):
        cos, sin = numbers(40).as_strided(shape, steps), numbers(40, seed=1)[: 4 * shape[-1]].view(shape)
        assert torch.equal(bridge.rotate(x, cos, sin, pairing="half-split"), plain(x, cos, sin, "half-split"))


def test_a_pairing_that_cannot_be_looked_up_is_named():
    x, table = numbers(4, 8), numbers(4, 3)
    for inplace in (False, True):
        with pytest.raises(TypeError, match=r"pairing is \['half-split'\]; expected a name"):
            bridge.rotate(x, table, table, pairing=["half-split"], inplace=inplace)


@pytest.mark.parametrize("inplace", [False, True])
def test_a_key_in_a_dtype_without_a_kernel_takes_plain_torch(inplace):
    small = torch.float8_e5m2
    query, key, (cos, sin) = numbers(4, 8), numbers(4, 8, seed=1).to(small), numbers(2, 4, 4, seed=2)
    expected = [plain(t, cos, sin, "half-split").float() for t in (query, key)]
    turned = bridge.rotate_qk(query.clone(), key.clone(), cos, sin, pairing="half-split", inplace=inplace)
    assert turned[1].dtype == small and all(torch.equal(t.float(), e) for t, e in zip(turned, expected, strict=True))
