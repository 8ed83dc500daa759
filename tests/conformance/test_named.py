"""What is wrong is told in the words of its author: each of these gets one finding, with these words."""

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import Implementation, check

PLAIN = rr.variants.default(32)
MIXED = rr.vision.mixed(16, 4, 0)
SLIDING = [rr.variants.linear(32, 8.0, theta=1e6) if layer % 6 == 5 else PLAIN for layer in range(7)]
YARN = rr.variants.yarn(32, 8.0, 4096)


def longrope(length):
    return rr.variants.longrope(32, [1.0] * 16, [4.0] * 16, 256, length, factor=16.0)


def rotated(x, positions, rope=PLAIN):
    """Positions of rows serve all heads."""
    p = np.asarray(positions)
    p = p[:, None] if p.ndim == (2 if rope.axes is None else 3) and rope.heads is None else p
    return rr.rotate(np.asarray(x, np.float64), p, rope).astype(x.dtype)


def of_heads(order):
    wrong = rr.variants.custom(16, MIXED.omega[order], pairing="interleaved")
    return Implementation(apply=lambda x, p: rotated(x, p, wrong), heads=4, rows=False), MIXED


def unturned(part):
    """A call that leaves out what `part` says of (heads, tokens)."""

    def apply(x, positions):
        y, left = rotated(x, positions), part(*x.shape[1:3])
        y[left] = x[left]
        return y

    return Implementation(apply=apply), PLAIN


def tail(n):
    return lambda heads, seq: (slice(None), slice(None), slice(seq - seq % n if seq > n else seq, None))


def as_if_contiguous(x, positions):
    if not x.flags.c_contiguous and x.strides[-1] == x.itemsize and x.base is not None and 0 not in x.strides:
        x = np.lib.stride_tricks.as_strided(x, x.shape, np.empty(x.shape, x.dtype).strides)
    return rotated(x.copy(), positions)


def counting(count):
    """A session in which the place of a call follows from (calls before, tokens before, layer, tokens)."""

    def session():
        sizes = []

        def step(x, layer=0):
            begin = count(sizes, layer, x.shape[2])
            if layer == layers - 1:
                sizes.append(x.shape[2])
            return rotated(x, begin + np.arange(x.shape[2]))

        return step

    layers = 1 if count.__code__.co_name == "calls" else 3
    return Implementation(session=session, layers=layers, arrays="numpy"), PLAIN


def calls(sizes, layer, seq):
    return sum(sizes[:1]) + len(sizes[1:])


def every_layer(sizes, layer, seq):
    return 3 * sum(sizes) + layer * seq


class Keys:
    """Keys that stand without a gap after an eviction; `way` and `scale` are how those behind the gap are moved."""

    def __init__(self, rope, way=-1, scale=1.0):
        self.rope, self.way, self.scale, self.keys = rope, way, scale, np.zeros((1, 1, 0, rope.head_dim))

    def append(self, k):
        begin = self.keys.shape[2]
        k = rotated(k.astype(np.float64), begin + np.arange(k.shape[2]), self.rope)
        self.keys = np.concatenate([self.keys, k], 2) if begin else k

    def evict(self, start, stop):
        behind = self.keys[:, :, stop:]
        by = np.full(behind.shape[2], self.way * (stop - start))
        behind = self.scale * rotated(behind, by, self.rope) / self.rope.attention_scale
        self.keys = np.concatenate([self.keys[:, :, :start], behind], 2)

    def scores(self, q):
        q = rotated(q.astype(np.float64), [self.keys.shape[2] - 1], self.rope)
        return q @ self.keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])


def tf32(a):
    bits = np.asarray(a, np.float32).view(np.uint32) + np.uint32(0x1000)
    return (bits & np.uint32(0xFFFFE000)).view(np.float32).astype(np.float64)


def by_product(x, positions):
    rounded = rr.variants.custom(32, tf32(PLAIN.omega))
    return rotated(x, tf32(positions), rounded)


def short_unscaled(x, positions):
    rope = longrope(int(np.max(positions, initial=0)) + 1)
    y = rotated(x, positions, rope)
    return (y / rope.attention_scale).astype(x.dtype) if np.max(positions, initial=0) < 256 else y


