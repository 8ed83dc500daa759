"""Golden vectors: inputs, expected outputs and bounds for every variant, to be read without this package.

A folder holds an index.json, whose schema is docs/vectors.schema.json, and a safetensors file a vector:

    x                 (batch, heads, seq, head_dim), in the vector's dtype
    positions         (batch, seq, axes), int64 where the variant counts, float64 where it measures
    expected          float64, in x's shape
    bound             |y - expected| where angles are computed in float64
    bound_float32     the same where frequencies and angles are computed in float32

An implementation rotates x, rounds to x's dtype, and is right if every number is within the bound of
its kind. A bound is the sum of these roundings: tables of float32, arithmetic in float32, storage in
the dtype, and the error of the angle; an implementation that makes fewer has room to spare.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from rope_ref.conformance.adapters.tensors import load, save
from rope_ref.conformance.description import describe, described, text
from rope_ref.conformance.exposure import exposes
from rope_ref.conformance.samples import ARGUMENTS, Kind, kinds, rope
from rope_ref.exactness import UNIT, budget
from rope_ref.rope import Rope
from rope_ref.rotation import angles, rotate

Array = NDArray[np.float64]

SHAPE = {"batch": 2, "heads": 3, "seq": 4}  # all different, so that no axis passes for another
DTYPES: dict[str, Any] = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
ROUNDINGS = {"arithmetic": "float32", "table": "float32"}
TENSORS = {
    "x": "(batch, heads, seq, head_dim), in the vector's dtype",
    "positions": "(batch, seq, axes), I64 or F64",
    "expected": "x rotated in float64",
    "bound": "largest right |y - expected| where angles are computed in float64",
    "bound_float32": "largest right |y - expected| where frequencies and angles are computed in float32",
}
TOLERANCE = (
    "|y - expected| <= bound for every number, y rounded to the dtype of x; bound adds up the roundings of cos and "
    "sin (table), of two products and a sum (arithmetic), of y (store), and the error of the angle"
)


@dataclass(frozen=True, eq=False)
class Vector:
    """One golden vector. positions are as `rotate` takes them: without axes where the Rope has none."""

    name: str
    variant: str
    words: str
    dtype: str
    exposes: tuple[str, ...]
    rope: Rope
    x: NDArray[Any]
    positions: NDArray[Any]
    expected: Array
    bound: Array
    bound_float32: Array


def write(directory: str | PathLike[str], names: Sequence[str] | None = None, seed: int = 0) -> None:
    """Write the golden vectors of the named variants, of all by default, and their index into a folder.

    Raises ValueError for an unknown variant.
    """
    names = list(ARGUMENTS) if names is None else names
    ropes = {name: rope(name) for name in names}
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = [vector(name, kind, seed) for name in names for kind in kinds(name)]
    for v in vectors:
        arrays = {name: getattr(v, name) for name in TENSORS}
        positions = v.positions if v.rope.axes else v.positions[..., None]
        save(folder / f"{v.name}.safetensors", arrays | {"positions": positions})
    index = {
        "version": 1,
        "seed": seed,
        "tolerance": TOLERANCE,
        "tensors": TENSORS,
        "ropes": {name: describe(ropes[name]) | {"arguments": ARGUMENTS[name]} for name in names},
        "vectors": [
            {
                "file": f"{v.name}.safetensors",
                "variant": v.variant,
                "positions": v.words,
                "dtype": v.dtype,
                "tolerance": ROUNDINGS | {"store": v.dtype},
                "exposes": v.exposes,
            }
            for v in vectors
        ],
    }
    (folder / "index.json").write_text(text(index, depth=2) + "\n")


def read(directory: str | PathLike[str]) -> Iterator[Vector]:
    """The golden vectors of a folder. Raises ValueError where its files are not what the index says."""
    folder = Path(directory)
    index = json.loads((folder / "index.json").read_text())
    if index.get("version") != 1:
        raise ValueError(f"index.json has version {index.get('version')!r}; expected 1")
    for entry in index["vectors"]:
        file = entry["file"]
        if not re.fullmatch(r"[a-z0-9_-]+\.safetensors", file):  # nothing outside of the folder
            raise ValueError(f"file is {file!r}; expected a name of small letters, digits, - and _, then .safetensors")
        r, arrays = described(index["ropes"][entry["variant"]]), load(folder / file)
        if set(arrays) != set(TENSORS):
            raise ValueError(f"{file} holds {', '.join(arrays)}; expected {', '.join(TENSORS)}")
        x, positions = arrays["x"], arrays["positions"]
        if x.ndim != 4 or x.shape[-1] != r.head_dim or x.dtype != DTYPES[entry["dtype"]]:
            raise ValueError(f"{file} has x of {x.dtype} {x.shape}; expected {entry['dtype']} (..., {r.head_dim})")
        if positions.shape != (x.shape[0], x.shape[2], r.axes or 1):
            raise ValueError(f"{file} has positions of shape {positions.shape}; expected one for each token of x")
        for name in ("expected", "bound", "bound_float32"):
            if arrays[name].shape != x.shape or arrays[name].dtype != np.float64:
                raise ValueError(f"{file} has {name} of {arrays[name].dtype} {arrays[name].shape}; expected that of x")
        yield Vector(
            name=file.removesuffix(".safetensors"),
            variant=entry["variant"],
            words=entry["positions"],
            dtype=entry["dtype"],
            exposes=tuple(entry["exposes"]),
            rope=r,
            x=x,
            positions=positions if r.axes else positions[..., 0],
            expected=arrays["expected"],
            bound=arrays["bound"],
            bound_float32=arrays["bound_float32"],
        )


def vector(name: str, kind: Kind, seed: int = 0) -> Vector:
    """The vector of a variant and a kind of positions; the same for the same seed, whatever else is written."""
    r, label = rope(name), f"{name}-{kind.name}-{kind.dtype}"
    generator = np.random.default_rng([seed, *label.encode()])
    p = kind.draw(generator, (SHAPE["batch"], SHAPE["seq"], r.axes or 1))
    p = p if r.axes else p[..., 0]
    x = generator.standard_normal((*SHAPE.values(), r.head_dim)).astype(DTYPES[kind.dtype])
    exact = x.astype(np.float64)
    expected = rotate(exact, p, r)
    strict, loose = (
        budget(exact, p, r, store=kind.dtype, **ROUNDINGS, angle=angle_error(r, p, UNIT[dtype]))
        for dtype in ("float64", "float32")
    )
    bugs = tuple(exposes(name, r, exact, p, expected, loose))
    return Vector(label, name, kind.words, kind.dtype, bugs, r, x, p, expected, strict, loose)


def angle_error(rope: Rope, positions: NDArray[Any], unit: float) -> Array:
    """How far an angle may be off, radians, where frequencies and angles are computed with this unit roundoff u.

        sum over axes |p w| (|ln w| + 24 + axes) u  +  2 u

    A frequency theta^-e whose exponent is rounded is off by e ln theta u = |ln w| u. To that come the
    roundings of theta, power and division, of the position, the product and the sum, and of a ramp between
    w/s and w, whose few count up to s <= 16 times near w/s: 24 leaves room for all variants sampled. The
    last term is for cosines and sines that are off by a unit in the last place.
    """
    w = np.abs(rope.omega)
    counted = np.abs(np.log(np.where(w > 0, w, 1.0))) + 24 + (rope.axes or 1)
    worst = replace(rope, inv_freq=w * counted, rotary_dim=2 * rope.pairs)
    return (angles(worst, np.abs(positions)) + 2) * unit
