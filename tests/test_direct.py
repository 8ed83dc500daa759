"""Small rotations by what is known of their shapes: the same bits, and never another's plan or memory."""

import threading

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import torch_bridge.rotation as bridge
from tests.strategies import pairings
from tests.test_operators import numbers, sample
from torch_bridge import direct, known, operators

CASE = sample()


def of(x, cos, sin, form=0):
    """What the direct path gives for x: a tensor, or None where it leaves x alone."""
    return direct.rotated(x, cos, sin, form)


def learn(x, cos, sin, pairing="half-split", start=0, inverse=False):
    operators.rotate(x, cos, sin, pairing, start, inverse)
    return direct.code(pairing, start, inverse)


@st.composite
def laid_out(draw):
    """query, key, cos, sin in some layout that queries have."""
    dtype, seq = draw(st.sampled_from(bridge.KERNEL_DTYPES)), draw(st.integers(1, 4))
    query, key, cos, sin = sample(dtype, seq)
    if draw(st.booleans()):
        query = query.transpose(1, 2).contiguous().transpose(1, 2)
    if draw(st.booleans()):
        key = torch.cat((key, key), -1)[..., :8]
    if draw(st.booleans()):
        cos, sin = cos[0], sin[0]
    if draw(st.booleans()):
        cos, sin = (torch.cat((numbers(2, cos.shape[-1], dtype=t.dtype), t.view(-1, 3)), 0)[2:].view(t.shape)
                    for t in (cos, sin))  # fmt: skip
    return query, key, cos, sin


@settings(max_examples=60)
@given(laid_out(), pairings, st.integers(0, 2), st.booleans())
def test_the_second_call_gives_the_bits_of_the_first(tensors, pairing, start, inverse):
    query, key, cos, sin = tensors
    form = (pairing, start, inverse)
    expected = [bridge.plain(t, cos, sin, *form) for t in (query, key)]
    code = direct.code(*form)
    for turned in (operators.rotate_qk(query, key, cos, sin, *form), direct.rotated_qk(query, key, cos, sin, code)):
        assume(turned is not None)  # two that share a slot put each other out: then the checked path is taken
        assert all(map(torch.equal, turned, expected))
        assert all(t.is_contiguous() for t in turned)
    for here, turned in zip((query.clone(), key.clone()), expected, strict=True):
        operators.rotate_(here.clone(), cos, sin, *form)
        assert direct.rotated_(here, cos, sin, code) is here and torch.equal(here, turned)
    operators.rotate(query, cos, sin, *form)
    other = numbers(*query.shape, dtype=query.dtype, seed=9).as_strided(query.shape, query.stride())
    assert torch.equal(of(other, cos, sin, code), bridge.plain(other, cos, sin, *form))


def test_every_part_of_a_description_counts():
    query, key, cos, sin = CASE
    code = learn(query, cos, sin)
    assert of(query, cos, sin, code) is not None
    twice = torch.cat((query, query), -1)[..., :8]
    for x, c, s, form in (
        (query, cos, sin, direct.code("interleaved", 0, False)), (query, cos, sin, direct.code("half-split", 1, False)),
        (query, cos, sin, direct.code("half-split", 0, True)), (query.double(), cos, sin, code),
        (query.bfloat16(), cos, sin, code), (query, cos.double(), sin, code), (query, cos, sin.half(), code),
        (query[:, :, :3], cos, sin, code), (query, cos[:3], sin, code), (query, cos, sin[:, :2], code),
        (twice, cos, sin, code), (query, cos, sin.T.contiguous().T, code), (query.flatten(0, 1), cos, sin, code),
        (query.long(), cos, sin, code), (query.to("meta"), cos, sin, code), (query, cos.to("meta"), sin, code),
        (query.to_sparse(), cos, sin, code), (query, cos, sin, -1), (query.double(), cos.double(), sin.double(), code),
    ):  # fmt: skip
        assert of(x, c, s, form) is None or not torch.equal(of(x, c, s, form), of(query, cos, sin, code))
    known.STORE[:] = 0
    assert of(query, cos, sin, code) is None


@pytest.mark.parametrize("form", [("half-split", 0.0, False), ("half-split", True, False), ("both", 0, False),
                                  ("half-split", 0, 1), ("half-split", 2**80, False)])  # fmt: skip
def test_what_is_no_form_has_no_code(form):
    assert direct.code(*form) == -1


