"""A layer is read off its tables, whichever file they lie in, and the variant that makes them is named."""

import json
import os

import numpy as np
import onnx
import pytest
import torch
from onnx.helper import make_node
from safetensors.numpy import save_file

import rope_ref as rr

CONFIG = {"model_type": "llama", "num_hidden_layers": 3, "head_dim": 128, "rope_theta": 5e5}
SCALED = {
    "default": {},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.5}},
    "llama3": {"rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }},
    "yarn": {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}},
    "proportional": {"rope_scaling": {"rope_type": "proportional", "partial_rotary_factor": 0.25}},
}  # fmt: skip


def caches(config, tokens=2048, dtype=np.float32, twice=False):
    """cos and sin (tokens, pairs) as models make them: frequencies and angles in float32; or with each entry twice."""
    rope = rr.from_config(config, angle_dtype="float32")
    tables = rr.tables(rope, np.arange(tokens), np.float32)
    return [(np.concatenate([t, t], -1) if twice else t).astype(dtype) for t in tables]


@pytest.mark.parametrize("name", SCALED)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_the_variant_of_a_table_is_named(name, dtype, tmp_path):
    """The variant with its parameters, of numbers that few digits say; and no difference to the config it is of."""
    config = CONFIG | SCALED[name]
    rope = rr.from_config(config)
    cos, sin = caches(config, dtype=dtype)
    save_file({"rotary.cos": cos, "rotary.sin": sin, "weight": cos}, tmp_path / "t.safetensors")
    files = [tmp_path / "t.safetensors"]
    if dtype == np.float32:  # in float16 the slowest frequencies are 0
        np.save(tmp_path / "inv_freq.npy", rope.omega.astype(dtype))
        np.save(tmp_path / "freqs_cis.npy", (cos / rope.attention_scale + 1j * sin / rope.attention_scale))
        files += [tmp_path / "inv_freq.npy"] + [tmp_path / "freqs_cis.npy"] * (rope.attention_scale == 1)
    for file in files:
        made = rr.from_config(file)
        assert made.origin.make.__name__ == name
        given = {key: made.origin.given[key] for key in config.get("rope_scaling", {}) if key != "rope_type"}
        assert given == {key: value for key, value in config.get("rope_scaling", {}).items() if key != "rope_type"}
        assert made.origin.given["theta"] == 5e5 and rr.compare(config, file).alike
        other = config | {"rope_theta": 4.9e5}
        assert not rr.compare(other, file).alike and not rr.compare(file, other).alike


def test_what_a_table_leaves_open_is_no_difference(tmp_path):
    """Pairing, the width of a head, of frequencies alone the magnitude; a table with each entry twice tells pairing."""
    glm = {"model_type": "glm4", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 2}
    rope = rr.from_config(glm)
    assert (rope.pairing, rope.pairs, rope.head_dim) == ("interleaved", 32, 128)
    np.save(tmp_path / "w.npy", rope.omega.astype(np.float32))
    assert rr.compare(glm, tmp_path / "w.npy").alike
    yarn = CONFIG | SCALED["yarn"]
    np.save(tmp_path / "w.npy", rr.from_config(yarn).omega.astype(np.float32))
    assert rr.from_config(yarn).attention_scale > 1.1 and rr.compare(yarn, tmp_path / "w.npy").alike
    assert rr.from_config(tmp_path / "w.npy", pairing="interleaved").pairing == "interleaved"
    for twice, pairing in ((np.concatenate, "half-split"), (lambda t, axis: np.repeat(t[0], 2, axis), "interleaved")):
        save_file(
            {name: twice([t, t], axis=-1) for name, t in zip(("cos", "sin"), caches(yarn), strict=True)},
            tmp_path / "t.safetensors",
        )
        found = rr.compare(yarn, tmp_path / "t.safetensors")
        assert rr.from_config(tmp_path / "t.safetensors").pairing == pairing
        assert found.alike == (pairing == "half-split")
    qwen = {"model_type": "qwen3_vl", "text_config": {"num_hidden_layers": 2, "num_attention_heads": 2}}
    np.save(tmp_path / "w.npy", rr.from_config(qwen).omega.max(-1).astype(np.float32))
    assert rr.compare(qwen, tmp_path / "w.npy").alike


