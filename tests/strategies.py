"""Ropes, positions, shapes, strides and dtypes for every property."""

import numpy as np
from hypothesis import strategies as st

import rope_ref as rr

DTYPES = ["float64", "float32", "float16", "bfloat16"]
dtypes = st.sampled_from(DTYPES)
pairings = st.sampled_from(["half-split", "interleaved"])
seeds = st.integers(0, 2**32 - 1)
positions = st.integers(-2000, 2000)

# One Rope of every named variant, small enough to run often.
EXAMPLES = {
    "default": rr.variants.default(16, theta=500.0),
    "partial": rr.variants.partial(16, 0.5, exponent="head_dim"),
    "proportional": rr.variants.proportional(16, 0.25, factor=8.0),
    "half_truncated": rr.variants.half_truncated(16),
    "dynamic_ntk": rr.variants.dynamic_ntk(16, 2.0, max_position_embeddings=64, length=100),
    "ntk_by_parts": rr.variants.ntk_by_parts(16, 4.0, original_max_position_embeddings=64),
    "llama3": rr.variants.llama3(16, 8.0, original_max_position_embeddings=64),
    "yarn": rr.variants.yarn(16, 4.0, original_max_position_embeddings=64),
    "dynamic_yarn": rr.variants.dynamic_yarn(16, original_max_position_embeddings=64, length=100),
    "longrope": rr.variants.longrope(8, (1, 1, 2, 3), (1, 2, 4, 8), 64, length=100, factor=4.0),
    "mrope": rr.variants.mrope(16, (2, 3, 3)),
    "mrope_interleaved": rr.variants.mrope_interleaved(16, (4, 2, 2)),
    "linear": rr.variants.linear(16, factor=4.0),
    "ntk": rr.variants.ntk(16, factor=4.0, rotary_dim=8),
    "pixel": rr.variants.pixel(16, max_freq=10.0, pairing="interleaved"),
    "constant": rr.variants.constant(8, num_freqs=3, start=1),
    "custom": rr.variants.custom(8, (1.0, 0.3)),
    "xpos": rr.variants.xpos(16, scale_base=64.0, center=3.0),
    "axial": rr.variants.axial(20, (8, 4, 4), start=2, pairing="interleaved"),
    "eva02": rr.vision.eva02(16),
    "pixtral": rr.vision.pixtral(16),
    "qwen2_vl_vision": rr.vision.qwen2_vl(16),
    "dinov3": rr.vision.dinov3(16),
    "sam2": rr.vision.sam2(16),
    "moonvit": rr.vision.moonvit(16),
    "llama4_vision": rr.vision.llama4(16),
    "mixed": rr.vision.mixed(16, 3, 0),
    "wan": rr.video.wan(24),
    "hunyuan_video": rr.video.hunyuan_video((4, 6, 6)),
    "cogvideox": rr.video.cogvideox(32),
    "flux": rr.video.flux((4, 6, 6)),
    "v_jepa_2": rr.video.v_jepa_2(24),
    "golden": rr.video.golden(16, 2),
    "decoupled": rr.decoupled(6, 8),
}


@st.composite
def ropes(draw, magnitude=True):
    pairs, start, rest = draw(st.integers(1, 40)), draw(st.integers(0, 3)), draw(st.integers(0, 3))
    xpos = st.none() | st.builds(rr.XPos, st.floats(50, 1000), st.floats(-20, 20)) if magnitude else st.none()
    return rr.Rope(
        head_dim=start + 2 * pairs + rest,
        rotary_dim=2 * pairs,
        start=start,
        theta=draw(st.sampled_from([10.0, 1e4, 5e5])),
        pairing=draw(pairings),
        attention_scale=draw(st.sampled_from([1.0, 1.25])) if magnitude else 1.0,
        xpos=draw(xpos),
    )


@st.composite
def layouts(draw, dims):
    """A way to lay an array of so many axes in memory: see `arrange`."""
    return {
        "order": draw(st.permutations(range(dims))),
        "pad": draw(st.lists(st.integers(0, 2), min_size=dims, max_size=dims)),
        "step": draw(st.lists(st.sampled_from([1, 1, 1, 2, -1]), min_size=dims, max_size=dims)),
        "shift": draw(st.integers(0, 3)),
    }


def arrange(x, layout):
    """The same numbers, laid in memory by `layout`: permuted axes, gaps, steps, an odd start; all else is poison."""
    order = layout["order"]
    wide = [x.shape[a] * abs(layout["step"][a]) + layout["pad"][a] for a in order]
    block = np.full(int(np.prod(wide)) + layout["shift"], 0x55, x.dtype) if x.dtype.kind in "iu" else np.full(
        int(np.prod(wide)) + layout["shift"], 77.0, x.dtype)
    base = block[layout["shift"] :].reshape(wide).transpose(np.argsort(order))
    view = base[tuple(slice(0, n * abs(s), abs(s)) for n, s in zip(x.shape, layout["step"], strict=True))]
    view = view[tuple(slice(None, None, -1 if s < 0 else 1) for s in layout["step"])]
    view[...] = x
    return view, block


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def places(rope, seed, *shape):
    """Positions of this shape, with a trailing axis where the Rope has several.

    Those of xPos stay near enough that no magnitude, 3.5^(220/50) at most, leaves float16.
    """
    reach = 2000 if rope.xpos is None else 200
    return np.random.default_rng(seed).integers(-reach, reach, (*shape, rope.axes) if rope.axes else shape)
