"""Pairs turned wrongly: LAYOUT, FORMULA, NOOP, AXIS, ROTDIM, THETA."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import wrong
from tests.conformance.unseen.loops import NUMPY, inverse_frequencies, phases, rope, turn_adjacent
from tests.conformance.wrong import plain
from tests.conformance.wrong.plain import TORCH


@wrong("LAYOUT")
def real_then_imaginary(broken):
    """Adjacent channels become complex numbers, turn, and are laid out as all real parts, then all imaginary ones."""
    inv_freq = plain.inverse_frequencies(64)

    def apply_rotary_emb(x, positions):
        freqs = plain.angles(positions, inv_freq)
        freqs_cis = torch.polar(torch.ones_like(freqs), freqs)
        x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2)) * freqs_cis
        if broken:
            return torch.cat((x_.real, x_.imag), dim=-1).type_as(x)
        return torch.view_as_real(x_).flatten(-2).type_as(x)

    return Implementation(apply=apply_rotary_emb, **TORCH), rr.variants.default(64, pairing="interleaved")


@wrong("LAYOUT")
def mirrored_halves(broken):
    """Channel i is paired with channel d - 1 - i, from the other end, in the place of i + d/2."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        cos, sin = np.cos(phi), np.sin(phi)
        a, b = x[..., :32], x[..., 32:]
        b = b[..., ::-1] if broken else b
        second = a * sin + b * cos
        second = second[..., ::-1] if broken else second
        return np.concatenate((a * cos - b * sin, second), axis=-1).astype(x.dtype)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@wrong("FORMULA")
def turned_back(broken):
    """The sign of the sine: everything turns the other way."""
    inv_freq = plain.inverse_frequencies(128, 500000.0)

    def apply(x, positions):
        cos, sin = plain.halves(plain.angles(positions, inv_freq))
        return plain.apply_rotary(x, cos, -sin if broken else sin)

    return Implementation(apply=apply, **TORCH), rr.variants.default(128, theta=500000.0)


@wrong("FORMULA")
def first_of_the_pair_overwritten(broken):
    """A loop in C stores the first channel of a pair before it computes the second from it."""
    head_dim = 32
    inv_freq = inverse_frequencies(head_dim)

    def apply(x, positions):
        out = x.copy()
        phi = phases(positions, inv_freq)
        for i in range(head_dim // 2):
            fcr, fci = np.cos(phi[..., i]), np.sin(phi[..., i])
            v0, v1 = out[..., 2 * i].copy(), out[..., 2 * i + 1].copy()
            out[..., 2 * i] = v0 * fcr - v1 * fci
            v0 = out[..., 2 * i] if broken else v0
            out[..., 2 * i + 1] = v0 * fci + v1 * fcr
        return out

    return Implementation(apply=apply, **NUMPY), rr.variants.default(head_dim, pairing="interleaved")


@wrong("FORMULA")
def swapped_for_one_token(broken):
    """The kernel for a single token unpacks (sin, cos) where the table gives (cos, sin)."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        table = plain.halves(plain.angles(positions, inv_freq))
        if x.shape[-2] == 1:
            sin, cos = table if broken else table[::-1]
            return plain.apply_rotary(x, cos, sin)
        cos, sin = table
        return plain.apply_rotary(x, cos, sin)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64)


@wrong("NOOP")
def keys_returned_as_they_were(broken):
    """The fused function turns both and returns the new queries with the old keys."""
    inv_freq = plain.inverse_frequencies(64)

    def apply_rotary_pos_emb(q, k, q_positions, k_positions):
        q_embed = plain.rope(q, q_positions, inv_freq)
        k_embed = plain.rope(k, k_positions, inv_freq)
        return q_embed, k.clone() if broken else k_embed

    return Implementation(apply_qk=apply_rotary_pos_emb, heads=(8, 2), **TORCH), rr.variants.default(64)


@wrong("AXIS")
def rows_of_another_layout(broken):
    """Rows arrive as (seq, batch, heads); the kernel reads the token from them as if they were (batch, seq, heads)."""
    head_dim = 64
    inv_freq = inverse_frequencies(head_dim)

    def apply(x, positions):
        seq, batch, heads, _ = x.shape
        row = np.arange(seq * batch * heads)
        token = row // heads % seq if broken else row // (batch * heads)
        flat = np.ascontiguousarray(x).reshape(-1, head_dim)
        return rope(flat, positions[token], inv_freq).reshape(x.shape)

    declared = NUMPY | {"rows": False, "layout": "sbhd"}
    return Implementation(apply=apply, **declared), rr.variants.default(head_dim)


@wrong("ROTDIM")
def last_channels(broken):
    """Partial rotary turns the last channels of a head and passes the first."""
    inv_freq = plain.inverse_frequencies(32)

    def apply(x, positions):
        if broken:
            x_pass, x_rot = x[..., :32], x[..., 32:]
            return torch.cat((x_pass, plain.rope(x_rot, positions, inv_freq)), dim=-1)
        x_rot, x_pass = x[..., :32], x[..., 32:]
        return torch.cat((plain.rope(x_rot, positions, inv_freq), x_pass), dim=-1)

    return Implementation(apply=apply, **TORCH), rr.variants.partial(64, 0.5)


@wrong("ROTDIM")
def rounded_up_to_vectors(broken):
    """The rotary width, 20 of 80, is rounded up to whole vectors of 8: 24."""
    rotary_dim = 24 if broken else 20
    inv_freq = inverse_frequencies(rotary_dim)

    def apply(x, positions):
        return rope(x, positions, inv_freq)

    return Implementation(apply=apply, **NUMPY), rr.variants.partial(80, 0.25)


@wrong("THETA")
def base_of_bfloat16(broken):
    """The base lies in a checkpoint of bfloat16: 500,000 becomes 499,712."""
    base = torch.tensor(500000.0).bfloat16().item() if broken else 500000.0
    inv_freq = plain.inverse_frequencies(128, base)
    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, inv_freq), **TORCH)
    return adapter, rr.variants.default(128, theta=500000.0)


@wrong("THETA")
def alpha_times_base(broken):
    """NTK-aware scaling multiplies the base by alpha itself, not by alpha^(d / (d - 2))."""
    alpha, dim = 8.0, 128
    inv_freq = plain.inverse_frequencies(dim, 10000.0 * (alpha if broken else alpha ** (dim / (dim - 2))))
    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, inv_freq), **TORCH)
    return adapter, rr.variants.ntk(dim, alpha)


@wrong("THETA")
def logarithm_to_base_two(broken):
    """Frequencies as exp(-ln(theta) 2i/d), ported with exp2 and the natural logarithm: theta^0.69 is the base."""
    dim = 64
    exponent = np.arange(0, dim, 2) / dim
    inv_freq = np.exp2(-(np.log(10000.0) if broken else np.log2(10000.0)) * exponent)

    def apply(x, positions):
        return rope(x, positions, inv_freq, turn_adjacent)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(dim, pairing="interleaved")


