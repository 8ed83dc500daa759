"""ANGDT: angles, or their cosine and sine, are taken with too little accuracy."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, angles, apply_rotary, halves, inverse_frequencies
from tests.conformance.wrong.yarn import yarn_frequencies, yarn_mscale


@case("NVIDIA/Megatron-LM#531", bug="ANGDT")
def half_precision_angle(broken):
    """The angle is handed on in the dtype of the activations, and its cosine taken from that."""
    inv_freq = inverse_frequencies(128)

    def apply(x, positions):
        freqs = angles(positions, inv_freq)
        freqs = freqs.to(x.dtype) if broken else freqs
        return apply_rotary(x, *halves(freqs.float()))

    return Implementation(apply=apply, **TORCH), rr.variants.default(128)


@case("tenstorrent/tt-metal#33971", bug="ANGDT")
def unreduced_sine(broken):
    """The device counts half turns in 16 bits: beyond 32767 of them the rest goes into the series unreduced."""
    inv_freq = 500000.0 ** -(np.arange(0, 64, 2) / 64)

    def maclaurin(v):
        """sin v, |v| <= pi/2."""
        total, term = v.copy(), v.copy()
        for n in range(3, 16, 2):
            term = -term * v * v / (n * (n - 1))
            total = total + term
        return total

    def sine(angle):
        turns = np.rint(angle / np.pi)
        if broken:
            turns = np.clip(turns, -32768, 32767)
        sign = np.where(turns % 2, -1.0, 1.0)
        return (sign * maclaurin(angle - turns * np.pi)).astype(np.float32)

    def apply(x, positions):
        angle = positions[..., None] * inv_freq
        angle = angle[:, None] if positions.ndim == 2 else angle
        a, b = np.split(x, 2, axis=-1)
        cos, sin = sine(angle + np.pi / 2), sine(angle)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    one = Implementation(apply=apply, arrays="numpy", dtypes=("float32",), rows=True)
    return one, rr.variants.default(64, theta=500000.0)


@case("huggingface/diffusers#13922", bug="ANGDT")
def matmul_under_autocast(broken):
    """Positions and frequencies meet in a matrix product, which autocast runs in bfloat16."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        with torch.autocast("cpu", enabled=torch.is_autocast_enabled("cpu") and broken):
            freqs = (inv_freq[:, None] @ positions[..., None, :].float()).transpose(-1, -2)
        return apply_rotary(x, *halves((freqs[:, None] if positions.ndim == 2 else freqs).float()))

    def autocast(x, positions):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return apply(x, positions)

    return Implementation(apply=apply, paths={"autocast": autocast}, **TORCH), rr.variants.default(64)


@case("kekzl/imp#1630", bug="ANGDT")
def fast_sine_of_one_branch(broken):
    """Fast cosine and sine are made for angles within a turn; of the branches the one of YaRN gives them any angle."""
    head_dim, theta, factor, original = 64, 1000000.0, 4.0, 32768
    plain, stretched = inverse_frequencies(head_dim, theta), yarn_frequencies(head_dim, theta, factor, original)
    table = {"default": plain, "yarn": stretched}
    mscale = {"default": 1.0, "yarn": yarn_mscale(factor)}

    def fast_sincos(angle):
        """Reduces by a turn of few bits, 6.28125: a thousandth of a radian off for each turn."""
        rest = angle - 6.28125 * torch.round(angle / 6.28125)
        near = angle.abs() <= 3.2
        return torch.where(near, angle, rest).cos(), torch.where(near, angle, rest).sin()

    def reduced(angle):
        return (torch.remainder(angle.double() + torch.pi, 2 * torch.pi) - torch.pi).float()

    def rope_kernel(x, positions, rope_type):
        angle = angles(positions, table[rope_type])
        if rope_type == "default" or not broken:
            angle = reduced(angle)
        cos, sin = fast_sincos(torch.cat((angle, angle), dim=-1))
        return apply_rotary(x, mscale[rope_type] * cos, mscale[rope_type] * sin)

    one = Implementation(apply=lambda x, positions: rope_kernel(x, positions, "yarn"), **TORCH)
    return one, rr.variants.yarn(head_dim, factor, original, theta=theta)
