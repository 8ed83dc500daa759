"""What an implementation takes: declared, or found by trying. A clear refusal is a limit, not a bug."""

import importlib.util
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, exists, kind_of
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.calls import FROM_ZERO, LONGEST
from rope_ref.conformance.adapters.implementation import ARRAYS, DTYPES
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Subject, differs
from rope_ref.conformance.properties.model import Accuracy

FAR = 1_000_000


@dataclass
class Facts:
    """What may be asked of it.

    least     positions from this on are asked
    reach     positions below this are asked
    remarks   what was found by trying, in words
    """

    dtypes: tuple[str, ...] = ("float32",)
    heads: tuple[int, ...] = (1, 2, 3)
    batches: tuple[int, ...] = (1, 2, 3)
    rows: bool = False
    negative: bool = False
    fractional: bool = False
    strided: bool = False
    position_dtypes: tuple[str, ...] = ()
    least: int = 0
    reach: int = FAR
    remarks: tuple[str, ...] = ()


def find_capabilities(subject: Subject) -> Facts:
    """Find out what the implementation takes."""
    one, axes, heads = subject.implementation, subject.rope.axes, subject.heads
    facts, remarks = Facts(least=one.min_position or 0), []
    find_kind(subject)
    if "b" not in one.layout:
        facts.batches = (1,)
    if subject.rope.heads is not None or one.heads is not None:
        facts.heads = (heads,)
    plain = sequence(0, 5, axes, heads=heads)
    adapter = next(iter(subject.adapters()), None)
    placed = adapter not in ("decode", *FROM_ZERO)  # it is told where tokens stand

    def takes(probe: Probe) -> bool:
        return adapter is not None and subject.ask(adapter, subject.through(adapter, probe)).y is not None

    def tried(name: str, declared: bool | None, *probes: Probe) -> bool:
        found = all(map(takes, probes)) if declared is None else declared
        if not found and declared is None:
            remarks.append(name)
        return found

    if subject.kind == "jax":  # which compiles for every shape
        facts.heads, facts.batches = facts.heads[-1:], facts.batches[:2]
    exist = [d for d in DTYPES if exists(d, subject.kind)]
    facts.dtypes = one.dtypes or tuple(d for d in exist if takes(replace(plain, dtype=d))) or ("float32",)
    facts.rows = subject.batched and placed and tried(
        "positions differ from row to row", one.rows, by_row(plain, axes))  # fmt: skip
    if adapter not in FROM_ZERO:
        below = one.negative if one.min_position is None and one.valid_positions is None else False
        facts.negative = tried("negative positions", below, sequence(-9, 5, axes, heads=heads))
    facts.strided = subject.kind != "jax" and tried(
        "views that are not contiguous", one.strided, *(replace(plain, memory=m) for m in ("sliced", "transposed"))
    )
    if placed:
        listed = one.valid_positions is not None
        fractional = False if listed else one.fractional
        facts.fractional = tried("fractional positions", fractional, replace(plain, position_dtype="float32"))
        facts.position_dtypes = one.position_dtypes or tuple(
            d for d in ("int64", "int32") if takes(replace(plain, position_dtype=d))
        )
    facts.reach = reach(subject, takes, axes, heads) if adapter not in FROM_ZERO else one.max_position or LONGEST
    if facts.reach < FAR and one.max_position is None and subject.rope.xpos is None and (
        adapter not in FROM_ZERO
    ):
        remarks.append(f"positions from {facts.reach} on")
    facts.remarks = tuple(remarks)
    return facts


