"""Image encoders: laws first, then the modules that trained models run."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.dinov3_vit import modeling_dinov3_vit as dinov3
from transformers.models.dinov3_vit.configuration_dinov3_vit import DINOv3ViTConfig
from transformers.models.llama4 import modeling_llama4 as llama4
from transformers.models.llama4.configuration_llama4 import Llama4VisionConfig
from transformers.models.pixtral import modeling_pixtral as pixtral
from transformers.models.pixtral.configuration_pixtral import PixtralVisionConfig
from transformers.models.qwen2_vl import modeling_qwen2_vl as qwen2_vl
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.sam2_video import modeling_sam2_video as sam2
from transformers.models.sam2_video.configuration_sam2_video import Sam2VideoConfig
from transformers.vision_utils import get_vision_position_ids

import rope_ref as rr
from rope_ref.exactness import budget
from rope_ref.multimodal import merge_blocks
from rope_ref.positions import grid
from tests.strategies import normal, seeds

SCHEMES = {
    "eva02": (rr.vision.eva02, rr.vision.eva02_positions),
    "pixtral": (rr.vision.pixtral, grid),
    "qwen2_vl": (rr.vision.qwen2_vl, lambda h, w: merge_blocks(1, h, w, 1)),
    "dinov3": (rr.vision.dinov3, rr.vision.dinov3_positions),
    "sam2": (rr.vision.sam2, grid),
    "llama4": (rr.vision.llama4, lambda h, w: rr.vision.llama4_positions(h, w)[:-1]),
}


@pytest.mark.parametrize("name", SCHEMES)
@given(seeds, st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_scores_depend_on_displacement(name, seed, quarter, height, width):
    """Patches with one displacement between them score alike, wherever they stand."""
    make, places = SCHEMES[name]
    rope, p = make(4 * quarter), places(height, width)
    q, k = normal(seed, 2, 4 * quarter)
    s = rr.rotate(np.tile(q, (len(p), 1)), p, rope) @ rr.rotate(np.tile(k, (len(p), 1)), p, rope).T
    moved = np.round(p[:, None] - p[None], 9)  # coordinates are below 16, with errors far below 1e-9
    bound = 16 * 2 * np.pi * 16 * 2.0**-53 * np.abs(q).sum() * np.abs(k).sum()  # angles below 2 pi 16
    for d in np.unique(moved.reshape(-1, 2), axis=0):
        same = s[(moved == d).all(-1)]
        assert same.max() - same.min() <= bound


@pytest.mark.parametrize("name", SCHEMES)
def test_rows_and_columns_are_told_apart(name):
    make, places = SCHEMES[name]
    rope = make(8)
    down, right = rr.angles(rope, [[1, 0], [0, 1]])
    assert ((down == 0) != (right == 0)).all()  # every pair turns by one axis alone
    rows_first = name not in ("sam2", "llama4")
    assert (down[:2] != 0).all() == rows_first and (right[2:] != 0).all() == rows_first
    assert len(np.unique(places(2, 5)[:, 0])) == 2 and len(np.unique(places(2, 5)[:, 1])) == 5


def single(largest, theta):
    """A bound, in radians, on angles made in float32, and on the last place of float32 sines and cosines.

    The exponent of theta is off by 2^-24 of itself, which costs ln(theta); a power and a
    reciprocal, a rounding or two each; the coordinate, one or two; the product, one. Sine and
    cosine of torch are within one unit in the last place, 2^-23, where a rounding is 2^-24.
    """
    return largest * (np.log(theta) + 8) * 2.0**-24 + 2.0**-23


def agrees(theirs, x, positions, rope, theta, largest=None):
    """Whether float32 code rotates as the Rope does; `largest` angle, where it is not the one of these positions."""
    theirs = theirs.detach().double().numpy()
    angle = single(np.abs(rr.angles(rope, positions)).max() if largest is None else largest, theta)
    bound = budget(x, positions, rope, store="float32", arithmetic="float32", table="float32", angle=angle)
    return theirs.shape == x.shape and (np.abs(theirs - rr.rotate(x, positions, rope)) <= bound).all()


def inputs(*shape):
    """Numbers that float32 holds, as float64 and as a tensor."""
    x = normal(0, *shape).astype(np.float32)
    return x.astype(np.float64), torch.from_numpy(x)


@pytest.mark.parametrize("height, width", [(3, 5), (4, 4)])
def test_pixtral_of_transformers(height, width):
    config = PixtralVisionConfig(hidden_size=48, num_attention_heads=2, image_size=64, patch_size=8)
    theta, d = config.rope_parameters["rope_theta"], 24
    p = grid(height, width)
    cos, sin = pixtral.PixtralVisionRotaryEmbedding(config)(torch.zeros(1), torch.from_numpy(p))
    x, t = inputs(2, len(p), d)
    y, _ = pixtral.apply_rotary_pos_emb(t, t, cos, sin, unsqueeze_dim=0)
    assert agrees(y, x, p, rr.vision.pixtral(d, theta), theta)


def test_pixtral_as_mistral_writes_it():
    """Complex numbers of interleaved channels; even frequencies by row, odd ones by column."""
    height, width, d = 2, 3, 8
    w = 10000.0 ** (-np.arange(0, d, 2) / d)
    phase = np.concatenate([np.outer(np.repeat([0, 1], 3), w[::2]), np.outer([0, 1, 2] * 2, w[1::2])], -1)
    x = normal(1, 6, d)
    z = (x[:, ::2] + 1j * x[:, 1::2]) * np.exp(1j * phase)
    ours = rr.rotate(x, grid(height, width), rr.vision.pixtral(d, pairing="interleaved"))
    np.testing.assert_allclose(ours, np.stack([z.real, z.imag], -1).reshape(6, d), atol=16 * 2.0**-53 * 4, rtol=0)


@pytest.mark.parametrize("thw", [(1, 4, 6), (2, 2, 8)])
def test_qwen2_vl_of_transformers(thw):
    config = Qwen2VLVisionConfig(embed_dim=48, num_heads=2)
    theta, d = config.rope_parameters["rope_theta"], 24
    ids = get_vision_position_ids(torch.tensor([thw]), config.spatial_merge_size)
    cos, sin = qwen2_vl.Qwen2VLVisionRotaryEmbedding(config)(torch.zeros(1), ids)
    p = merge_blocks(*thw)
    x, t = inputs(len(p), 3, d)
    y, _ = qwen2_vl.apply_rotary_pos_emb_vision(t, t, cos, sin)
    assert agrees(y.transpose(0, 1), x.swapaxes(0, 1), p, rr.vision.qwen2_vl(d, theta), theta)


@pytest.mark.parametrize("height, width", [(3, 5), (4, 4), (1, 7)])
def test_dinov3_of_transformers(height, width):
    config = DINOv3ViTConfig(hidden_size=48, num_attention_heads=2, patch_size=4, image_size=16)
    theta, d = config.rope_theta, 24
    module = dinov3.DINOv3ViTRopePositionEmbedding(config).eval()
    cos, sin = module(torch.zeros(1, 3, 4 * height, 4 * width))
    p = rr.vision.dinov3_positions(height, width)
    x, t = inputs(2, len(p) + 2, d)
    y, _ = dinov3.apply_rotary_pos_emb(t, t, cos, sin)
    assert torch.equal(y[:, :2], t[:, :2])  # class and register tokens
    # a coordinate near zero is the difference of numbers near one, so its error is that of an angle of 2 pi
    assert agrees(y[:, 2:], x[:, 2:], p, rr.vision.dinov3(d, theta), theta, largest=2 * np.pi)


@pytest.mark.parametrize("width, height", [(5, 3), (4, 4)])
def test_sam2_of_transformers(width, height):
    config = Sam2VideoConfig(
        memory_attention_hidden_size=24,
        memory_attention_num_attention_heads=1,
        memory_attention_downsample_rate=1,
        memory_attention_rope_feat_sizes=[width, height],
    )
    theta, d = config.rope_parameters["rope_theta"], 24
    ids = sam2.Sam2VideoMemoryAttention.precompute_positions(config)
    cos, sin = sam2.Sam2VideoVisionRotaryEmbedding(config)(torch.zeros(1), ids)
    p = grid(height, width)
    assert np.array_equal(ids.numpy(), p[:, ::-1])  # they count (column, row)
    x, t = inputs(2, len(p), d)
    y, _ = sam2.apply_rotary_pos_emb_2d(t, t, cos[0], sin[0])
    assert agrees(y, x, p, rr.vision.sam2(d, theta), theta)


def test_llama4_of_transformers():
    config = Llama4VisionConfig(hidden_size=48, num_attention_heads=2, image_size=16, patch_size=4)
    theta, d = config.rope_parameters["rope_theta"], 24
    p = rr.vision.llama4_positions(4, 4)
    x, t = inputs(1, len(p), 2, d)
    y, _ = llama4.vision_apply_rotary_emb(t, t, llama4.Llama4VisionRotaryEmbedding(config)(t))
    assert torch.equal(y[:, -1], t[:, -1])  # the class token
    assert agrees(y.transpose(1, 2), x.swapaxes(1, 2), p, rr.vision.llama4(d, theta), theta)


@pytest.mark.parametrize("trained, size", [(16, 16), (16, 24), (7, 3)])
def test_eva02_by_hand(trained, size):
    """t = arange(size) / size * trained; each of the two blocks pairs neighbours; rows, then columns."""
    d, x = 8, normal(2, size * size, 8)
    t = np.arange(size) / size * trained
    w = 1 / 10000.0 ** (np.arange(0, d // 2, 2) / (d // 2))
    angle = np.outer(t, w).repeat(2, axis=-1)
    angle = np.concatenate([np.repeat(angle, size, 0), np.tile(angle, (size, 1))], -1)
    half = np.stack([-x[:, 1::2], x[:, ::2]], -1).reshape(x.shape)
    expected = x * np.cos(angle) + half * np.sin(angle)
    ours = rr.rotate(x, rr.vision.eva02_positions(size, size, (trained, trained)), rr.vision.eva02(d))
    np.testing.assert_allclose(ours, expected, atol=8 * 16 * 2.0**-53 * 2 * np.abs(x).max(), rtol=0)


def test_eva02_spans_the_trained_grid_at_any_size():
    p = rr.vision.eva02_positions(2, 8, pretrained=(16, 16))
    assert p.reshape(2, 8, 2)[1, 4].tolist() == [8, 8]


def test_rope_vit_axial_is_sam2_with_another_theta():
    """compute_axial_cis: x = t mod width before y = t // width, both theta^(-4k/d)."""
    height, width, d = 2, 5, 8
    t, w = np.arange(height * width), 100.0 ** (-np.arange(0, d, 4) / d)
    phase = np.concatenate([np.outer(t % width, w), np.outer(t // width, w)], -1)
    assert np.array_equal(rr.angles(rr.vision.sam2(d, theta=100.0), grid(height, width)), phase)


@pytest.mark.parametrize("make", [rr.vision.eva02, rr.vision.pixtral, rr.vision.qwen2_vl, rr.vision.dinov3,
                                  rr.vision.sam2, rr.vision.llama4])
@pytest.mark.parametrize("head_dim", [0, 6, 4.0])
def test_heads_that_cannot_be_quartered_say_so(make, head_dim):
    with pytest.raises(ValueError, match="head_dim is"):
        make(head_dim)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: rr.vision.mixed(8, 0, np.random.default_rng(0)), "heads is 0"),
        (lambda: rr.vision.mixed(6, 2, np.random.default_rng(0)), "head_dim is 6"),
        (lambda: rr.vision.dinov3_positions(-1, 2), "length is -1"),
        (lambda: rr.vision.eva02_positions(2, -1), "size is -1"),
        (lambda: rr.vision.llama4_positions(2, 0.5), "size is 0.5"),
    ],
)
def test_bad_input_says_what_is_wrong(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_float32_frequencies_are_those_of_the_modules():
    """Computed in float32 in their order; torch's power may be a unit in the last place off, of 2^-23 at most."""
    config = Qwen2VLVisionConfig(embed_dim=160, num_heads=2)
    qwen = qwen2_vl.Qwen2VLVisionRotaryEmbedding(config).inv_freq.numpy()
    rope = rr.vision.qwen2_vl(80, angle_dtype="float32")
    omega = rope.omega.astype(np.float32)
    assert np.array_equal(omega.astype(np.float64), rope.omega)
    np.testing.assert_allclose(omega[:20, 0], qwen, rtol=2.0**-22, atol=0)
    np.testing.assert_allclose(omega[20:, 1], qwen, rtol=2.0**-22, atol=0)
    assert not np.array_equal(rope.omega, rr.vision.qwen2_vl(80).omega)
    config = PixtralVisionConfig(hidden_size=160, num_attention_heads=2, image_size=64, patch_size=8)
    theirs = pixtral.PixtralVisionRotaryEmbedding(config).inv_freq.numpy()
    theta = config.rope_parameters["rope_theta"]
    omega = rr.vision.pixtral(80, theta, angle_dtype="float32").omega.sum(-1)  # each pair turns by one axis
    np.testing.assert_allclose(omega, theirs, rtol=2.0**-22, atol=0)
    config = DINOv3ViTConfig(hidden_size=160, num_attention_heads=2, patch_size=4, image_size=16)
    theirs = dinov3.DINOv3ViTRopePositionEmbedding(config).inv_freq.numpy()
    omega = rr.vision.dinov3(80, config.rope_theta, angle_dtype="float32").omega[:20, 0]
    # theirs multiplies the coordinate by 2 pi, ours the frequency: roundings of 2 pi and of the product
    np.testing.assert_allclose(omega, 2 * np.pi * theirs.astype(np.float64), rtol=2.0**-22 + 2 * 2.0**-24, atol=0)
    for made in (rr.vision.pixtral(16, angle_dtype="float32"), rr.video.wan(24, angle_dtype="float32"),
                 rr.variants.axial(20, (12, 8), angle_dtype="float32")):  # fmt: skip
        assert np.array_equal(made.omega.astype(np.float32).astype(np.float64), made.omega)


def test_float32_speeds_of_learned_directions():
    """Directions are drawn in float64; the speeds along them are those of float32, to a few roundings of a length."""
    rope, exact = (rr.vision.mixed(80, 3, np.random.default_rng(0), angle_dtype=d) for d in ("float32", "float64"))
    speed = np.linalg.norm(rope.omega, axis=-1).reshape(3, 2, 20)
    right = rr.frequencies.geometric(40, 10.0, np.float32).astype(np.float64)
    np.testing.assert_allclose(speed, np.broadcast_to(right, speed.shape), rtol=8 * 2.0**-53, atol=0)
    assert not np.array_equal(rope.omega, exact.omega)