def test_frequencies_that_no_variant_makes(tmp_path):
    w = np.random.default_rng(0).uniform(0.01, 1, 16)
    np.save(tmp_path / "w.npy", w)
    assert np.array_equal(rr.from_config(tmp_path / "w.npy").omega, w)
    assert rr.compare(tmp_path / "w.npy", rr.Rope(32, inv_freq=w)).alike
    for wrong in (w[None, None], np.array([]), np.array(["a"]), w * np.nan):
        np.save(tmp_path / "w.npy", wrong)
        with pytest.raises(ValueError):
            rr.from_config(tmp_path / "w.npy")
    save_file({"weight": w}, tmp_path / "t.safetensors")
    with pytest.raises(ValueError, match="expected inv_freq, or cos and sin"):
        rr.from_config(tmp_path / "t.safetensors")


def state(*thetas, name="model.layers.{}.self_attn.rotary_emb.inv_freq"):
    each = {name.format(i): torch.tensor(rr.Rope(64, theta=theta).omega).float() for i, theta in enumerate(thetas)}
    return each | {"model.layers.0.weight": torch.zeros(3, 4, dtype=torch.bfloat16)}


def test_a_state_dict_of_torch(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"state_dict": state(*[1e4] * 11), "epoch": 3}, path)
    assert rr.from_config(path) == rr.Rope(64)
    torch.save(state(*[1e4] * 10, 5e5), path)
    assert [one.theta for one in rr.configs.layers(path)] == [1e4] * 10 + [5e5]
    rope = rr.Rope(64)
    cos, sin = (torch.tensor(t).repeat(1, 2) for t in rr.tables(rope, np.arange(300), np.float32))
    whole = torch.cat([torch.zeros(7, 64), sin])
    torch.save({"cos_cached": cos, "sin_cached": whole[7:]}, path)  # at an offset in its storage
    assert rr.from_config(path) == rope
    torch.save({"a.inv_freq": torch.tensor(rope.omega), "b.inv_freq": torch.tensor(rope.omega) / 2}, path)
    with pytest.raises(ValueError, match="tables of a and b that differ"):
        rr.from_config(path)


def test_a_pickle_runs_nothing(tmp_path):
    class Planted:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    path = tmp_path / "model.pt"
    for planted in (Planted(), {"inv_freq": Planted()}, torch.nn.Linear(2, 2)):
        torch.save(planted, path)
        with pytest.raises(ValueError, match="it asks for .*; expected a state dict of tensors alone"):
            rr.from_config(path)
    assert not (tmp_path / "ran").exists()


def graph(path, config, op="GroupQueryAttention", layers=3, dtype=np.float32, pairing="half-split", **more):
    """A graph as onnxruntime-genai builds them, without weights."""
    named = dict(zip(("cos_cache", "sin_cache"), caches(config, dtype=dtype), strict=True))
    side = {"rotary_interleaved" if op == "GroupQueryAttention" else "interleaved": int(pairing == "interleaved")}
    nodes = []
    for i in range(layers):
        where = f"/model/layers.{i}/attn"
        if op == "GroupQueryAttention":
            inputs = ["q", "k", "v", "past_k", "past_v", "seqlens", "total", *named]
            nodes.append(make_node(op, inputs, [f"o{i}"], f"{where}/{op}", domain="com.microsoft", do_rotary=1, **side))
        else:
            inputs = ["x", "ids", *named] if op == "contrib" else ["x", *named, "ids"]
            domain = "com.microsoft" if op == "contrib" else ""
            for which in "qk":
                name = f"{where}/{which}_rotary/RotaryEmbedding"
                nodes.append(make_node("RotaryEmbedding", inputs, [f"{which}{i}"], name, domain=domain, **side))
    held = [onnx.numpy_helper.from_array(array, name) for name, array in named.items()]
    nodes += more.get("nodes", [])
    held = more.get("held", held)
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [], [], held)), path)
    return path


