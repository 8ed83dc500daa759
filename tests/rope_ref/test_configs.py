"""Published configs against frequencies worked out at 50 digits, and everything a config may get wrong."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.families import FAMILIES

FOLDER = Path(__file__).with_name("configs")
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))
ROUNDING = 2.0**-53
# theta^(2i/r) turns the rounding of its exponent, at most 2^-54 below 1, into ln(theta) 2^-54 of itself, theta being
# at most 10^8 here; then a power, a reciprocal, a product and a division follow, and the stored value is rounded too.
PLAIN = (math.log(1e8) + 8) * ROUNDING


def fixture(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def tolerance(config):
    """The bound for these frequencies, relative.

    A ramp t that is off by d moves w' = (1 - t) w/s + t w by at most (s - 1) d of itself. d itself is the error of the
    number of rotations or of the pair index, over the length of the ramp: less than twice that of a frequency.
    """
    text = config.get("text_config", config)
    scaling = text.get("rope_scaling") or text.get("rope_parameters") or {}
    ramps = scaling.get("rope_type", scaling.get("type")) in ("yarn", "llama3")
    return PLAIN * (1 + 2 * scaling["factor"]) if ramps else PLAIN


def test_there_are_enough_published_configs():
    assert len(NAMES) >= 100
    assert NAMES == sorted(path.stem for path in (FOLDER / "expected").glob("*.json"))


@pytest.mark.parametrize("name", NAMES)
def test_published_config(name):
    config = fixture(name)["config"]
    cases = json.loads((FOLDER / "expected" / f"{name}.json").read_text())
    for case in cases:
        w = np.array(case["w"], np.float64)
        for layer in case["layers"]:
            rope = rr.from_config(config, layer, length=case["length"])
            assert rope.head_dim == case["head_dim"]
            if not w.size:
                assert rope == rr.Rope(rope.head_dim, rotary_dim=0)
                continue
            assert (rope.start, rope.pairing) == (case["start"], case["pairing"])
            assert abs(rope.attention_scale / float(case["scale"]) - 1) <= 8 * ROUNDING
            omega = rope.omega
            if case["axes"] is not None:
                pairs = np.arange(len(omega))
                assert np.count_nonzero(omega) == len(omega)  # each pair turns with one axis
                omega = omega[pairs, case["axes"]]
            np.testing.assert_allclose(omega, w, rtol=tolerance(config), atol=0)
    layers = sorted(layer for case in cases for layer in case["layers"])
    assert set(layers) == set(range(max(layers) + 1))
    with pytest.raises(IndexError, match=f"layer is {max(layers) + 1}"):
        rr.from_config(config, max(layers) + 1)
    if len({tuple(case["layers"]) for case in cases}) > 1:
        with pytest.raises(ValueError, match="layers differ .*name one"):
            rr.from_config(config)
    else:
        assert rr.from_config(config) == rr.from_config(config, 0)


def test_paths_and_objects(tmp_path):
    config = fixture("llama-3.1-8b")["config"]
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))

    class Config:
        def to_dict(self):
            return config

    expected = rr.variants.llama3(128, factor=8.0, theta=500000.0)
    for given in (config, path, str(path), Config()):
        assert rr.from_config(given) == expected
    for given in (None, 3, ["llama"]):
        with pytest.raises(TypeError, match="config is a"):
            rr.from_config(given)


@pytest.mark.parametrize("name", NAMES)
def test_a_config_is_not_changed(name):
    config, untouched = fixture(name)["config"], fixture(name)["config"]
    rr.from_config(config, 0)
    assert config == untouched


@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen2.5-7b-yarn", "phi-4-mini", "vicuna-7b-16k", "llama-2-7b"])
def test_old_and_new_schema_agree(name):
    old = fixture(name)["config"]
    new = {key: value for key, value in old.items() if key not in ("rope_theta", "rope_scaling")}
    given = dict(old["rope_scaling"] or {})
    kind = given.pop("type", given.pop("rope_type", "default"))
    new["rope_parameters"] = given | {"rope_type": kind, "rope_theta": old.get("rope_theta", 10000.0)}
    assert rr.from_config(new) == rr.from_config(old)


def test_layers_of_gemma_3_in_either_schema():
    old = fixture("gemma-3-4b")["config"]["text_config"]
    new = {key: value for key, value in old.items() if key != "rope_scaling"}
    new["rope_parameters"] = {
        "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
    }
    assert [rr.from_config(new, i) for i in range(34)] == [rr.from_config(old, i) for i in range(34)]


def test_length_chooses_the_frequencies():
    phi = fixture("phi-4-mini")["config"]
    short, long = phi["rope_scaling"]["short_factor"], phi["rope_scaling"]["long_factor"]
    plain = rr.variants.default(128, rotary_dim=96).omega
    assert np.array_equal(rr.from_config(phi, length=4096).omega, plain / np.array(short))
    np.testing.assert_allclose(rr.from_config(phi, length=4097).omega, plain / np.array(long), rtol=2 * ROUNDING)
    llama = fixture("llama-2-7b")["config"] | {"rope_scaling": {"type": "dynamic", "factor": 2.0}}
    assert rr.from_config(llama) == rr.from_config(llama, length=4096) == rr.variants.default(128)
    assert rr.from_config(llama, length=8192) == rr.variants.ntk(128, factor=3.0)


def test_angle_dtype_reaches_every_variant():
    for name in NAMES:
        rope = rr.from_config(fixture(name)["config"], 3, angle_dtype="float32")
        if rope.pairs:
            assert rope.angle_dtype == "float32"
            assert np.array_equal(rope.omega.astype(np.float32), rope.omega)


LLAMA = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 4, "max_position_embeddings": 4096}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LONG = {"rope_type": "longrope", "short_factor": [1.0] * 32, "long_factor": [2.0] * 32,
        "original_max_position_embeddings": 1024}  # fmt: skip
BANDS = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 1024}  # fmt: skip
NAN = float("nan")


@pytest.mark.parametrize(
    "changes, options",
    [
        (dict(model_type="bert"), "model_type is 'bert'; expected one of the .*like="),
        (dict(model_type=None), "model_type is None"),
        (dict(num_hidden_layers=None, model_type="gemma3_text"), "num_hidden_layers is missing"),
        (dict(head_dim=None), "hidden_size is missing"),
        (dict(head_dim=None, hidden_size=100, num_attention_heads=3), "hidden_size is 100"),
        (dict(head_dim=63), "63"),
        (dict(rope_theta=0), "rope_theta is 0"),
        (dict(rope_theta=-1.0), "rope_theta is -1.0"),
        (dict(rope_theta=NAN), "rope_theta is nan"),
        (dict(rope_theta="10000"), "rope_theta is '10000'"),
        (dict(rope_theta=10**400), "rope_theta is 1000"),
        (dict(rope_thetas=1e4), "rope_thetas is 10000.0"),
        (dict(rotary_pct=0.5), "rotary_pct is 0.5"),
        (dict(partial_rotary_factor=0.5), "partial_rotary_factor is 0.5; expected 1"),
        (dict(rope_scaling=[]), "rope_parameters are"),
        (dict(rope_scaling="yarn"), "rope_parameters are 'yarn'"),
        (dict(rope_scaling={"factor": 2.0}), "factor is 2.0 in parameters of type 'default'"),
        (dict(rope_scaling={"type": "ntk", "factor": 2.0}), "rope_type is 'ntk'; expected one of .*yarn"),
        (dict(rope_scaling={"type": ["yarn"]}), "rope_type is"),
        (dict(rope_scaling={"type": "linear", "rope_type": "dynamic", "factor": 2.0}), "rope_type is both"),
        (dict(rope_scaling={"type": "linear"}), "factor is missing"),
        (dict(rope_scaling={"type": "linear", "factor": 0.5}), "factor is 0.5"),
        (dict(rope_scaling={"type": "linear", "factor": True}), "factor is True"),
        (dict(rope_scaling={"type": "linear", "factor": NAN}), "factor is nan"),
        (dict(rope_scaling={"type": "linear", "factor": 2.0, "beta": 1}), "beta is 1"),
        (dict(rope_scaling={"type": "dynamic", "factor": 2.0}, max_position_embeddings=None), "max_position"),
        (dict(rope_scaling=YARN | {"original_max_position_embeddings": None}), "original_max_position_embeddings"),
        (dict(rope_scaling=YARN, original_max_position_embeddings=2048), "both 2048 and 1024"),
        (dict(rope_scaling=YARN | {"beta_fast": 1.0, "beta_slow": 2.0}), "beta_slow is 2.0"),
        (dict(rope_scaling=YARN | {"truncate": "no"}), "truncate is 'no'"),
        (dict(rope_scaling=YARN | {"truncate": None}), "truncate is None; expected true or false"),
        (dict(rope_scaling=YARN | {"attention_factor": 0.0}), "attention_factor is 0.0"),
        (dict(rope_scaling=YARN | {"factor": None}, max_position_embeddings=512), "factor is 0.5"),
        (dict(rope_scaling=YARN, rope_theta=1.0), "theta is 1.0; expected a number above 1"),
        (dict(rope_scaling=YARN, rope_parameters=BANDS), "rope_parameters is both"),
        (dict(rope_theta=1e4, rope_parameters={"rope_theta": 1e6}), "rope_theta is both"),
        (dict(rope_scaling=LONG | {"short_factor": [1.0] * 31}), "expected 32 positive numbers"),
        (dict(rope_scaling=LONG | {"long_factor": [1.0] * 33}), "expected 32 positive numbers"),
        (dict(rope_scaling=LONG | {"long_factor": [0.0] * 32}), "long_factor is 0.0"),
        (dict(rope_scaling=LONG | {"long_factor": 2.0}), "long_factor is 2.0"),
        (dict(rope_scaling=LONG | {"original_max_position_embeddings": 1}), "expected more than 1 position"),
        (dict(rope_scaling=BANDS | {"low_freq_factor": 5.0}), "bands run from 5.0 to 4.0"),
        (dict(rope_parameters={"full_attention": {}}), "expected one dict for all layers"),
        (dict(mrope_section=[8, 12, 12]), "mrope_section is"),
        (dict(rope_scaling={"type": "default", "mrope_section": [8, 12, 12]}), "mrope_section is"),
        (dict(alibi=True), "alibi is True"),
        (dict(model_type="gptj", rotary_dim=None, n_layer=4), "rotary_dim is missing"),
        (dict(model_type="gptj", rotary=False, n_layer=4), "rotary is False"),
        (dict(model_type="gptj", rope_theta=1e6), "rope_theta is 1000000.0"),
        (dict(model_type="phi3", rope_scaling=BANDS), "rope_type is 'llama3'"),
        (dict(model_type="esm", position_embedding_type="rotary", rope_scaling=BANDS), "expected one of default"),
        (dict(model_type="phi", partial_rotary_factor=1.5), "at most 1"),
        (dict(model_type="deepseek_v3", head_dim=100), "head_dim is 100; expected qk_rope_head_dim = 64"),
        (dict(model_type="qwen2_vl", rope_scaling={"type": "mrope", "mrope_section": [1, 2, 3]}), "add up to 32"),
        (dict(model_type="qwen2_vl", rope_scaling={"type": "mrope", "mrope_section": [1.0, 2, 3]}), "three whole"),
        (dict(model_type="qwen3_vl"), "text_config is None"),
        (dict(model_type="qwen3_vl", text_config=LLAMA, rope_theta=1e4), "rope_theta is 10000.0 beside text_config"),
        (dict(model_type="qwen3_vl_text", rope_scaling={"mrope_interleaved": False}), "mrope_interleaved is False"),
        (dict(model_type="qwen3_vl_text", rope_scaling={"mrope_section": [4, 14, 14]}), "cannot take turns"),
        (dict(model_type="gemma3_text", rope_parameters=YARN), "expected a dict for each layer type"),
        (dict(model_type="gemma3_text", rope_parameters={"full_attention": {}}), "expected sliding_attention too"),
        (dict(model_type="gemma3_text", layer_types=["full_attention"] * 3), "layer_types is"),
        (dict(model_type="gemma3_text", layer_types=["chunked_attention"] * 4), "holds 'chunked_attention'"),
        (dict(model_type="gemma4_text", rope_theta=1e4), "rope_theta is 10000.0"),
        (dict(model_type="gemma4_text", per_layer_config={"7": {"head_dim": 8}}), "per_layer_config has '7'"),
        (dict(model_type="gpt_neox", rope_theta=1e6), "calls it rotary_emb_base"),
        (dict(model_type="gpt_oss"), "rope_parameters are missing"),
        (dict(model_type="smollm3", no_rope_layers=[1, 2, 1, 1]), "no_rope_layers holds 2"),
    ],
)  # fmt: skip
def test_bad_configs_say_what_is_wrong(changes, options):
    config = LLAMA | changes
    with pytest.raises(ValueError, match=options):
        rr.from_config(config, 0)


def test_bad_arguments_say_what_is_wrong():
    for layer in (-1, 4):
        with pytest.raises(IndexError, match=f"layer is {layer}; expected 0 to 3"):
            rr.from_config(LLAMA, layer)
    for options in (dict(layer="0"), dict(layer=True), dict(length=1.5)):
        with pytest.raises(TypeError, match="expected a whole number"):
            rr.from_config(LLAMA, **options)
    with pytest.raises(ValueError, match="length is 0"):
        rr.from_config(LLAMA, length=0)
    with pytest.raises(ValueError, match="angle_dtype is 'float16'"):
        rr.from_config(LLAMA, angle_dtype="float16")


def test_every_family_has_a_published_config():
    read = {fixture(name)["config"]["model_type"] for name in NAMES}
    read |= {fixture(name)["config"].get("text_config", {}).get("model_type") for name in NAMES}
    assert len(read & set(FAMILIES)) >= 40


def test_falcon_heads_are_as_wide_as_its_class_derives():
    config = dict(model_type="falcon", hidden_size=64, num_attention_heads=4, num_hidden_layers=1, rope_theta=10000.0,
                  max_position_embeddings=2048)  # fmt: skip
    assert rr.from_config(config | {"head_dim": 16}) == rr.from_config(config)
    with pytest.raises(ValueError, match="head_dim is both 16 and 32"):
        rr.from_config(config | {"head_dim": 32})
