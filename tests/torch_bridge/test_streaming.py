"""Generation without end: constant memory, positions within the window, keys within two roundings."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import rope_ref as rr
from rope_ref.exactness import UNIT
from tests.torch_bridge.models import TINY, build, greedy
from torch_bridge import RotaryCache, decoding, patch
from torch_bridge.streaming import Streaming

IDS = torch.randint(3, 90, (2, 20), generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def small_as_if_large(monkeypatch):
    monkeypatch.setattr(decoding, "FEW", 0)
    decoding.taken.clear()


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("pairing", ["half-split", "interleaved"])
def test_after_100_000_tokens_a_key_carries_two_roundings(dtype, pairing):
    rope = rr.Rope(head_dim=16, theta=5e5, pairing=pairing)
    layer, step = Streaming(rope, window=512, sinks=4), 61
    raw = torch.randn(1, 1, 100_000, 16, generator=torch.Generator().manual_seed(0)).double()
    kept = torch.empty(0, dtype=torch.int64)  # numbers of the tokens that are there
    for begin in range(0, 100_000, step):
        tokens = torch.arange(begin, min(begin + step, 100_000))
        layer.make_room(len(tokens))
        kept = torch.cat([kept[:4], kept[len(kept) - layer.stored + 4 :]]) if layer.left else kept
        place = np.arange(layer.stored, layer.stored + len(tokens))
        x = torch.from_numpy(rr.rotate(raw[:, :, tokens].numpy(), place, rope)).to(dtype)
        layer.update(x, x)
        kept = torch.cat([kept, tokens])
    assert layer.get_seq_length() == 100_000 and layer.stored <= 516 and len(kept) == layer.stored
    exact = rr.rotate(raw[:, :, kept].numpy(), np.arange(len(kept)), rope)
    size = np.sqrt((exact**2).sum(-1, keepdims=True))  # of a row, and so of a pair at most
    u, wide = UNIT[str(dtype).removeprefix("torch.")], UNIT["float32"]
    bound = size * (2 * u + 6 * wide)  # both roundings; products, their sum, and a table of float32
    assert (np.abs(layer.keys.double().numpy() - exact) <= bound).all()


def test_within_the_window_nothing_differs():
    model = build("llama")
    before = greedy(model, IDS, 30)
    with patch(model):
        assert torch.equal(greedy(model, IDS, 30, cache=RotaryCache(model.config, window=64)), before)


@torch.no_grad()
@pytest.mark.parametrize("name", ["llama", "gemma3_text", "gpt_oss", "mistral", "deepseek_v2", "deepseek_v3", "falcon"])
def test_beyond_it_a_model_goes_on_as_if_its_tokens_had_always_stood_there(name):
    """One layer, whose keys depend on tokens alone: each step is that of the kept tokens, prefilled.

    Layers that see a window of their own see it of the kept tokens; latent ones (MLA) move what is rotated alone.
    """
    sliding = {"layer_types": ["sliding_attention"]} if "layer_types" in TINY.get(name, {}) else {}
    model = build(name, num_hidden_layers=1, **sliding)
    ids = torch.randint(3, 90, (1, 120), generator=torch.Generator().manual_seed(2))
    with patch(model):
        cache, kept = RotaryCache(model.config, window=32, sinks=2), torch.empty(1, 0, dtype=torch.int64)
        for n in range(120):
            ours = model(input_ids=ids[:, n : n + 1], cache=cache).logits[:, -1]
            stored = cache.layers[0].stored
            kept = torch.cat([ids[:, :2], ids[:, max(2, n + 3 - stored) : n + 1]], 1) if n >= 2 else ids[:, : n + 1]
            assert kept.shape[1] == stored <= 34
            anew = model(input_ids=kept).logits[:, -1]
            assert torch.allclose(ours, anew, atol=1e-4)
    assert name == "falcon" or {"attend"} <= {path for _, path in decoding.taken}


def test_generation_passes_the_trained_length():
    model = build("qwen3")
    with patch(model):
        cache = RotaryCache(model.config, window=40, sinks=4)
        out = greedy(model, IDS, 600, cache=cache)
    assert out.shape == (2, 620) and cache.get_seq_length() == 619 and cache.layers[0].stored <= 44


def test_beams_choose_rows():
    model = build("llama")
    with patch(model):
        out = greedy(model, IDS, 60, num_beams=2, cache=RotaryCache(model.config, window=40))
    assert out.shape == (2, 80)


def test_a_cache_may_be_made_before_its_model():
    """Keys lie in caches as the model's code sorts them, whether or not that has been imported."""
    program = (
        "from transformers import DeepseekV3Config as C; from torch_bridge import RotaryCache; "
        "print(RotaryCache(C(num_hidden_layers=1), window=8).layers[0].rope.pairing)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "half-split", done.stderr


WRONG = [
    ("llama", {"window": 0}, ValueError, "window is 0"),
    ("llama", {"window": 2.5}, TypeError, "window is 2.5"),
    ("llama", {"window": 8, "sinks": -1}, ValueError, "sinks is -1"),
    ("llama", {"window": 510}, ValueError, "at most 512 together"),
    ("llama4_text", {"window": 8}, ValueError, "layers of chunked_attention; expected"),
    ("falcon_h1", {"window": 8}, ValueError, "layers of hybrid; expected"),
]


@pytest.mark.parametrize(("name", "options", "kind", "text"), WRONG, ids=str)
def test_a_window_that_cannot_be_is_named(name, options, kind, text):
    with pytest.raises(kind, match=text):
        RotaryCache(build(name).config, **options)


@torch.no_grad()
def test_what_a_window_does_not_take_is_named():
    model = build("llama")
    with pytest.raises(ValueError, match="without a config"):
        RotaryCache(window=8)
    cache = RotaryCache(model.config, window=24)
    with pytest.raises(ValueError, match="patch it"):
        greedy(model, IDS, 20, cache=cache)
    with patch(model):
        with pytest.raises(ValueError, match="give them in parts"):
            model(input_ids=IDS.repeat(1, 2), cache=RotaryCache(model.config, window=24))
        with pytest.raises(ValueError, match="hides tokens"):
            mask = torch.ones_like(IDS)
            mask[0, 0] = 0
            model(input_ids=IDS, attention_mask=mask, cache=RotaryCache(model.config, window=24))
        with pytest.raises(ValueError, match="expected those from 0 on"):
            ids = torch.arange(1, 21)[None]
            model(input_ids=IDS, position_ids=ids, cache=RotaryCache(model.config, window=24))
    with pytest.raises(ValueError, match="cannot be cropped"):
        cache.layers[0].crop(-1)
