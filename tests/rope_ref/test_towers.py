"""The towers that read images, against the modules that transformers builds for them."""

import importlib
import inspect
import re

import numpy as np
import pytest
import torch
import transformers

import rope_ref as rr
from rope_ref import towers
from rope_ref.positions import grid
from tests.rope_ref.test_vision import single

# model_type of a tower: the folder of its code; the others are tested in test_vision, where their modules differ
SUFFIX = "_vision(_encoder|_model)?$|_vit_model$"
MODULES = {name: re.sub(SUFFIX, "", name) for name in towers.SCHEMES} | {"exaone4_5_vision": "exaone4_5"}
OWN = ("llama4_vision_model", "dinov3_vit", "eomt_dinov3", "moonvit")


def module(name):
    """The config and the rotary module of a tower."""
    folder = MODULES[name]
    code = importlib.import_module(f"transformers.models.{folder}.modeling_{folder}")
    kinds = [kind for key, kind in vars(code).items() if re.search(r"(Vision|ViT|MLCD)RotaryEmbedding$", key)]
    assert len(kinds) == 1
    config = inspect.signature(kinds[0].__init__).parameters["config"].annotation
    return config(), kinds[0]


@pytest.mark.parametrize("name", sorted(set(towers.SCHEMES) - set(OWN)))
def test_a_tower_turns_as_its_own_module(name):
    config, kind = module(name)
    assert config.model_type == name
    rope = rr.from_config({"model_type": "x", "vision_config": config.to_dict()}, 0, part="vision")
    places = grid(3, 5)
    swapped = rope.pairing == "interleaved"  # SAM 2 and 3 hand their modules (column, row)
    ids = torch.from_numpy(places[:, ::-1].copy() if swapped else places)
    cos, sin = (t.squeeze(0).double().numpy() for t in kind(config)(torch.zeros(1), ids))
    ours = rr.angles(rope, places)
    wide = np.repeat(ours, 2, -1) if rope.pairing == "interleaved" else np.concatenate([ours, ours], -1)
    bound = single(np.abs(ours).max(), 10000.0)
    np.testing.assert_allclose(cos, np.cos(wide), rtol=0, atol=bound)
    np.testing.assert_allclose(sin, np.sin(wide), rtol=0, atol=bound)


@pytest.mark.parametrize("name", sorted(towers.TOWERS))
def test_the_tower_of_a_whole_model(name):
    """Named by the whole where its own config is silent, as published ones are, and alike where it is not."""
    if name not in transformers.models.auto.configuration_auto.CONFIG_MAPPING:
        pytest.skip(f"transformers here has no {name}")
    config = transformers.AutoConfig.for_model(name)
    whole = config.to_dict()
    inner = whole.get("thinker_config", whole)["vision_config"]
    ropes = rr.configs.layers(whole, part="vision")
    assert ropes == rr.configs.layers(config, part="vision")
    silent = {key: value for key, value in inner.items() if key != "model_type"}
    assert [one.rope for one in rr.configs.layers({"model_type": name, "vision_config": silent}, part="vision")] == [
        one.rope for one in ropes
    ]
    assert (ropes[0].rope.pairs > 0) == (towers.TOWERS[name] in towers.SCHEMES)


def test_kimi_by_its_own_names_turns_neighbours():
    own = {"vt_hidden_size": 1152, "vt_num_attention_heads": 16, "vt_num_hidden_layers": 27}
    rope = rr.from_config({"model_type": "kimi_k25", "vision_config": own}, part="vision")
    assert rope == rr.vision.moonvit(72) and rope.pairing == "interleaved"
    other = {"model_type": "moonvit", "hidden_size": 1152, "num_attention_heads": 16, "num_hidden_layers": 27}
    assert rr.from_config({"model_type": "kimi_vl", "vision_config": other}, part="vision") == rope
    assert rr.angles(rope, [[1, 0], [0, 2]])[:, :2].tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize(
    "config, words",
    [
        ({"model_type": "llama"}, "a llama config has no vision_config"),
        ({"model_type": "llava", "vision_config": {"model_type": "mine"}}, "head_dim is missing"),
        ({"model_type": "mine", "vision_config": {"model_type": "mine"}}, "model_type of the vision_config is 'mine'"),
        ({"model_type": "qwen2_vl", "vision_config": {"embed_dim": 30, "num_heads": 4}}, "embed_dim is 30"),
        ({"model_type": "qwen2_vl", "vision_config": {"embed_dim": 24, "num_heads": 4}}, "multiple of 4"),
        ({"model_type": "qwen2_vl", "vision_config": {}}, "head_dim is missing in the vision_config"),
    ],
)
def test_what_has_no_tower_that_is_known(config, words):
    with pytest.raises(ValueError, match=words):
        rr.from_config(config, part="vision")
    with pytest.raises(ValueError, match="part is 'audio'; expected 'text' or 'vision'"):
        rr.from_config(config, part="audio")
