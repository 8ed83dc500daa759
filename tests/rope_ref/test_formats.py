"""Descriptions of a model in other formats than transformers' are read as what they mean, and bad files refused."""

import json
import struct
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import rope_ref as rr
from rope_ref.formats import gguf
from tests.rope_ref.test_tables import CONFIG, graph, state

V = rr.variants
KINDS = {int: 4, float: 6, str: 8, list: 9}


def text(value):
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def value_of(value):
    if isinstance(value, str):
        return text(value)
    if isinstance(value, list):
        return struct.pack("<IQ", 5, len(value)) + struct.pack(f"<{len(value)}i", *value)
    return struct.pack("<f" if isinstance(value, float) else "<I", value)


def gguf_bytes(metadata, tensors=()):
    """A file as the format's description has it: github.com/ggml-org/ggml, docs/gguf.md."""
    tensors = dict(tensors)
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        out += text(key) + struct.pack("<I", KINDS[type(value)]) + value_of(value)
    offset, data = 0, b""
    for name, array in tensors.items():
        raw = np.asarray(array, "<f4").tobytes()
        out += text(name) + struct.pack("<IQIQ", 1, len(array), 0, offset)
        raw += b"\0" * (-len(raw) % 32)
        offset, data = offset + len(raw), data + raw
    return out + b"\0" * (-len(out) % 32) + data


def written(tmp_path, arch="llama", tensors=(), layers=4, **keys):
    metadata = {"general.architecture": arch, f"{arch}.block_count": layers, f"{arch}.embedding_length": 512,
                f"{arch}.attention.head_count": 8, f"{arch}.context_length": 4096}  # fmt: skip
    metadata |= {f"{arch}.{key.replace('__', '.')}": value for key, value in keys.items()}
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf_bytes({k: v for k, v in metadata.items() if v is not None}, tensors))
    return path


