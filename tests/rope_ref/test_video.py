"""Video and diffusion transformers: laws, then the published formulas written out by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import VJEPA2Config
from transformers.models.vjepa2.modeling_vjepa2 import VJEPA2RopeAttention

import rope_ref as rr
from rope_ref.positions import grid
from tests.strategies import normal, seeds

SCHEMES = [
    rr.video.wan(32),
    rr.video.hunyuan_video(),
    rr.video.cogvideox(),
    rr.video.flux(),
    rr.video.v_jepa_2(20),
    rr.video.golden(12, axes=3),
]

# Angles below 40 radians times 100 (golden's speeds with the positions here), off by 2^-53 and a few roundings.
EXACT = 16 * 4000 * 2.0**-53


@pytest.mark.parametrize("rope", SCHEMES)
@given(seed=seeds, shift=st.tuples(*[st.integers(-20, 20)] * 3))
def test_scores_depend_on_displacement(rope, seed, shift):
    rng = np.random.default_rng(seed)
    p, shift = rng.integers(0, 20, (4, 3)), np.array(shift)
    if np.abs(rope.omega).max() > 1:  # golden-gate coordinates lie in [-1, 1]
        p, shift = p / 64, shift / 64  # in binary fractions, so that sums are exact
    q, k = normal(seed, 2, 4, rope.head_dim)
    a, b = (rr.rotate(q, at, rope) @ rr.rotate(k, at, rope).T for at in (p, p + shift))
    scale = max(1, np.abs(rope.omega).max() / 64)
    assert np.abs(a - b).max() <= EXACT * scale * np.abs(q).sum(1).max() * np.abs(k).sum(1).max()


def interleaved(x, phase):
    """Neighbours as complex numbers, times exp(i phase); further channels pass."""
    width = 2 * phase.shape[-1]
    z = (x[..., 0:width:2] + 1j * x[..., 1:width:2]) * np.exp(1j * phase)
    return np.concatenate([np.stack([z.real, z.imag], -1).reshape(*x.shape[:-1], width), x[..., width:]], -1)


def by_axis(ids, widths, theta):
    """Angles theta^(-2i/width) ids of each axis, side by side."""
    blocks = zip(ids, widths, strict=True)
    return np.concatenate([np.outer(t, theta ** (-np.arange(0, w, 2) / w)) for t, w in blocks], 1)


def cells(frames, height, width):
    t, h, w = np.meshgrid(range(frames), range(height), range(width), indexing="ij")
    return t.ravel(), h.ravel(), w.ravel()


THW = (3, 2, 4)


@pytest.mark.parametrize("d, pairs", [(128, (22, 21, 21)), (32, (6, 5, 5)), (12, (2, 2, 2))])
def test_wan_splits_complex_channels(d, pairs):
    """rope_apply: c = d / 2 complex channels, split c - 2 (c // 3), c // 3, c // 3."""
    c = d // 2
    assert pairs == (c - 2 * (c // 3), c // 3, c // 3)
    x = normal(0, 2, 24, d)
    phase = by_axis(cells(*THW), [2 * n for n in pairs], 10000.0)
    ours = rr.rotate(x, grid(*THW), rr.video.wan(d))
    np.testing.assert_allclose(ours, interleaved(x, phase), atol=EXACT, rtol=0)


@pytest.mark.parametrize(
    "rope, widths, theta",
    [
        (rr.video.hunyuan_video(), (16, 56, 56), 256.0),
        (rr.video.hunyuan_video((4, 6, 6)), (4, 6, 6), 256.0),
        (rr.video.cogvideox(64), (16, 24, 24), 10000.0),
        (rr.video.flux(), (16, 56, 56), 10000.0),
        (rr.video.flux((4, 4)), (4, 4), 10000.0),
        (rr.video.v_jepa_2(64), (20, 20, 20), 10000.0),
    ],
)
def test_each_axis_has_its_block_of_neighbours(rope, widths, theta):
    ids = cells(*THW)[-len(widths) :]
    x = normal(1, len(ids[0]), rope.head_dim)
    ours = rr.rotate(x, np.stack(ids, -1), rope)
    np.testing.assert_allclose(ours, interleaved(x, by_axis(ids, widths, theta)), atol=EXACT, rtol=0)


@pytest.mark.parametrize("height, width", [(30, 45), (15, 45), (45, 30), (20, 60), (8, 8), (1, 1)])
def test_cogvideox_spreads_a_centered_crop(height, width):
    """The crop region of the published pipeline, and its evenly spaced grid without the end."""
    base_h, base_w = 30, 45
    ratio = height / width
    if ratio > base_h / base_w:
        resized = (base_h, int(round(base_h / height * width)))
    else:
        resized = (int(round(base_w / width * height)), base_w)
    top, left = int(round((base_h - resized[0]) / 2.0)), int(round((base_w - resized[1]) / 2.0))
    rows = torch.linspace(top, top + resized[0], height + 1, dtype=torch.float64)[:-1].numpy()
    columns = torch.linspace(left, left + resized[1], width + 1, dtype=torch.float64)[:-1].numpy()
    p = rr.video.cogvideox_positions(2, height, width).reshape(2, height, width, 3)
    assert p[0, 0, 0, 0] == 0 and (p[1, ..., 0] == 1).all()
    # coordinates below 64, by two roundings each
    np.testing.assert_allclose(p[1, :, 0, 1], rows, atol=4 * 64 * 2.0**-53, rtol=0)
    np.testing.assert_allclose(p[1, 0, :, 2], columns, atol=4 * 64 * 2.0**-53, rtol=0)


def test_cogvideox_at_the_trained_size_counts():
    assert np.array_equal(rr.video.cogvideox_positions(2, 30, 45), grid(2, 30, 45))


def test_flux_leaves_text_alone_and_numbers_pictures():
    p = rr.video.flux_positions(2, 3, text=2, image=1)
    assert p.tolist() == [[0, 0, 0]] * 2 + [[1, h, w] for h in range(2) for w in range(3)]
    x = normal(2, len(p), 128)
    assert np.array_equal(rr.rotate(x, p, rr.video.flux())[:2], x[:2])


# --- V-JEPA 2: what was meant, and what was released ------------------------------------------------------


@pytest.mark.parametrize("head_dim", [12, 20, 64])
def test_released_v_jepa_2_is_that_of_transformers(head_dim):
    config = VJEPA2Config(patch_size=4, crop_size=12, frames_per_clip=4, tubelet_size=2)
    module = VJEPA2RopeAttention(config, hidden_size=2 * head_dim, num_attention_heads=2)
    x = normal(3, 1, 2, 18, head_dim)
    theirs = module.apply_rotary_embeddings(torch.from_numpy(x), module.get_position_ids(torch.zeros(1, 18, 1)))
    ours = rr.video.v_jepa_2_released(x, grid(2, 3, 3))
    # float64 on both sides: angles below 2, a power and a few roundings
    np.testing.assert_allclose(ours, theirs.numpy(), atol=32 * 2.0**-53 * np.abs(x).max(), rtol=0)


def test_released_v_jepa_2_is_no_rotation():
    x, p = normal(4, 18, 20), grid(2, 3, 3)
    released, meant = rr.video.v_jepa_2_released(x, p), rr.rotate(x, p, rr.video.v_jepa_2(20))
    lengths = [np.linalg.norm(y.reshape(18, -1, 2), axis=-1) for y in (x, released, meant)]
    assert np.abs(lengths[1] - lengths[0]).max() > 0.1  # plain to see
    np.testing.assert_allclose(lengths[2], lengths[0], atol=16 * 2.0**-53 * 6, rtol=0)
    assert np.array_equal(released[:, 18:], x[:, 18:]) and np.array_equal(released[0], x[0])


# --- golden directions ------------------------------------------------------------------------------------


def ratio(axes):
    """The root above one of g^(axes + 1) = g + 1."""
    return max(np.roots([1, *[0] * (axes - 1), -1, -1]).real)


def after(steps, axes):
    """How near published code comes to it, in so many steps."""
    g = 2.0
    for _ in range(steps):
        g = (1 + g) ** (1.0 / (axes + 1.0))
    return g


@pytest.mark.parametrize("steps", [None, 10])
@pytest.mark.parametrize("axes, heads", [(1, 1), (2, 4), (3, 2), (5, 1)])
def test_golden_directions_are_the_published_ones(axes, heads, steps):
    """As make_directions does in torch: powers of the ratio, erfinv of the fractions, unit length."""
    pairs, low, high = 8, 0.5, 32.0
    alpha = (1.0 / (after(steps, axes) if steps else ratio(axes))) ** torch.arange(1, axes + 1, dtype=torch.float64)
    i = torch.arange(1, heads * pairs + 1, dtype=torch.float64)[:, None]
    z = torch.erfinv(2 * torch.fmod(i * alpha, 1.0) - 1)
    direction = torch.nn.functional.normalize(z, dim=-1).reshape(heads, pairs, axes)
    speed = low * (high / low) ** torch.linspace(0, 1, pairs - 2, dtype=torch.float64)
    expected = (torch.cat([torch.zeros(2, dtype=torch.float64), speed])[:, None] * direction).numpy()
    options = {"iterations": steps} if steps else {}
    ours = rr.video.golden(2 * pairs, axes, heads, low, high, p_zero_freqs=0.25, **options).omega
    # The root of a polynomial is good to some 2^-48, the fraction to axes times i times that; z moves by
    # the inverse density of the normal distribution times it, and the direction by that over |z|.
    z = z.reshape(heads, pairs, axes).numpy() * np.sqrt(2)
    moved = np.sqrt(2 * np.pi) * np.exp(z**2 / 2) * axes * heads * pairs * 2.0**-48
    bound = high * (np.linalg.norm(moved, axis=-1) / np.linalg.norm(z, axis=-1) + 2.0**-48)
    assert (np.linalg.norm(ours - expected, axis=-1) <= bound).all()


@pytest.mark.parametrize("axes, near", [(1, 1e-5), (2, 1e-7), (4, 1e-7)])
def test_ten_steps_come_near_the_ratio(axes, near):
    assert abs(after(10, axes) - ratio(axes)) < near


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_golden_directions_cover_the_sphere(axes):
    """Second moments are those of the whole sphere, within four deviations of as many independent directions."""
    u = rr.video.golden(2000, axes, min_freq=1.0, max_freq=1.0).omega
    deviation = np.sqrt(2 * (axes - 1) / axes / (axes * (axes + 2)) / len(u))  # of a square; products have less
    assert np.abs(u.T @ u / len(u) - np.eye(axes) / axes).max() <= 4 * deviation


@pytest.mark.parametrize(
    "call, options",
    [
        (lambda: rr.video.cogvideox(40), "head_dim is 40; expected a multiple of 16"),
        (lambda: rr.video.flux((16, 5)), "axes_dim holds 5"),
        (lambda: rr.video.hunyuan_video((0, 4)), "axes_dim is 0"),
        (lambda: rr.video.wan(4), "axes_dim is 0"),
        (lambda: rr.video.v_jepa_2(4), "head_dim is 4"),
        (lambda: rr.video.cogvideox_positions(1, 0, 4), "height is 0"),
        (lambda: rr.video.flux_positions(1, 1, text=-1), "text is -1"),
        (lambda: rr.video.golden(8, 0), "axes is 0"),
        (lambda: rr.video.golden(8, 2, heads=0), "heads is 0"),
        (lambda: rr.video.golden(8, 2, min_freq=0.0), "min_freq is 0.0"),
        (lambda: rr.video.golden(8, 2, p_zero_freqs=2), "p_zero_freqs 2"),
    ],
)
def test_bad_input_says_what_is_wrong(call, options):
    with pytest.raises(ValueError, match=options):
        call()
