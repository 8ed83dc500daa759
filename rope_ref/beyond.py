"""Neighbours of RoPE that keep its rotation and change what is around it.

Each is no Rope, since a pair no longer turns by one angle that is linear in the position and
nothing else, and each ends in the ordinary rotation all the same: of a mixture of angles
(FoPE), of magnitudes (PoPE), in another basis (commuting generators).
"""

import numpy as np
from numpy.typing import ArrayLike

from rope_ref.rope import Rope
from rope_ref.rotation import Array, angles, magnitude, rotate, turn


def fourier(
    x: ArrayLike, positions: ArrayLike, rope: Rope, cos_coef: ArrayLike, sin_coef: ArrayLike, trained_length: float
) -> Array:
    """Fourier position embedding, FoPE (arXiv 2412.17739): each pair turns by a mixture of frequencies.

        cos_d(p) = sum_D cos(w_D p) C_Dd,    sin_d(p) = sum_D sin(w_D p) S_Dd

    over the D frequencies with w > 2 pi / trained_length: a period that training has seen whole.
    The other pairs have frequency zero and stay as they are. x: (..., seq, head_dim), positions:
    (seq,); C and S: (D, D), or (heads, D, D) for x (..., heads, seq, head_dim). They start as
    identities plus noise. Published code may divide each column by its sum first, and pads both
    tables with ones: there the other pairs are scaled by sqrt 2 and turned by a constant eighth,
    queries and keys alike, so that they count twice in a score.

    Raises ValueError for coefficients of another shape.
    """
    phi = angles(rope, positions)
    kept = rope.omega > 2 * np.pi / trained_length
    c, s, many = np.asarray(cos_coef, np.float64), np.asarray(sin_coef, np.float64), int(kept.sum())
    if rope.axes is not None or phi.ndim != 2:
        raise ValueError(f"positions have shape {np.shape(positions)}; expected (seq,), and a Rope of one axis")
    if c.shape[-2:] != (many, many) or s.shape != c.shape:
        raise ValueError(
            f"cos_coef has shape {c.shape}, sin_coef {s.shape}; expected (..., {many}, {many}), "
            f"for the frequencies above 2 pi / {trained_length}"
        )
    cos = np.ones((*c.shape[:-2], *phi.shape))
    sin = np.zeros_like(cos)
    cos[..., kept], sin[..., kept] = np.cos(phi[:, kept]) @ c, np.sin(phi[:, kept]) @ s
    m, shape = magnitude(rope, positions), (1,) * (np.ndim(x) - cos.ndim) + cos.shape
    return turn(x, (m * cos).reshape(shape), (m * sin).reshape(shape), rope)


def polar(x: ArrayLike, positions: ArrayLike, theta: float = 10000.0, bias: ArrayLike = 0.0) -> Array:
    """Polar position embedding, PoPE (arXiv 2509.10534): x sets magnitudes, the position alone sets angles.

        y_c = softplus(x_c) (cos phi_c, sin phi_c),    phi_c = p theta^(-c/d) + bias_c

    Every one of d channels becomes a pair, so y is (..., seq, 2 d), pairs interleaved. The bias
    is learned, clamped to [-2 pi, 0], and the keys' alone: a score is the sum over c of
    softplus(q_c) softplus(k_c) cos((m - n) theta^(-c/d) - bias_c).

    x: (..., seq, d), positions: (seq,), bias: (d,), or (heads, 1, d) for x (..., heads, seq, d).
    """
    size = np.logaddexp(0, np.asarray(x, np.float64))
    d = size.shape[-1]
    rope = Rope(2 * d, inv_freq=theta ** (-np.arange(d) / d), pairing="interleaved")
    phi = angles(rope, positions) + np.clip(bias, -2 * np.pi, 0)
    phi = np.broadcast_to(phi, size.shape)
    pairs = np.stack([size, np.zeros_like(size)], -1).reshape(*size.shape[:-1], 2 * d)
    return turn(pairs, np.cos(phi), np.sin(phi), rope)


def in_basis(x: ArrayLike, positions: ArrayLike, rope: Rope, basis: ArrayLike) -> Array:
    """Commuting generators (LieRE arXiv 2406.10322, STRING arXiv 2502.02562, ComRoPE arXiv 2506.03737).

        exp(sum_a p_a A_a) x = B R(p) B^T x

    Skew-symmetric generators A_a that commute share one orthogonal basis B in which each turns the
    same planes, at its own speeds Omega[:, a]: a change of basis followed by the same rotation.
    Only such generators keep scores relative, since exp(P)^T exp(Q) = exp(Q - P) needs them to
    commute; LieRE in general does not ask it. The B in front drops out of scores.

    basis: (head_dim, head_dim), orthogonal, else ValueError.
    """
    b = np.asarray(basis, np.float64)
    if b.shape != (rope.head_dim,) * 2 or not np.allclose(b @ b.T, np.eye(len(b)), rtol=0, atol=1e-9):
        raise ValueError(f"basis has shape {b.shape}; expected an orthogonal ({rope.head_dim}, {rope.head_dim})")
    return rotate(np.asarray(x, np.float64) @ b, positions, rope) @ b.T
