"""An implementation that is not Python: a child process, asked in lines of text, given arrays in files.

The parent writes a line to the child's standard input and the child answers with one line on its
standard output, flushed, `ok` or `error MESSAGE`; when its input ends, the child ends.

    hello 1 ROPE              1 is the version of this protocol, ROPE a file: see `description`.
                              The answer names what the child offers: `ok rotate tables frequencies`
    rotate IN OUT             IN has x (batch, heads, seq, head_dim), F32, BF16, F16 or F64, and
                              positions (batch, seq, axes), I64 or F64. Before the answer the child
                              writes OUT with y, in x's shape and dtype
    tables IN OUT             IN has positions; OUT gets cos and sin, of any float dtype,
                              (batch, heads, seq, pairs), with heads as ROPE says: 1 where all share
                              them; or with each entry twice in a last axis of rotary_dim
    frequencies OUT           OUT gets inv_freq (heads, pairs, axes) and scale (1), the constant
                              magnitude, of any float dtype

All paths are absolute and hold no white space; the files are those of `tensors`. A child may ignore
the frequencies that ROPE gives and compute its own: then these are what is tested. Standard error is
free, and its end is quoted when the child dies.
"""

import math
import shlex
import threading
from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import ArrayLike, NDArray

from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.process import Process
from rope_ref.conformance.adapters.tensors import load, save
from rope_ref.conformance.description import describe, text
from rope_ref.rope import Rope

FLOATS = tuple(map(np.dtype, (np.float32, ml_dtypes.bfloat16, np.float16, np.float64)))
OPERATIONS = ("rotate", "tables", "frequencies")

Array = NDArray[Any]


def command(argv: str | Sequence[str], rope: Rope, *, time_limit: float = 10.0) -> Implementation:
    """The implementation behind a command, given as a list or as a line that is split as a shell does.

    The command is started once and asked many times. After a death, a hang or nonsense it is killed
    with all that it started, and the next call starts it afresh. It ends with the Implementation, at
    the latest with the interpreter.

    apply(x, positions) takes and gives arrays of float32, float16, float64 or ml_dtypes.bfloat16. Raises
    ChildProcessError if the child dies, TimeoutError if it takes longer than `time_limit` seconds to
    answer, and ValueError if it answers an error, nonsense, or with a file that is not what was asked for.
    """
    if not isinstance(rope, Rope):
        raise TypeError(f"rope is {rope!r}; expected a Rope, since a child speaks of one")
    child = Child(shlex.split(argv) if isinstance(argv, str) else list(argv), rope, time_limit)
    offered = child.start()
    return Implementation(
        apply=child.rotate if "rotate" in offered else None,
        tables=child.tables if "tables" in offered else None,
        frequencies=child.frequencies if "frequencies" in offered else None,
        arrays="numpy",
        time_limit=time_limit,
    )


