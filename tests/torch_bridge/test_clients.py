"""What projects that use rotary-embedding-torch do with it, beside calling it: the drop-in takes it all."""

import io
import subprocess
import sys

import numpy as np
import pytest
import rotary_embedding_torch as original
import torch

import torch_bridge.rotary_embedding_torch as ours
from torch_bridge import RotaryEmbedding

INSTALL = """
import torch_bridge.rotary_embedding_torch as ours
ours.install()
import rotary_embedding_torch
from rotary_embedding_torch import RotaryEmbedding, apply_rotary_emb
from rotary_embedding_torch.rotary_embedding_torch import rotate_half, default, exists, slice_at_dim, broadcat
assert RotaryEmbedding.__module__ == "torch_bridge.drop_in" and rotary_embedding_torch is ours
"""


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_install_stands_in_for_the_original():
    done = python(INSTALL)
    assert done.returncode == 0, done.stderr
    done = python("import rotary_embedding_torch\n" + INSTALL)
    assert "rotary_embedding_torch is imported already" in done.stderr


def test_helpers_are_those_of_the_original():
    theirs = sys.modules["rotary_embedding_torch.rotary_embedding_torch"]
    x = torch.randn(2, 5, 6)
    assert torch.equal(ours.rotate_half(x), theirs.rotate_half(x))
    for dim in (-1, 1, -3):
        assert torch.equal(ours.slice_at_dim(x, slice(1, 2), dim=dim), theirs.slice_at_dim(x, slice(1, 2), dim=dim))
    assert ours.exists(0) and not ours.exists(None) and ours.default(None, 3) == 3 and ours.default(2, 3) == 2


@pytest.mark.parametrize("options", [{}, {"use_xpos": True}, {"freqs_for": "pixel"}])
def test_attributes_are_right_to_read_and_are_no_state(options):
    options = {"cache_max_seq_len": 64} | options
    mine, theirs = RotaryEmbedding(8, **options), original.RotaryEmbedding(8, **options)
    assert set(mine.state_dict()) == {"freqs"} and not list(mine.buffers())
    if options.get("freqs_for") != "pixel":
        theirs.rotate_queries_or_keys(torch.randn(1, 64, 8), scale=1.0)  # fills what it keeps
        torch.testing.assert_close(mine.cached_freqs, theirs.cached_freqs[:64], atol=1e-5, rtol=1e-5)
        assert mine.cached_freqs_seq_len.item() == 64
    if mine.use_xpos:
        torch.testing.assert_close(mine.scale, theirs.scale)
        assert mine.cached_scales.shape == (64, 8)
    else:
        assert mine.scale is None and mine.cached_scales is None
    assert mine.dummy.device == mine.freqs.device


KINDS = [{"freqs_for": "pixel"}, {"custom_freqs": torch.ones(3)}, {"freqs_for": "constant"}]


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("dim", [21, np.int64(20), torch.tensor(20)])
def test_a_dim_that_the_original_takes(dim, options):
    options = options | {"cache_if_possible": False}  # what the original keeps has room for dim channels alone
    mine, theirs = RotaryEmbedding(dim, **options), original.RotaryEmbedding(int(dim), **options)
    torch.testing.assert_close(mine.freqs, theirs.freqs)
    x = torch.randn(1, 4, 24)
    torch.testing.assert_close(mine.rotate_queries_or_keys(x), theirs.rotate_queries_or_keys(x), atol=1e-5, rtol=1e-5)


def test_what_is_no_dim():
    for dim in (True, 2.0, "8"):
        with pytest.raises(TypeError, match="expected a whole number"):
            RotaryEmbedding(dim)
    with pytest.raises(ValueError, match="t has 8 channels; expected at least 16, which dim turns"):
        RotaryEmbedding(16).rotate_queries_or_keys(torch.randn(1, 4, 8))


@pytest.mark.parametrize("options", [{}, {"learned_freq": True}, {"freqs_for": "pixel"}, {"cache_if_possible": False}])
def test_what_is_trained_when_all_is_unfrozen(options):
    """Frequencies move where those of the original do, and nowhere else."""
    moved = []
    for made in (RotaryEmbedding(8, **options), original.RotaryEmbedding(8, **options)):
        made.requires_grad_(True)
        before, x = made.freqs.detach().clone(), torch.randn(1, 6, 8, generator=torch.Generator().manual_seed(0))
        made.rotate_queries_or_keys(x)  # the original keeps its first angles, without a gradient
        y = made.rotate_queries_or_keys(x)
        if y.requires_grad:
            y[..., 0].sum().backward()
            torch.optim.SGD(made.parameters(), 0.1).step()
        moved.append(bool((made.freqs.detach() != before).any()))
    assert moved[0] == moved[1]


