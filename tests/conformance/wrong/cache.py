"""CACHE: a table that is kept and served where it does not belong.

Each `make` gives an object that keeps tables from one call to the next.
"""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import (
    TORCH,
    adjacent,
    angles,
    apply_rotary,
    halves,
    inverse_frequencies,
    rope,
    rotate_every_two,
)

FACTOR, TRAINED = 4.0, 1024


@case("huggingface/transformers#27227", bug="CACHE")
def never_shrinks(broken):
    """Dynamic NTK rescales its base when a sequence is longer than any before, and never goes back."""
    dim = 64

    class DynamicNTKScalingRotaryEmbedding:
        def __init__(self):
            self.max_seq_len_cached, self.inv_freq = TRAINED, inverse_frequencies(dim)

        def set_frequencies(self, seq_len):
            stretch = FACTOR * seq_len / TRAINED - (FACTOR - 1) if seq_len > TRAINED else 1.0
            self.inv_freq = inverse_frequencies(dim, 10000.0 * stretch ** (dim / (dim - 2)))
            self.max_seq_len_cached = seq_len

        def __call__(self, x, positions):
            seq_len = int(positions.max()) + 1
            if seq_len > self.max_seq_len_cached or (not broken and seq_len != self.max_seq_len_cached):
                self.set_frequencies(seq_len)
            return rope(x, positions, self.inv_freq)

    def of(length):
        return rr.variants.dynamic_ntk(dim, factor=FACTOR, max_position_embeddings=TRAINED, length=length)

    return Implementation(make=DynamicNTKScalingRotaryEmbedding, **TORCH), of


@case("lucidrains/rotary-embedding-torch#11", bug="CACHE")
def keyed_by_length(broken):
    """Angles are remembered by the length of the sequence alone."""

    class RotaryEmbedding:
        def __init__(self):
            self.freqs, self.cache = inverse_frequencies(64), {}

        def __call__(self, t, seq):
            cache_key = len(seq) if broken else tuple(seq.flatten().tolist())
            if cache_key not in self.cache:
                self.cache[cache_key] = adjacent(angles(seq, self.freqs))
            return apply_rotary(t, *self.cache[cache_key], rotate_every_two)

    declared = TORCH | {"rows": False}
    return Implementation(make=RotaryEmbedding, **declared), rr.variants.default(64, pairing="interleaved")


@case("lucidrains/rotary-embedding-torch@22cac59", bug="CACHE")
def scale_stores_angles(broken):
    """The routine for the scale of xPos remembers the angles under its own key: right once, wrong from then on."""
    dim, scale_base = 64, 512

    class RotaryEmbedding:
        def __init__(self):
            self.freqs, self.cache = inverse_frequencies(dim), {}
            self.scale = (torch.arange(0, dim, 2).float() + 0.4 * dim) / (1.4 * dim)

        def forward(self, seq, cache_key):
            if cache_key not in self.cache:
                self.cache[cache_key] = angles(seq, self.freqs)
            return self.cache[cache_key]

        def get_scale(self, seq, freqs, cache_key):
            if cache_key in self.cache:
                return self.cache[cache_key]
            scale = self.scale ** (seq.float()[:, None] / scale_base)
            self.cache[cache_key] = freqs if broken else scale
            return scale

        def __call__(self, t, seq):
            key = tuple(seq.tolist())
            freqs = self.forward(seq, ("freqs", key))
            scale = self.get_scale(seq, freqs, ("scale", key)).repeat_interleave(2, dim=-1)
            cos, sin = adjacent(freqs)
            return apply_rotary(t, cos * scale, sin * scale, rotate_every_two)

    declared = TORCH | {"rows": False}
    one = Implementation(make=RotaryEmbedding, **declared)
    return one, rr.variants.xpos(dim, scale_base=scale_base, pairing="interleaved")


@case("lucidrains/rotary-embedding-torch@e2224b5", bug="CACHE")
def stored_at_row_0(broken):
    """Angles of positions k, k + 1, ... are kept as the first rows of the table, and served for position 0."""

    class RotaryEmbedding:
        cache_max_seq_len = 8192

        def __init__(self):
            self.freqs, self.cached_freqs = inverse_frequencies(64), torch.zeros(0, 32)

        def forward(self, seq):
            end = int(seq.max()) + 1
            if end > self.cache_max_seq_len:
                return angles(seq, self.freqs)
            if end > len(self.cached_freqs):
                if broken:
                    self.cached_freqs = angles(seq, self.freqs)
                    return self.cached_freqs
                self.cached_freqs = angles(torch.arange(end), self.freqs)
            return torch.nn.functional.embedding(seq, self.cached_freqs)

        def __call__(self, t, seq):
            return apply_rotary(t, *adjacent(self.forward(seq)), rotate_every_two)

    declared = TORCH | {"rows": False, "negative": False}
    return Implementation(make=RotaryEmbedding, **declared), rr.variants.default(64, pairing="interleaved")


@case("lucidrains/rotary-embedding-torch#48", bug="CACHE")
def left_on_its_device(broken):
    """A table made on one device is served on another; the meta device stands for one that a machine may lack."""
    max_position = 4096

    class RotaryEmbedding:
        cached_freqs = None

        def __call__(self, x, positions):
            if self.cached_freqs is None or (not broken and self.cached_freqs.device != x.device):
                every = torch.arange(max_position, device=x.device)
                self.cached_freqs = angles(every, inverse_frequencies(64).to(x.device))
            freqs = torch.nn.functional.embedding(positions, self.cached_freqs)
            return apply_rotary(x, *halves(freqs[:, None] if positions.ndim == 2 else freqs))

    def moved(x, positions):
        rotary_emb = RotaryEmbedding()
        rotary_emb(x.to("meta"), positions.to("meta"))
        return rotary_emb(x, positions)

    one = Implementation(
        apply=RotaryEmbedding(), paths={"moved": moved}, negative=False, max_position=max_position, **TORCH
    )
    return one, rr.variants.default(64)