@pytest.mark.parametrize("op", ["GroupQueryAttention", "contrib", "RotaryEmbedding"])
@pytest.mark.parametrize("name", SCALED)
def test_an_onnx_graph_is_read_off_its_caches(op, name, tmp_path):
    config = CONFIG | SCALED[name]
    for dtype in (np.float32, np.float16):
        path = graph(tmp_path / "model.onnx", config, op, dtype=dtype)
        assert rr.compare(config, path).alike
        assert name == "default" or f"rope_type: default against {name}\n" in str(rr.compare(CONFIG, path))
    found = rr.compare(config, graph(tmp_path / "model.onnx", config, op, pairing="interleaved"))
    difference = found.differences[0]
    assert difference.values == {"pairing": ("half-split", "interleaved")} and difference.permutation


def test_genai_config_names_its_graph(tmp_path):
    partial = CONFIG | {"model_type": "phi", "partial_rotary_factor": 0.5}
    graph(tmp_path / "model.onnx", partial)
    decoder = {"filename": "model.onnx", "head_size": 128, "num_hidden_layers": 3}
    (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"type": "phi", "decoder": decoder}}))
    assert rr.compare(partial, tmp_path).alike and rr.compare(partial, tmp_path / "genai_config.json").alike
    assert rr.from_config(tmp_path).head_dim == 128 and not rr.compare(CONFIG, tmp_path).alike
    for wrong in ({"filename": "../x.onnx"}, {"filename": "absent.onnx"}, {"head_size": 32}, {"head_size": "x"}, {}):
        changed = decoder | wrong if wrong else None
        (tmp_path / "genai_config.json").write_text(json.dumps({"model": {"decoder": changed}}))
        with pytest.raises(ValueError, match="filename is|head_size is"):
            rr.from_config(tmp_path)


def test_a_graph_with_two_caches_chooses_by_the_length(tmp_path):
    """As onnxruntime-genai writes LongRoPE: an If node, whose first branch is beyond the original length."""
    factors = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64, "original_max_position_embeddings": 4096}
    phi = {"model_type": "phi3", "num_hidden_layers": 2, "hidden_size": 256, "num_attention_heads": 2,
           "max_position_embeddings": 8192, "rope_theta": 1e4,
           "rope_scaling": {"type": "longrope"} | factors}  # fmt: skip
    branches = {}
    for name, length in (("then_branch", 5000), ("else_branch", 4096)):
        rope = rr.from_config(phi, length=length)
        arrays = rr.tables(rope, np.arange(256), np.float32)
        held = [onnx.numpy_helper.from_array(a, f"{n}_{length}") for n, a in zip(("cos", "sin"), arrays, strict=True)]
        outputs = [onnx.helper.make_tensor_value_info(t.name, 1, None) for t in held]
        branches[name] = onnx.helper.make_graph([], name, [], outputs, held)
    original = onnx.numpy_helper.from_array(np.int64(4096), "original")
    nodes = [make_node("Greater", ["length", "original"], ["beyond"]),
             make_node("If", ["beyond"], ["cos_cache", "sin_cache"], **branches)]  # fmt: skip
    path = graph(tmp_path / "model.onnx", CONFIG, nodes=nodes, held=[original], layers=2)
    for length in (None, 4096, 4097):
        assert rr.compare(phi, path, length=length).alike
    assert not rr.compare(phi, rr.from_config(path, length=4097)).alike


def test_a_graph_that_computes_its_tables(tmp_path):
    w = np.float32(rr.Rope(128, theta=5e5).omega)[None, :, None]
    w = onnx.numpy_helper.from_array(w, "model.rotary_emb.inv_freq")
    path = tmp_path / "model.onnx"
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([make_node("Cos", ["a"], ["b"])], "g", [], [], [w])), path)
    assert rr.compare(CONFIG, path).alike
    for layers, words in ((0, "has no RotaryEmbedding"), (2, "computes cos_cache; expected an array")):
        graph(path, CONFIG, layers=layers, held=[], nodes=[make_node("Cos", ["a"], ["cos_cache"])])
        with pytest.raises(ValueError, match=words):
            rr.from_config(path)
