"""What a property is: its reason, the cases that try it, and the class of a failure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, nested
from rope_ref.conformance.adapters.subject import Answer, Deviation, Subject
from rope_ref.conformance.diagnosis.candidates import Observation

Case = tuple[Probe, ...]
Draw = Callable[[Subject, Facts], SearchStrategy[Case]]


class Trial(NamedTuple):
    """What came of one case: how it deviates, None where it does not; and the answers that were seen."""

    deviation: Deviation | None
    observations: Sequence[Observation] = ()
    bug: str = ""  # where the trial itself can tell
    text: str = ""
    tell: Callable[[], tuple[str, str]] | None = None  # the class and the words, where finding them out takes long


@dataclass(frozen=True)
class Property:
    """A property.

    reason    why it must hold, in a line
    bug       the class of a failure that no wrong of the catalogue explains
    names     the classes that an explanation may name; None for all
    draw      the cases
    trial     (subject, adapter, case) -> what came of it
    skip      (subject, facts) -> why it does not apply, "" where it does
    declared  whether the implementation says it can do this; a refusal is a bug only then
    unless    what to declare about an implementation that need not do this, "" where each must
    """

    name: str
    reason: str
    bug: str
    draw: Draw
    trial: Callable[[Subject, str, Case], Trial]
    names: tuple[str, ...] | None = None
    skip: Callable[[Subject, Facts], str] = lambda subject, facts: ""
    declared: Callable[[Subject], bool] = lambda subject: True
    unless: str = ""


def observed(subject: Subject, probe: Probe, answer: Answer, deviation: Deviation | None) -> list[Observation]:
    if answer.y is None:
        return []
    return [Observation(probe, subject.rope_for(probe), answer.y, deviation is None)]


def failed(error: Exception) -> Trial:
    return Trial(Deviation(str(error), np.inf))


def seeds() -> SearchStrategy[int]:
    return st.integers(0, 2**16)


@st.composite
def cases(
    draw: st.DrawFn, subject: Subject, facts: Facts, /, *, starts: tuple[int, int] = (0, 0),
    seqs: tuple[int, int] = (1, 9), kind: str = "sequence", **fixed: Any,
) -> Case:  # fmt: skip
    """One probe, for every layer that has a Rope of its own.

    kind: "sequence", tokens one behind the other; "any", each somewhere; "rows", each row somewhere else;
    "fractional", between whole numbers.
    """
    axes = subject.rope.axes
    low, high = max(min(starts[0], facts.reach - 1), 1 - facts.reach), min(starts[1], facts.reach - 1)
    shortest, longest = (min(n, facts.reach) for n in seqs)
    few = subject.kind == "jax"  # which compiles for every shape
    seq = draw(st.sampled_from((shortest, longest)) if few else st.integers(shortest, longest))
    batch = draw(st.sampled_from(fixed.pop("batches", (1,))))
    start = draw(st.integers(low, max(low, min(high, facts.reach - seq))))
    shape = (*([batch] if kind == "rows" else []), seq, *([axes] if axes else []))
    where: Array
    if kind == "sequence" and axes is None:
        where = start + np.arange(seq)
    else:
        number = st.integers(low, high)
        flat = draw(st.lists(number, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        where = np.asarray(flat, np.float64 if kind == "fractional" else np.int64).reshape(shape)
        if kind == "fractional":
            where = where + draw(st.sampled_from([0.5, 0.25, 0.75]))
    probe = Probe(
        batch, draw(st.sampled_from(facts.heads)), nested(where), seed=draw(seeds()),
        **{"dtype": facts.dtypes[0]} | {name: draw(st.sampled_from(values)) for name, values in fixed.items()},
    )  # fmt: skip
    return tuple(replace(probe, layer=layer) for layer in subject.kinds)


def drawn(**options: Any) -> Draw:
    """Cases with these options, each either a value or a function from the facts to it."""

    def draw(subject: Subject, facts: Facts) -> SearchStrategy[Case]:
        return cases(subject, facts, **{k: v(facts) if callable(v) else v for k, v in options.items()})

    return draw


def unless(holds: Callable[[Subject, Facts], bool], why: str) -> Callable[[Subject, Facts], str]:
    return lambda subject, facts: "" if holds(subject, facts) else why


def apart(facts: Facts) -> tuple[int, int]:
    return (0, min(60, facts.reach - 1))


def needs(name: str) -> Callable[[Subject, Facts], str]:
    return unless(lambda s, f: getattr(s.implementation, name) is not None, f"no `{name}`")
