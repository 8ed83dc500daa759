"""`Rotary` against the specification, for every kind of Rope, layout and position."""

import copy
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import rope_ref as rr
from rope_ref.conformance import check
from rope_ref.exactness import UNIT, budget
from torch_bridge.rotary import LAYOUTS, Rotary
from torch_bridge.tables import shared

ROPES = {
    "default": rr.variants.default(16),
    "partial": rr.Rope(16, rotary_dim=8, start=4, pairing="interleaved", theta=5e5),
    "yarn": rr.variants.yarn(16, 4.0, 128),
    "float32": rr.variants.default(16, angle_dtype="float32"),
    "xpos": rr.variants.xpos(16, scale_base=32.0, center=5.0),
    "axes": rr.variants.axial(16, (4, 12)),
    "heads": rr.Rope(16, inv_freq=np.random.default_rng(0).random((4, 8, 2)).tolist()),
    "still": rr.Rope(16, rotary_dim=0),
}
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
ropes = pytest.mark.parametrize("rope", ROPES.values(), ids=ROPES)
layouts = pytest.mark.parametrize("layout", LAYOUTS)


def sample(rope, layout="bhsd", seq=6, dtype=torch.float64, batch=2):
    """q and k, fewer heads in k where heads may differ."""
    generator = torch.Generator().manual_seed(0)
    batch = 1 if layout == "thd" else batch
    return [from_bhsd(torch.randn(batch, heads, seq, rope.head_dim, generator=generator, dtype=torch.float64).to(dtype),
                      layout) for heads in (4, 4 if rope.heads else 2)]  # fmt: skip


def from_bhsd(x, layout):
    x = x if layout == "bhsd" else x.transpose(1, 2)
    return x[0] if layout == "thd" else x


def to_bhsd(x, layout):
    x = x[None] if layout == "thd" else x
    return x if layout == "bhsd" else x.transpose(1, 2)


def near(y, x, positions, rope, layout="bhsd"):
    """Whether y is the specification's rotation of x within its roundings."""
    x, y = (to_bhsd(t, layout).detach() for t in (x, y))
    name = str(x.dtype).removeprefix("torch.")
    inner = "float64" if name == "float64" else "float32"
    expected = rr.rotate(x.double().numpy(), positions, rope)
    # torch's angles and the specification's are products of the same numbers: equal, or one rounding apart where three
    # are summed; cos and sin of two libraries in float64 are within a unit of the true value
    angle = 4 * UNIT["float64"] * (1 + np.abs(rr.angles(rope, positions)))
    bound = budget(x.double().numpy(), positions, rope, store=name, arithmetic=inner, table=inner, angle=angle)
    assert (np.abs(y.double().numpy() - expected) <= bound).all()


def places(rope, *shape, high=50):
    drawn = np.random.default_rng(1).integers(0, high, shape if rope.axes is None else (*shape, rope.axes))
    return torch.from_numpy(drawn)


@ropes
@layouts
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_given_positions(rope, layout, dtype):
    rotary = Rotary(rope)
    q, k = sample(rope, layout, dtype=dtype)
    p = places(rope, 6)
    turned = rotary(q, k, p, layout=layout)
    for x, y, which in zip((q, k), turned, (rope, rope.keys), strict=True):
        assert y.shape == x.shape and y.dtype == dtype
        near(y, x, p.numpy(), which, layout)
    if layout != "thd":
        p = places(rope, 2, 6)
        for x, y, which in zip((q, k), rotary(q, k, p, layout=layout), (rope, rope.keys), strict=True):
            near(y, x, p.numpy(), which, layout)


@pytest.mark.parametrize("name", ["default", "partial", "xpos", "still"])
@layouts
def test_positions_by_default(name, layout):
    rotary = Rotary(ROPES[name])
    q, k = sample(rotary.rope, layout)
    near(rotary(q, k, layout=layout)[0], q, np.arange(6), rotary.rope, layout)
    near(rotary(q, k, layout=layout, offset=7)[1], k, np.arange(6) + 7, rotary.rope.keys, layout)
    near(rotary(q, k, layout=layout, offset=torch.tensor(7))[1], k, np.arange(6) + 7, rotary.rope.keys, layout)
    if layout != "thd":
        near(rotary(q, k, layout=layout, offset=torch.tensor([0, 9]))[1], k, np.arange(6) + np.array([[0], [9]]),
             rotary.rope.keys, layout)  # fmt: skip


