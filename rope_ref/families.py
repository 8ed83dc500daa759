"""What is special about each model family: one table, keyed by the `model_type` of its config.

Where nothing is said, a model rotates the whole head half-split with theta 10,000 on every layer.
"""

from rope_ref.family import TYPES, Family

GPT_J = {"rotary": True, "rotary_dim": 64}
BOTH = ("full_attention", "sliding_attention")
GPT_KEYS = {"n_embd": "hidden_size", "n_head": "num_attention_heads", "n_layer": "num_hidden_layers"}
ROTARY_PCT = {"rotary_pct": "partial_rotary_factor"}
NEOX_KEYS = {"rotary_emb_base": "rope_theta"} | ROTARY_PCT
MOONSHINE_KEYS = {f"decoder_{key}": key for key in ("num_attention_heads", "num_hidden_layers")}
BERT_KEYS = {"global_rope_theta": "rope_theta", "local_rope_theta": "rope_local_base_freq"}
PHI_TYPES = {"default": "default", "longrope": "longrope", "su": "longrope", "yarn": "longrope"}
MROPE_TYPES = {t: t for t in TYPES} | {"mrope": "default"}
HEAD_128 = {"head_dim": 128}
HEAD_256 = {"head_dim": 256}
GEMMA_3 = {"head_dim": 256, "num_attention_heads": 8, "max_position_embeddings": 131072}
GEMMA_4 = {"full_attention": {"rope_type": "proportional", "partial_rotary_factor": 0.25}, "sliding_attention": {}}
MISTRAL_4 = ("llama_4_scaling_beta", "max_position_embeddings")  # of the scale of queries, which is no rotation
LATENT = {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64}
LATENT_192 = {"qk_nope_head_dim": 192, "qk_rope_head_dim": 64}

# nothing is special, but for the width of a head where the config is silent
PLAIN = ("arcee", "aria_text", "chameleon", "deepseek_ocr2_text", "diffllama", "doge", "dots1", "esmc", "eurobert",
    "falcon_h1", "gradium_phonon_tts", "granite", "granite4_vision_text", "granite_docling_text", "granitemoe",
    "granitemoeshared", "hyperclovax", "idefics", "jais2",
    "kyutai_speech_to_text", "lasr_encoder", "llama", "mimi", "ministral", "mistral", "moshi", "olmo", "olmo2",
    "olmoe", "pocket_tts", "pocket_tts_audio_tokenizer", "qwen2", "qwen2_moe", "qwen3_moe", "starcoder2",
    "unlimited_ocr_text", "voxtral_realtime_text")  # fmt: skip
# the same, by code that comes with the checkpoints
REMOTE = ("aquila", "arctic", "internlm2", "internlm3", "kormo", "mimo", "minicpm", "minicpmo",
    "minicpmv", "nemotron-nas", "orion", "skywork", "xverse")  # fmt: skip
PLAIN_128 = ("hrm_text", "qwen3", "seed_oss")
PLAIN_256 = ("gemma", "gemma2", "vaultgemma")

# the model_type of a text_config that names none: the wrappers with that default
WRAPPERS = {
    "llama": ("glmasr", "idefics3", "llava", "llava_next", "llava_next_video", "perception_lm", "smolvlm",
              "video_llava", "vipllava", "voxtral"),
    "mistral": ("mistral3",),
    "qwen3": ("lighton_ocr",),
    "qwen2": ("got_ocr2", "internvl", "llava_onevision", "ovis2", "qwen2_audio", "video_llama_3"),
    "granite": ("granite_speech",),
    "granite4_vision_text": ("granite4_vision",),
    "gemma": ("paligemma",),
    "cohere2": ("aya_vision", "cohere2_vision"),
    "persimmon": ("fuyu",),
    "aria_text": ("aria",),
    "exaone4": ("exaone4_5",),
    "deepseek_v3": ("kimi_k25", "kimi_vl"),
    "emu3_text_model": ("emu3",),
    "voxtral_realtime_text": ("voxtral_realtime",),
    "mllama_text_model": ("mllama",),
}  # fmt: skip

