"""Configs against what llama.cpp's own converter makes of them: python -m tests.rope_ref.converters LLAMA_CPP.

LLAMA_CPP is a checkout of llama.cpp, or vendor/llama.cpp of the sources of llama-cpp-python. Of every family that is
read here and converted there, a config of its class goes through the converter, without weights and tokens, and is
compared with the file: as it is, and with each of the keys about rotation changed in turn.
"""

import argparse
import json
import logging
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers.models.auto import modeling_auto as auto

import rope_ref as rr
from rope_ref.families import FAMILIES
from rope_ref.special import MODELS

MAPPINGS = (
    auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)  # fmt: skip
SECTIONS = {"qwen2_vl": [16, 24, 24], "qwen2_5_vl": [16, 24, 24], "qwen3_vl": [24, 20, 20],
            "qwen3_vl_moe": [24, 20, 20], "glm4v": [8, 12, 12], "glm4v_moe": [8, 12, 12]}  # fmt: skip
# what published configs have and a config of the class alone does not
WORDS = {"cohere2": {"rotary_pct": 1.0}, "minimax_m2": {"rotary_dim": 64}, "glm4_moe": {"head_dim": 128},
         "glm4v_moe": {"head_dim": 128}, "bamba": {"attn_layer_indices": [9, 18, 27]}}  # fmt: skip


def config(model_type):
    """A config of the class, as it would be published."""
    made = transformers.AutoConfig.for_model(model_type).to_dict()
    text = made.get("text_config", made)
    text.update(WORDS.get(model_type, {}))
    if model_type in SECTIONS:
        text["rope_parameters"]["mrope_section"] = SECTIONS[model_type]
    if model_type == "glm4v":
        text["rope_parameters"]["partial_rotary_factor"] = 0.5
    if model_type.startswith(("qwen3_5", "qwen3_next")):
        text["mtp_num_hidden_layers"] = made["mtp_num_hidden_layers"] = 1
    return {"vocab_size": 32} | made


def convert(given, architecture, folder, change=None):
    """The file that the converter writes for a config, after `change` of the keys that it would write."""
    import gguf
    from conversion import get_model_class

    (folder / "config.json").write_text(json.dumps(given | {"architectures": [architecture]}, default=str))
    save_file({"none.weight": torch.zeros(2, 2)}, folder / "model.safetensors")
    kind = get_model_class(architecture)
    kind.set_vocab = lambda self: None
    file = folder / "model.gguf"
    model = kind(folder, gguf.LlamaFileType.ALL_F32, file, eager=True)
    model = getattr(model, "impl", model)  # of Mistral 3, which hands on
    model.set_gguf_parameters()
    writer = model.gguf_writer
    writer.add_architecture()
    if change:
        change(writer.kv_data[0])
    for name, tensor in model.generate_extra_tensors():
        if "rope" in name:
            writer.add_tensor(name, tensor.numpy().astype("float32"))
    writer.add_tensor("none.weight", torch.zeros(1, 32).numpy())
    writer.write_header_to_file(path=file)
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def doubled(keys):
    """Twice the base, where the file says one."""
    for key, value in keys.items():
        if key.endswith(".rope.freq_base"):
            value.value *= 2


def tried(model_type, architecture):
    """What became of one family, and why."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            given = config(model_type)
            file = convert(given, architecture, Path(folder))
        except Exception as error:  # the converter wants a key that the class does not have
            return "not converted", f"{type(error).__name__}: {error}"
        try:
            found = rr.compare(Path(folder) / "config.json", file)
        except ValueError as error:
            return "not read", str(error)
        if not found.alike:
            return "different", str(found).replace("\n", " ")
        changed = convert(given, architecture, Path(folder), doubled)
        said = rr.compare(Path(folder) / "config.json", changed)
        return ("alike", "") if "theta" in str(said) or said.alike else ("a changed base is not named", str(said))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("checkout", type=Path)
    parser.add_argument("model_types", nargs="*")
    given = parser.parse_args()
    sys.path[:0] = [str(given.checkout / "gguf-py"), str(given.checkout)]
    logging.disable(logging.CRITICAL)
    transformers.logging.set_verbosity_error()
    from conversion import get_model_class

    counted = Counter()
    for model_type in given.model_types or sorted({*FAMILIES, *MODELS}):
        named = next((mapping[model_type] for mapping in MAPPINGS if model_type in mapping), None)
        architecture = named[0] if isinstance(named, (list, tuple)) else named
        try:
            get_model_class(architecture)
        except Exception:  # one that the converter does not know
            continue
        try:
            verdict, why = tried(model_type, architecture)
        except Exception:
            verdict, why = "failed", traceback.format_exc()
        counted[verdict] += 1
        if why:
            print(f"{model_type}: {verdict}: {why[:300]}")
    print(", ".join(f"{count} {verdict}" for verdict, count in counted.most_common()))


if __name__ == "__main__":
    main()
