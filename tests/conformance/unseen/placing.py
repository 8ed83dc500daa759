"""Tokens at a wrong place: OFFSET, POSIGN, BATCHPOS, RANGE, CACHE, KVROT."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.unseen.loops import NUMPY, inverse_frequencies, phases, rope, turn_halves
from tests.conformance.wrong import plain
from tests.conformance.wrong.kvrot import KeyCache
from tests.conformance.wrong.lengths import reach
from tests.conformance.wrong.plain import TORCH


@wrong("OFFSET")
def a_token_a_call(broken):
    """The count of tokens goes up by one a call, however many a call brings."""
    inv_freq = plain.inverse_frequencies(64)

    def session():
        seen = 0

        def step(x):
            nonlocal seen
            y = plain.rope(x, torch.arange(seen, seen + x.shape[2]), inv_freq)
            seen += 1 if broken else x.shape[2]
            return y

        return step

    return Implementation(session=session, **TORCH), rr.variants.default(64)


@wrong("OFFSET")
def counted_from_one(broken):
    """Decoding takes `offset` for the number of tokens, the new one among them."""
    inv_freq = inverse_frequencies(64)

    def decode(x, offset):
        first = offset + 1 if broken else offset
        return rope(x, first + np.arange(x.shape[2]), inv_freq)

    return Implementation(decode=decode, **NUMPY | {"rows": None}), rr.variants.default(64)


@wrong("POSIGN")
def counted_from_the_first(broken):
    """Only the first position of each row is read; the others are counted on from it, packed or not."""
    inv_freq = plain.inverse_frequencies(128)

    def apply(x, positions):
        if broken and positions.numel():
            positions = positions[..., :1] + torch.arange(positions.shape[-1])
        return plain.rope(x, positions, inv_freq)

    return Implementation(apply=apply, **TORCH), rr.variants.default(128)


@wrong("BATCHPOS")
def batch_of_a_flat_row(broken):
    """Batch and heads are one axis of a kernel; its row r takes the positions of batch r % batch, not r // heads."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        batch, heads, seq, head_dim = x.shape
        table = np.broadcast_to(positions, (batch, seq))
        row = np.arange(batch * heads)
        each = table[row % max(batch, 1) if broken else row // max(heads, 1)]
        phi = each[..., None] * inv_freq
        return turn_halves(x.reshape(-1, seq, head_dim), np.cos(phi), np.sin(phi)).reshape(x.shape)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("RANGE")
def gather_that_clips(broken):
    """Rows are gathered from a table of 2,048 as JAX gathers: what is beyond takes the last row."""
    inv_freq = inverse_frequencies(64)
    phi = np.arange(2048)[:, None] * inv_freq
    cos_table, sin_table = np.cos(phi), np.sin(phi)

    def apply(x, positions):
        if not broken and positions.size and positions.max() >= 2048:
            return rope(x, positions, inv_freq)
        cos, sin = (np.take(t, positions, axis=0, mode="clip") for t in (cos_table, sin_table))
        return turn_halves(x, *(t[:, None] if t.ndim == 3 else t for t in (cos, sin)))

    declared = NUMPY | {"negative": False, "fractional": False}
    return Implementation(apply=apply, **declared), rr.variants.default(64)


@wrong("RANGE")
def from_the_end_of_the_table(broken):
    """A negative position takes a row from the end of the table, as Python's indices do."""
    inv_freq = inverse_frequencies(64)
    length = 4096
    phi = np.arange(length)[:, None] * inv_freq
    cos_table, sin_table = np.cos(phi), np.sin(phi)

    def apply(x, positions):
        sign = 1 if broken else np.sign(positions)[..., None]
        at = positions if broken else np.abs(positions)
        if positions.size and at.max() >= length:
            raise IndexError(f"position {at.max()} is beyond the table of {length}")
        cos, sin = cos_table[at], sign * sin_table[at]
        return turn_halves(x, *(t[:, None] if t.ndim == 3 else t for t in (cos, sin)))

    declared = NUMPY | {"negative": True, "fractional": False, "max_position": length}
    return Implementation(apply=apply, **declared), rr.variants.default(64)


@wrong("RANGE")
def last_row_unwritten(broken):
    """The loop that fills the table stops one row early."""
    length = 1024
    inv_freq = inverse_frequencies(32)
    cos_table, sin_table = np.zeros((2, length, 16), np.float32)
    for p in range(length - 1 if broken else length):
        cos_table[p], sin_table[p] = np.cos(p * inv_freq), np.sin(p * inv_freq)

    def apply(x, positions):
        cos, sin = cos_table[positions], sin_table[positions]
        return turn_halves(x, *(t[:, None] if t.ndim == 3 else t for t in (cos, sin)))

    declared = NUMPY | {"negative": False, "fractional": False, "max_position": length}
    return Implementation(apply=apply, **declared), rr.variants.default(32)


@wrong("CACHE")
def keyed_by_the_ends(broken):
    """Tables are kept by the first and the last position; what is packed between them is not looked at."""

    class RotaryEmbedding:
        def __init__(self):
            self.inv_freq, self.kept = inverse_frequencies(64), {}

        def __call__(self, x, positions):
            ends = (positions.shape, *positions[..., :1].flat, *positions[..., -1:].flat)
            key = ends if broken else (positions.shape, positions.tobytes())
            if key not in self.kept:
                phi = phases(positions, self.inv_freq)
                self.kept[key] = np.cos(phi), np.sin(phi)
            return turn_halves(x, *self.kept[key])

    return Implementation(make=RotaryEmbedding, **NUMPY), rr.variants.default(64)


@wrong("CACHE")
def kept_in_the_first_dtype(broken):
    """The table is made in the dtype of the first input, and served to all later ones."""

    class RotaryEmbedding:
        def __init__(self):
            self.inv_freq, self.tables = plain.inverse_frequencies(64), None

        def __call__(self, x, positions):
            if self.tables is None or len(self.tables[0]) < reach(positions):
                freqs = torch.outer(torch.arange(reach(positions)).float(), self.inv_freq)
                dtype = x.dtype if broken else torch.float32
                self.tables = tuple(t.to(dtype) for t in plain.halves(freqs))
            cos, sin = (t[positions].float() for t in self.tables)
            cos, sin = (t[:, None] if t.ndim == 3 else t for t in (cos, sin))
            return plain.apply_rotary(x, cos, sin)

    declared = TORCH | {"negative": False, "fractional": False, "max_position": 1 << 16}
    return Implementation(make=RotaryEmbedding, **declared), rr.variants.default(64)


@wrong("CACHE")
def tail_written_at_the_head(broken):
    """A table that grows fills its new rows with the angles of 0, 1, ... in the place of those that follow."""

    class RotaryEmbedding:
        def __init__(self):
            self.inv_freq, self.phi = inverse_frequencies(64), np.zeros((0, 32))

        def __call__(self, x, positions):
            need, have = int(positions.max(initial=-1)) + 1, len(self.phi)
            if need > have:
                start = 0 if broken else have
                new = np.arange(start, start + need - have)[:, None] * self.inv_freq
                self.phi = np.concatenate((self.phi, new))
            phi = self.phi[positions]
            phi = phi[:, None] if phi.ndim == 3 else phi
            return turn_halves(x, np.cos(phi), np.sin(phi))

    declared = NUMPY | {"negative": False, "fractional": False, "max_position": 1 << 16}
    return Implementation(make=RotaryEmbedding, **declared), rr.variants.default(64)


@wrong("KVROT")
def shifted_the_other_way(broken):
    """Cached keys move by minus the distance."""
    inv_freq = plain.inverse_frequencies(64)

    def shift(keys, positions, distance):
        return plain.rope(keys, torch.tensor([-distance if broken else distance]), inv_freq)

    def apply(x, positions):
        return plain.rope(x, positions, inv_freq)

    return Implementation(apply=apply, shift=shift, **TORCH), rr.variants.default(64)


@wrong("KVROT")
def sinks_moved_too(broken):
    """After an eviction all keys move down, those before the gap with them."""

    class Streaming(KeyCache):
        def evict(self, start, stop):
            before, after = self.keys[:, :, :start], self.keys[:, :, stop:]
            back = torch.tensor([start - stop])
            after = plain.rope(after, back, self.inv_freq)
            before = plain.rope(before, back, self.inv_freq) if broken else before
            self.keys = torch.cat((before, after), dim=2)

    return Implementation(cache=Streaming, evicted="renumbered", **TORCH), rr.variants.default(64)


@wrong("KVROT")
def magnitude_with_every_shift(broken):
    """The shift of cached keys uses the tables of YaRN, magnitude and all: keys grow with each."""
    rope_spec = rr.variants.yarn(64, 8.0, 4096)
    inv_freq = torch.tensor(rope_spec.omega.ravel()).float()
    m = rope_spec.attention_scale

    def turned(x, positions, scale):
        cos, sin = plain.halves(plain.angles(positions, inv_freq))
        return plain.apply_rotary(x, scale * cos, scale * sin)

    def shift(keys, positions, distance):
        return turned(keys, torch.tensor([distance]), m if broken else 1.0)

    return Implementation(apply=lambda x, positions: turned(x, positions, m), shift=shift, **TORCH), rope_spec