@pytest.mark.parametrize("name", ["axes", "heads"])
def test_offsets_over_axes(name):
    rotary = Rotary(ROPES[name])
    q, k = sample(rotary.rope)
    p, far = places(rotary.rope, 6), torch.tensor([3, 8])
    near(rotary(q, k, p, offset=far)[0], q, p.numpy() + far[:, None, None].numpy(), rotary.rope)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=5), st.integers(0, 9))
def test_packed_sequences(lengths, offset):
    """Empty sequences too; positions start anew, each with an offset of its own if there are several."""
    rotary, ends = Rotary(ROPES["default"]), np.cumsum([0, *lengths])
    q, k = sample(rotary.rope, "thd", seq=int(ends[-1]))
    for kind in (torch.int32, torch.int64):
        cu_seqlens = torch.from_numpy(ends).to(kind)
        y = rotary(q, k, layout="thd", cu_seqlens=cu_seqlens, offset=offset)[0]
        near(y, q, rr.positions.packed(ends) + offset, rotary.rope, "thd")
        offsets = torch.arange(len(lengths)) * 3
        y = rotary(q, k, layout="thd", cu_seqlens=cu_seqlens, offset=offsets)[1]
        near(y, k, rr.positions.packed(ends) + np.repeat(offsets.numpy(), lengths), rotary.rope, "thd")


@pytest.mark.parametrize("name", ["default", "partial", "axes"])
def test_the_kit_finds_nothing(name):
    """Its properties of values, laws, layouts, dtypes, modules, gradients and caches."""
    rotary = Rotary(ROPES[name])
    options = {
        "shift": lambda keys, positions, distance: rotary.rotate_cached_keys(keys, positions, distance=distance),
        "module": lambda: Rotary(ROPES[name]),
        "call": lambda module, x, positions: module(x, x, positions)[0],
        "layout": "bhsd",
    }
    if name != "axes":
        options["decode"] = lambda x, offset: rotary(x, x, offset=offset)[0]
    report = check(lambda x, p: rotary(x, x, p)[0], rotary.rope, budget="quick", arrays="torch", **options)
    assert report.passed, report


@pytest.mark.parametrize("high", [40, 32768, 10**6, -40])
def test_far_and_negative_positions(high):
    """Rows that are kept, the last of them, and what lies beyond: one formula."""
    rotary = Rotary(ROPES["default"])
    q, k = sample(rotary.rope)
    p = torch.tensor([0, 1, high - 2, high - 1, high, 3])
    near(rotary(q, k, p)[0], q, p.numpy(), rotary.rope)
    near(rotary(q, k, p.double() + 0.5)[0], q, p.numpy() + 0.5, rotary.rope)
    near(rotary(q, k, p.int())[0], q, p.numpy(), rotary.rope)
    few = torch.tensor([0, 1, 255, 254, 3, 2], dtype=torch.uint8)
    near(rotary(q, k, few, offset=100)[0], q, few.int().numpy() + 100, rotary.rope)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bfloat16, torch.float16, torch.float32, None])
@pytest.mark.parametrize("value", [250, 300, 2**24 + 2])
def test_an_offset_counts_whatever_its_dtype(dtype, value):
    """Sums are made in a dtype that holds them; None stands for a number of Python's that is not whole by type."""
    rotary = Rotary(ROPES["default"])
    q, k = sample(rotary.rope)
    offset = float(value) if dtype is None else torch.tensor(value).to(dtype)
    if not np.isfinite(float(offset)) or int(offset) != value:
        pytest.skip("the dtype does not hold it")
    for one in [offset] if dtype is None else [offset, offset.expand(2)]:
        near(rotary(q, k, offset=one)[0], q, value + np.arange(6), rotary.rope)


