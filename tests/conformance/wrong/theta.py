"""THETA: the base is not the one of the config."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope


@case("oobabooga/textgen#3852", bug="THETA")
def corrected_twice(broken):
    """A base of 1e6 is told as an alpha that takes 1e4 there, and then applied to 1e6 again."""
    head_dim, rope_freq_base = 128, 1000000.0
    alpha_value = (rope_freq_base / 10000.0) ** (63 / 64)
    base = (rope_freq_base if broken else 10000.0) * alpha_value ** (64 / 63)

    def frequencies():
        return inverse_frequencies(head_dim, base)

    def apply(x, positions):
        return rope(x, positions, frequencies())

    one = Implementation(apply=apply, frequencies=frequencies, **TORCH)
    return one, rr.variants.default(head_dim, theta=rope_freq_base)


@case("sgl-project/SpecForge#265", bug="THETA")
def draft_model(broken):
    """The attention of a draft model makes its embedding without the base of the target's config."""
    config = {"head_dim": 128, "rope_theta": 1000000.0}

    class LlamaRotaryEmbedding(torch.nn.Module):
        def __init__(self, dim, base=10000.0):
            super().__init__()
            self.register_buffer("inv_freq", inverse_frequencies(dim, base), persistent=False)

        def forward(self, x, positions):
            return rope(x, positions, self.inv_freq.float())

    base = {} if broken else {"base": config["rope_theta"]}
    rotary_emb = LlamaRotaryEmbedding(config["head_dim"], **base)
    return Implementation(apply=rotary_emb, **TORCH), rr.variants.default(128, theta=config["rope_theta"])


@case("google/gemma.cpp#986", bug="THETA")
def literals(broken):
    """One path reads the base of the config; the dense one has a literal."""
    config = {"head_dim": 64, "rope_theta": 500000.0}

    def apply(x, positions):
        return rope(x, positions, inverse_frequencies(config["head_dim"], config["rope_theta"]))

    def dense(x, positions):
        return rope(x, positions, inverse_frequencies(64, 1000000.0 if broken else config["rope_theta"]))

    return Implementation(apply=apply, paths={"dense": dense}, **TORCH), rr.variants.default(64, theta=500000.0)


@case("lyogavin/airllm#369", bug="THETA")
def field_not_copied(broken):
    """A layer is built from a copied config that lacks rope_theta; the default takes its place."""
    config = {"head_dim": 128, "max_position_embeddings": 8192, "rope_theta": 500000.0}
    copied = ("head_dim", "max_position_embeddings") if broken else tuple(config)
    args = {key: config[key] for key in copied}
    inv_freq = inverse_frequencies(args["head_dim"], args.get("rope_theta", 10000.0))

    def apply(x, positions):
        return rope(x, positions, inv_freq)

    def decode(x, offset):
        return rope(x, torch.arange(offset, offset + x.shape[2]), inv_freq)

    return Implementation(apply=apply, decode=decode, **TORCH), rr.variants.default(128, theta=500000.0)
