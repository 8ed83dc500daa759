"""Dynamic NTK: kept keys are what rotating them anew for the present length would give, within two roundings."""

import numpy as np
import pytest
import torch
import transformers

import rope_ref as rr
from rope_ref.exactness import UNIT
from tests.torch_bridge.models import build, greedy
from torch_bridge import RotaryCache, patch
from torch_bridge.rescaling import Present, Rescaled

TRAINED = 32
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
IDS = torch.randint(3, 90, (2, 80), generator=torch.Generator().manual_seed(1))


def llama(**changes):
    return build("llama", rope_parameters=DYNAMIC, max_position_embeddings=TRAINED, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keys_are_those_of_the_present_length_within_two_roundings(dtype):
    config = llama().config
    present, raw = Present(config), np.random.default_rng(0).standard_normal((1, 2, 80, 16))
    layer = Rescaled(present)
    for begin, end in ((0, 30), (30, 31), (31, 33), (33, 50), *((n, n + 1) for n in range(50, 80))):
        rope = rr.from_config(config, layer=0, length=end)
        key = torch.from_numpy(rr.rotate(raw[:, :, begin:end], np.arange(begin, end), rope)).to(dtype)
        present.meet([*present.came, *[end] * (end - begin)])
        keys, values = layer.update(key, key)
        exact = rr.rotate(raw[:, :, :end], np.arange(end), rope)
        u, wide = UNIT[str(dtype).removeprefix("torch.")], UNIT["float64" if dtype == torch.float64 else "float32"]
        # both roundings; products, their sum, a table; angles of the oracle
        bound = np.sqrt((exact**2).sum(-1, keepdims=True)) * (2 * u + 6 * wide) + 80 * UNIT["float64"]
        assert keys.shape == values.shape == exact.shape
        assert (np.abs(keys.double().numpy() - exact) <= bound).all()


@torch.no_grad()
@pytest.mark.parametrize("step", [1, 7, 31])
def test_one_layer_is_a_prefill_of_the_whole_at_every_length(step):
    """In one layer keys depend on tokens alone; an ordinary cache keeps those of earlier lengths."""
    model, off = llama(num_hidden_layers=1), []
    with patch(model):
        caches = RotaryCache(model.config, rerotate=True), transformers.DynamicCache(config=model.config)
        for begin in range(0, 80, step):
            chunk, there = IDS[:, begin : begin + step], IDS[:, : begin + step]
            outs = [model(input_ids=chunk, cache=cache).logits[:, -1] for cache in caches]
            whole = model(input_ids=there).logits[:, -1]
            assert torch.allclose(outs[0], whole, atol=1e-4)
            off.append(float((outs[1] - whole).abs().max()))
    assert max(off) > 0.01


def test_below_the_trained_length_nothing_differs():
    model = llama()
    ids = IDS[:, :10]
    before = greedy(model, ids, 20)
    with patch(model):
        assert torch.equal(greedy(model, ids, 20, cache=RotaryCache(model.config, rerotate=True)), before)


@torch.no_grad()
def test_cropping_and_choosing_rows_leaves_keys_as_they_came():
    """Drafts that are rejected go back across the trained length; rows change places as with beams."""
    model = llama(num_hidden_layers=1)
    with patch(model):
        cache = RotaryCache(model.config, rerotate=True)
        model(input_ids=IDS[:, :30], cache=cache)
        model(input_ids=IDS[:, 40:46], cache=cache)  # a draft
        cache.crop(-6)
        cache.reorder_cache(torch.tensor([1, 0]))
        rows = IDS[[1, 0]]
        out = model(input_ids=rows[:, 30:36], cache=cache).logits
        assert torch.allclose(out[:, -1], model(input_ids=rows[:, :36]).logits[:, -1], atol=1e-4)


@torch.no_grad()
def test_beams_generate():
    model = llama()
    with patch(model):
        out = greedy(model, IDS[:, :30], 12, num_beams=3, cache=RotaryCache(model.config, rerotate=True))
    assert out.shape == (2, 42)


@torch.no_grad()
def test_what_is_wrong_is_named():
    model, cache = llama(), RotaryCache(llama().config, rerotate=True)
    with pytest.raises(ValueError, match="expected a model that was patched"):
        model(input_ids=IDS, cache=cache)
    mask = torch.ones_like(IDS)
    mask[0, 0] = 0
    with patch(model), pytest.raises(ValueError, match="hides tokens"):
        model(input_ids=IDS, attention_mask=mask, cache=RotaryCache(model.config, rerotate=True))
    windowed = build("qwen2", rope_parameters=DYNAMIC, use_sliding_window=True, sliding_window=8,
                     layer_types=["sliding_attention", "full_attention"])  # fmt: skip
    with pytest.raises(ValueError, match="layers of sliding_attention"):
        RotaryCache(windowed.config, rerotate=True)
