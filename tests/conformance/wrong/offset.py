"""OFFSET: where the tokens of a later step stand."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope


class Model:
    """One sequence: how many tokens it has seen, and the rotation of the next ones."""

    def __init__(self, head_dim=64):
        self.inv_freq, self.seen = inverse_frequencies(head_dim), 0

    def rotate(self, x, offset):
        return rope(x, torch.arange(offset, offset + x.shape[2]), self.inv_freq)


@case("NVIDIA/TransformerEngine#536", bug="OFFSET")
def decode_branch(broken):
    """Whatever comes after the first part is taken for a single token: one row of the table serves all of it."""

    class Attention(Model):
        def step(self, x):
            start, length = self.seen, x.shape[2]
            self.seen += length
            decoding = start > 0 if broken else length == 1
            if decoding:
                return rope(x, torch.tensor([start]), self.inv_freq)
            return self.rotate(x, start)

    return Implementation(session=lambda: Attention().step, **TORCH), rr.variants.default(64)


@case("keras-team/keras-hub#1544", bug="OFFSET")
def no_start_index(broken):
    """A step over a cache calls the layer without start_index, whose default is 0."""
    model = Model(128)

    def rotary_embedding_layer(inputs, start_index=0):
        return model.rotate(inputs, start_index)

    def call_with_cache(x, cache_update_index):
        if broken:
            return rotary_embedding_layer(x)
        return rotary_embedding_layer(x, start_index=cache_update_index)

    return Implementation(decode=call_with_cache, **TORCH), rr.variants.default(128)


@case("skyzh/tiny-llm#46", bug="OFFSET")
def prompt_counted_twice(broken):
    """After the first step the offset is the length of the prompt, and then that length is added once more."""

    class Generation(Model):
        previous = 0

        def step(self, x):
            self.seen += self.previous
            y = self.rotate(x, self.seen)
            if broken and self.seen == 0:
                self.seen = x.shape[2]
            self.previous = x.shape[2]
            return y

    return Implementation(session=lambda: Generation().step, **TORCH), rr.variants.default(64)


@case("fla-org/flash-linear-attention#766", bug="OFFSET")
def counter_of_layer_0(broken):
    """All layers share one count of tokens seen; layer 0 moves it on before the others have read it."""
    layers = 3

    class Cache(Model):
        def step(self, x, layer):
            y = self.rotate(x, self.seen)
            if layer == (0 if broken else layers - 1):
                self.seen += x.shape[2]
            return y

    return Implementation(session=lambda: Cache().step, layers=layers, **TORCH), rr.variants.default(64)


@case("microsoft/onnxruntime-genai#2354", bug="OFFSET")
def past_with_present(broken):
    """While decoding, the past length has the current token in it; for the prompt it has not."""

    class Decoder(Model):
        def step(self, x):
            length, first = x.shape[2], self.seen == 0
            self.seen += length
            past = self.seen if broken and not first else self.seen - length
            return self.rotate(x, past)

    return Implementation(session=lambda: Decoder().step, **TORCH), rr.variants.default(64)


@case("nntile/nntile#360", bug="OFFSET")
def empty_window(broken):
    """Rows [offset, offset + seq) of the table are copied to a window, with the two offsets exchanged.

    What the two have in common gets smaller with the offset and is nothing from offset = seq on.
    """
    head_dim, max_position = 32, 4096
    inv_freq = 10000.0 ** (-np.arange(0, head_dim, 2) / head_dim)
    angle = np.arange(max_position)[:, None] * inv_freq
    table = np.stack((np.cos(angle), np.sin(angle))).astype(np.float32)

    def copy_intersection(src, src_offset, dst, dst_offset):
        """Both tiles lie on one line, at their offsets."""
        low = max(src_offset, dst_offset)
        high = min(src_offset + src.shape[1], dst_offset + dst.shape[1])
        if low < high:
            dst[:, low - dst_offset : high - dst_offset] = src[:, low - src_offset : high - src_offset]

    def decode(x, offset):
        seq = x.shape[2]
        if not 0 <= offset <= max_position - seq:
            raise ValueError(f"offset is {offset}; the table has {max_position} rows")
        window = np.zeros((2, seq, head_dim // 2), np.float32)
        src_offset, dst_offset = (offset, 0) if broken else (0, offset)
        copy_intersection(table, src_offset, window, dst_offset)
        cos, sin = window
        x1, x2 = np.split(x, 2, axis=-1)
        return np.concatenate((x1 * cos - x2 * sin, x1 * sin + x2 * cos), axis=-1)

    declared = {"arrays": "numpy", "dtypes": ("float32",), "max_position": max_position, "negative": False}
    return Implementation(decode=decode, **declared), rr.variants.default(head_dim)
