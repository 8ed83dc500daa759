"""LongRoPE at its trained length: kept keys become what the other list makes of them, within two roundings."""

import numpy as np
import pytest
import torch
import transformers

import rope_ref as rr
from rope_ref.cache import rerotate
from rope_ref.exactness import UNIT
from tests.torch_bridge.models import build
from torch_bridge import RotaryCache, patch
from torch_bridge.rerotation import Crossing, moved

LONGROPE = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 8, "long_factor": [4.0] * 8,
            "original_max_position_embeddings": 32}  # fmt: skip
IDS = torch.randint(3, 90, (1, 60), generator=torch.Generator().manual_seed(1))


def phi(**changes):
    return build("phi3", rope_parameters=LONGROPE, original_max_position_embeddings=32, **changes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_keys_are_those_of_the_other_rope_within_two_roundings(dtype):
    old, new = (rr.from_config(phi().config, layer=0, length=length) for length in (32, 33))
    raw = np.random.default_rng(0).standard_normal((1, 2, 32, 16))
    first = torch.from_numpy(rr.rotate(raw, np.arange(32), old)).to(dtype)
    exact = rr.rotate(raw, np.arange(32), new)
    u, wide = UNIT[str(dtype).removeprefix("torch.")], max(UNIT["float64"], UNIT["float32"] * (dtype != torch.float64))
    bound = np.sqrt((exact**2).sum(-1, keepdims=True)) * (2 * u + 6 * wide)  # both roundings; products, sum, table
    bound = bound + 64 * UNIT["float64"]  # angles of the oracle
    assert (np.abs(moved(first, old, new).double().numpy() - exact) <= bound).all()
    specified = rerotate(first.double().numpy(), np.arange(32), np.arange(32), old, new)
    assert (np.abs(moved(first, old, new).double().numpy() - specified) <= bound).all()


@torch.no_grad()
@pytest.mark.parametrize("step", [1, 7])
def test_beyond_the_length_one_layer_is_a_prefill_of_the_whole(step):
    """In one layer keys depend on tokens alone: what is moved is what a prefill under the long list keeps."""
    model = phi(num_hidden_layers=1)
    with patch(model):
        whole = model(input_ids=IDS).logits
        logits = []
        for cache in (RotaryCache(model.config, rerotate=True), transformers.DynamicCache(config=model.config)):
            for begin in range(0, 60, step):
                out = model(input_ids=IDS[:, begin : begin + step], cache=cache).logits
            logits.append(out[:, -1])
    assert torch.allclose(logits[0], whole[:, -1], atol=1e-4)
    assert not torch.allclose(logits[1], whole[:, -1], atol=1e-2)


@torch.no_grad()
def test_what_is_wrong_is_named():
    with pytest.raises(ValueError, match="expected 'longrope'"):
        Crossing(build("llama").config)
    with pytest.raises(ValueError, match="expected a config alone"):
        RotaryCache(rerotate=True)
    model, mask = phi(), torch.ones(1, 33, dtype=torch.int64)
    mask[0, 0] = 0
    with patch(model), pytest.raises(ValueError, match="hides tokens"):
        cache = RotaryCache(model.config, rerotate=True)
        model(input_ids=IDS[:, :32], attention_mask=mask[:, :32], cache=cache)
        model(input_ids=IDS[:, 32:33], attention_mask=mask, cache=cache)
