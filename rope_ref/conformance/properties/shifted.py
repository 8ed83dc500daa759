"""Cached keys that are turned on: as where they then stand."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import nested, sequence
from rope_ref.conformance.adapters.subject import Subject, differs
from rope_ref.conformance.properties.model import computed
from rope_ref.conformance.properties.property import Case, Property, Trial, failed, needs
from rope_ref.exactness import UNIT


def moved(subject: Subject, adapter: str, case: Case) -> Trial:
    probe, distance = case[0], -4 if int(np.min(case[0].where)) >= 4 else 3
    rope = subject.rope_for(probe)
    there = replace(probe, positions=nested(probe.where + distance))
    keys, first = computed(probe, rope.keys, subject.exactness(probe.dtype))
    try:
        raw = subject.call(
            subject.implementation.shift, subject.laid(keys, probe.dtype), subject.positions(probe), distance
        )
        y = subject.read(raw, keys.shape)
    except Failed as error:
        return failed(error)
    expected, second = computed(there, rope.keys, subject.exactness(probe.dtype))
    unit = UNIT[probe.dtype]
    bound = second + 2 * (first + unit * np.abs(keys)).max(-1, keepdims=True)
    deviation = differs(y, expected, np.broadcast_to(bound, y.shape))
    if deviation is None:
        return Trial(None)
    text = f"keys moved from {probe.where.min()} by {distance} are not keys of {there.where.min()}"
    return Trial(deviation, (), "KVROT", text)


def _keys(subject: Subject, facts: Facts) -> Any:
    axes, heads = subject.rope.axes, facts.heads[-1]
    return st.builds(
        lambda start, seq: (sequence(start, seq, axes, heads=heads, dtype=facts.dtypes[0], seed=3),),
        st.sampled_from([0, 4, 9, 300]), st.integers(1, 6),
    )  # fmt: skip


SHIFTED = (
    Property("shifted keys", "turning a cached key on is turning it where it then stands", "KVROT", _keys, moved,
             skip=needs("shift")),
)  # fmt: skip