FAMILIES: dict[str, Family] = {
    # half-split, whole head, one base for all layers
    **dict.fromkeys((*PLAIN, *REMOTE), Family()),
    **dict.fromkeys(("hunyuan", "hunyuan_v1_dense", "hunyuan_v1_moe"), Family(alpha=True)),
    "exaone": Family(aliases={"num_layers": "num_hidden_layers"}),
    **dict.fromkeys(PLAIN_128, Family(defaults=HEAD_128)),
    **dict.fromkeys(PLAIN_256, Family(defaults=HEAD_256)),
    "higgs_audio_v2": Family(theta=5e5, explicit=True, defaults=HEAD_128),
    "dia_decoder": Family(defaults=HEAD_128),
    "dia": Family(text="dia_decoder", within="decoder_config"),
    "blt": Family(text="blt_global_transformer", within="global_config"),
    "evolla": Family(theta=5e5),
    "jetmoe": Family(aliases={"kv_channels": "head_dim"}, defaults={"kv_channels": 128}),
    "solar_open": Family(theta=1e6, defaults=HEAD_128),
    "muse_glimmer_assistant": Family(theta=5e5, defaults=HEAD_128),
    "minimax_m2": Family(theta=5e6, partial=1.0, narrowed=True, defaults=HEAD_128),
    "ministral3": Family(theta=1e6, aside=MISTRAL_4, explicit=True, defaults=HEAD_128),
    "esm": Family(rotates="rotary", types={"default": "default"}),
    "apertus1p5": Family(text="apertus1p5_text"),
    **dict.fromkeys(("emu3_text_model", "mixtral"), Family(theta=1e6)),
    **dict.fromkeys(("bitnet", "csm", "flex_olmo"), Family(theta=5e5)),
    **dict.fromkeys(("apertus", "apertus1p5_text"), Family(theta=1.2e7, explicit=True)),
    "cwm": Family(theta=1e6, explicit=True, defaults=HEAD_128),
    "gpt_oss": Family(theta=150000.0, explicit=True, defaults={"head_dim": 64}),
    "gte": Family(theta=160000.0),
    "hy_v3": Family(theta=11158840.0, defaults=HEAD_128),
    "jina_embeddings_v3": Family(theta=20000.0),
    "mllama_text_model": Family(
        theta=5e5, still="cross_attention_layers", defaults={"cross_attention_layers": (3, 8, 13, 18, 23, 28, 33, 38)}
    ),  # fmt: skip
    **dict.fromkeys(("neucodec", "xcodec2"), Family(defaults={"head_dim": 64})),
    "nanochat": Family(backwards=True),
    "nomic_bert": Family(theta=1000.0),
    "timesfm2_5": Family(defaults={"head_dim": 80}),
    # the first part of the head
    **dict.fromkeys(("glm4_moe", "nemotron", "persimmon", "phi"), Family(partial=0.5)),
    **dict.fromkeys(
        ("phi3", "phi3_v", "phi4_multimodal", "phi4mm"),
        Family(partial=1.0, types=PHI_TYPES, defaults={"original_max_position_embeddings": 4096}),
    ),
    "phimoe": Family(theta=1e6, types={"default": "default", "longrope": "longrope"}, mscales=True),
    "gpt_neox": Family(partial=0.25, aliases=NEOX_KEYS),
    "gpt_neox_japanese": Family(partial=1.0, aliases=NEOX_KEYS),
    "stablelm": Family(partial=0.25),
    "stablelm_epoch": Family(partial=0.25, aliases={"rope_pct": "partial_rotary_factor"}),
    **dict.fromkeys(("bailing_moe", "bailing_moe_v2"), Family(partial=1.0)),
    "nemotron3_5_transcribe_asr_audio": Family(partial=1.0, explicit=True),
    # neighbouring channels in pairs
    **dict.fromkeys(
        ("pe_audio_encoder", "pe_video_encoder", "pe_audio_video_encoder"),
        Family("interleaved", theta=20000.0, defaults=HEAD_128),
    ),
    "blt_global_transformer": Family("interleaved", theta=5e5),
    "moonshine": Family("interleaved", partial=0.9, aliases=MOONSHINE_KEYS),
    "moonshine_streaming": Family("interleaved", partial=1.0, explicit=True),
    **dict.fromkeys(("codegen", "gptj"), Family("interleaved", fixed=True, aliases=GPT_KEYS, defaults=GPT_J)),
    **dict.fromkeys(("glm", "glm4"), Family("interleaved", partial=0.5, defaults=HEAD_128)),
    **dict.fromkeys(("cohere", "ernie4_5_moe"), Family("interleaved", theta=5e5)),
    "helium": Family("interleaved", theta=1e5, defaults=HEAD_128),
    "ernie4_5": Family("interleaved", theta=5e5, defaults=HEAD_128),
    "openai_privacy_filter": Family("interleaved", theta=150000.0, explicit=True, defaults={"head_dim": 64}),
    # multi-head latent attention
    **dict.fromkeys(("deepseek_v2", "deepseek_v32"), Family("interleaved", latent=True, defaults=LATENT)),
    **dict.fromkeys(
        ("axk1", "deepseek_v3", "kimi_k2", "youtu"),  # Kimi K2 by the code of DeepSeek V3
        Family("interleaved", latent=True, defaults=LATENT | {"rope_interleave": True}),
    ),
    "glm_moe_dsa": Family("interleaved", latent=True, defaults=LATENT_192),
    "minicpm3": Family(latent=True, defaults={"qk_nope_head_dim": 64, "qk_rope_head_dim": 32}),
    "mistral4": Family("interleaved", latent=True, partial=1.0, aside=MISTRAL_4, explicit=True,
                       defaults=LATENT | {"rope_interleave": True, "qk_nope_head_dim": 64}),
    "glm4_moe_lite": Family("interleaved", latent=True, defaults=LATENT_192 | {"rope_interleave": True}),
    "longcat_flash": Family("interleaved", theta=1e7, latent=True, aliases={"num_layers": "num_hidden_layers"},
                            defaults=LATENT),
    "axk2": Family("interleaved", latent=True, defaults={"qk_nope_head_dim": 64, "qk_rope_head_dim": 32}),
    "hy_v4": Family(latent=True, defaults=LATENT_192),
    # some layers do not rotate
    **dict.fromkeys(("granite_swa", "granitemoe_swa"), Family(still="layer_rope_theta")),
    "muse_glimmer_text": Family(still="layer_rope_theta", full_every=4, defaults=HEAD_128),
    "muse_glimmer": Family(text="muse_glimmer_text"),
    "muse_spark_text": Family(
        theta=5e5, still="layer_rope_theta", full_every=4, explicit=True, defaults={"head_dim": 64}
    ),
    "muse_spark": Family(text="muse_spark_text"),
    "bamba": Family(partial=0.5, still="attn_layer_indices"),
    "recurrent_gemma": Family(
        partial=0.5, still="block_types", types={"default": "default"},
        defaults={"block_types": ("recurrent", "recurrent", "attention")}),
    "olmo_hybrid": Family(still="rope_parameters", other="linear_attention", full_every=4),
    "lara_mini": Family(still="full_attention", kinds=("linear_attention",), defaults=HEAD_128),
    "cohere2": Family("interleaved", still="full_attention", full_every=4, aliases=ROTARY_PCT),
    "smollm3": Family(theta=2e6, still="no_rope_layers"),
    "llama4_text": Family("interleaved", theta=5e5, still="no_rope_layers", defaults=HEAD_128),
    "llama4": Family(text="llama4_text"),
    "qwen3_next": Family(partial=0.25, other="linear_attention", full_every=4, defaults=HEAD_256),
    **dict.fromkeys(("exaone4", "exaone_moe"), Family(still="full_attention beside sliding", full_every=4)),
    "kolibri1": Family(still="full_attention beside sliding", defaults=HEAD_128),
    **dict.fromkeys(("afmoe", "flint"), Family(still="full_attention", defaults=HEAD_128)),
    **dict.fromkeys(("lfm2", "lfm2_moe"), Family(theta=1e6, other="conv")),
    "minimax": Family(theta=1e6, other="linear_attention"),
    "granitemoehybrid": Family(other="linear_attention", rotates="rope"),
    # layer types with parameters of their own
    "beam": Family(by_type=True, silent={"sliding_attention": {}, "full_attention": None}, full_every=6,
                   defaults=HEAD_128),
    "dory": Family(theta=1e7, by_type=True, local=1e4, kinds=("mlp",), defaults=HEAD_256),
    "lfm3": Family(theta=1e6, by_type=True, local=1e4, kinds=("conv",), explicit=True, defaults=HEAD_128),
    "step3p5": Family(by_type=True, explicit=True, partial=1.0, defaults=HEAD_128),
    "step3p7": Family(text="step3p5"),
    "lfm3_vl": Family(text="lfm3"),
    "t5_gemma_module": Family(defaults=HEAD_256),
    "t5gemma": Family(text="t5_gemma_module", within="decoder"),
    **dict.fromkeys(("laguna", "mellum"), Family(by_type=True, explicit=True, partial=1.0, defaults=HEAD_128)),
    "mimo_v2_flash": Family(by_type=True, explicit=True, partial=1.0, defaults={"head_dim": 192}),
    "t5gemma2_text": Family(by_type=True, explicit=True, defaults=HEAD_256),
    "ultrabert": Family(by_type=True, explicit=True),
    "gemma3_text": Family(theta=1e6, by_type=True, local=1e4, full_every=6, defaults=GEMMA_3),
    "gemma3": Family(text="gemma3_text"),
    "gemma3n_text": Family(theta=1e6, by_type=True, local=1e4, full_every=5, defaults=HEAD_256),
    "gemma3n": Family(text="gemma3n_text"),
    **dict.fromkeys(("diffusion_gemma_text", "embedding_gemma2_text", "gemma4_text", "gemma4_unified_text"), Family(
        theta=1e6, by_type=True, local=1e4, silent=GEMMA_4, full_every=6, full_last=True,
        defaults={"head_dim": 256, "global_head_dim": 512},
    )),  # fmt: skip
    "diffusion_gemma": Family(text="diffusion_gemma_text"),
    "embedding_gemma2": Family(text="embedding_gemma2_text"),
    "gemma4_unified": Family(text="gemma4_unified_text"),
    "gemma4": Family(text="gemma4_text"),
    "olmo3": Family(theta=5e5, by_type=True, full_every=4),
    **dict.fromkeys(
        ("modernbert", "modernbert-decoder"),
        Family(theta=160000.0, by_type=True, local=1e4, scaled=BOTH, full_first=3, aliases=BERT_KEYS),
    ),
    # positions (t, h, w)
    **dict.fromkeys(
        ("qwen2_vl_text", "qwen2_5_vl_text", "qwen2_5_omni_text"),
        Family(theta=1e6, sections=(16, 24, 24), types=MROPE_TYPES),
    ),
    "qwen2_vl": Family(text="qwen2_vl_text", flat=True),
    "qwen2_5_vl": Family(text="qwen2_5_vl_text", flat=True),
    "qwen3_vl_text": Family(theta=5e5, sections=(24, 20, 20), types=MROPE_TYPES, in_turn=True, defaults=HEAD_128),
    "qwen3_vl": Family(text="qwen3_vl_text"),
    "qwen3_vl_moe_text": Family(theta=5e5, sections=(24, 20, 20), types=MROPE_TYPES, in_turn=True),
    "qwen3_vl_moe": Family(text="qwen3_vl_moe_text"),
    **dict.fromkeys(("qwen3_5_moe_text", "qwen3_5_text"), Family(
        partial=0.25, sections=(11, 11, 10), in_turn=True, types=MROPE_TYPES, other="linear_attention", full_every=4,
        defaults=HEAD_256,
    )),  # fmt: skip
    "qwen3_5": Family(text="qwen3_5_text"),
    "qwen3_5_moe": Family(text="qwen3_5_moe_text"),
    **dict.fromkeys(
        ("glm4v_text", "glm_ocr_text"), Family("interleaved", partial=1.0, sections=(8, 12, 12), types=MROPE_TYPES)
    ),
    "glm4v": Family(text="glm4v_text"),
    "paddleocr_vl_text": Family(theta=5e5, sections=(16, 24, 24), types=MROPE_TYPES, defaults=HEAD_128),
    "paddleocr_vl": Family(text="paddleocr_vl_text", flat=True),
    "glm_ocr": Family(text="glm_ocr_text"),
    "ernie4_5_vl_moe_text": Family(
        "interleaved", theta=5e5, sections=(22, 22, 20), space_first=True,
        types={"default": "default", "mrope": "default"},
    ),
    "ernie4_5_vl_moe": Family(text="ernie4_5_vl_moe_text"),
    "glm4v_moe_text": Family(partial=0.5, sections=(8, 12, 12), types=MROPE_TYPES),
    "glm4v_moe": Family(text="glm4v_moe_text"),
    "glm_image_text": Family(partial=1.0, sections=(8, 12, 12), types=MROPE_TYPES),
    "glm_image": Family(text="glm_image_text"),
    "qwen4_exp_text": Family(partial=1.0, sections=(11, 11, 10), in_turn=True, types=MROPE_TYPES,
        other="linear_attention", kinds=("indexed_attention",), full_every=4, defaults=HEAD_256),
    "qwen4_exp": Family(text="qwen4_exp_text"),
    "minimax_m3_vl_text": Family(theta=5e6, partial=1.0, defaults=HEAD_128 | {"rotary_dim": None}),
    "minimax_m3_vl": Family(text="minimax_m3_vl_text"),
    "cosmos3_edge_text": Family(
        explicit=True, sections=(24, 20, 20), types=MROPE_TYPES, in_turn=True, defaults=HEAD_128
    ),
    "cosmos3_edge": Family(text="cosmos3_edge_text"),
    "qwen2_5_omni_thinker": Family(text="qwen2_5_omni_text"),
    "qwen2_5_omni": Family(text="qwen2_5_omni_thinker", within="thinker_config"),
    "qwen3_omni_moe_text": Family(theta=1e6, sections=(24, 20, 20), types=MROPE_TYPES, in_turn=True),
    "qwen3_omni_moe_thinker": Family(text="qwen3_omni_moe_text"),
    "qwen3_omni_moe": Family(text="qwen3_omni_moe_thinker", within="thinker_config"),
    # a language model within another
    "deepseek_vl_v2": Family(text="deepseek_v2", within="language_config"),
    **{name: Family(text=text) for text, names in WRAPPERS.items() for name in names},
    # a choice between rotation and ALiBi
    "falcon": Family(derived=True),
}
