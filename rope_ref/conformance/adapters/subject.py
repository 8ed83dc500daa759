"""An implementation together with what it should compute: asks it a probe, takes the answer to pieces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, arranged, check_layout, dtype_name, given, numbers, restored
from rope_ref.conformance.adapters.calling import Caller, Failed
from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.probes import Probe, nested
from rope_ref.conformance.properties.model import Accuracy, Mutation, computed, lenient
from rope_ref.rope import Rope

Way = Callable[[Probe, Array], tuple[Any, bool]]  # (probe, x) -> what came back, whether x was changed
FROM_ZERO = ("sequence", "session")  # ways in that count tokens themselves
LONGEST = 4100  # tokens that are asked of them at once
Ropes = Rope | Sequence[Rope] | Callable[[int], Rope]


class Answer(NamedTuple):
    """y (batch, heads, seq, head_dim) or what went wrong; whether x was changed; the dtype that came back."""

    y: Array | None
    failed: str = ""
    changed: bool = False
    dtype: str = ""
    raw: Any = None  # what came back, and the numbers it held then
    held: Any = None


class Deviation(NamedTuple):
    """How an answer differs from what was expected, in words, with the largest error against its bound."""

    text: str
    error: float = 0.0
    bound: float = 0.0


@dataclass
class Subject:
    """What is under test. `mutations` are the wrongs already found, with which later answers are compared."""

    implementation: Implementation
    ropes: Ropes
    kind: str = "numpy"
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    mutations: tuple[Mutation, ...] = ()
    resolve: Callable[[tuple[Mutation, ...], Probe], tuple[Mutation, ...]] = lambda mutations, probe: mutations

    def __post_init__(self) -> None:
        if not isinstance(self.implementation, Implementation):  # a function, of a snippet that was pasted
            self.implementation = Implementation(apply=self.implementation)
        check_layout(self.implementation.layout)
        if self.layered:
            self.ropes = list(self.ropes)  # type: ignore[arg-type]
        self.caller = Caller(self.implementation.time_limit)

    # what it should compute

    @property
    def layered(self) -> bool:
        return not isinstance(self.ropes, Rope) and not callable(self.ropes)

    @property
    def kinds(self) -> list[int]:
        """A layer of every Rope there is, the first and the last that have it."""
        if not self.layered:
            return [0]
        listed: list[Rope] = list(self.ropes)  # type: ignore[arg-type]
        last = {rope: layer for layer, rope in enumerate(listed)}
        return sorted({listed.index(rope) for rope in last} | set(last.values()))

    @property
    def rope(self) -> Rope:
        """The Rope, or one of several, of which head_dim and axes are the same for all."""
        return self.rope_for(Probe(1, 1, (0,)))

    def rope_for(self, probe: Probe, *, length: int | None = None) -> Rope:
        """The Rope that this probe is about: that of its layer, or of the length of its sequence."""
        if isinstance(self.ropes, Rope):
            rope = self.ropes
        elif callable(self.ropes):
            rope = self.ropes(int(np.max(probe.where, initial=0)) + 1 if length is None else length)
        else:
            rope = self.ropes[probe.layer]
        return rope.keys if probe.key else rope

    @property
    def trained(self) -> int | None:
        """The length at which a Rope that depends on length changes, None where it does not."""
        if not callable(self.ropes):
            return None
        given = self.rope.origin.given if self.rope.origin else {}
        return int(given.get("original_max_position_embeddings") or given.get("max_position_embeddings") or 64)

    @property
    def heads(self) -> int:
        declared = self.implementation.heads
        if self.rope.heads is not None:
            return self.rope.heads
        return 2 if declared is None else declared if isinstance(declared, int) else declared[0]

    @property
    def batched(self) -> bool:
        return "b" in self.implementation.layout

    # asking

    def ways(self) -> dict[str, Way]:
        """The ways in that rotate a whole x at given positions."""
        one = self.implementation
        known: dict[str, Any] = {
            "apply": one.apply and partial(self._apply, one.apply),
            "apply_qk.query": one.apply_qk and not self.layered and partial(self._side, 0),
            "apply_qk.key": one.apply_qk and not self.layered and partial(self._side, 1),
            "make": one.make and (lambda probe, x: self._apply(self.call(one.make), probe, x)),
            "in_place": one.in_place and self._in_place,
            "into": one.into and self._into,
            "decode": one.decode and self._decode,
            "sequence": one.sequence and self._sequence,
            "session": one.session and self._session,
            **{f"paths.{name}": partial(self._apply, function) for name, function in one.paths.items()},
        }
        return {name: way for name, way in known.items() if way}

    def through(self, way: str, probe: Probe, longest: int = 700) -> Probe:
        """The probe, or the one nearest to it that a way in can be asked, in as many tokens where it counts itself."""
        least = self.implementation.min_position or 0
        if least and np.min(probe.where, initial=least) < least:
            moved, end = probe.where + least - np.min(probe.where), self.implementation.max_position
            probe = replace(probe, positions=nested(moved if end is None else np.minimum(moved, end - 1)))
        if way == "decode":
            p = probe.where
            return replace(probe, positions=tuple((p.min() + np.arange(p.shape[-1])).tolist()))
        if way in FROM_ZERO:
            n = min(int(np.max(probe.where, initial=0)) + 1, max(longest // self.implementation.layers, 64))
            shape = (n,) if self.rope.axes is None else (n, self.rope.axes)
            count = np.arange(n) if self.rope.axes is None else np.broadcast_to(np.arange(n)[:, None], shape)
            return replace(probe, positions=nested(count), position_dtype="int64")
        if way == "apply_qk.key":
            declared = self.implementation.heads
            return replace(probe, key=True, heads=declared[1] if isinstance(declared, tuple) else probe.heads)
        return probe

    def ask(self, way: str, probe: Probe, x: Array | None = None) -> Answer:
        """The answer to a probe, or to other numbers x in its place; never raises for what the implementation does."""
        return self.answer(self.ways()[way], probe, x)

    def answer(self, way: Way, probe: Probe, x: Array | None = None) -> Answer:
        rope = self.rope_for(probe)
        try:
            raw, changed = way(probe, probe.x(rope.head_dim, rope.axes) if x is None else x)
            if isinstance(raw, (tuple, list)) and len(raw) == 1:
                raw = raw[0]
            y = self.read(raw, (probe.batch, probe.heads, probe.seq(rope.axes), rope.head_dim))
            return Answer(y, "", changed, dtype_name(raw), raw, numbers(raw).copy())
        except Failed as error:
            return Answer(None, str(error))

    def read(self, raw: Any, shape: tuple[int, ...]) -> Array:
        """What came back, as (batch, heads, seq, head_dim). Raises Failed where it is no such thing."""
        if raw is None:
            raise Failed("returned None; expected an array")
        try:
            return restored(self.caller(numbers, raw), self.implementation.layout, shape)
        except (ValueError, TypeError) as error:
            raise Failed(str(error)) from error

    def call(self, function: Any, *args: Any) -> Any:
        return self.caller(function, *args)

    def dtype_of(self, raw: Any) -> str:
        return dtype_name(raw)

    def laid(self, x: Array, dtype: str, memory: str = "contiguous") -> Any:
        layout = self.implementation.layout
        a = arranged(x, layout)
        if memory == "sliced":  # out of something wider, as queries lie in a fused projection
            wide = np.concatenate([np.full_like(a, 3.0)[..., :2], a, np.full_like(a, 7.0)[..., :5]], -1)
            return given(wide, dtype, self.kind)[..., 2 : 2 + a.shape[-1]]
        if memory == "transposed" and a.ndim > 2:
            return given(a.swapaxes(-3, -2), dtype, self.kind).swapaxes(-3, -2)
        if memory == "stepped":
            wide = np.full((*a.shape[:-2], 2 * a.shape[-2], a.shape[-1]), 5.0)
            wide[..., ::2, :] = a
            return given(wide, dtype, self.kind)[..., ::2, :]
        if memory == "expanded" and "h" in layout and "(" not in layout:  # one head, seen as many
            axis = layout.index("h")
            one = given(a.take([0], axis), dtype, self.kind)
            shape = tuple(a.shape)
            return np.broadcast_to(one, shape) if self.kind == "numpy" else one.expand(shape)
        return given(a, dtype, self.kind)

    def positions(self, probe: Probe) -> Any:
        declared, dtype = self.implementation.position_dtypes, probe.position_dtype
        if dtype == "int64" and declared and dtype not in declared:
            dtype = declared[0]
        return given(probe.where, dtype, self.kind)

    def _apply(self, function: Any, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        extra = (probe.layer,) if self.layered else ()
        positions = self.positions(probe)
        raw = self.call(function, array, positions, *extra)
        return raw, self.changed(array, x) or not np.array_equal(numbers(positions), probe.where)

    def _in_place(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory if probe.memory != "expanded" else "contiguous")
        raw = self.call(self.implementation.in_place, array, self.positions(probe))
        if raw is not None and not np.array_equal(numbers(raw), numbers(array), equal_nan=True):
            raise Failed("returned something other than what it left in x")
        return array, False

    def _into(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array, poison = self.laid(x, probe.dtype, probe.memory), self.laid(np.full(x.shape, np.nan), probe.dtype)
        raw = self.call(self.implementation.into, array, self.positions(probe), poison)
        if raw is not None and not np.array_equal(numbers(raw), numbers(poison), equal_nan=True):
            raise Failed("returned something other than what it left in out")
        return poison, self.changed(array, x)

    def _decode(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        raw = self.call(self.implementation.decode, array, int(probe.where.ravel()[0]))
        return raw, self.changed(array, x)

    def _side(self, side: int, probe: Probe, x: Array) -> tuple[Any, bool]:
        """The query (0) or the key (1) of a call, beside other numbers at the same positions."""
        declared, rope = self.implementation.heads, self.rope_for(probe)
        heads = declared[1 - side] if isinstance(declared, tuple) else probe.heads
        other = replace(probe, heads=heads, seed=91, memory="contiguous")
        both, arrays = (x, other.x(rope.head_dim, rope.axes))[:: 1 - 2 * side], []
        for numbers_of, memory in zip(both, (probe.memory, "contiguous")[:: 1 - 2 * side], strict=True):
            arrays.append(self.laid(numbers_of, probe.dtype, memory))
        raw = self.call(self.implementation.apply_qk, *arrays, self.positions(probe), self.positions(probe))
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise Failed(f"returned {type(raw).__name__}; expected the pair of a query and a key")
        return raw[side], any(map(self.changed, arrays, both))

    def _sequence(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        return self.call(self.implementation.sequence, array), self.changed(array, x)

    def _session(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        """The first call of a session: layer by layer, where several share one counter."""
        layers, step = self.implementation.layers, self.call(self.implementation.session)
        for layer in range(layers):
            array = self.laid(x, probe.dtype, probe.memory)
            raw = self.call(step, array, *((layer,) if layers > 1 else ()))
            if layer == probe.layer:
                found = raw, self.changed(array, x)
        return found

    def changed(self, array: Any, x: Array) -> bool:
        """Whether an array that was handed over still holds x."""
        return not np.array_equal(numbers(array), arranged(x, self.implementation.layout))

    # comparing

    def exactness(self, dtype: str) -> Accuracy:
        """How exact answers in a dtype are; the least that is allowed where the known wrongs have few digits."""
        return lenient(dtype) if self.mutations else self.usual(dtype)

    def usual(self, dtype: str) -> Accuracy:
        """How exact right answers in a dtype are."""
        wide = "float64" if dtype == "float64" else "float32"
        one, angle = self.implementation, "exact" if dtype == "float64" else "float32"
        return self.accuracy.get(dtype, Accuracy(one.angle or angle, one.table or wide, one.arithmetic or wide))

    def expected(self, probe: Probe, x: Array | None = None) -> tuple[Array, Array]:
        """What the specification says, with all the wrongs already found, and the bound on an answer's error.

        Where these wrongs make no difference, an answer must be as exact as any.
        """
        rope, wrongs = self.rope_for(probe), self.wrongs(probe)
        right = computed(probe, rope, self.usual(probe.dtype), (), x)
        if not wrongs:
            return right
        wrong = computed(probe, rope, lenient(probe.dtype), wrongs, x)
        return right if np.array_equal(wrong[0], right[0]) else wrong

    def right(self, way: str, probe: Probe) -> bool:
        """Whether the specification, and no wrong of it, is what comes of a probe."""
        answer = self.ask(way, probe)
        right = computed(probe, self.rope_for(probe), self.usual(probe.dtype))
        return answer.y is not None and differs(answer.y, *right) is None

    def wrongs(self, probe: Probe) -> tuple[Mutation, ...]:
        """The wrongs already found, as they are for the Rope of this probe."""
        return self.mutations if isinstance(self.ropes, Rope) else self.resolve(self.mutations, probe)

    def deviates(self, answer: Answer, probe: Probe, x: Array | None = None) -> Deviation | None:
        """How the answer differs from what is expected; None where it agrees."""
        if answer.y is None:
            return Deviation(answer.failed, np.inf)
        return differs(answer.y, *self.expected(probe, x))


def differs(found: Array, expected: Array, bound: Array) -> Deviation | None:
    """The largest difference against its bound, None where all are within."""
    if found.size == 0:
        return None
    if not np.isfinite(found).all():
        return Deviation(f"{np.count_nonzero(~np.isfinite(found))} of {found.size} numbers are not finite", np.inf)
    error = np.abs(found - expected)
    if (error <= bound).all():
        return None
    worst = np.unravel_index(np.argmax(error / np.maximum(bound, 1e-300)), error.shape)
    where = ", ".join(map(str, worst))
    return Deviation(
        f"at [{where}] it is {found[worst]:.9g}; expected {np.broadcast_to(expected, found.shape)[worst]:.9g} "
        f"within {np.broadcast_to(bound, found.shape)[worst]:.2g}", float(error[worst]), float(bound[worst]),
    )  # fmt: skip
