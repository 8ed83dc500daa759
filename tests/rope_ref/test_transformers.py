"""The specification against transformers: every rope type, every model family, and configs at random."""

import copy
import dataclasses
import traceback

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

import rope_ref as rr
from rope_ref.families import FAMILIES, REMOTE
from tests.rope_ref import transformers_oracle as oracle
from tests.strategies import normal

transformers.logging.set_verbosity_error()
# no code in transformers, but copies of that of others
COPIES = (*REMOTE, "kimi_k2", "kimi_vl", "hunyuan", "exaone", "phi3_v", "phi4mm", "stablelm_epoch", "bailing_moe",
          "bailing_moe_v2", "deepseek_vl_v2")  # fmt: skip
TEXT = sorted(name for name, family in FAMILIES.items() if family.text is None and name not in COPIES)
UNIT = 2.0**-24
# transformers takes theta^(2i/r) in float32 with a vector library that is good to one unit in the last place, which
# is 2 UNIT; the exponent, the reciprocal and three more operations round by UNIT each, and the exponent's rounding
# grows by ln(theta), below 17 here. A ramp multiplies all that by at most 1 + 2 s: see test_configs.
LOOSE = (17 + 8) * UNIT


def ulps(a, b):
    """Distance of float32 numbers in units in the last place."""
    a, b = (np.asarray(t, np.float32).view(np.int32).astype(np.int64) for t in (a, b))
    return np.abs(a - b)


def omega_1d(rope):
    return rope.omega.sum(-1) if rope.axes else rope.omega


thetas = st.sampled_from([1e4, 1.5e5, 5e5, 1e6, 1e7]) | st.floats(10, 1e7)
factors = st.sampled_from([1.0, 2.0, 4.0, 8.0, 32.0]) | st.floats(1, 64)
lengths = st.integers(64, 300000)


@st.composite
def rope_parameters(draw, pairs=32):
    """Rope parameters of some type that make sense, and a length."""
    kind = draw(st.sampled_from(sorted(ROPE_INIT_FUNCTIONS)))
    given = {"rope_type": kind, "rope_theta": draw(thetas), "factor": draw(factors)}
    if kind in ("yarn", "longrope", "llama3"):
        given["original_max_position_embeddings"] = draw(lengths)
    if kind == "yarn":
        slow = draw(st.floats(0.25, 8))
        given |= {"beta_slow": slow, "beta_fast": slow * draw(st.floats(1, 40)), "truncate": draw(st.booleans())}
        given |= draw(st.sampled_from([{}, {"attention_factor": 1.25}, {"mscale": 0.707, "mscale_all_dim": 1.0}]))
    if kind == "longrope":
        lists = st.lists(st.floats(1, 64), min_size=pairs, max_size=pairs)
        given |= {"short_factor": draw(lists), "long_factor": draw(lists)}
        given |= draw(st.sampled_from([{}, {"attention_factor": 1.25}]))
    if kind == "llama3":
        low = draw(st.floats(0.25, 8))
        given |= {"low_freq_factor": low, "high_freq_factor": low + draw(st.sampled_from([0.0, 0.5, 3.0, 40.0]))}
    if kind == "proportional":
        given["partial_rotary_factor"] = draw(st.sampled_from([1.0, 0.25, 0.3, 0.01]))
    return given


def test_every_rope_type_is_covered():
    assert set(ROPE_INIT_FUNCTIONS) | {"default", "ntk_alpha"} == set(rr.parameters.TYPES)


@settings(max_examples=300)
@given(rope_parameters(), st.integers(1, 400000))
def test_every_rope_type(given, length):
    """The same bits, save where the powers of transformers are not correctly rounded."""
    base = {"model_type": "llama", "hidden_size": 256, "num_attention_heads": 4, "num_hidden_layers": 2,
            "head_dim": 64, "max_position_embeddings": 8192}  # fmt: skip
    config = transformers.LlamaConfig(**base, rope_parameters=dict(given))
    expected, scale = ROPE_INIT_FUNCTIONS[given["rope_type"]](config, seq_len=length)
    rope = rr.from_config(base | {"rope_parameters": given}, length=length, angle_dtype="float32")
    exact = rr.from_config(base | {"rope_parameters": given}, length=length)
    assert rope.attention_scale == pytest.approx(scale, rel=2.0**-50, abs=0)
    ramps = given["rope_type"] in ("yarn", "llama3")
    bound = LOOSE * (1 + 2 * given["factor"]) if ramps else LOOSE
    np.testing.assert_allclose(exact.omega, expected.numpy(), rtol=bound, atol=0)
    theta = given["rope_theta"]
    if given["rope_type"] == "dynamic":
        theta = rr.frequencies.ntk_theta(theta, rr.frequencies.dynamic_factor(given["factor"], length, 8192), 64)
    exponent = torch.arange(0, 64, 2).float() / 64
    right = (np.float64(np.float32(theta)) ** exponent.double().numpy()).astype(np.float32)
    same = (theta**exponent).numpy() == right
    assert same.mean() > 0.5
    assert np.array_equal(rope.omega.astype(np.float32)[same], expected.numpy()[same])


