"""What is read beyond the families themselves, which `test_transformers_oracle` compares with their own code."""

import re
from pathlib import Path

import pytest
import transformers

import rope_ref as rr
from rope_ref.families import FAMILIES, WRAPPERS
from rope_ref.special import MODELS
from rope_ref.towers import SCHEMES
from tests.rope_ref.transformers_oracle import CONFIG_MAPPING
from tests.rope_ref.unread import REASONS


@pytest.mark.parametrize("text, name", [(text, name) for text, names in WRAPPERS.items() for name in names])
def test_a_wrapper_holds_the_language_model_that_is_said(text, name):
    if name not in CONFIG_MAPPING:
        pytest.skip(f"transformers here has no {name}")
    assert CONFIG_MAPPING[name]().to_dict()["text_config"]["model_type"] == text
    inner = {"num_hidden_layers": 1, "hidden_size": 64, "num_attention_heads": 2}
    rr.from_config({"model_type": name, "text_config": inner}, 0)


def test_layers_of_cross_attention_do_not_rotate():
    text = {"hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 5, "cross_attention_layers": [3]}
    pairs = [rr.from_config({"model_type": "mllama", "text_config": text}, i).pairs for i in range(5)]
    assert pairs == [16, 16, 16, 0, 16]


def test_another_model_type_is_read_like_one_that_is_known():
    config = {"model_type": "mine", "head_dim": 64, "num_hidden_layers": 2}
    with pytest.raises(ValueError, match=r"model_type is 'mine'; expected one of the \d+ .*like='"):
        rr.from_config(config)
    assert rr.from_config(config, like="llama") == rr.Rope(64)
    assert rr.from_config(config, like="llama", pairing="interleaved") == rr.Rope(64, pairing="interleaved")
    with pytest.raises(ValueError, match="pairing is 'x'"):
        rr.from_config(config, like="llama", pairing="x")


def test_a_key_that_says_that_something_is_absent_is_read():
    plain = {"model_type": "llama", "head_dim": 64, "rope_theta": 10000.0}  # layers that are alike need no count
    for key in ("use_mrope", "rope_interleaved"):
        assert rr.from_config(plain | {key: False}) == rr.from_config(plain)
    with pytest.raises(ValueError, match="rope_interleaved is True"):
        rr.from_config(plain | {"rope_interleaved": True})
    scaled = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}
    one, two = (rr.from_config(plain | {"rope_scaling": scaled | more}) for more in ({}, {"finetuned": True}))
    assert one == two
    default = {"rope_type": "default", "original_max_position_embeddings": 4096}
    assert rr.from_config(plain | {"rope_scaling": default}) == rr.from_config(plain)


def test_longrope_below_its_original_length_has_magnitude_one():
    config = {
        "model_type": "phi3", "hidden_size": 96, "num_attention_heads": 1, "num_hidden_layers": 1,
        "max_position_embeddings": 2048, "original_max_position_embeddings": 4096, "rope_theta": 1e4,
        "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 48, "long_factor": [2.0] * 48},
    }  # fmt: skip
    assert rr.from_config(config).attention_scale == 1


def test_names_are_said_once():
    assert len({name for names in WRAPPERS.values() for name in names}) == sum(map(len, WRAPPERS.values()))
    assert FAMILIES["kimi_k2"] == FAMILIES["deepseek_v3"]  # whose code it copies


def test_what_transformers_rotates_is_read_or_listed_with_a_reason():
    unread = set()
    for folder in sorted(Path(transformers.models.__file__).parent.iterdir()):
        code, configs = (folder / f"{kind}_{folder.name}.py" for kind in ("modeling", "configuration"))
        if not code.is_file() or not re.search(r"^class \w*Rotary\w*\(", code.read_text(), re.MULTILINE):
            continue
        types = re.findall(r'^ +model_type(?:: str)? = "([^"]+)"', configs.read_text(), re.MULTILINE)
        if not (FAMILIES | SCHEMES | MODELS).keys() & set(types):
            unread.add(folder.name)
    assert unread == {name for names in REASONS.values() for name in names}
