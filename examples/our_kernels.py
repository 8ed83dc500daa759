"""numba_kernels.rotate: fresh, in place, into a buffer, and by rows of a table, from arrays of any strides.

    rope-ref check examples.our_kernels:implementation --variant default --head-dim 64

The kernels know tables alone; angles are the specification's, exact and rounded once.
"""

import numpy as np

import numba_kernels as nk
import rope_ref as rr
from examples.our_kernel_paths import ROWS, gathers, normalised, streamed, ways
from rope_ref.conformance import Implementation

DTYPES = ("float32", "bfloat16", "float16", "float64")


def tabulated(rope):
    """tables(x, positions): cos and sin that broadcast to x, in the type in which it is rotated."""

    def tables(x, positions):
        cos, sin = rr.tables(rope, positions, np.float64 if x.dtype == np.float64 else np.float32)
        many = positions.ndim > (1 if rope.axes is None else 2)
        return (cos[:, None], sin[:, None]) if many else (cos, sin)

    return tables


def kernels(rope, **more):
    options, tables = {"pairing": rope.pairing, "start": rope.start}, tabulated(rope)

    def apply(x, positions):
        return nk.rotate(x, *tables(x, positions), **options)

    def in_place(x, positions):
        return nk.rotate(x, *tables(x, positions), out=x, **options)

    def into(x, positions, out):
        return nk.rotate(x, *tables(x, positions), out=out, **options)

    def grad(x, positions, upstream):
        return nk.rotate(upstream, *tables(x, positions), inverse=True, **options)

    return Implementation(
        apply=apply, in_place=in_place, into=into, grad=grad, tables=lambda p: rr.tables(rope, p, np.float32),
        arrays="numpy", dtypes=DTYPES, angle="exact", rows=True, negative=True, fractional=True, strided=True,
        **more,
    )  # fmt: skip


def by_rows(rope):
    """rows(x): cos and sin of the first positions, in the type in which x is rotated."""
    rows = {dtype: rr.tables(rope, np.arange(ROWS), dtype) for dtype in (np.float32, np.float64)}
    return lambda x: rows[np.float64 if x.dtype == np.float64 else np.float32]


def gathered(rope, **more):
    """Positions pick rows of a table; one outside it is an error."""
    rows = by_rows(rope)

    def apply(x, positions):
        index = positions[:, None] if positions.ndim == 2 else positions
        return nk.rotate(x, *rows(x), pairing=rope.pairing, start=rope.start, positions=index)

    return Implementation(
        apply=apply, arrays="numpy", dtypes=DTYPES, angle="exact", rows=True, negative=False, fractional=False,
        strided=True, max_position=ROWS, **more,
    )  # fmt: skip


rope = rr.variants.default(64)
implementation = kernels(rope)
ROPES = {
    "half-split": rope,
    "interleaved": rr.variants.default(64, pairing="interleaved"),
    "last channels": rr.decoupled(20, 12),
    "odd head": rr.Rope(7, rotary_dim=4, start=1),
    "mrope": rr.variants.mrope(128, (16, 24, 24)),
    "yarn": rr.variants.yarn(64, 4.0, 4096),
}
CHECKS = {name: (kernels(each), each) for name, each in ROPES.items()} | {"gathered": (gathered(rope), rope)}
# what takes longer, and adds nothing unless the kernels are changed; 32 + 8 + 1 pairs take vectors of every width
INTERLEAVED, LAST = ROPES["interleaved"], ROPES["last channels"]
WIDTHS = [rr.Rope(90, rotary_dim=82, start=3, pairing=pairing) for pairing in ("half-split", "interleaved")]
WAYS = (
    {f"all ways, {each.pairing}": (kernels(each, paths=ways(each, tabulated(each))), each) for each in WIDTHS}
    | {f"gathered in all ways, {each.pairing}": (gathered(each, paths=gathers(each, by_rows(each))), each)
       for each in (rope, LAST)}
    | {f"normalised, {each.pairing}": (normalised(each, tabulated(each)), each) for each in (rope, INTERLEAVED)}
    | {f"streamed, {each.pairing}": (streamed(each, tabulated(each)), each) for each in (rope, INTERLEAVED)}
)  # fmt: skip
