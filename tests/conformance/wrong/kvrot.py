"""KVROT: keys in a cache, rotated at another place than they stand, or more than once."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope


class KeyCache:
    """Rotated keys (batch, heads, seq, head_dim); a query stands at the last of them."""

    head_dim = 64

    def __init__(self):
        self.inv_freq, self.keys = inverse_frequencies(self.head_dim), None

    def rotate(self, x, start):
        return rope(x.float(), torch.arange(start, start + x.shape[2]), self.inv_freq)

    def length(self):
        return 0 if self.keys is None else self.keys.shape[2]

    def store(self, k):
        self.keys = k if self.keys is None else torch.cat((self.keys, k), dim=2)

    def append(self, k):
        self.store(self.rotate(k, self.length()))

    def scores(self, q):
        queries = self.rotate(q, self.length() - q.shape[2])
        return queries @ self.keys.mT / self.head_dim**0.5


@case("EleutherAI/gpt-neox@c0986cfd", bug="KVROT")
def table_of_the_query(broken):
    """Keys are cached as they are and rotated with the query, by a table as long as the query: one row."""

    class Attention(KeyCache):
        def append(self, k):
            self.store(k.float())

        def scores(self, q):
            past, length = self.length() - q.shape[2], self.length()
            if broken:
                table = torch.arange(q.shape[2])
                queries, keys = (rope(x.float(), table, self.inv_freq) for x in (q, self.keys))
            else:
                queries, keys = self.rotate(q, past), rope(self.keys, torch.arange(length), self.inv_freq)
            return queries @ keys.mT / self.head_dim**0.5

    return Implementation(cache=Attention, **TORCH), rr.variants.default(64)


@case("ggml-org/llama.cpp#4889", bug="KVROT")
def shift_of_whole_heads(broken):
    """When the context moves, cached keys are turned on as if the whole head rotated: Phi-2 rotates 32 of 80."""
    head_dim, rotary_dim = 80, 32

    def apply(x, positions):
        return rope(x, positions, inverse_frequencies(rotary_dim))

    def k_shift(keys, positions, distance):
        n_rot = head_dim if broken else rotary_dim
        return rope(keys, torch.tensor([distance]), inverse_frequencies(n_rot))

    return Implementation(apply=apply, shift=k_shift, **TORCH), rr.variants.partial(head_dim, 0.4)


@case("NeuraLegion/shainet#110", bug="KVROT")
def rotated_each_step(broken):
    """At each step all keys are rotated again where they stand, those that have been before too."""

    class Attention(KeyCache):
        def append(self, k):
            if not broken:
                super().append(k)
                return
            self.store(k.float())
            self.keys = self.rotate(self.keys, 0)

    return Implementation(cache=Attention, **TORCH), rr.variants.default(64)


@case("rajveer43/VeloxQuant-MLX#138", bug="KVROT")
def evicted(broken):
    """Keys behind what was evicted move up and keep the rotation of where they were; queries count the new places."""

    class Compacted(KeyCache):
        def evict(self, start, stop):
            before, after = self.keys[:, :, :start], self.keys[:, :, stop:]
            if not broken:
                after = rope(after, torch.tensor([start - stop]), self.inv_freq)
            self.keys = torch.cat((before, after), dim=2)

    return Implementation(cache=Compacted, **TORCH), rr.variants.default(64)
