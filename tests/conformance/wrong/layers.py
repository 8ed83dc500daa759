"""LAYER: which layer rotates, and by which frequencies."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, inverse_frequencies, rope

LAYERS, PATTERN, FACTOR = 6, 3, 8.0
LOCAL, GLOBAL = 10000.0, 1000000.0


def is_sliding(layer):
    return (layer + 1) % PATTERN != 0


def gemma3(head_dim):
    """Sliding layers by theta 10,000; every third one global, by theta 1,000,000 with positions divided by 8."""
    kinds = rr.variants.default(head_dim, theta=LOCAL), rr.variants.linear(head_dim, FACTOR, theta=GLOBAL)
    return [kinds[0] if is_sliding(layer) else kinds[1] for layer in range(LAYERS)]


@case("Blaizzy/mlx-vlm#1709", bug="LAYER")
def factor_not_passed(broken):
    """The rope of the global layers is made without the config's linear factor: tokens stand 8 times too far."""

    def initialize_rope(dims, base, rope_scaling=None):
        inv_freq = inverse_frequencies(dims, base)
        return inv_freq / rope_scaling["factor"] if rope_scaling else inv_freq

    rope_scaling = None if broken else {"rope_type": "linear", "factor": FACTOR}
    local, far = initialize_rope(128, LOCAL), initialize_rope(128, GLOBAL, rope_scaling)

    def apply(x, positions, layer):
        return rope(x, positions, local if is_sliding(layer) else far)

    def session():
        offset = [0] * LAYERS

        def step(x, layer):
            positions = offset[layer] + torch.arange(x.shape[-2])
            offset[layer] += x.shape[-2]
            return apply(x, positions, layer)

        return step

    return Implementation(apply=apply, session=session, layers=LAYERS, **TORCH), gemma3(128)


@case("antonellof/ferrox#39", bug="LAYER")
def factor_for_all(broken):
    """The linear factor is folded into one table of divisors, which sliding layers use as well."""
    divisors = np.full(32, FACTOR)

    def frequencies(layer):
        theta = LOCAL if is_sliding(layer) else GLOBAL
        inv_freq = theta ** -(np.arange(0, 64, 2) / 64)
        return inv_freq if is_sliding(layer) and not broken else inv_freq / divisors

    one = Implementation(apply=array_rope(frequencies), layers=LAYERS, arrays="numpy", dtypes=("float32",), rows=True)
    return one, gemma3(64)


@case("lablup/mlxcel#1386", bug="LAYER")
def factor_parsed_only(broken):
    """The config's factor is read and kept; the attention of the global layers scales by 1."""
    config = {"rope_scaling": {"factor": FACTOR}, "rope_theta": GLOBAL, "rope_local_base_freq": LOCAL}

    def frequencies(layer):
        scale = 1.0 if is_sliding(layer) or broken else 1.0 / config["rope_scaling"]["factor"]
        base = config["rope_local_base_freq"] if is_sliding(layer) else config["rope_theta"]
        return scale * base ** -(np.arange(0, 32, 2) / 32)

    one = Implementation(apply=array_rope(frequencies), layers=LAYERS, arrays="numpy", dtypes=("float32",), rows=True)
    return one, gemma3(32)


@case("pytorch/executorch#22043", bug="LAYER")
def no_rope_layers(broken):
    """no_rope_layer_interval is declared and never read: every layer rotates."""
    no_rope_layer_interval = 4
    inv_freq = inverse_frequencies(64, 2000000.0)

    def use_rope(layer):
        return broken or (layer + 1) % no_rope_layer_interval != 0

    def apply(x, positions, layer):
        return rope(x, positions, inv_freq) if use_rope(layer) else x

    turning, still = rr.variants.default(64, theta=2000000.0), rr.variants.default(64, rotary_dim=0)
    return Implementation(apply=apply, layers=8, **TORCH), [still if i % 4 == 3 else turning for i in range(8)]


def array_rope(frequencies):
    """apply(x, positions, layer) in NumPy, half-split, by frequencies(layer)."""

    def apply(x, positions, layer):
        angle = positions[..., None] * frequencies(layer)
        angle = angle[:, None] if positions.ndim == 2 else angle
        a, b = np.split(x.astype(np.float64), 2, axis=-1)
        y = np.concatenate([a * np.cos(angle) - b * np.sin(angle), b * np.cos(angle) + a * np.sin(angle)], axis=-1)
        return y.astype(x.dtype)

    return apply