@ropes
@layouts
def test_cached_keys_move(rope, layout):
    rotary = Rotary(rope)
    q, k = sample(rope, layout)
    p = places(rope, 6)
    there = rotary(q, k, p, layout=layout)[1]
    for distance in (-3, torch.tensor([1, 2, 3, -4, 5, 0]) if rope.axes is None else torch.tensor([2, -1])):
        moved = rotary.rotate_cached_keys(there, p, distance=distance, layout=layout)
        right = rotary(q, k, p + distance, layout=layout)[1]
        # two more rotations of float64, by angles below 100 that are themselves rounded
        scale = float(right.abs().max()) if right.numel() else 1
        torch.testing.assert_close(moved, right, rtol=0, atol=scale * 300 * UNIT["float64"])


def test_cached_keys_take_another_rope():
    old, new = ROPES["default"], rr.variants.yarn(16, 4.0, 128)
    q, k = sample(old)
    p = places(old, 2, 6)
    there = Rotary(old)(q, k, p)[1]
    moved = Rotary(old).rotate_cached_keys(there, p, rope=new, distance=2)
    torch.testing.assert_close(moved, Rotary(new)(q, k, p + 2)[1], rtol=0, atol=2000 * UNIT["float64"])
    np.testing.assert_allclose(moved, rr.cache.rerotate(there.numpy(), p.numpy(), p.numpy() + 2, old, new), atol=1e-12)
    with pytest.raises(ValueError, match="rope turns channels"):
        Rotary(old).rotate_cached_keys(there, p, rope=ROPES["partial"])


@ropes
def test_nothing_that_is_done_to_modules_reaches_the_frequencies(rope):
    rotary = Rotary(rope)
    q, k = sample(rope)
    p = places(rope, 6)
    right = rotary(q, k, p)
    with torch.device("meta"):
        unborn = Rotary(rope)
    made = [copy.deepcopy(rotary), pickle.loads(pickle.dumps(rotary)), unborn.to_empty(device="cpu"),
            Rotary(rope).bfloat16(), torch.nn.Sequential(Rotary(rope)).half()[0]]  # fmt: skip
    for each in made:
        assert each.rope == rope
        for y, expected in zip(each(q, k, p), right, strict=True):
            assert torch.equal(y, expected)
    assert not list(rotary.parameters()) and not list(rotary.buffers()) and not rotary.state_dict()
    assert repr(rope) in repr(rotary)


@ropes
def test_gradients(rope):
    rotary = Rotary(rope)
    q, k = (x.requires_grad_() for x in sample(rope, seq=3, batch=1))
    p = places(rope, 3)
    assert torch.autograd.gradcheck(lambda q, k: rotary(q, k, p), (q, k))
    with torch.inference_mode():
        rotary(q, k, p)
    y, _ = rotary(q, k, p)
    y.sum().backward()


def test_compiled_with_lengths_that_grow():
    torch._dynamo.reset()
    rotary = Rotary(ROPES["partial"])
    turn = torch.compile(rotary, backend="eager", fullgraph=True, dynamic=True)
    for length in (6, 7, 9):
        q, k = sample(rotary.rope, seq=length, dtype=torch.float32)
        with torch._dynamo.config.patch(error_on_recompile=length > 6):
            near(turn(q, k)[0], q, np.arange(length), rotary.rope)
    torch._dynamo.reset()