@settings(max_examples=50)
@given(thetas, st.integers(0, 2**31), st.sampled_from([1.0, 1.2079441541679836]))
def test_angles_have_the_same_bits_and_tables_nearly(theta, start, scale):
    """Given the same frequencies, float32 angles are those of transformers; sines and cosines are one unit away."""
    inv_freq = 1.0 / (theta ** (torch.arange(0, 64, 2).float() / 64))
    rope = rr.variants.custom(64, inv_freq.tolist(), angle_dtype="float32", attention_scale=scale)
    positions = start + np.arange(64)
    angles = torch.from_numpy(positions)[:, None].float() * inv_freq
    assert np.array_equal(rr.angles(rope, positions), angles.double().numpy())
    cos, sin = rr.tables(rope, positions, np.float32)
    # The vector libraries of torch are within one unit of the true value; scaling rounds the scale, the product and,
    # here, the result once more: at most three halves of a unit, doubled by the step at a power of two.
    most = 1 if scale == 1 else 4
    assert ulps(cos, (angles.cos() * scale).numpy()).max() <= most
    assert ulps(sin, (angles.sin() * scale).numpy()).max() <= most


WORDS = {
    **dict.fromkeys(("glm4_moe", "glm4v_moe_text", "qwen3_omni_moe_text"), {"head_dim": 128}),
    "bamba": {"attn_layer_indices": [1, 5]},
    "glm_image_text": {"partial_rotary_factor": 0.5},
    "glm4v_text": {"partial_rotary_factor": 0.5},
    "qwen4_exp_text": {"partial_rotary_factor": 0.25},
    "esm": {"position_embedding_type": "rotary"},
    "granitemoehybrid": {"position_embedding_type": "rope", "layer_types": ["linear_attention", "full_attention"] * 6},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 6},
}  # fmt: skip


def small(model_type, **changes):
    """A config of this type, with the sizes of its class but for what must be smaller or fit together."""
    options = {"num_hidden_layers": 12} if model_type not in ("gptj", "codegen", "gemma3n_text") else {}
    options |= WORDS.get(model_type, {})
    return oracle.config_class(model_type)(**options | changes)


def check_layer(config, layer, length=None):
    kinds = config.to_dict().get("layer_types")  # as it is published: Dory counts attention and mlp apart
    kind = kinds[layer] if kinds else None
    rope = rr.from_config(config, layer, length=length, angle_dtype="float32")
    if not rope.pairs:
        return rope
    expected, scale = oracle.frequencies(config, kind, length)
    assert rope.attention_scale == pytest.approx(scale, rel=2.0**-50, abs=0)
    np.testing.assert_allclose(omega_1d(rope), expected, rtol=LOOSE, atol=0)
    x = normal(layer, 5, rope.head_dim).astype(np.float32)
    rotated = slice(rope.start, None)
    positions = np.random.default_rng(layer).integers(0, 100, (5, 3) if rope.axes else 5)
    turned = oracle.rotate(config, x[:, rotated], positions, kind)
    # Angles below 128 radians in float32: their rounding, that of cos and sin, and four operations on |x| < 8.
    np.testing.assert_allclose(turned, rr.rotate(x, positions, rope)[:, rotated], rtol=0, atol=8 * 128 * 8 * UNIT)
    return rope


# the kinds of layers that do not rotate, by model_type; in the others those without attention
STILL = {
    **dict.fromkeys(
        ("cohere2", "exaone4", "exaone_moe", "kolibri1", "afmoe", "flint", "beam"), {"full_attention"}
    ),
    "lara_mini": {"full_attention", "linear_attention"},
}


def expected_still(config):
    """The layers of a config of transformers that its code does not rotate."""
    for key in ("no_rope_layers", "layer_rope_theta"):
        if getattr(config, key, None) is not None:
            return [layer for layer, turns in enumerate(getattr(config, key)) if not turns]
    if config.model_type == "mllama_text_model":
        return [layer for layer in config.cross_attention_layers if layer < config.num_hidden_layers]
    without = STILL.get(config.model_type, {"linear_attention", "conv", "mlp"})
    kinds = config.to_dict().get("layer_types") or getattr(config, "layer_types", None) or ()
    return [layer for layer, kind in enumerate(kinds) if kind in without]


@pytest.mark.parametrize("model_type", TEXT)
def test_every_family(model_type):
    config = small(model_type)
    layers = min(getattr(config, "num_hidden_layers", 12), len(rr.configs.layers(config)))
    still = [layer for layer in range(layers) if not check_layer(config, layer).pairs]
    assert still == [layer for layer in expected_still(config) if layer < layers] and len(still) < layers