class Child:
    """A command that speaks the protocol about one Rope."""

    def __init__(self, argv: list[str], rope: Rope, time_limit: float) -> None:
        self.argv, self.rope, self.time_limit = argv, rope, time_limit
        self.lock = threading.Lock()

    def start(self) -> list[str]:
        """Start the command and say hello; returns what it offers."""
        self.process = Process(self.argv, self.time_limit)
        self.name, description = self.process.name, self.process.folder / "rope.json"
        if len(str(description).split()) != 1:
            raise ValueError(f"temporary files are in {description.parent}; expected a TMPDIR without white space")
        description.write_text(text(describe(self.rope)) + "\n")
        offered = self.process.ask(f"hello 1 {description}").split()
        if not offered or not set(offered) <= set(OPERATIONS):
            raise ValueError(f"{self.name} offers {' '.join(offered)!r}; expected some of {', '.join(OPERATIONS)}")
        return offered

    def rotate(self, x: ArrayLike, positions: ArrayLike) -> Array:
        """What the child makes of x (batch, heads, seq, head_dim), in x's dtype."""
        x = np.asarray(x)
        if x.dtype not in FLOATS:
            raise TypeError(f"x has dtype {x.dtype}; expected one of {', '.join(map(str, FLOATS))}")
        if x.ndim != 4 or x.shape[-1] != self.rope.head_dim:
            raise ValueError(f"x has shape {x.shape}; expected (batch, heads, seq, {self.rope.head_dim})")
        try:
            p = np.broadcast_to(self.places(positions), (x.shape[0], x.shape[2], self.rope.axes or 1))
        except ValueError:
            raise ValueError(f"positions have shape {np.shape(positions)}; expected those of x {x.shape}") from None
        y = self.call("rotate", {"x": x, "positions": p}, ["y"])["y"]
        if y.dtype != x.dtype:
            raise ValueError(f"{self.name} wrote y as {y.dtype}; expected {x.dtype}, as x is")
        with np.errstate(invalid="ignore"):  # NaN with the signalling bit
            self.check("y", y, [x.shape], numbers=bool(np.isfinite(x).all()))
        return y

    def tables(self, positions: ArrayLike) -> tuple[Array, Array]:
        """The child's cos and sin, (..., pairs) or (..., rotary_dim), for positions (..., seq) and their axes."""
        p, heads, pairs = self.places(positions), self.rope.heads, self.rope.pairs
        if p.ndim < 2 or p.shape[-1] != (self.rope.axes or 1):
            raise ValueError(f"positions have shape {np.shape(positions)}; expected (..., seq), then the Rope's axes")
        *lead, seq, axes = p.shape
        rows = math.prod(lead)
        given = self.call("tables", {"positions": p.reshape(rows, seq, axes)}, ["cos", "sin"])
        for name, table in given.items():
            self.check(name, table, [(rows, heads or 1, seq, width) for width in (pairs, 2 * pairs)])
        each = (seq,) if heads is None else (heads, seq)
        cos, sin = (given[name].reshape(*lead, *each, given[name].shape[-1]) for name in ("cos", "sin"))
        return cos, sin

    def frequencies(self) -> tuple[Array, float]:
        """The child's inverse frequencies, in the shape that the Rope has them, and its constant magnitude."""
        given = self.call("frequencies", {}, ["inv_freq", "scale"])
        self.check("inv_freq", given["inv_freq"], [(self.rope.heads or 1, self.rope.pairs, self.rope.axes or 1)])
        self.check("scale", given["scale"], [(1,)])
        return given["inv_freq"].reshape(self.rope.omega.shape), float(given["scale"][0])

    def places(self, positions: ArrayLike) -> Array:
        """Positions as int64 or float64, with an axis for their axes even where they have none."""
        p = np.asarray(positions)
        if p.dtype.kind not in "iuf":
            raise TypeError(f"positions have dtype {p.dtype}; expected whole or floating-point numbers")
        p = p.astype(np.float64 if p.dtype.kind == "f" else np.int64)
        return p[..., None] if self.rope.axes is None else p

    def call(self, operation: str, arrays: dict[str, Array], names: list[str]) -> dict[str, Array]:
        """One operation: arrays in, the named arrays of floats out."""
        with self.lock:
            if not self.process.running:
                self.start()
            given, answer = (self.process.folder / f"{name}.safetensors" for name in ("in", "out"))
            answer.unlink(missing_ok=True)  # an old answer must not pass for a new one
            if arrays:
                save(given, arrays)
            self.process.ask(" ".join([operation, *([str(given)] if arrays else []), str(answer)]))
            try:
                result = load(answer)
            except (OSError, ValueError) as error:
                raise ValueError(f"{self.name} answered ok to {operation} but wrote no good file: {error}") from error
        if sorted(result) != sorted(names) or not all(array.dtype in FLOATS for array in result.values()):
            found = ", ".join(f"{name} ({array.dtype})" for name, array in result.items())
            raise ValueError(f"{self.name} wrote {found or 'no array'}; expected {' and '.join(names)} of floats")
        return result

    def check(self, name: str, array: Array, shapes: list[tuple[int, ...]], numbers: bool = True) -> None:
        """Raise ValueError unless an array of the child has one of these shapes and, if asked, no NaN."""
        if array.shape not in shapes:
            expected = " or ".join(map(str, shapes))
            raise ValueError(f"{self.name} wrote {name} of shape {array.shape}; expected {expected}")
        if numbers and np.isnan(array).any():
            bad = np.argwhere(np.isnan(array))
            first = tuple(map(int, bad[0]))
            raise ValueError(f"{self.name} wrote NaN in {name}, in {len(bad)} of {array.size} places, first at {first}")
