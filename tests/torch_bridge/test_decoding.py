"""Patched models that decode: the tokens of the original, by the kernel, whatever caches, masks and generation do."""

import copy

import pytest
import torch
import transformers
from torch.nn.functional import scaled_dot_product_attention

from tests.torch_bridge.models import GENERATES, build
from tests.torch_bridge.models import greedy as generated
from torch_bridge import RotaryCache, attend, decoding, patch
from torch_bridge.doors import attention_of
from torch_bridge.growing import Growing, GrowingWindow, Room
from torch_bridge.patch import unpatch

OWN = {"falcon"}  # attends in a way of its own
IDS = torch.randint(3, 90, (2, 40), generator=torch.Generator().manual_seed(1))
PADDED = torch.ones_like(IDS)
PADDED[0, :7] = 0


@pytest.fixture(autouse=True)
def small_as_if_large(monkeypatch):
    monkeypatch.setattr(decoding, "FEW", 0)
    decoding.taken.clear()


def greedy(model, ids=IDS, tokens=24, **options):
    return generated(model, ids, tokens, **options)


def paths():
    return {path for _, path in decoding.taken}


@pytest.mark.in_turn
@pytest.mark.parametrize("name", GENERATES)
def test_greedy_tokens_are_those_of_the_original(name):
    """Of a batch with padding, and of beams, which choose rows of the cache."""
    model = build(name)
    before = greedy(model, attention_mask=PADDED), greedy(model, IDS[1:], num_beams=3)
    with patch(model):
        assert torch.equal(greedy(model, attention_mask=PADDED), before[0])
        assert torch.equal(greedy(model, IDS[1:], num_beams=3), before[1])
    assert paths() == (set() if name in OWN else {"attend", "more than 16 new tokens"})


@pytest.mark.in_turn
def test_long_greedy_generation_is_that_of_the_original():
    model = build("llama", max_position_embeddings=4096)
    ids = torch.randint(3, 90, (1, 1500))
    before = greedy(model, ids, 256)
    with patch(model):
        assert torch.equal(greedy(model, ids, 256), before)


@pytest.mark.parametrize("name", ["llama", "gemma3_text"])
def test_assisted_decoding_crops_the_cache(name):
    model, assistant = build(name), build(name, seed=1)
    options = {"assistant_model": assistant, "num_assistant_tokens": 4}
    before = greedy(model, IDS[:1], **options)
    with patch(model), patch(assistant):
        assert torch.equal(greedy(model, IDS[:1], **options), before)
    assert "attend" in paths()


def test_attention_may_stay_as_it_is():
    model = build("llama")
    with patch(model, attention=False):
        greedy(model)
    assert not decoding.taken
    with patch(model):
        assert attention_of(model.config) == "rope_ref_sdpa"
    assert attention_of(model.config) == "sdpa" and not model.model._forward_pre_hooks


def test_a_model_is_given_its_attention_back_by_unpatch_after_a_copy():
    model = build("gpt_oss")
    patch(model)
    other = copy.deepcopy(model)
    unpatch(other)
    assert attention_of(other.config) == "eager" and not other.model._forward_pre_hooks
    assert attention_of(model.config) == "rope_ref_eager"


def test_gradients_go_through_the_attention_of_the_model():
    model = build("llama")
    with patch(model):
        model(input_ids=IDS[:, :5], labels=IDS[:, :5]).loss.backward()
    assert paths() == {"gradients"}


@torch.no_grad()
def test_weights_that_are_asked_for_come():
    model = build("llama")
    model.set_attn_implementation("eager")
    with patch(model):
        assert len(model(input_ids=IDS[:, :5], output_attentions=True).attentions) == 2


@torch.no_grad()
@pytest.mark.parametrize("new", [1, 2, 5, 16])
@pytest.mark.parametrize("window", [None, 6])
def test_a_mask_that_is_a_run_is_taken_for_one(new, window):
    mask = torch.ones(new, 30, dtype=torch.bool).tril(30 - new)
    if window:
        mask &= mask.triu(31 - new - window)
    mask = torch.stack([mask, mask])[:, None]
    mask[1, :, :, :9] = False
    q, k, v = torch.randn(2, 4, new, 16), torch.randn(2, 2, 30, 16), torch.randn(2, 2, 30, 16)
    own = scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    for given in (mask, torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)):
        runs = decoding.runs_of(given, new, 30)
        ours = attend(q, k, v, starts=runs.starts, lengths=runs.lengths, window=runs.window)
        assert torch.allclose(ours, own, atol=1e-5)