def test_bad_input():
    rotary = Rotary(ROPES["default"])
    q, k = sample(rotary.rope)
    p = torch.arange(6)
    packed, lengths = sample(rotary.rope, "thd"), torch.tensor([0, 6])
    meta = p.to("meta")
    bad = [
        (ValueError, "layout is 'sbhd'; expected one of 'bhsd'", (q, k), {"layout": "sbhd"}),
        (ValueError, r"q has shape \(2, 4, 6, 16\); expected 3 axes, as 'thd'", (q, k), {"layout": "thd"}),
        (ValueError, "expected one dtype and one device", (q, k.float()), {}),
        (ValueError, "expected to differ in heads alone", (q, k[..., :5, :]), {}),
        (ValueError, "expected to differ in heads alone", (q, k[:1]), {}),
        (ValueError, r"expected \(6,\) or \(2, 6\)", (q, k, p[:5]), {}),
        (ValueError, r"expected \(6,\) or \(2, 6\)", (q, k, p.expand(3, 6)), {}),
        (ValueError, "positions are on meta; expected cpu", (q, k, meta), {}),
        (ValueError, "expected real numbers", (q, k, p > 2), {}),
        (ValueError, "cu_seqlens is given with layout 'bhsd'", (q, k), {"cu_seqlens": lengths}),
        (ValueError, "no positions beside it", (*packed, p), {"cu_seqlens": lengths, "layout": "thd"}),
        (ValueError, "cu_seqlens has shape", packed, {"cu_seqlens": lengths[None], "layout": "thd"}),
        (ValueError, "cu_seqlens end at 5; expected the 6", packed, {"cu_seqlens": lengths * 5 // 6, "layout": "thd"}),
        (ValueError, "cu_seqlens begin with 1; expected 0", packed, {"cu_seqlens": lengths + 1, "layout": "thd"}),
        (ValueError, "expected no number below", packed, {"cu_seqlens": torch.tensor([0, 7, 6]), "layout": "thd"}),
        (ValueError, "positions reach 2.63", (q, k, (2**63 + p).to(torch.uint64)), {}),
        (ValueError, "offset have dtype torch.bool", (q, k), {"offset": torch.tensor(True)}),
        (ValueError, r"offset has shape \(3,\)", (q, k), {"offset": torch.arange(3)}),
        (ValueError, "offset is on meta; expected cpu", (q, k), {"offset": meta[:2]}),
        (ValueError, "expected 16 channels", (q[..., :8], k), {}),
        (TypeError, "expected floating point", (q.int(), k.int()), {}),
    ]
    for kind, message, tensors, options in bad:
        with pytest.raises(kind, match=message):
            rotary(*tensors, **options)
    with pytest.raises(TypeError, match="rope is a int; expected a Rope"):
        Rotary(64)
    for name, message in (("axes", "since the Rope has 2 axes"), ("heads", "and then 2 axes|2 axes")):
        with pytest.raises(ValueError, match=message):
            Rotary(ROPES[name])(*sample(ROPES[name]))
    with pytest.raises(ValueError, match=r"expected \(6,\) or \(2, 6\), and then 2 axes"):
        Rotary(ROPES["axes"])(q, k, places(ROPES["axes"], 5))
    with pytest.raises(ValueError, match="expected 16 channels and 4 heads"):
        Rotary(ROPES["heads"])(q, k, places(ROPES["heads"], 6))


def test_tables_are_made_once_and_never_stale():
    """Those of equal numbers serve again, in any module of an equal Rope; those of other numbers never do."""
    first, second = Rotary(rr.Rope(8)), Rotary(rr.Rope(8))
    q, k, positions = torch.randn(2, 3, 4, 8), torch.randn(2, 1, 4, 8), torch.tensor([5, 9, 2, 70])
    expected = first(q, k, positions)
    again = second(q, k, positions.clone())
    assert all(map(torch.equal, again, expected))
    positions[1] = 4  # the same tensor, other numbers
    for change in (dict(), dict(offset=3), dict(layout="bshd", positions=positions[:3])):
        call = {"positions": positions} | change
        turned = first(q, q, **call)
        shared.cache_clear()
        assert all(map(torch.equal, turned, Rotary(rr.Rope(8))(q, q, **call)))
    assert torch.equal(first(q, k, offset=1)[0], first(q, k, torch.arange(1, 5))[0])
    assert torch.equal(first(q, k)[0], first(q, k, torch.arange(4.0))[0])


def test_tables_that_were_made_in_inference_mode_serve_training():
    rotary, q = Rotary(rr.Rope(8, theta=77.0)), torch.randn(1, 1, 4, 8)
    with torch.inference_mode():
        expected = rotary(q, q, offset=2)[0].clone()
        rotary(q, q, torch.arange(2, 6))
    for call in (dict(offset=2), dict(positions=torch.arange(2, 6))):
        leaf = q.clone().requires_grad_()
        turned = rotary(leaf, leaf, **call)[0]
        turned.sum().backward()
        assert torch.equal(turned, expected) and leaf.grad is not None
