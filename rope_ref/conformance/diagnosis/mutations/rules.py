"""Which class of bug a mistake in a variant's own rule is."""

from rope_ref.rope import Rope

RULES = {
    "partial": "ROTDIM", "proportional": "ROTDIM", "linear": "LAYER", "ntk": "THETA", "dynamic_ntk": "DYN",
    "ntk_by_parts": "YBAND", "llama3": "LLAMA3", "yarn": "YBAND", "dynamic_yarn": "YBAND", "longrope": "LONG",
    "mrope": "MROPE", "mrope_interleaved": "MROPE",
    **dict.fromkeys(
        ("axial", "eva02", "pixtral", "qwen2_vl", "dinov3", "sam2", "llama4", "mixed", "wan", "hunyuan_video",
         "cogvideox", "flux", "v_jepa_2", "golden"), "AXIAL"),
}  # fmt: skip


PARAMETERS = {
    "theta": "THETA", "pairing": "LAYOUT", "start": "ROTDIM", "rotary_dim": "ROTDIM", "exponent": "ROTDIM",
    "partial_rotary_factor": "ROTDIM", "attention_factor": "YMAG", "mscale": "YMAG", "mscale_all_dim": "YMAG",
    "attention_scale": "YMAG", "scale_base": "XPOS", "center": "XPOS",
}  # fmt: skip


def magnified(rope: Rope) -> bool:
    """Whether the variant has a magnitude by a rule of its own."""
    return rope.origin is not None and rope.origin.make.__name__ in ("yarn", "dynamic_yarn", "longrope")


def rule(rope: Rope) -> str | None:
    """The class of a mistake in the frequencies of this Rope, if its variant has a rule of its own."""
    name = rope.origin.make.__name__ if rope.origin else ""
    found = RULES.get(name)
    if found == "MROPE" and rope.axes == 2:
        return "AXIAL"
    if found is None and rope.axes is not None:
        return "MROPE" if rope.axes == 3 else "AXIAL"
    return found