def find_kind(subject: Subject) -> None:
    """The kind of arrays: the declared one, else the first that is taken without an error."""
    one = subject.implementation
    kinds = [one.arrays] if one.arrays else [k for k in ARRAYS if importlib.util.find_spec(k) is not None]
    name, adapter = next(iter(subject.adapters().items()), ("", None))
    subject.kind = kinds[0] or "numpy"
    if one.arrays or adapter is None:
        if not one.arrays and one.module is not None:
            subject.kind = "torch"
        return
    for kind in kinds:
        subject.kind = str(kind)
        try:
            probe = subject.through(name, sequence(0, 5, subject.rope.axes, heads=subject.heads))
            raw, _ = adapter(probe, probe.x(subject.rope.head_dim, subject.rope.axes))
        except Failed:
            continue
        made = kind_of(raw)
        if made in kinds:
            subject.kind = made
        return
    subject.kind = str(kinds[0])


def by_row(probe: Probe, axes: int | None) -> Probe:
    """The same tokens in two rows, the second further on."""
    p = probe.where
    both: Any = np.stack([p, p + 3])
    return replace(probe, batch=2, positions=tuple(map(_nested, both.tolist())))


def _nested(value: Any) -> Any:
    return tuple(map(_nested, value)) if isinstance(value, list) else value


def reach(subject: Subject, takes: Any, axes: int | None, heads: int) -> int:
    """The first position that is refused, or FAR."""
    declared, rope = subject.implementation.max_position, subject.rope
    if rope.xpos is not None:  # beyond, the magnitude itself leaves the range of float16
        return int(min(declared or FAR, 3 * rope.xpos.scale_base))
    if declared is not None or subject.implementation.valid_positions is not None:
        return declared or FAR
    low, high = 16, FAR
    if not takes(sequence(0, 5, axes, heads=heads)) or takes(sequence(high - 2, 2, axes, heads=heads)):
        return FAR
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(sequence(middle - 1, 1, axes, heads=heads)) else (low, middle)
    return low


LADDER = (
    ("exact", False, False), ("float32", False, False), ("recurrence", False, False), ("float32", True, False),
    ("float32", True, True), ("recurrence", True, True),
)  # fmt: skip


def accuracies(subject: Subject, dtype: str) -> list[Accuracy]:
    """The accuracies that a correct implementation may have in a dtype, the best first, as far as not declared."""
    one = subject.implementation
    wide = "float64" if dtype == "float64" else "float32"
    narrow = "float32" if dtype == "float64" else dtype
    found = []
    for angle, table, arithmetic in LADDER:
        level = Accuracy(
            one.angle or angle,
            one.table or (narrow if table else wide),
            one.arithmetic or (narrow if arithmetic else wide),
        )
        if subject.rope.angle_dtype == "float32" and level.angle == "exact":
            level = replace(level, angle="float32")  # two ways of rounding differ by both
        if level not in found:
            found.append(level)
    if dtype == "float32" and one.table is None:
        found.append(Accuracy(one.angle or "float32", "bfloat16", "float32"))
    return found


def find_accuracy(subject: Subject, adapter: str, dtype: str, facts: Facts) -> Accuracy | None:
    """The best accuracy that all answers have over near and far positions, None where none fits."""
    axes, heads = subject.rope.axes, facts.heads[-1]
    reach = 700 if adapter in FROM_ZERO else facts.reach
    starts = [s for s in (0, 7, 300, 4000, 60_000, FAR - 20) if s + 16 < reach]
    probes = [sequence(s, 12, axes, heads=heads, dtype=dtype, seed=s, layer=layer)
              for s in starts for layer in range(len(subject.ropes) if subject.layered else 1)]  # type: ignore[arg-type]  # fmt: skip
    probes = list(dict.fromkeys(subject.through(adapter, probe) for probe in probes))
    answers = [(probe, subject.ask(adapter, probe)) for probe in probes]

    def fits(probe: Probe, y: Array | None, level: Accuracy) -> bool:
        right = subject.computed(probe, subject.rope_for(probe), level, subject.wrongs(probe))
        return y is not None and differs(y, *right) is None

    for level in accuracies(subject, dtype):
        if all(fits(probe, answer.y, level) for probe, answer in answers):
            return level
    return None
