"""Models whose config says rotation in words of its own: against transformers where it has them, or their formula."""

import copy
import math

import numpy as np
import pytest
import torch
import transformers
from transformers.models.dbrx.modeling_dbrx import DbrxRotaryEmbedding
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as deepseek_v4

import rope_ref as rr
from rope_ref.explain import explain, grouped
from tests.rope_ref.test_transformers import LOOSE, UNIT, check_layer, small
from tests.strategies import normal

QWEN = {"model_type": "qwen", "hidden_size": 4096, "kv_channels": 128, "num_attention_heads": 32,
        "num_hidden_layers": 32, "rotary_emb_base": 10000, "rotary_pct": 1.0, "seq_length": 2048,
        "use_dynamic_ntk": True, "use_logn_attn": True}  # fmt: skip
YARN = {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "beta_fast": 32, "beta_slow": 1}


@pytest.mark.parametrize("scaling", [None, YARN])
def test_deepseek_v4_as_its_own_module(scaling):
    """The last channels, neighbours; layers that compress by another base, scaled without a magnitude."""
    words = {"num_hidden_layers": 4, "compress_ratios": [0, 128, 4, 0], "rope_scaling": scaling}
    config = transformers.AutoConfig.for_model("deepseek_v4", **copy.deepcopy(words))  # it writes into what it is given
    published = {"model_type": "deepseek_v4", "head_dim": 512, "qk_rope_head_dim": 64, "rope_theta": 10000,
                 "compress_rope_theta": 160000, "max_position_embeddings": 1 << 20} | words  # fmt: skip
    module, x, positions = deepseek_v4.DeepseekV4RotaryEmbedding(config), normal(0, 5, 512), np.arange(5) * 7
    for given in (published, config):
        each = rr.configs.layers(given, angle_dtype="float32")
        for layer, name in zip(each, ("main", "compress", "compress", "main"), strict=True):
            q = torch.from_numpy(x.astype(np.float32))[None, None]
            cos, sin = module(q, torch.from_numpy(positions)[None], layer_type=name)
            theirs = deepseek_v4.apply_rotary_pos_emb(q, cos, sin)[0, 0].numpy()
            expected = getattr(module, f"{name}_inv_freq").numpy()
            np.testing.assert_allclose(layer.rope.omega, expected, rtol=LOOSE * (1 + 2 * 16), atol=0)
            np.testing.assert_allclose(theirs, rr.rotate(x, positions, layer.rope), rtol=0, atol=8 * 64 * 32 * UNIT)


def test_dbrx_as_its_own_module():
    config = transformers.AutoConfig.for_model("dbrx", n_heads=8, d_model=512, n_layers=2)
    rope = rr.from_config(config)
    np.testing.assert_allclose(rope.omega, DbrxRotaryEmbedding(config).inv_freq.numpy(), rtol=LOOSE, atol=0)


@pytest.mark.parametrize("model_type", ["hunyuan_v1_dense", "hunyuan_v1_moe"])
def test_hunyuan_stretches_the_base_by_alpha_at_every_length(model_type):
    """As its checkpoints say it, with keys beside that nothing reads."""
    given = {"rope_type": "dynamic", "rope_theta": 1e4, "alpha": 1000.0, "factor": 1.0, "beta_fast": 32, "mscale": 1.0}
    config = small(model_type, rope_parameters=given, head_dim=128)
    assert check_layer(config, 0) == rr.from_config(config, 0, length=10**6, angle_dtype="float32")
    assert rr.from_config(config, 0) == rr.variants.ntk(128, 1000.0)
    with pytest.raises(ValueError, match="alpha is 1000.0"):
        rr.from_config({"model_type": "llama", "head_dim": 64, "rope_parameters": given})


@pytest.mark.parametrize("length", [None, 1, 2048, 2049, 4096, 4097, 30000])
def test_qwen_stretches_the_base_by_steps(length):
    alpha = 1 if length is None else max(2 ** math.ceil(math.log2(length / 2048) + 1) - 1, 1)
    assert (alpha > 1) == (length is not None and length > 2048)
    rope = rr.from_config(QWEN, length=length)
    np.testing.assert_allclose(rope.omega, 1 / (1e4 * alpha ** (128 / 126)) ** (np.arange(64) / 64), rtol=1e-13)
    assert rr.from_config(QWEN | {"use_dynamic_ntk": False}, length=length) == rr.variants.ntk(128, 1.0)
    assert rr.from_config(QWEN | {"rotary_pct": 0.25}, length=length).rotary_dim == 32
    assert "ln(2,048)" in explain(grouped(QWEN))


def test_what_their_own_code_says_of_others():
    glm = {"model_type": "chatglm", "kv_channels": 128, "num_layers": 40}
    half = rr.variants.default(128, 5e6, pairing="interleaved", rotary_dim=64)
    assert rr.from_config(glm | {"rope_ratio": 500}) == half and len(rr.configs.layers(glm)) == 40
    with pytest.raises(ValueError, match="position_encoding_2d"):
        rr.from_config(glm | {"position_encoding_2d": True})
    baichuan = {"model_type": "baichuan", "num_attention_heads": 32, "hidden_size": 4096, "num_hidden_layers": 2}
    assert rr.from_config(baichuan) == rr.Rope(128)
    assert not rr.from_config(baichuan | {"hidden_size": 5120, "num_attention_heads": 40}).pairs
    intern = {"model_type": "internlm", "hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 2048}
    rotary = {"base": 500000, "type": "dynamic", "scaling_factor": 2.0}
    assert rr.from_config(intern) == rr.Rope(64)
    made = rr.from_config(intern | {"rotary": rotary}, length=4096)
    assert made == rr.variants.dynamic_ntk(64, 2.0, 2048, 4096, 500000.0)
    assert not rr.from_config({"model_type": "nemotron_h", "num_hidden_layers": 52, "rope_theta": 10000}).pairs
    for name, config in (("qwen", QWEN), ("chatglm", glm), ("baichuan", baichuan), ("internlm", intern)):
        other = "half-split" if name == "chatglm" else "interleaved"
        assert rr.from_config(config, pairing=other).pairing == other
        assert rr.from_config({**config, "model_type": "mine"}, like=name) == rr.from_config(config)


def test_deepseek_without_latent_attention_turns_halves_of_the_whole_head():
    words = {"hidden_size": 1280, "num_attention_heads": 10, "use_mla": False, "qk_nope_head_dim": 0}
    assert rr.from_config({"model_type": "deepseek_vl_v2", "language_config": words}) == rr.Rope(128)
    latent = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
    rope = rr.from_config({"model_type": "deepseek_vl_v2", "language_config": latent})
    assert (rope.start, rope.pairs, rope.pairing) == (128, 32, "interleaved")


def test_an_unknown_wrapper_goes_to_its_language_model():
    inner = {"model_type": "internlm2", "hidden_size": 256, "num_attention_heads": 4, "rope_theta": 1e6}
    for key in ("text_config", "llm_config", "language_config"):
        assert rr.from_config({"model_type": "internvl_chat", key: inner}) == rr.Rope(64, theta=1e6)
    with pytest.raises(ValueError, match="model_type is 'mine'"):
        rr.from_config({"model_type": "mine", "text_config": {"model_type": "also mine"}})
