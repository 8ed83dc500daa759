"""What the properties compare with: storage of every dtype, complex numbers, and bounds on laws."""

import ml_dtypes
import numpy as np

import rope_ref as rr
from rope_ref.exactness import budget
from rope_ref.pairing import channels


def arithmetic(dtype):
    return "float64" if dtype == "float64" else "float32"


def stored(x, dtype):
    """x rounded to dtype, as kernels take it: bfloat16 as uint16."""
    if dtype == "bfloat16":
        return np.array(x, ml_dtypes.bfloat16).view(np.uint16)
    return x.astype(dtype)


def value(y, dtype):
    """The float64 numbers that a stored array stands for."""
    if dtype == "bfloat16":
        with np.errstate(invalid="ignore"):  # NaN with the signalling bit
            return (y.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return y.astype(np.float64)


def rounded(x, dtype):
    return value(stored(x, dtype), dtype)


def as_complex(x, positions, rope):
    """Rotation as multiplication by exp(i angle), written without the package's own pairing."""
    y, turned = np.array(x, np.complex128).real.copy(), x[..., rope.start : rope.start + 2 * rope.pairs]
    phase = np.exp(1j * np.asarray(positions, np.float64)[..., None] * rope.omega) * rope.attention_scale
    if rope.pairing == "interleaved":
        z = (turned[..., ::2] + 1j * turned[..., 1::2]) * phase
        turned = np.stack([z.real, z.imag], -1).reshape(turned.shape)
    else:
        z = (turned[..., : rope.pairs] + 1j * turned[..., rope.pairs :]) * phase
        turned = np.concatenate([z.real, z.imag], -1)
    y[..., rope.start : rope.start + 2 * rope.pairs] = turned
    return y


def bound(x, positions, rope, dtype):
    """The budget of one rotation whose tables, arithmetic and storage are those of dtype."""
    kind = arithmetic(dtype)
    return budget(x, positions, rope, store=dtype, arithmetic=kind, table=kind, angle=angle_error(positions, rope))


def angle_error(positions, rope):
    """Two float64 computations of p w may differ by a rounding of w, of p and of the product (and of each sum)."""
    p = np.abs(np.asarray(positions, np.float64)).max(initial=0)
    axes = rope.axes or 1
    return 4 * axes * p * np.abs(rope.omega).max(initial=0) * axes * 2.0**-53


def carried(error, positions, rope):
    """What a rotation makes of an error in its input: at most m (|e_a| + |e_b|) in both channels of a pair."""
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    m = rr.rotation.magnitude(rope, positions)
    result = np.array(error, np.float64)
    both = (result[..., first] + result[..., second]) * m
    result[..., first], result[..., second] = both, both
    return result
