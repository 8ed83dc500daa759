"""Every variant by its name: those of text, and the schemes of images and videos."""

from collections.abc import Callable

from rope_ref import variants, video, vision
from rope_ref.decoupled import decoupled
from rope_ref.rope import Rope

CATALOGUE: dict[str, Callable[..., Rope]] = {
    "default": variants.default,
    "partial": variants.partial,
    "proportional": variants.proportional,
    "half_truncated": variants.half_truncated,
    "linear": variants.linear,
    "ntk": variants.ntk,
    "dynamic_ntk": variants.dynamic_ntk,
    "ntk_by_parts": variants.ntk_by_parts,
    "llama3": variants.llama3,
    "yarn": variants.yarn,
    "dynamic_yarn": variants.dynamic_yarn,
    "longrope": variants.longrope,
    "mrope": variants.mrope,
    "mrope_interleaved": variants.mrope_interleaved,
    "pixel": variants.pixel,
    "constant": variants.constant,
    "custom": variants.custom,
    "xpos": variants.xpos,
    "axial": variants.axial,
    "eva02": vision.eva02,
    "pixtral": vision.pixtral,
    "qwen2_vl_vision": vision.qwen2_vl,
    "dinov3": vision.dinov3,
    "sam2": vision.sam2,
    "llama4_vision": vision.llama4,
    "moonvit": vision.moonvit,
    "mixed": vision.mixed,
    "wan": video.wan,
    "hunyuan_video": video.hunyuan_video,
    "cogvideox": video.cogvideox,
    "flux": video.flux,
    "v_jepa_2": video.v_jepa_2,
    "golden": video.golden,
    "decoupled": decoupled,
}