def test_memory_that_is_gone_or_short_is_not_touched():
    code = learn(CASE[0], *CASE[2:])
    query, _, cos, sin = (t.clone() for t in CASE)  # what NumPy has seen cannot be resized any more
    for t in (query, cos, sin):
        whole = t.untyped_storage().nbytes()
        for size in (0, whole - 1):
            t.untyped_storage().resize_(size)
            assert of(query, cos, sin, code) is None
        t.untyped_storage().resize_(whole)
        assert of(query, cos, sin, code) is not None


def test_tables_inside_of_what_is_written():
    memory = torch.ones(200)
    x, apart = memory[:32].view(4, 8), torch.ones(4, 3)
    for start, cos in ((0, memory[40:52].view(4, 3)), (1, memory[20:32].view(4, 3))):
        operators.rotate_(x.clone(), apart, apart, "half-split")
        found = direct.rotated_(x, cos, apart, 0) is not None
        assert found == (start == 0)
    x.fill_(1)
    with pytest.raises(ValueError, match="out overlaps cos"):
        operators.rotate_(x, memory[20:32].view(4, 3), apart, "half-split")
    assert (x == 1).all()


def test_a_key_that_is_not_known_leaves_the_query_alone():
    query, key, cos, sin = sample(seq=5)
    code = learn(query, cos, sin)
    strange = numbers(7, 1, 5, 8)
    assert of(query, cos, sin, code) is not None and direct.rotated_qk(query, strange, cos, sin, code) is None


def test_the_front_leaves_to_the_operator_what_others_must_see(monkeypatch):
    query, key, cos, sin = CASE
    learned = [t.clone().requires_grad_() for t in CASE]
    assert bridge.at_hand(*CASE) and not bridge.at_hand(*learned)
    with torch.no_grad():
        assert bridge.at_hand(*learned)
    with torch.inference_mode():
        assert bridge.at_hand(*CASE)
    assert not bridge.at_hand(torch.nn.Parameter(query)) and not bridge.at_hand(torch._neg_view(query))
    with torch.device("cpu"), torch.no_grad():
        assert not bridge.at_hand(query)
    with torch.autograd.forward_ad.dual_level():
        assert not bridge.at_hand(query)
    seen = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, kinds, args=(), kwargs=None):
            seen.append(function)
            return function(*args, **kwargs or {})

    with Watch():
        bridge.rotate(query, cos, sin, pairing="half-split")
    assert operators.rotate in seen
    traced = torch.jit.trace(lambda x: bridge.rotate(x, cos, sin, pairing="half-split"), query, check_trace=False)
    assert torch.equal(traced(query + 1), bridge.rotate(query + 1, cos, sin, pairing="half-split"))


def test_more_rotations_than_slots():
    for n in range(1, 2 * known.SLOTS):
        x, (cos, sin) = numbers(n, 4), numbers(2, n, 2, seed=1)
        expected = bridge.plain(x, cos, sin, "half-split")
        assert torch.equal(bridge.rotate(x, cos, sin, pairing="half-split"), expected)
        assert torch.equal(bridge.rotate(x, cos, sin, pairing="half-split"), expected)


def test_threads():
    wrong = []

    def work(seed):
        for n in range(1, 80):
            x, (cos, sin) = numbers(n + seed, 4, seed=seed), numbers(2, n + seed, 2, seed=1)
            for _ in range(3):
                y = bridge.rotate(x, cos, sin, pairing="half-split")
                if not torch.equal(y, bridge.plain(x, cos, sin, "half-split")):
                    wrong.append(n)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_decoding_is_direct():
    """One token of projected queries as models lay it out: the step of its only position is unlike a new tensor's."""
    projected = numbers(1, 1, 4, 8)
    query, cos, sin = projected.transpose(1, 2), *numbers(2, 1, 3)
    assert query.is_contiguous() and query.stride(2) == 32
    assert of(query, cos, sin, learn(query, cos, sin)) is not None


def test_a_torch_without_these_functions_takes_the_path_with_all_checks(monkeypatch):
    query, key, cos, sin = CASE
    expected = bridge.rotate_qk(query, key, cos, sin, pairing="half-split")
    monkeypatch.setattr(known, "MISSING", ["aoti_torch_get_dim"])
    monkeypatch.setattr(known, "_LIBRARY", None)
    known._stable("aoti_torch_get_dim")
    assert all(map(torch.equal, bridge.rotate_qk(query, key, cos, sin, pairing="half-split"), expected))
    code = direct.code("half-split", 0, False)
    assert of(query, cos, sin, code) is None and direct.rotated_(query.clone(), cos, sin, code) is None
