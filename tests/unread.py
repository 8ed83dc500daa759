"""Folders of transformers with a rotary embedding that `rope_ref.from_config` does not read, and why not."""

REASONS = {
    "it turns images alone; rope_ref.vision has the schemes that are described": (
        "edgetam_video", "efficientloftr", "eomt_dinov3", "mlcd", "pe_video", "pixtral", "sam2_video", "sam3",
        "sam3_tracker_video",
    ),
    "it turns sound alone": (
        "clvp", "dia", "higgs_audio_v2", "moonshine", "moonshine_streaming", "musicflamingo", "nemotron3_5_transcribe",
        "nemotron3_diarization", "pe_audio", "pe_audio_video", "pocket_tts_audio_tokenizer", "seamless_m4t",
        "wav2vec2_bert", "wav2vec2_conformer",
    ),
    "each layer has a theta or a scaling of its own": (
        "granite_swa", "granitemoe_swa", "molmo2", "muse_glimmer", "muse_spark", "neomme", "step3p7",
    ),
    "its layers are of kinds that are not known": (
        "axk2", "bailing_hybrid", "bamba", "beam", "cohere2_moe", "cohere_compass", "deepseek_v4", "dory", "dots3_note",
        "glm5_next", "hy_v4", "hy_v4_vl", "inkling2", "lara_mini", "lfm3", "lfm3_vl", "longcat_flash", "minimax_m3_vl",
        "mistral_large4", "olmo_hybrid", "qwen4_exp", "recurrent_gemma", "zamba2", "zaya",
    ),
    "its config has keys of its own, or describes several stacks": (
        "blt", "dbrx", "esmfold2", "evolla", "jetmoe", "t5gemma",
    ),
    "it makes frequencies, axes or the sense of rotation in a way of its own": (
        "ernie4_5_vl_moe", "glm_image", "hunyuan_vl", "nanochat",
    ),
}  # fmt: skip
