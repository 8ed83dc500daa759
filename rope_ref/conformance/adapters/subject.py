"""An implementation together with what it should compute: asks it a probe, takes the answer to pieces."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, check_layout, dtype_name, numbers, restored
from rope_ref.conformance.adapters.calling import Caller, Failed
from rope_ref.conformance.adapters.calls import Adapter, Adapters
from rope_ref.conformance.adapters.implementation import Implementation
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.properties.model import Accuracy, Mutation, computed, lenient
from rope_ref.rope import Rope

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
class Subject(Adapters):
    """What is under test. `mutations` are the wrongs already found, with which later answers are compared."""

    implementation: Implementation
    ropes: Ropes
    kind: str = "numpy"
    accuracy: dict[str, Accuracy] = field(default_factory=dict)
    made: dict[int, Rope] = field(default_factory=dict, init=False, repr=False)
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
            rope = self.of_length(int(np.max(probe.where, initial=0)) + 1 if length is None else length)
        else:
            rope = self.ropes[probe.layer]
        return rope.keys if probe.key else rope

    def of_length(self, length: int) -> Rope:
        """The Rope of a length, made once."""
        if length not in self.made:
            self.made[length] = self.ropes(length)  # type: ignore[operator]
        return self.made[length]

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

    def ask(self, adapter: str, probe: Probe, x: Array | None = None) -> Answer:
        """The answer to a probe, or to other numbers x in its place; never raises for what the implementation does."""
        return self.answer(self.adapters()[adapter], probe, x)

    def answer(self, adapter: Adapter, probe: Probe, x: Array | None = None) -> Answer:
        rope = self.rope_for(probe)
        try:
            raw, changed = adapter(probe, probe.x(rope.head_dim, rope.axes) if x is None else x)
            if isinstance(raw, (tuple, list)) and len(raw) == 1:
                raw = raw[0]
            y = self.read(raw, (probe.batch, probe.heads, probe.seq(rope.axes), rope.head_dim))
            return Answer(y / self.query_scale(probe), "", changed, dtype_name(raw), raw, numbers(raw).copy())
        except Failed as error:
            return Answer(None, str(error))

    def query_scale(self, probe: Probe) -> Array:
        """What a query is multiplied by beside the Rope, (batch, 1, seq, 1)."""
        scale = self.implementation.expected.get("query_scale")
        if scale is None or probe.key:
            return np.ones((1, 1, 1, 1))
        return np.asarray(scale(probe.rows(self.rope.axes)), np.float64)[:, None, :, None]

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
        right = self.computed(probe, rope, self.usual(probe.dtype), (), x)
        if not wrongs:
            return right
        wrong = computed(probe, rope, lenient(probe.dtype), wrongs, x)
        return right if np.array_equal(wrong[0], right[0]) else wrong

    def computed(
        self, probe: Probe, rope: Rope, level: Accuracy, mutations: Sequence[Mutation] = (), x: Array | None = None
    ) -> tuple[Array, Array]:
        """`computed`, with room for one more rounding on store where queries are multiplied by something more."""
        y, bound = computed(probe, rope, level, mutations, x)
        return y, 2 * bound if "query_scale" in self.implementation.expected else bound

    def right(self, adapter: str, probe: Probe) -> bool:
        """Whether the specification, and no wrong of it, is what comes of a probe."""
        answer = self.ask(adapter, probe)
        right = self.computed(probe, self.rope_for(probe), self.usual(probe.dtype))
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
