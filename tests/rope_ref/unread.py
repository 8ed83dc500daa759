"""Folders of transformers with a rotary embedding that `rope_ref.from_config` does not read, and why not."""

REASONS = {
    "its config has no rope parameters, or has them within another dict": (
        "clvp", "esmfold2", "seamless_m4t", "wav2vec2_bert", "wav2vec2_conformer", "zamba2",
    ),
    "its config says the base or the scaling twice, and its code reads one": ("bailing_hybrid", "cohere2_moe"),
    "it turns by times or places that its own code makes": (
        "efficientloftr", "musicflamingo", "nemotron3_diarization",
    ),
    "kinds of layers have a scaling of their own, by names that are not known": (
        "cohere_compass", "dots3_note", "molmo2", "neomme", "zaya",
    ),
    "its language model does not rotate": ("glm5_next", "inkling2"),
    "it makes frequencies or axes in a way of its own": ("hunyuan_vl", "hy_v4_vl", "mistral_large4"),
}  # fmt: skip
