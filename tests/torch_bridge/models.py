"""A small model of every family that `patch` knows, with random weights."""

import torch
import transformers

transformers.logging.set_verbosity_error()

SIZES = {"vocab_size": 96, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
         "max_position_embeddings": 512, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None}  # fmt: skip
GROUPED = {"num_key_value_heads": 2}
WINDOW = {"sliding_window": 8}
MIXED = {"layer_types": ["sliding_attention", "full_attention"]}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]}}
LATENT = {"num_key_value_heads": 4, "q_lora_rank": 32, "kv_lora_rank": 16, "qk_nope_head_dim": 16,
          "qk_rope_head_dim": 8, "v_head_dim": 16, "n_routed_experts": 4, "num_experts_per_tok": 2,
          "n_group": 2, "topk_group": 1, "moe_intermediate_size": 32, "first_k_dense_replace": 1,
          "n_shared_experts": 1}  # fmt: skip
YARN = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 128}
TOWER = {"depth": 1, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
         "temporal_patch_size": 2, "spatial_merge_size": 2}  # fmt: skip
TOWER_2_5 = {"depth": 2, "hidden_size": 32, "out_hidden_size": 64, "num_heads": 2, "intermediate_size": 64,
             "patch_size": 4, "window_size": 16, "fullatt_block_indexes": [1]}  # fmt: skip

# model_type of the whole: what its config says beyond the sizes
TINY = {
    "llama": GROUPED,
    "mistral": GROUPED | WINDOW,
    "mixtral": GROUPED | EXPERTS,
    "qwen2": GROUPED,
    "qwen3": GROUPED | {"head_dim": 32},
    "qwen2_vl": GROUPED | MROPE,
    "qwen2_5_vl": GROUPED | MROPE,
    "gemma2": GROUPED | WINDOW | MIXED | {"head_dim": 32},
    "gemma3_text": GROUPED | WINDOW | MIXED | {"head_dim": 32},
    "phi3": GROUPED | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.75}},
    "gpt_neox": {},
    "gptj": {"rotary_dim": 8},
    "falcon": {"alibi": False, "new_decoder_architecture": True, "num_kv_heads": 2},
    "glm4": GROUPED | {"head_dim": 16},
    "cohere": GROUPED,
    "olmo2": GROUPED,
    "deepseek_v3": LATENT | {"rope_parameters": YARN},
    "gpt_oss": GROUPED | WINDOW | MIXED | EXPERTS | {"head_dim": 16},
    "modernbert": MIXED | {"local_attention": 8, "cls_token_id": 1, "sep_token_id": 2},
}
ROUTED = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
HEAD_16 = {"head_dim": 16}
# families whose code is a copy of that of one above: they are built, patched and compared once
ALSO = {
    "apertus": GROUPED, "arcee": GROUPED, "bitnet": GROUPED, "cwm": GROUPED | WINDOW | MIXED | HEAD_16,
    "diffllama": GROUPED, "doge": GROUPED, "exaone4": GROUPED | WINDOW | MIXED, "falcon_h1": GROUPED,
    "flex_olmo": GROUPED | ROUTED, "gemma": GROUPED | HEAD_16,
    "glm4_moe": GROUPED | HEAD_16 | ROUTED | {"n_routed_experts": 4, "n_group": 1, "topk_group": 1},
    "gpt_neox_japanese": {}, "granite": GROUPED, "granitemoe": GROUPED | EXPERTS, "granitemoeshared": GROUPED | EXPERTS,
    "hyperclovax": GROUPED, "jais2": GROUPED, "nemotron": GROUPED, "olmo": GROUPED, "olmo3": GROUPED | WINDOW | MIXED,
    "olmoe": GROUPED | ROUTED, "persimmon": {}, "phi": GROUPED, "phimoe": GROUPED | EXPERTS,
    "qwen2_moe": GROUPED | ROUTED | {"shared_expert_intermediate_size": 32}, "qwen3_moe": GROUPED | ROUTED | HEAD_16,
    "seed_oss": GROUPED | HEAD_16, "smollm3": GROUPED | {"no_rope_layers": [1, 0]}, "stablelm": GROUPED,
    "starcoder2": GROUPED, "vaultgemma": GROUPED | WINDOW | MIXED | HEAD_16,
    "cohere2": GROUPED | WINDOW | MIXED, "ernie4_5": GROUPED | HEAD_16,
    "ernie4_5_moe": GROUPED | HEAD_16 | {"moe_num_experts": 4, "moe_k": 2, "moe_intermediate_size": 32},
    "glm": GROUPED | HEAD_16, "helium": GROUPED | HEAD_16,
    "gemma4_unified_text": GROUPED | HEAD_16 | {"global_head_dim": 32} | WINDOW | MIXED,
    "glm4_moe_lite": LATENT, "deepseek_v2": LATENT, "deepseek_v32": LATENT, "youtu": LATENT,
    "llama4_text": GROUPED | HEAD_16 | EXPERTS | {"intermediate_size_mlp": 96, "no_rope_layers": [1, 0]},
    "ministral3": GROUPED | HEAD_16, "minimax_m2": GROUPED | HEAD_16 | EXPERTS,
    "solar_open": GROUPED | HEAD_16 | ROUTED,
    "hunyuan_v1_dense": GROUPED | HEAD_16, "exaone_moe": GROUPED | WINDOW | MIXED, "afmoe": GROUPED | WINDOW | MIXED,
    "lfm2": GROUPED | {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": GROUPED | HEAD_16 | ROUTED | {"layer_types": ["linear_attention", "full_attention"]},
}  # fmt: skip
GENERATES = [name for name in TINY if name != "modernbert"]


def config(name, **changes):
    """The config of a small model; `changes` go to its language model."""
    options = SIZES | (TINY | ALSO)[name] | changes
    if name in ("qwen2_vl", "qwen2_5_vl"):
        ids = {"image_token_id": 90, "video_token_id": 91, "vision_start_token_id": 92, "vision_end_token_id": 93}
        tower = TOWER if name == "qwen2_vl" else TOWER_2_5
        return transformers.AutoConfig.for_model(name, text_config=options, vision_config=tower, **ids)
    return transformers.AutoConfig.for_model(name, **options)


def build(name, dtype=torch.float32, seed=0, **changes):
    """The model, whose weights are large enough for attention to tell positions apart."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = auto(name).from_config(config(name, **changes), dtype=dtype, experts_implementation="eager").eval()
        for weights in model.parameters():
            if weights.ndim > 1:
                weights.data.copy_(torch.randn(weights.shape) * 1.5 / weights.shape[-1] ** 0.5)
    return model


def auto(name):
    if name == "modernbert":
        return transformers.AutoModelForMaskedLM
    return transformers.AutoModelForImageTextToText if name.endswith("_vl") else transformers.AutoModelForCausalLM


def greedy(model, ids, tokens, **options):
    """Exactly so many tokens after ids."""
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False} | options
    return model.generate(input_ids=ids, max_new_tokens=tokens, min_new_tokens=tokens, **options)