@pytest.mark.parametrize("model_type", TEXT)
def test_a_silent_config_has_the_head_dim_of_its_class(model_type):
    fields = {field.name: field.default for field in dataclasses.fields(oracle.config_class(model_type))}
    if FAMILIES[model_type].latent:
        for key in ("qk_nope_head_dim", "qk_rope_head_dim"):
            assert FAMILIES[model_type].defaults[key] == fields[key]
    elif isinstance(fields.get("head_dim"), int):
        assert FAMILIES[model_type].defaults.get("head_dim") == fields["head_dim"]
    else:
        assert "head_dim" not in FAMILIES[model_type].defaults


@pytest.mark.parametrize("model_type", sorted(n for n, family in FAMILIES.items() if family.text and n not in COPIES))
def test_every_multimodal_family(model_type):
    config = oracle.config_class(model_type)()
    inner, family = config, FAMILIES[model_type]
    while family.text:
        inner, family = getattr(inner, family.within), FAMILIES[family.text]
    if model_type in ("glm4v", "glm_image", "qwen4_exp"):
        inner.rope_parameters["partial_rotary_factor"] = 0.25 if model_type == "qwen4_exp" else 0.5
    if model_type in ("glm4v_moe", "qwen3_omni_moe", "qwen3_omni_moe_thinker"):
        inner.head_dim = 128
    layers = range(inner.num_hidden_layers)
    assert [rr.from_config(config, i) for i in layers] == [rr.from_config(inner, i) for i in layers]


@pytest.mark.parametrize("rope_interleave", [True, False])
def test_deepseek_pairs_as_its_config_says(rope_interleave):
    config = small("deepseek_v3", rope_interleave=rope_interleave)
    assert check_layer(config, 0).pairing == ("interleaved" if rope_interleave else "half-split")


def test_channels_that_rotate_may_be_counted():
    rope = check_layer(small("minimax_m2", rotary_dim=64), 0)
    options = {"model_type": "minimax_m2", "head_dim": 128, "rotary_dim": 64}
    assert rope == rr.from_config(options, angle_dtype="float32") and rope.rotary_dim == 64


@pytest.mark.parametrize("name, rotates", [("esm", "rotary"), ("granitemoehybrid", "rope")])
def test_position_embeddings_of_another_kind_rotate_nothing(name, rotates):
    config = {"model_type": name, "hidden_size": 64, "num_attention_heads": 2, "num_hidden_layers": 2}
    config |= {"layer_types": ["full_attention"] * 2}
    pairs = [rr.from_config(config | {"position_embedding_type": kind}).pairs for kind in (rotates, "nope", None)]
    assert pairs == [16, 0, 0]


@pytest.mark.parametrize("sliding_window", [None, 4096])
@pytest.mark.parametrize("model_type", ["cohere2", "exaone4"])
def test_which_layers_rotate_without_a_window(model_type, sliding_window):
    config = small(model_type, sliding_window=sliding_window, layer_types=["sliding_attention", "full_attention"] * 6)
    turning = [bool(rr.from_config(config, layer).pairs) for layer in range(2)]
    if sliding_window is None:
        assert turning == ([False, False] if model_type == "cohere2" else [True, True])
    else:
        assert turning == [True, False]


def test_deviations_of_transformers():
    """Where transformers does not do what a config or a paper says, we do; these lines tell when that changes."""
    # It reads `truncate` beside the layer types, not within them.
    yarn = {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0, "original_max_position_embeddings": 8192}
    plain = {"rope_type": "default", "rope_theta": 5e5}
    nested = {"full_attention": yarn | {"truncate": False}, "sliding_attention": plain}
    config = small("olmo3", rope_parameters=nested)
    ours = rr.from_config(config, 3).omega
    assert np.array_equal(ours, rr.variants.yarn(128, 8.0, 8192, 5e5, truncate=False).omega)
    theirs = oracle.frequencies(config, "full_attention")[0]
    np.testing.assert_allclose(theirs, rr.variants.yarn(128, 8.0, 8192, 5e5).omega, rtol=LOOSE * 17)
    assert abs(theirs / ours - 1).max() > 0.001
    # OLMo 3 forgets an older config's theta on sliding layers.
    config = {"model_type": "olmo3", "head_dim": 128, "num_hidden_layers": 4, "rope_theta": 1e4}
    assert rr.from_config(config, 0) == rr.from_config(config, 3) == rr.variants.default(128)
    forgetful = oracle.config_class("olmo3")(num_hidden_layers=4, rope_theta=1e4).rope_parameters
    assert [forgetful[kind]["rope_theta"] for kind in ("full_attention", "sliding_attention")] == [1e4, 5e5]
    # Phi-3.5-MoE scales by long_mscale beyond the original length, but keeps the short list.
    long = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 64, "long_factor": [2.0] * 64,
            "short_mscale": 1.1, "long_mscale": 1.2, "original_max_position_embeddings": 64}  # fmt: skip
    config = small("phimoe", rope_parameters=long)
    module, at_64 = oracle.rotary(config), torch.tensor([[64]])
    theirs = module(torch.zeros(1), at_64)[0][0, 0, :64].numpy()
    ours = rr.from_config(config, length=65)
    assert ours.omega[0] == 0.5 and ours.attention_scale == 1.2
    np.testing.assert_allclose(theirs, 1.2 * np.cos(64 * 2 * ours.omega), atol=1e-5)