class Restarting(RotaryEmbedding):
    def get_seq_pos(self, seq_len, device=None, dtype=None, offset=0):
        return torch.arange(seq_len, device=device).remainder(8).float()


class Still(RotaryEmbedding):
    def forward(self, t, seq_len=None, offset=0):
        return super().forward(t * 0, seq_len, offset)


class Unscaled(RotaryEmbedding):
    def get_scale(self, t, seq_len=None, offset=0):
        return torch.ones(len(t), self.dim)


def test_a_subclass_says_how_it_turns():
    x = torch.ones(1, 24, 32)
    y = Restarting(32).rotate_queries_or_keys(x)
    torch.testing.assert_close(y[:, :8], y[:, 8:16])
    torch.testing.assert_close(y[:, :8], RotaryEmbedding(32).rotate_queries_or_keys(x[:, :8]))
    assert torch.equal(Still(32).rotate_queries_or_keys(x), x)
    q, k = Unscaled(32, use_xpos=True).rotate_queries_and_keys(x, x)
    plain = RotaryEmbedding(32).rotate_queries_or_keys(x)
    torch.testing.assert_close(q, plain)
    torch.testing.assert_close(k, plain)


def test_a_module_in_bfloat16_gives_angles_in_bfloat16():
    made = RotaryEmbedding(8).bfloat16()
    angle = made(torch.arange(300))
    assert angle.dtype == torch.bfloat16 and made.freqs.dtype == torch.float32
    torch.testing.assert_close(angle, RotaryEmbedding(8)(torch.arange(300)).bfloat16())
    assert RotaryEmbedding(8, freqs_for="pixel").bfloat16().get_axial_freqs(2, 2).dtype == torch.bfloat16


@pytest.mark.parametrize("learned_freq", [False, True])
def test_a_checkpoint_in_bfloat16_is_assigned(learned_freq):
    made = RotaryEmbedding(8, learned_freq=learned_freq)
    made.load_state_dict({"freqs": made.freqs.detach().bfloat16()}, assign=True)
    assert made.freqs.dtype == torch.float32
    x = torch.randn(1, 6, 8).bfloat16()
    assert made.rotate_queries_or_keys(x).dtype == torch.bfloat16


class Attention(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.rotary = RotaryEmbedding(8)

    def forward(self, x):
        q = self.rotary.rotate_queries_or_keys(x)
        return q @ q.transpose(-1, -2)


@pytest.mark.parametrize("dynamo", [False, True])
def test_onnx(dynamo):
    onnxruntime = pytest.importorskip("onnxruntime")
    model, x, file = Attention().eval(), torch.randn(1, 2, 6, 16), io.BytesIO()
    exported = torch.onnx.export(model, (x,), None if dynamo else file, dynamo=dynamo)
    if dynamo:
        exported.save(file)
    session = onnxruntime.InferenceSession(file.getvalue())
    (y,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(y, model(x).detach().numpy(), atol=1e-4, rtol=1e-4)


@pytest.mark.in_turn
def test_a_compiled_package_is_equal(tmp_path):
    """torch.export, then AOTInductor: a shared library that runs without Python's code of the module."""
    model, x = Attention().eval(), torch.randn(1, 2, 6, 16)
    exported = torch.export.export(model, (x,))
    torch.testing.assert_close(exported.module()(x), model(x), atol=0, rtol=0)
    file = torch._inductor.aoti_compile_and_package(exported, package_path=str(tmp_path / "a.pt2"))
    torch.testing.assert_close(torch._inductor.aoti_load_package(file)(x), model(x), atol=1e-5, rtol=1e-5)


def test_a_trace_loads_without_this_package(tmp_path):
    model, x = Attention().eval(), torch.randn(1, 2, 6, 16)
    torch.jit.trace(model, x).save(tmp_path / "a.pt")
    torch.save((x, model(x).detach()), tmp_path / "xy.pt")
    code = f"""
import sys, torch
model = torch.jit.load({str(tmp_path / "a.pt")!r})
x, y = torch.load({str(tmp_path / "xy.pt")!r})
torch.testing.assert_close(model(x), y, atol=1e-4, rtol=1e-4)
assert "torch_bridge" not in sys.modules
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
