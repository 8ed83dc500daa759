"""Right implementations of an unusual form: nothing may be found in them."""

import numpy as np
import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.unseen.case import right
from tests.conformance.unseen.loops import NUMPY, inverse_frequencies, phases, rope, turn_adjacent, turn_halves
from tests.conformance.wrong import plain
from tests.conformance.wrong.plain import TORCH


@right
def complex_numbers():
    """Adjacent channels as complex numbers, in PyTorch."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        freqs = plain.angles(positions, inv_freq)
        x_ = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
        return torch.view_as_real(x_ * torch.polar(torch.ones_like(freqs), freqs)).flatten(-2).type_as(x)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64, pairing="interleaved")


@right
def complex_numpy():
    """Halves as complex128, by one exponential."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        z = (x[..., :32] + 1j * x[..., 32:]) * np.exp(1j * phases(positions, inv_freq))
        return np.concatenate((z.real, z.imag), axis=-1).astype(x.dtype)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@right
def recurrence_declared():
    """Frequencies by multiplying with a rounded ratio from pair to pair, as ggml does, in float32, declared."""
    ratio = np.float32(10000.0) ** np.float32(-1 / 32)
    inv_freq = np.cumprod(np.concatenate([np.ones(1, np.float32), np.full(31, ratio, np.float32)]), dtype=np.float32)

    def apply(x, positions):
        phi = positions.astype(np.float32)[..., None] * inv_freq
        phi = phi[:, None] if phi.ndim == 3 else phi
        return turn_halves(x, np.cos(phi), np.sin(phi))

    return Implementation(apply=apply, **NUMPY, angle="recurrence"), rr.variants.default(64)


@right
def recurrence_of_float64():
    """Angles of a table by running sums in float64, undeclared: errors stay far below float32."""
    length = 4096
    steps = np.ones((length, 1)) * inverse_frequencies(64)
    steps[0] = 0
    table = np.cumsum(steps, axis=0)

    def apply(x, positions):
        phi = table[positions]
        phi = phi[:, None] if phi.ndim == 3 else phi
        return turn_halves(x, np.cos(phi), np.sin(phi))

    declared = NUMPY | {"negative": False, "fractional": False, "max_position": length}
    return Implementation(apply=apply, **declared), rr.variants.default(64)


@right
def bfloat16_tables_declared():
    """Tables rounded to bfloat16, declared."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        tables = plain.halves(plain.angles(positions, inv_freq))
        return plain.apply_rotary(x, *(t.bfloat16().float() for t in tables))

    return Implementation(apply=apply, table="bfloat16", **TORCH), rr.variants.default(64)


@right
def rotation_matrix():
    """A matrix (d, d) for each token, and a product."""
    inv_freq = inverse_frequencies(32)
    i = np.arange(16)

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        r = np.zeros((*phi.shape[:-1], 32, 32))
        r[..., i, i] = r[..., i + 16, i + 16] = np.cos(phi)
        r[..., i, i + 16] = -np.sin(phi)
        r[..., i + 16, i] = np.sin(phi)
        return (r @ x[..., None])[..., 0].astype(x.dtype)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(32)


@right
def half_angles():
    """cos = (1 - t^2) / (1 + t^2), sin = 2t / (1 + t^2) with t = tan(phi / 2)."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        t = np.tan(phases(positions, inv_freq) / 2)
        return turn_halves(x, (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t))

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64)