@st.composite
def any_config(draw):
    """A config of any family, in either schema, sound or not."""
    model_type = draw(st.sampled_from(TEXT))
    pairs = draw(st.sampled_from([8, 16, 32, 64]))
    config = {"model_type": model_type, "hidden_size": 8 * pairs, "num_attention_heads": 4, "num_hidden_layers": 6}
    config |= {"num_key_value_heads": 4, "max_position_embeddings": draw(st.sampled_from([2048, 4096]))}
    config |= draw(st.sampled_from([{}, {"head_dim": 2 * pairs}]))
    given = draw(rope_parameters(pairs) | thetas.map(lambda t: {"rope_theta": t}))
    if draw(st.booleans()):
        config["rope_parameters"] = given
    else:
        config["rope_theta"] = given.pop("rope_theta")
        config |= {"rope_scaling": given} if given else {}
    if draw(st.booleans()):  # break something
        where = draw(st.sampled_from([config, given]))
        keys = sorted(where) + ["partial_rotary_factor", "rotary_dim", "mrope_section", "rope_local_base_freq", "type"]
        values = st.sampled_from([None, True, "x", "yarn", 0, -1, 0.5, 3, 1e4, float("nan"), [], {}, [4, 2, 2]])
        where[draw(st.sampled_from(keys))] = draw(values)
    return config


@settings(max_examples=400)
@given(any_config(), st.integers(0, 5))
def test_any_config_is_an_error_or_what_transformers_computes(config, layer):
    try:
        rope = rr.from_config(config, layer, angle_dtype="float32")
    except (ValueError, TypeError, IndexError) as error:
        where = traceback.extract_tb(error.__traceback__)[-1].filename
        assert "rope_ref" in where, error  # an error of its own, not one that it stumbled into
        return
    deviates = config["model_type"] == "olmo3" and "rope_theta" in config
    deviates |= FAMILIES[config["model_type"]].by_type and (config.get("rope_scaling") or {}).get("truncate") is False
    if deviates:
        return  # see test_deviations_of_transformers
    options = {key: value for key, value in copy.deepcopy(config).items() if key != "model_type" and value is not None}
    if config["model_type"] == "falcon":  # its class derives head_dim and refuses to be told
        options.pop("head_dim", None)
    if config["model_type"] == "gemma3n_text":
        options["num_kv_shared_layers"] = 0
    try:
        theirs = oracle.config_class(config["model_type"])(**options)
    except (StrictDataclassError, ZeroDivisionError, KeyError):
        return  # transformers refuses it, or falls over: there is nothing to compare
    layer = 0 if config["model_type"] == "longcat_flash" else layer  # it counts layers of two attentions each
    check = rr.from_config(theirs, layer, angle_dtype="float32")
    assert check == rope
    if rope.pairs:
        kinds = getattr(theirs, "layer_types", None)
        try:
            expected, scale = oracle.frequencies(theirs, kinds[layer] if kinds else None)
        except (TypeError, KeyError, ZeroDivisionError):
            return  # a null theta or type, no heads, or a head_dim that its class does not derive: it falls over
        ramp = (config.get("rope_parameters") or config.get("rope_scaling") or {}).get("factor") or 1
        assert rope.attention_scale == pytest.approx(scale, rel=2.0**-50, abs=0)
        np.testing.assert_allclose(omega_1d(rope), expected, rtol=LOOSE * (1 + 2 * ramp), atol=0)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=8), st.floats(0, 1), st.sampled_from([512, 8192, 16384]))
def test_queries_are_scaled_as_those_of_ministral(positions, beta, length):
    """float32 arithmetic there: a quotient whose floor is exact below 2^24, a logarithm, a product and a sum."""
    theirs = oracle.code("ministral3").get_llama_4_attn_scale(torch.tensor([positions]), beta, length)[0, 0, :, 0]
    ours = rr.attention.query_temperature(positions, length, beta)
    np.testing.assert_allclose(theirs.numpy(), ours, rtol=8 * UNIT, atol=0)
