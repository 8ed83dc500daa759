"""The rotation on CUDA devices: the checks, once for all. What was measured on a GPU: see docs/cuda.md.

Read in this order:

1. ``memory``  loads and stores by address
2. ``kernel``  what a thread does
3. ``plan``    which kernel fits which strides, and its numbers
4. ``arrays``  whose memory it is
5. ``checks``  what may be handed in
6. ``overlap`` what must not be written
7. ``launch``  on which device and stream
"""

from collections.abc import Sequence
from typing import Any

from numba_kernels.cuda import checks, launch, overlap, plan
from numba_kernels.cuda.arrays import like, lowest
from numba_kernels.cuda.checks import KINDS
from numba_kernels.plan import options, small

__all__ = ["normalise_and_rotate", "rotate", "rotate_query_key"]


def rotate(
    x: Any,
    cos: Any,
    sin: Any,
    *,
    pairing: str,
    start: int = 0,
    positions: Any = None,
    out: Any = None,
    inverse: bool = False,
) -> Any:
    """Rotate the pairs of x by tables of cosines and sines: `numba_kernels.rotate` on a CUDA device.

    x          (..., head_dim), float64, float32, float16, or bfloat16 (or its uint16 storage), any strides:
               anything with __cuda_array_interface__, torch's tensors, and DLPack where torch is loaded
    cos, sin   (..., pairs), broadcast against the leading axes of x; of any floating type, on the same device.
               With positions: (rows, pairs)
    pairing    "half-split" or "interleaved"
    start      first channel that turns; channels outside [start, start + 2 pairs) pass through
    positions  integers that broadcast against the leading axes of x: rows of the tables. On the host they are
               checked and copied to the device; on the device no check can be had without waiting, so a
               position that is no row of the tables turns its pairs into NaN
    out        where to write: x itself, an array apart from x, or None for a new one: torch's or CuPy's for
               theirs, else Numba's, in which bfloat16 is its uint16 storage
    inverse    turn by the opposite angle (the transpose)

    Returns out. The numbers are those of `numba_kernels.rotate`, bit for bit but for those of NaN. The kernel is put
    on torch's current stream where tensors are given, else on the stream the arrays name; nothing is copied or
    waited for. Raises TypeError, ValueError or IndexError before anything is launched.
    """
    (turned,) = _rotate({"x": x}, cos, sin, pairing, start, positions, (out,), inverse, None, 0.0)
    return turned


def rotate_query_key(
    query: Any,
    key: Any,
    cos: Any,
    sin: Any,
    *,
    pairing: str,
    start: int = 0,
    positions: Any = None,
    out: Sequence[Any] = (None, None),
    inverse: bool = False,
    weights: Sequence[Any] | None = None,
    epsilon: float = 1e-6,
) -> tuple[Any, Any]:
    """Rotate queries and keys by the same tables in one launch; their other axes, as heads, may differ.

    weights    two arrays (head_dim,): first divide every row by its root mean square, sqrt(mean(x^2) + epsilon),
               and multiply it by the weights of queries or of keys (RMSNorm, arXiv:1910.07467). All of it
               happens in the type of the arithmetic, and is rounded once

    All else is as for `rotate`.
    """
    sides = {"query": query, "key": key}
    for name, given in (("weights", weights), ("out", out)):
        if given is not None and len(given) != 2:
            raise ValueError(f"{name} has {len(given)} entries; expected two, of query and key")
    first, second = _rotate(sides, cos, sin, pairing, start, positions, out, inverse, weights, small(epsilon))
    return first, second


def normalise_and_rotate(
    x: Any, weight: Any, cos: Any, sin: Any, *,
    epsilon: float, pairing: str, start: int = 0, positions: Any = None, out: Any = None,
) -> Any:  # fmt: skip
    """Divide every row of x by its root mean square, weigh its channels by weight (head_dim,), and rotate.

    `numba_kernels.normalise_and_rotate` on a CUDA device, within its roundings; all else is as for `rotate`.
    """
    (turned,) = _rotate({"x": x}, cos, sin, pairing, start, positions, (out,), False, (weight,), small(epsilon))
    return turned


def _rotate(
    arrays: dict[str, Any], cos: Any, sin: Any, pairing: str, start: int, positions: Any,
    outs: Sequence[Any], inverse: bool, weights: Sequence[Any] | None, epsilon: float,
) -> list[Any]:  # fmt: skip
    options(pairing, start, inverse)
    first, *_ = arrays.values()
    x = [checks.rows(name, array) for name, array in arrays.items()]
    tables = checks.tables(cos, sin)
    heavy = [] if weights is None else checks.weights(list(arrays), weights, x[0].shape[-1])
    if positions is not None:
        positions, rows = checks.places(positions, tables[0].shape[0], first)
    results = [like(a, v) if o is None else o for a, v, o in zip(arrays.values(), x, outs, strict=True)]
    out = [checks.rows("out" if len(x) == 1 else f"out of {v.name}", o) for v, o in zip(x, results, strict=True)]
    checks.alike(x, out)
    read = [*tables, *heavy, *([] if positions is None else [rows])]
    found = plan.make(
        KINDS[x[0].dtype],
        tuple(plan.Side(a.shape, a.steps, b.shape, b.steps) for a, b in zip(x, out, strict=True)),
        pairing, int(start), bool(inverse), all(map(overlap.same, x, out)),
        plan.Table(tables[0].dtype, tables[0].shape, tables[1].shape, tables[0].steps, tables[1].steps),
        None if positions is None else plan.Places(rows.dtype, rows.shape, rows.steps),
        plan.Weight(KINDS[heavy[0].dtype], tuple(w.steps[0] for w in heavy)) if heavy else None,
        (lowest(x, out), lowest(tables), lowest(heavy)),
    )  # fmt: skip
    overlap.check(x, out, read)
    device, stream = launch.place([*x, *out, *read], hasattr(first, "data_ptr"))
    if found is not None:
        addresses = [tables[0].address, tables[1].address, 0 if positions is None else rows.address]
        for i, (a, b) in enumerate(zip(x, out, strict=True)):
            addresses += [a.address, b.address, heavy[i].address if heavy else 0]
        launch.run(found, addresses, epsilon, device, stream)
    return results