def test_gguf_by_the_writer_of_llama_cpp(tmp_path):
    """Where its package is installed: the file that its own writer makes is read alike."""
    package = pytest.importorskip("gguf")
    writer = package.GGUFWriter(tmp_path / "a.gguf", "qwen2")
    writer.add_block_count(3)
    writer.add_embedding_length(512)
    writer.add_head_count(8)
    writer.add_context_length(32768)
    writer.add_rope_freq_base(1e6)
    writer.add_rope_scaling_type(package.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(4.0)
    writer.add_rope_scaling_orig_ctx_len(8192)
    writer.add_token_list(["a", "b"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert rr.compare(rr.from_config(tmp_path / "a.gguf"), V.yarn(64, 4.0, 8192, 1e6)).alike


def llama3_factors(rope):
    """What convert_hf_to_gguf writes into rope_freqs: by how much each frequency is divided."""
    return V.default(rope.head_dim, 500000.0).omega / rope.omega


GGUF = {
    "plain": (lambda t: written(t), V.default(64)),
    "base": (lambda t: written(t, rope__freq_base=500000.0), V.default(64, 500000.0)),
    "linear": (lambda t: written(t, rope__scaling__type="linear", rope__scaling__factor=4.0), V.linear(64, 4.0)),
    "linear of old": (lambda t: written(t, rope__scale_linear=4.0), V.linear(64, 4.0)),
    "llama 3": (
        lambda t: written(t, tensors={"rope_freqs.weight": llama3_factors(V.llama3(64, 8.0))}, rope__freq_base=5e5),
        V.llama3(64, 8.0),
    ),
    "yarn": (
        lambda t: written(t, "qwen3", rope__scaling__type="yarn", rope__scaling__factor=4.0,
                          rope__scaling__original_context_length=4096),
        V.yarn(64, 4.0, 4096),
    ),
    "phi3": (
        lambda t: written(t, "phi3", tensors={"rope_factors_short.weight": [1.0] * 32,
                                              "rope_factors_long.weight": [2.0] * 32},
                          rope__scaling__attn_factor=1.25, rope__scaling__original_context_length=4096),
        V.longrope(64, [1.0] * 32, [2.0] * 32, 4096, 4096, attention_factor=1.25),
    ),
    "part of the head": (lambda t: written(t, "gptneox", rope__dimension_count=16), V.partial(64, 0.25)),
    "deepseek": (
        lambda t: written(t, "deepseek2", attention__key_length=192, rope__dimension_count=64,
                          rope__scaling__type="yarn", rope__scaling__factor=40.0,
                          rope__scaling__original_context_length=4096, rope__scaling__yarn_log_multiplier=0.1),
        V.yarn(192, 40.0, 4096, attention_factor=1.0, rotary_dim=64, start=128, pairing="interleaved"),
    ),
    "deepseek without mscale_all_dim": (
        lambda t: written(t, "deepseek2", attention__key_length=192, rope__dimension_count=64,
                          rope__scaling__type="yarn", rope__scaling__factor=40.0,
                          rope__scaling__original_context_length=4096),
        V.yarn(192, 40.0, 4096, rotary_dim=64, start=128, pairing="interleaved"),
    ),
    "a factor without a type": (lambda t: written(t, rope__scaling__factor=4.0), V.linear(64, 4.0)),
    "a factor of type none": (
        lambda t: written(t, rope__scaling__type="none", rope__scaling__factor=4.0), V.default(64)),
    "glm with axes": (
        lambda t: written(t, "glm4", rope__dimension_sections=[8, 12, 12, 0]),
        V.mrope(64, (8, 12, 12), pairing="interleaved")),
    "pairs that stand still": (
        lambda t: written(t, tensors={"rope_freqs.weight": [1.0] * 8 + [1e30] * 24}), V.proportional(64, 0.25)),
    "a multiplier that is read nowhere": (
        lambda t: written(t, "qwen3", rope__scaling__type="yarn", rope__scaling__factor=4.0,
                          rope__scaling__original_context_length=4096, rope__scaling__yarn_attn_factor=2.0),
        V.yarn(64, 4.0, 4096)),
    "neighbours": (lambda t: written(t, "glm4", rope__dimension_count=32),
                   V.partial(64, 0.5, pairing="interleaved")),
    "axes": (lambda t: written(t, "qwen2vl", rope__dimension_sections=[8, 12, 12, 0]), V.mrope(64, (8, 12, 12))),
    "axes in turn": (lambda t: written(t, "qwen3vl", rope__dimension_sections=[12, 10, 10, 0]),
                     V.mrope_interleaved(64, (12, 10, 10))),
}  # fmt: skip


@pytest.mark.parametrize("name", GGUF)
def test_gguf(name, tmp_path):
    make, rope = GGUF[name]
    found = rr.compare(make(tmp_path), rope)
    assert found.alike, str(found)


def test_gguf_layers_that_differ(tmp_path):
    still = written(tmp_path, "smollm3")
    assert [rr.from_config(still, layer).pairs for layer in range(4)] == [32, 32, 32, 0]
    sliding = written(tmp_path, "gemma3", layers=6, rope__freq_base=1e6, attention__key_length=256)
    assert [rr.from_config(sliding, layer).theta for layer in range(6)] == [1e4] * 5 + [1e6]
    own = {"attention__key_length": 128, "attention__key_length_swa": 64, "rope__freq_base": 1e6,
           "attention__sliding_window_pattern": [1, 0, 1, 0]}  # fmt: skip
    factors = {"rope_freqs.weight": [1.0] * 16 + [1e30] * 48}
    each = rr.configs.layers(written(tmp_path, "gemma4", **own, tensors=factors))
    assert [one.rope.head_dim for one in each] == [64, 128, 64, 128] and each[0].rope == V.default(64)
    assert rr.compare(each[1].rope, V.proportional(128, 0.25, 1e6)).alike
    recurrent = rr.configs.layers(written(tmp_path, "qwen3next", layers=8, full_attention_interval=4))
    assert [one.rope.pairs > 0 for one in recurrent] == [False, False, False, True] * 2
    conv = rr.configs.layers(written(tmp_path, "lfm2", attention__head_count_kv=[0, 8, 0, 8]))
    assert [one.rope.pairs > 0 for one in conv] == [False, True, False, True]
    yarn = {"rope__scaling__type": "yarn", "rope__scaling__factor": 8.0, "attention__sliding_window": 4096}
    each = rr.configs.layers(written(tmp_path, "olmo2", **yarn))
    assert [one.rope_type for one in each] == ["default"] * 3 + ["yarn"]
    assert [one.rope_type for one in rr.configs.layers(written(tmp_path, "gpt-oss", **yarn))] == ["yarn"] * 4
    for window, pairs in ((None, [32] * 4), (4096, [32, 32, 32, 0])):
        each = rr.configs.layers(written(tmp_path, "exaone4", attention__sliding_window=window))
        assert [one.rope.pairs for one in each] == pairs
    assert len(rr.configs.layers(written(tmp_path, "glm4moe", layers=5, nextn_predict_layers=1))) == 4


def test_a_converter_that_left_the_factors_out_is_found(tmp_path):
    config = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 4, "rope_theta": 5e5, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192}}  # fmt: skip
    right = written(tmp_path, tensors={"rope_freqs.weight": llama3_factors(V.llama3(64, 8.0))}, rope__freq_base=5e5)
    assert rr.compare(config, right).alike and rr.from_config(right).origin.given["factor"] == 8.0
    config["rope_scaling"]["factor"] = 32.0
    assert "    factor: 32.0 against 8.0\n" in str(rr.compare(config, right))
    config["rope_scaling"]["factor"] = 8.0
    wrong = rr.compare(config, written(tmp_path, rope__freq_base=5e5))
    assert "rope_type: llama3 against default" in str(wrong) and "factor: 8.0 against None" in str(wrong)


NATIVE = {
    "Llama 3": ({"dim": 4096, "n_layers": 2, "n_heads": 32, "rope_theta": 500000.0}, V.default(128, 500000.0)),
    "Llama 3.1": (
        {"dim": 4096, "n_layers": 2, "n_heads": 32, "rope_theta": 500000.0, "use_scaled_rope": True},
        V.llama3(128, 8.0),
    ),
    "Mistral": (
        {"dim": 5120, "n_layers": 2, "n_heads": 32, "head_dim": 128, "rope_theta": 1e6},
        V.default(128, 1e6),
    ),
    "Mistral's YaRN": (
        {"dim": 5120, "n_layers": 2, "n_heads": 32, "head_dim": 128, "rope_theta": 1e6, "yarn": {
            "factor": 16, "original_max_position_embeddings": 16384, "beta": 32, "alpha": 1, "apply_scale": False}},
        V.yarn(128, 16.0, 16384, 1e6, attention_factor=1.0),
    ),
    "DeepSeek": (
        {"dim": 7168, "n_layers": 2, "n_heads": 128, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64},
        V.yarn(192, 40.0, 4096, attention_factor=1.0, rotary_dim=64, start=128),
    ),
    "TensorRT-LLM": (
        {"architecture": "LlamaForCausalLM", "num_hidden_layers": 2, "hidden_size": 4096, "num_attention_heads": 32,
         "rotary_base": 1e6, "position_embedding_type": "rope_gptj"},
        V.default(128, 1e6),
    ),
    "Megatron": (
        {"num_layers": 2, "hidden_size": 4096, "num_attention_heads": 32, "rotary_base": 1e6, "rotary_percent": 0.5,
         "rotary_interleaved": True},
        V.partial(128, 0.5, 1e6),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NATIVE)
def test_native_configs_turn_neighbours(name):
    given, rope = NATIVE[name]
    found = rr.compare(given, rope)
    turned = tuple(found.differences[0].values)
    assert turned == ("pairing",) and found.differences[0].permutation, str(found)
    again = rr.Rope(**{f: getattr(rope, f) for f in ("head_dim", "start", "theta", "inv_freq", "attention_scale",
                                                     "rotary_dim")}, pairing="interleaved")  # fmt: skip
    assert rr.compare(given, again).alike


def test_engines_turn_halves():
    given = {"num_hidden_layers": 2, "hidden_size": 4096, "num_attention_heads": 32, "rotary_base": 5e5,
             "position_embedding_type": "rope_gpt_neox", "rotary_scaling": {
                 "type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                 "original_max_position_embeddings": 8192}}  # fmt: skip
    assert rr.compare(given, V.llama3(128, 8.0)).alike
    assert rr.compare({"num_layers": 2, "kv_channels": 128, "rotary_base": 1e4, "rotary_percent": 1.0,
                       "seq_len_interpolation_factor": 4.0}, V.linear(128, 4.0)).alike  # fmt: skip


def test_diffusers():
    flux = {"_class_name": "FluxTransformer2DModel", "axes_dims_rope": [16, 56, 56], "num_layers": 2}
    assert rr.compare(flux, rr.CATALOGUE["flux"]()).alike
    wan = {"_class_name": "WanTransformer3DModel", "attention_head_dim": 128, "num_layers": 2}
    assert rr.compare(wan, rr.CATALOGUE["wan"]()).alike
    assert rr.from_config({"_class_name": "SD3Transformer2DModel", "attention_head_dim": 64}).pairs == 0
    with pytest.raises(ValueError, match="_class_name is 'X'; expected one of Flux"):
        rr.from_config({"_class_name": "X"})


def mutated(raw, rng):
    raw = bytearray(raw)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(raw)))
        if rng.random() < 0.3:
            raw[at : at + 8] = struct.pack("<Q", int(rng.choice([2**60, 2**63, 0, 2**32])))
        else:
            raw[at] = rng.integers(256)
    return bytes(raw[: rng.integers(len(raw) + 1)] if rng.random() < 0.4 else raw)


@pytest.mark.parametrize("kind", ["gguf", "npy", "safetensors", "json", "onnx", "pt"])
def test_files_that_lie_are_refused_at_once(kind, tmp_path):
    """A file with bytes changed or missing is read, or refused by a ValueError, in no time; see `tests.forever` too."""
    rng, path = np.random.default_rng(0), tmp_path / f"a.{kind}"
    if kind == "gguf":
        factors = {"rope_freqs.weight": np.ones(32)}
        raw = written(tmp_path, tensors=factors, rope__dimension_sections=[1, 2]).read_bytes()
    elif kind == "npy":
        np.save(path, np.ones(32, np.float32))
        raw = path.read_bytes()
    elif kind == "safetensors":
        save_file({"cos": np.ones((4, 8), np.float32), "sin": np.ones((4, 8), np.float32)}, path)
        raw = path.read_bytes()
    elif kind == "onnx":
        raw = graph(path, CONFIG | {"head_dim": 4}, layers=1).read_bytes()
    elif kind == "pt":
        torch.save(state(1e4), path)
        raw = path.read_bytes()
    else:
        raw = json.dumps({"model_type": "llama", "head_dim": 64, "num_hidden_layers": 2, "rope_theta": 1e4}).encode()
    for _ in range(300):
        path.write_bytes(mutated(raw, rng))
        began = time.monotonic()
        try:
            rr.from_config(path, 0)
        except (ValueError, TypeError, IndexError):
            pass
        assert time.monotonic() - began < 2


def test_what_is_wrong_is_named(tmp_path):
    path = tmp_path / "a.gguf"
    for raw, message in {
        gguf_bytes({"general.architecture": "gpt2"}): "general.architecture is 'gpt2'",
        gguf_bytes({"general.architecture": "llama"}): "block_count is missing",
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0): "is of GGUF version 1; expected 2 or 3",
        b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0): "names 1152921504606846976 tensors",
        gguf_bytes({"general.architecture": "llama"})[:40]: "ends at byte 40; expected",
    }.items():
        path.write_bytes(raw)
        with pytest.raises(ValueError, match=message):
            rr.from_config(path)
    path.write_text('{"model_type": "llama", "model_type": "gptj"}')
    with pytest.raises(ValueError, match="model_type is given twice"):
        rr.from_config(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ValueError, match="nested too deep"):
        rr.from_config(path)
    assert gguf.MAGIC == b"GGUF"
