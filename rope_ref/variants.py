"""Each named variant as a composition of frequencies, magnitude and range."""

from collections.abc import Callable, Sequence
from typing import Any

from rope_ref import frequencies, video, vision
from rope_ref.decoupled import decoupled
from rope_ref.magnitude import XPos
from rope_ref.rope import Rope


def default(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """RoFormer (arXiv 2104.09864): geometric frequencies."""
    return Rope(head_dim, theta=theta, **fields)


def linear(head_dim: int, factor: float, theta: float = 10000.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """Position interpolation (arXiv 2306.15595): every frequency divided by `factor`."""
    omega = Rope(head_dim, rotary_dim, theta=theta, start=fields.get("start", 0)).omega
    return Rope(head_dim, inv_freq=tuple(frequencies.linear(omega, factor)), **fields)


def ntk(head_dim: int, factor: float, theta: float = 10000.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """NTK-aware (bloc97): theta rescaled so that the slowest pair is interpolated, the fastest not."""
    plain = Rope(head_dim, rotary_dim, theta=theta, **fields)
    return Rope(head_dim, rotary_dim, theta=frequencies.ntk_theta(theta, factor, 2 * plain.pairs), **fields)


def pixel(head_dim: int, max_freq: float = 10.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """Frequencies for coordinates in [-1, 1] (rotary-embedding-torch)."""
    width = head_dim - fields.get("start", 0) if rotary_dim is None else rotary_dim
    return Rope(head_dim, rotary_dim, inv_freq=tuple(frequencies.pixel(width, max_freq)), **fields)


def constant(head_dim: int, num_freqs: int = 1, **fields: Any) -> Rope:
    """All frequencies one (rotary-embedding-torch)."""
    return Rope(head_dim, inv_freq=tuple(frequencies.constant(num_freqs)), **fields)


def custom(head_dim: int, inv_freq: Sequence[float], **fields: Any) -> Rope:
    """The frequencies given, (pairs,) or (pairs, axes)."""
    return Rope(head_dim, inv_freq=tuple(inv_freq), **fields)


def xpos(head_dim: int, scale_base: float = 512.0, center: float = 0.0, **fields: Any) -> Rope:
    """xPos (arXiv 2212.10554), the Rope of queries; keys take its `.keys`."""
    return Rope(head_dim, xpos=XPos(scale_base, center), **fields)


def axial(head_dim: int, axis_dims: Sequence[int], theta: float = 10000.0, **fields: Any) -> Rope:
    """One block of `axis_dims[a]` channels for each axis; positions have a last axis of that many."""
    for width in axis_dims:
        if width < 2 or width % 2:
            raise ValueError(f"axis_dims holds {width}; expected even numbers of at least 2")
    omega = frequencies.block_diagonal([frequencies.geometric(width, theta) for width in axis_dims])
    return Rope(head_dim, inv_freq=tuple(map(tuple, omega.tolist())), **fields)


CATALOGUE: dict[str, Callable[..., Rope]] = {
    "default": default,
    "linear": linear,
    "ntk": ntk,
    "pixel": pixel,
    "constant": constant,
    "custom": custom,
    "xpos": xpos,
    "axial": axial,
    "eva02": vision.eva02,
    "pixtral": vision.pixtral,
    "qwen2_vl_vision": vision.qwen2_vl,
    "dinov3": vision.dinov3,
    "sam2": vision.sam2,
    "llama4_vision": vision.llama4,
    "mixed": vision.mixed,
    "wan": video.wan,
    "hunyuan_video": video.hunyuan_video,
    "cogvideox": video.cogvideox,
    "flux": video.flux,
    "v_jepa_2": video.v_jepa_2,
    "golden": video.golden,
    "decoupled": decoupled,
}