def padded(padding):
    count = [0]

    def step(x):
        p = count[0] + np.arange(x.shape[2]) - np.asarray(padding)[:, None] + 1
        count[0] += x.shape[2]
        return rotated(x, np.maximum(p, 0))

    return step


NAMED = {
    "all heads turn as head 0 should": ("AXIS", lambda: of_heads([0, 0, 0, 0])),
    "the heads are in reverse order": ("AXIS", lambda: of_heads([3, 2, 1, 0])),
    "the first 2 heads are repeated, each in a row": ("AXIS", lambda: of_heads([0, 0, 1, 1])),
    "only the first 2 heads turn": ("NOOP", lambda: unturned(lambda h, s: (slice(None), slice(2, None)))),
    "tokens beyond the last whole tile of 16 are left": ("NOOP", lambda: unturned(tail(16))),
    "a view is read as if it were contiguous": ("GEOM", lambda: (
        Implementation(apply=as_if_contiguous, arrays="numpy", strided=True), PLAIN)),
    "the first position is held below 1024": ("OFFSET", lambda: (
        Implementation(decode=lambda x, n: rotated(x, min(n, 1023) + np.arange(x.shape[2])), arrays="numpy"), PLAIN)),
    "calls after the first are counted as one token each": ("OFFSET", lambda: counting(calls)),
    "the tokens of a call are counted again by every layer": ("OFFSET", lambda: counting(every_layer)),
    "tokens stand 1 too far": ("OFFSET", lambda: (Implementation(padded=padded, arrays="numpy"), PLAIN)),
    "keys that are kept are moved the wrong way": ("KVROT", lambda: (
        Implementation(cache=lambda: Keys(PLAIN, way=1), arrays="numpy"), PLAIN)),
    "keys are scaled by the magnitude again": ("KVROT", lambda: (
        Implementation(cache=lambda: Keys(YARN, scale=YARN.attention_scale), arrays="numpy"), YARN)),
    "positions and inv_freq are rounded to TF32": ("ANGDT", lambda: (
        Implementation(apply=by_product, fractional=False), PLAIN)),
    "theta is 499712; expected 500000": ("THETA", lambda: (
        Implementation(apply=lambda x, p: rotated(x, p, rr.variants.default(32, theta=499712.0))),
        rr.variants.default(32, theta=500000.0))),
    "layer 5 turns by the Rope of layer 0": ("LAYER", lambda: (
        Implementation(apply=lambda x, p, layer: rotated(x, p, SLIDING[5 if layer % 6 == 0 else 0])), SLIDING)),
    "(only with positions below the trained length, 256)": ("LONG", lambda: (
        Implementation(apply=short_unscaled, negative=False, fractional=False), longrope)),
}  # fmt: skip


@pytest.mark.parametrize("words", NAMED)
def test_one_finding_says_what_is_wrong(words):
    bug, make = NAMED[words]
    implementation, rope = make()
    report = check(implementation, rope, budget="quick")
    assert [f.bug for f in report.findings] == [bug], [(f.bug, f.property, f.explanation) for f in report.findings]
    assert words in report.findings[0].explanation


def test_a_module_is_not_expected_to_be_wrong_as_another_was():
    torch = pytest.importorskip("torch")

    class Rotary(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("inv_freq", torch.tensor(PLAIN.omega).float(), persistent=False)

        def forward(self, x, positions):
            phi = positions[..., None].float() * self.inv_freq.float()
            phi = phi[:, None] if phi.ndim == 3 else phi
            (a, b), c, s = x.float().chunk(2, -1), phi.cos(), phi.sin()
            return torch.cat([a * c - b * s, a * s + b * c], -1).to(x.dtype)

    report = check(Implementation(module=Rotary, dtypes=("float32", "bfloat16")), PLAIN, budget="quick")
    assert {f.bug for f in report.findings} == {"INVDT", "LIFE"}


def test_what_a_seed_made_can_be_made_again():
    subject, _ = of_heads([0, 0, 0, 0])
    report = check(subject, MIXED, budget="quick")
    assert "rr.vision.mixed(head_dim=16, heads=4, generator=0)" in report.findings[0].counterexample
    drawn = rr.vision.mixed(16, 4, np.random.default_rng(0))
    assert drawn == MIXED and drawn.origin is None
