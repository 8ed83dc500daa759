"""What transformers computes for a config: frequencies, magnitude, and the rotation of one layer."""

import importlib
import inspect
import re

import numpy as np
import torch
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

# model_type -> the folder of its code, where that has another name
FOLDERS = {
    "modernbert-decoder": "modernbert_decoder", "hrm_text": "hrm_text", "lasr_encoder": "lasr",
    "mllama_text_model": "mllama", "emu3_text_model": "emu3", "kyutai_speech_to_text": "kyutai_speech_to_text",
    "dia_decoder": "dia", "blt_global_transformer": "blt", "t5_gemma_module": "t5gemma", "step3p5": "step3p7",
    "nemotron3_5_transcribe_asr_audio": "nemotron3_5_transcribe", "pe_audio_encoder": "pe_audio",
    "pe_video_encoder": "pe_video", "pe_audio_video_encoder": "pe_audio_video",
    "qwen2_5_omni_thinker": "qwen2_5_omni", "qwen3_omni_moe_thinker": "qwen3_omni_moe",
}  # fmt: skip


# families of latent attention that turn neighbours and have no key that says so
INTERLEAVED = ("axk2", "deepseek_v32", "glm_moe_dsa", "longcat_flash")


def folder(model_type):
    return FOLDERS.get(model_type, re.sub("_text$", "", model_type))


def config_class(model_type):
    """The config class of a language model, which a multimodal one holds as text_config."""
    if model_type in CONFIG_MAPPING:
        return CONFIG_MAPPING[model_type]
    module = importlib.import_module(f"transformers.models.{folder(model_type)}.configuration_{folder(model_type)}")
    classes = [c for _, c in inspect.getmembers(module, inspect.isclass) if getattr(c, "model_type", 0) == model_type]
    return classes[0]


def code(model_type):
    return importlib.import_module(f"transformers.models.{folder(model_type)}.modeling_{folder(model_type)}")


def rotary(config):
    """The rotary module that the language model builds from its config."""
    names = [n for n in vars(code(config.model_type)) if n.endswith("RotaryEmbedding")]
    names = [n for n in names if not re.search("Vision(?!Text)|AudioRot|DiT|Talker|SaProt", n)]
    names = [n for n in names if "ThinkerText" in n] or names
    assert len(names) == 1, names
    return getattr(code(config.model_type), names[0])(config)


def by_type(config):
    """Whether layer types have rope parameters of their own."""
    return any(str(key).endswith("_attention") for key in getattr(config, "rope_parameters", None) or {})


def frequencies(config, layer_type=None, length=None):
    """inv_freq in float32 and the magnitude, after a sequence of `length` went through if that is given."""
    module = rotary(config)
    if not hasattr(module, "config"):  # GPT-J and CodeGen keep tables of sin and cos alone
        position_one = module.embed_positions[1].numpy()
        half = len(position_one) // 2
        return np.arctan2(position_one[:half], position_one[half:]), 1.0
    options = {"layer_type": layer_type} if by_type(config) else {}
    if length is not None:
        module(torch.zeros(1), torch.tensor([[length - 1]]), **options)
    if config.model_type == "ernie4_5_vl_moe_text":  # those of rows, of columns, of time
        w, n = module.inv_freq.numpy(), module.mrope_section[0]
        return np.concatenate([np.stack([w[:n], w[n : 2 * n]], -1).ravel(), w[2 * n :]]), module.attention_scaling
    if config.model_type == "nanochat":  # its rotate_half has the other sign
        return -module.inv_freq.numpy(), module.attention_scaling
    prefix = f"{layer_type}_" if by_type(config) else ""
    return getattr(module, f"{prefix}inv_freq").numpy(), getattr(module, f"{prefix}attention_scaling")


def rotate(config, x, positions, layer_type=None):
    """One head of a query, x (seq, channels) in float32, turned; positions (seq,) or (seq, axes)."""
    model_type, module, source = config.model_type, rotary(config), code(config.model_type)
    q, ids = torch.from_numpy(x)[None, None], torch.from_numpy(positions.T)
    ids = ids[None] if ids.ndim == 1 else ids[:, None]
    if model_type in ("gptj", "codegen"):
        width = config.rotary_dim
        sin, cos = module(q, ids)
        turned = source.apply_rotary_pos_emb(q[..., :width].transpose(1, 2), sin, cos).transpose(1, 2)
        return torch.cat([turned, q[..., width:]], -1)[0, 0].numpy()
    tables = module(q, ids, **({"layer_type": layer_type} if by_type(config) else {}))
    if model_type == "llama4_text":
        return source.apply_rotary_emb(q.transpose(1, 2), q.transpose(1, 2), tables)[0].transpose(1, 2)[0, 0].numpy()
    if model_type == "deepseek_v2":
        return source.apply_rotary_emb(q, q, tables)[0][0, 0].numpy()
    cos, sin = tables
    if getattr(config, "rope_interleave", model_type in INTERLEAVED):
        y = source.apply_rotary_pos_emb_interleave(q, q, cos, sin)[0][0, 0]
        return torch.stack(y.chunk(2, -1), -1).flatten(-2).numpy()  # it comes back half-split
    apply = source.apply_rotary_pos_emb
    if "k" not in inspect.signature(apply).parameters:
        return apply(q, cos, sin)[0, 0].numpy()
    width = cos.shape[-1] if model_type in ("phi", "stablelm", "persimmon", "gpt_neox_japanese") else q.shape[-1]
    turned = apply(q[..., :width], q[..., :width], cos, sin)[0]
    return torch.cat([turned, q[..., width:]], -1)[0, 0].numpy()