@pytest.mark.parametrize("hole", [(0, 0, 0, 5), (1, 0, 1, 20)])
def test_a_mask_that_is_no_run_is_left_to_the_model(hole):
    mask = torch.ones(2, 30, dtype=torch.bool).tril(28).expand(2, 1, 2, 30).clone()
    assert decoding.runs_of(mask, 2, 30) is not None
    mask[hole] = False
    assert decoding.runs_of(mask, 2, 30) is None
    bias = torch.zeros(2, 1, 2, 30)
    bias[hole] = -1.0
    assert decoding.runs_of(bias, 2, 30) is None
    assert decoding.runs_of(None, 2, 30) is None


@torch.no_grad()
def test_the_cache_holds_what_a_dynamic_one_holds():
    ours, theirs = RotaryCache(), transformers.DynamicCache()
    for step in (5, 1, 300, 1):
        k, v = torch.randn(2, 3, step, 8), torch.randn(2, 3, step, 8)
        for a, b in zip(ours.update(k, v, 0), theirs.update(k, v, 0), strict=True):
            assert torch.equal(a, b)
        for cache in (ours, theirs):
            cache.crop(-2)
            cache.reorder_cache(torch.tensor([1, 0]))
    assert isinstance(ours.layers[0], Growing) and ours.get_seq_length() == theirs.get_seq_length()
    assert torch.equal(ours.layers[0].keys, theirs.layers[0].keys)


def test_a_token_is_appended_where_there_is_room():
    room, kept = Room(), torch.empty(0)
    kept = room.append(kept, torch.ones(1, 2, 100, 4))
    again = room.append(kept, torch.zeros(1, 2, 1, 4))
    assert again.data_ptr() == kept.data_ptr() and again.shape[2] == 101
    grown = room.append(again, torch.zeros(1, 2, 200, 4))
    assert grown.data_ptr() != kept.data_ptr() and (grown[:, :, :100] == 1).all()


@torch.no_grad()
def test_a_window_slides_in_place():
    config = build("mistral").config
    ours, theirs = RotaryCache(config), transformers.DynamicCache(config=config)
    assert isinstance(ours.layers[0], GrowingWindow)
    for step in (3, 1, 12, *[1] * 600):
        k, v = torch.randn(1, 2, step, 8), torch.randn(1, 2, step, 8)
        for a, b in zip(ours.update(k, v, 0), theirs.update(k, v, 0), strict=True):
            assert torch.equal(a, b)
    assert ours.layers[0].rooms[0].memory.shape[2] == 256


@pytest.mark.parametrize(
    ("key", "text"), [(torch.zeros(1, 2, 1, 16), "as this cache holds"), (torch.zeros(1, 2, 1, 8).half(), "float16")]
)
def test_what_does_not_fit_a_cache_is_named(key, text):
    cache = RotaryCache()
    cache.update(torch.zeros(1, 2, 3, 8), torch.zeros(1, 2, 3, 8), 0)
    with pytest.raises(ValueError, match=text):
        cache.update(key, key, 0)


WRONG = [
    ({"query": torch.zeros(1, 2, 1, 8).double()}, TypeError, "query has dtype torch.float64"),
    ({"key": torch.zeros(1, 3, 9, 8)}, ValueError, "key has shape"),
    ({"lengths": torch.tensor([10])}, ValueError, "lengths"),
    ({"lengths": torch.tensor([9.0])}, TypeError, "lengths have dtype"),
    ({"query": torch.zeros(1, 2, 1, 8, requires_grad=True)}, ValueError, "require a gradient"),
]


@pytest.mark.parametrize(("wrong", "kind", "text"), WRONG, ids=str)
def test_what_is_wrong_is_named(wrong, kind, text):
    right = {"query": torch.zeros(1, 2, 1, 8), "key": torch.zeros(1, 1, 9, 8), "value": torch.zeros(1, 1, 9, 8)}
    with pytest.raises(kind, match=text):
        attend(**right | wrong)


def test_storage_that_was_freed_is_named():
    k = torch.zeros(1, 1, 9, 8)
    k.untyped_storage().resize_(0)
    with pytest.raises(ValueError, match="was it freed"):
        attend(torch.zeros(1, 1, 1, 8), k, torch.zeros(1, 1, 9, 8))


def test_the_operator_is_one():
    options = (torch.randn(1, 4, 2, 16), torch.randn(1, 2, 20, 16), torch.randn(1, 2, 20, 16))
    torch.library.opcheck(torch.ops.rope_ref.attend.default, options, {"window": 5})