@right
def three_shears():
    """A rotation as three shears, which divide by no small number if the angle is taken in (-pi/2, pi/2]."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        phi = phases(positions, inv_freq)
        half_turns = np.round(phi / np.pi)
        phi, sign = phi - np.pi * half_turns, 1 - 2 * (half_turns % 2)
        t, s = np.tan(phi / 2), np.sin(phi)
        a, b = x[..., ::2].astype(np.float64), x[..., 1::2].astype(np.float64)
        a = a - t * b
        b = b + s * a
        a = a - t * b
        return np.stack((sign * a, sign * b), axis=-1).reshape(x.shape).astype(x.dtype)

    return Implementation(apply=apply, **NUMPY), rr.variants.default(64, pairing="interleaved")


@right
def gathered_from_a_table():
    """A table of 4,096 rows, interleaved as cos, sin, cos, sin, gathered by row."""
    length, inv_freq = 4096, plain.inverse_frequencies(128)
    freqs = torch.outer(torch.arange(length).float(), inv_freq)
    table = torch.stack((freqs.cos(), freqs.sin()), dim=-1)

    def apply(x, positions):
        rows = table.index_select(0, positions.reshape(-1).long()).view(*positions.shape, 64, 2)
        rows = rows[:, None] if positions.ndim == 2 else rows
        cos, sin = rows.unbind(-1)
        a, b = x.float().chunk(2, dim=-1)
        return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).type_as(x)

    adapter = Implementation(apply=apply, max_position=length, negative=False, fractional=False, **TORCH)
    return adapter, rr.variants.default(128)


@right
def float64_everywhere():
    """x, tables and result of float64."""
    inv_freq = inverse_frequencies(64)
    declared = NUMPY | {"dtypes": ("float64", "float32")}
    adapter = Implementation(apply=lambda x, positions: rope(x, positions, inv_freq), **declared)
    return adapter, rr.variants.default(64)


@right
def fortran_order():
    """The result lies in memory in Fortran's order."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        return np.asfortranarray(rope(x, positions, inv_freq))

    return Implementation(apply=apply, strided=True, **NUMPY), rr.variants.default(64)


@right
def views_of_a_wider_array():
    """The result is every second channel of a wider array."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        wide = np.full((*x.shape[:-1], 128), np.nan, x.dtype)
        wide[..., ::2] = rope(x, positions, inv_freq, turn_adjacent)
        return wide[..., ::2]

    return Implementation(apply=apply, strided=True, **NUMPY), rr.variants.default(64, pairing="interleaved")


@right
def compiled_eagerly():
    """torch.compile with the backend that compiles nothing."""
    inv_freq = plain.inverse_frequencies(64)
    compiled = torch.compile(lambda x, positions: plain.rope(x, positions, inv_freq), backend="eager", dynamic=True)
    adapter = Implementation(
        apply=lambda x, positions: plain.rope(x, positions, inv_freq), paths={"compiled": compiled},
        time_limit=60.0, **TORCH,
    )  # fmt: skip
    return adapter, rr.variants.default(64)


class Tagged(torch.Tensor):
    """A tensor of a class of its own."""


@right
def subclass_of_tensor():
    """The result is of a subclass of torch.Tensor."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        return plain.rope(x, positions, inv_freq).as_subclass(Tagged)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64)


@right
def transposed_result():
    """The result is a transposed view of (batch, seq, heads, head_dim)."""
    inv_freq = plain.inverse_frequencies(64)

    def apply(x, positions):
        return plain.rope(x, positions, inv_freq).transpose(1, 2).contiguous().transpose(1, 2)

    return Implementation(apply=apply, **TORCH), rr.variants.default(64)


@right
def int32_positions_alone():
    """Positions of int32, and of nothing else."""
    inv_freq = inverse_frequencies(64)

    def apply(x, positions):
        if positions.dtype != np.int32:
            raise TypeError(f"positions are {positions.dtype}; expected int32")
        return rope(x, positions, inv_freq)

    adapter = Implementation(apply=apply, position_dtypes=("int32",), fractional=False, **NUMPY)
    return adapter, rr.variants.default(64)


@right
def requires_grad_of_a_parameter():
    """Frequencies are a parameter, so that every result hangs on a graph."""
    freqs = torch.nn.Parameter(plain.inverse_frequencies(64))
    adapter = Implementation(apply=lambda x, positions: plain.rope(x, positions, freqs), **TORCH)
    return adapter, rr.variants.default(64)
