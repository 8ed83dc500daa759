"""Which classes of bugs some numbers expose: what each bug would compute, held against the bound.

One bug stands for its class, and leaves of the Rope what it does not touch. A class is exposed
where its bug moves a number beyond the bound; this is found out, not claimed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rope_ref.conformance.diagnosis.mutations.rules import RULES
from rope_ref.conformance.samples import ARGUMENTS
from rope_ref.frequencies import geometric
from rope_ref.rope import Rope
from rope_ref.rotation import angles, magnitude, rotate, tables, turn

Array = NDArray[np.float64]
Integers = NDArray[Any]

# A variant that differs from plain frequencies by more than theta, and the class of having forgotten it.
SCALED = {
    name: RULES[name]
    for name in ("linear", "dynamic_ntk", "ntk_by_parts", "llama3", "yarn", "dynamic_yarn", "longrope")
}


def exposes(variant: str, rope: Rope, x: Array, positions: Integers, expected: Array, bound: Array) -> list[str]:
    """The classes whose bug is seen at these positions, (batch, seq) or (batch, seq, axes), in x of four axes."""
    found = {bug for bug, y in mistaken(variant, rope, x, positions) if not (np.abs(y - expected) <= bound).all()}
    return sorted(found)


def mistaken(variant: str, rope: Rope, x: Array, p: Integers) -> Iterator[tuple[str, Array]]:
    """Each class that can be told of this Rope, and what its bug makes of x."""
    cos, sin = tables(rope, p)
    phi, m = angles(rope, p), magnitude(rope, p)
    other = {"half-split": "interleaved", "interleaved": "half-split"}[rope.pairing]
    yield "LAYOUT", rotate(x, p, replace(rope, pairing=other))
    yield "FORMULA", turn(x, np.zeros_like(cos), sin, rope)  # the term with the cosine is missing
    yield "NOOP", x
    yield "THETA", rotate(x, p, _with(rope, lambda w: np.sign(w) * np.abs(w) ** 1.1))  # theta^1.1
    yield "INVDT", rotate(x, p, _with(rope, _bfloat16))
    yield "ANGDT", turn(x, m * np.cos(_bfloat16(phi)), m * np.sin(_bfloat16(phi)), rope)
    yield "TABDT", turn(x, _bfloat16(cos), _bfloat16(sin), rope)
    yield "POSDT", rotate(x, _bfloat16(p), rope)
    yield "BATCHPOS", rotate(x, np.broadcast_to(p[:1], p.shape), rope)  # all rows stand where the first does
    if rope.heads is None and x.shape[1] <= x.shape[2]:  # positions run along the heads
        yield "AXIS", rotate(x.swapaxes(1, 2), p[:, : x.shape[1]], rope).swapaxes(1, 2)
    if p.dtype.kind == "i":
        index = np.arange(p.shape[1]) if rope.axes is None else np.arange(p.shape[1])[:, None]
        yield "OFFSET", rotate(x, p + 1, rope)
        yield "POSIGN", rotate(x, np.broadcast_to(index, p.shape), rope)
        yield "RANGE", rotate(x, np.clip(p, 0, 2047), rope)  # clamped to a table
    if rope.start:
        yield "ROTDIM", rotate(x, p, replace(rope, start=0))
    elif 2 * rope.pairs < rope.head_dim and rope.heads is None:  # the whole head turns
        whole = np.resize(rope.omega, (rope.head_dim // 2, *rope.omega.shape[1:]))
        yield "ROTDIM", rotate(x, p, replace(rope, inv_freq=whole, rotary_dim=rope.head_dim))
    if rope.axes is not None:
        yield "MROPE" if "mrope" in variant else "AXIAL", rotate(x, p[..., ::-1], rope)
    if rope.attention_scale != 1:
        yield "YMAG", rotate(x, p, replace(rope, attention_scale=1.0))
    if rope.xpos is not None:
        yield "XPOS", rotate(x, p, rope.keys)
    if variant in SCALED:
        plain = geometric(2 * rope.pairs, ARGUMENTS[variant]["theta"])
        yield SCALED[variant], rotate(x, p, _with(rope, lambda w: np.asarray(plain, np.float64)))


def _with(rope: Rope, change: Callable[[Array], Array]) -> Rope:
    return replace(rope, inv_freq=change(rope.omega), rotary_dim=2 * rope.pairs)


def _bfloat16(a: Any) -> Array:
    return np.asarray(a).astype(ml_dtypes.bfloat16).astype(np.float64)
