"""The drop-in against rotary-embedding-torch where that is right, and against the specification where not."""

import numpy as np
import pytest
import rotary_embedding_torch as original
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rope_ref as rr
import torch_bridge as ours

# float32 angles below 64 radians (2^-24 * 64, thrice rounded) times |(a, b)| < 8, and a few roundings
PARITY = 3 * 64 * 2.0**-24 * 8


@settings(deadline=None)
@given(st.integers(1, 8), st.integers(1, 40), st.integers(0, 20), st.sampled_from(["lang", "constant"]),
       st.sampled_from([1.0, 2.0]), st.sampled_from([1.0, 4.0]), st.booleans())
def test_parity(pairs, seq, offset, freqs_for, interpolate, rescale, before):
    dim = 2 * pairs + 2
    words = dict(dim=dim, freqs_for=freqs_for, interpolate_factor=interpolate, theta_rescale_factor=rescale,
                 seq_before_head_dim=before, num_freqs=dim // 2)
    a, b = ours.RotaryEmbedding(**words), original.RotaryEmbedding(**words)
    b.load_state_dict(a.state_dict()), a.load_state_dict(b.state_dict())
    t = torch.randn(2, seq, 3, dim + 2) if before else torch.randn(2, 3, seq, dim + 2)
    x, y = (m.rotate_queries_or_keys(t, offset=offset) for m in (a, b))
    assert x.dtype == y.dtype and torch.allclose(x, y, atol=PARITY, rtol=0)


def test_readme_of_the_original():
    q, k = torch.randn(2, 1, 2, 12, 64)
    for words in ({}, dict(interpolate_factor=2.0)):
        a, b = (m.RotaryEmbedding(dim=32, **words) for m in (ours, original))
        pairs = zip(a.rotate_queries_with_cached_keys(q[..., -1:, :], k),
                    b.rotate_queries_with_cached_keys(q[..., -1:, :], k), strict=True)
        assert all(torch.allclose(x, y, atol=PARITY) for x, y in pairs)
    a, b = (m.RotaryEmbedding(dim=32, use_xpos=True) for m in (ours, original))
    pairs = zip(a.rotate_queries_and_keys(q, k), b.rotate_queries_and_keys(q, k), strict=True)
    assert all(torch.allclose(x, y, atol=PARITY) for x, y in pairs)
    t, results = torch.randn(1, 3, 4, 5, 64), []
    for m in (ours, original):
        angles = m.RotaryEmbedding(dim=16, freqs_for="pixel", max_freq=256).get_axial_freqs(3, 4, 5, offsets=(0, 1, 0))
        results.append((angles, m.apply_rotary_emb(angles, t)))
    assert results[0][0].shape == results[1][0].shape == (3, 4, 5, 48)
    # pixel angles reach 2 * 128 pi
    assert torch.allclose(results[0][1], results[1][1], atol=PARITY * 16)


def test_learned_rotations():
    angles, ranges, t = torch.randn(2, 5, 3), torch.tensor([1.0, 2.0]), torch.randn(2, 5, 16)
    x, y = (m.apply_learned_rotations(angles, t, start_index=2, freq_ranges=ranges) for m in (ours, original))
    assert torch.allclose(x, y, atol=PARITY)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_inputs_lose_no_position_and_poison_nothing(dtype):
    module = ours.RotaryEmbedding(dim=64).to(dtype)
    t = torch.randn(1, 1, 2048, 64)
    exact = rr.rotate(t.to(dtype).double().numpy(), np.arange(2048), rr.Rope(64, pairing="interleaved"))
    half = module.rotate_queries_or_keys(t.to(dtype)).double().numpy()
    unit = 2.0**-8 if dtype == torch.bfloat16 else 2.0**-11
    assert (np.abs(half - exact) <= unit * np.abs(exact) + 2.0**-20).all()
    assert torch.equal(module.rotate_queries_or_keys(t), ours.RotaryEmbedding(dim=64).rotate_queries_or_keys(t))


def test_cached_xpos_scores_equal_uncached():
    module, (q, k) = ours.RotaryEmbedding(dim=32, use_xpos=True), torch.randn(2, 1, 1, 50, 32)
    whole = [t.double() for t in module.rotate_queries_and_keys(q, k)]
    last = [t.double() for t in module.rotate_queries_with_cached_keys(q[..., -1:, :], k)]
    expected = (whole[0] @ whole[1].mT)[..., -1:, :]
    assert torch.allclose(last[0] @ last[1].mT, expected, atol=32 * 64 * 2.0**-22)


def test_gradients_of_both_orders():
    module = ours.RotaryEmbedding(dim=4, learned_freq=True).double()
    t = torch.randn(1, 3, 6, dtype=torch.float64, requires_grad=True)

    def turn(t, freqs):
        return torch.func.functional_call(_Turn(module), {"module.freqs": freqs}, (t,))

    freqs = module.freqs.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(turn, (t, freqs)) and torch.autograd.gradgradcheck(turn, (t, freqs))


class _Turn(torch.nn.Module):
    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, t):
        return self.module.rotate_queries_or_keys(t)


def test_bad_input_says_what_is_wrong():
    with pytest.raises(ValueError, match="dim is 3"):
        ours.RotaryEmbedding(dim=3)
    with pytest.raises(ValueError, match="freqs_for is 'words'"):
        ours.RotaryEmbedding(dim=4, freqs_for="words")
    with pytest.raises(TypeError, match="int64"):
        ours.RotaryEmbedding(dim=4).rotate_queries_or_keys(torch.ones(1, 2, 4, dtype=torch.long))
