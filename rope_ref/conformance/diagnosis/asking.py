"""What is asked of an implementation beyond the case that failed: far positions, other lengths, the same x twice."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rope_ref.conformance.adapters.calls import FROM_ZERO, LONGEST
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe, sequence
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.diagnosis.candidates import Observation
from rope_ref.conformance.diagnosis.reading import Reading
from rope_ref.conformance.properties.property import observed
from rope_ref.pairing import channels
from rope_ref.rope import Rope


@dataclass(frozen=True)
class Asking:
    """Further questions, through one of its adapters."""

    subject: Subject
    facts: Facts

    def further(self, adapter: str, dtype: str) -> list[Observation]:
        """Answers at far positions, which tell apart what near ones do not."""
        subject, seen = self.subject, []
        for start in (256, 2048, 32767) if adapter in subject.adapters() and adapter not in FROM_ZERO else ():
            if start + 8 < self.facts.reach:
                near = sequence(start, 8, subject.rope.axes, heads=self.facts.heads[-1], dtype=dtype)
                probe = subject.through(adapter, near)
                answer = subject.ask(adapter, probe)
                seen += observed(subject, probe, answer, subject.deviates(answer, probe))
        return seen

    def at_other_lengths(self, adapter: str) -> list[Observation]:
        """Answers on both sides of the length at which the Rope changes, if it does."""
        trained, axes = self.subject.trained, self.subject.rope.axes
        if trained is None or adapter not in self.subject.adapters():
            return []
        seen = []
        for start in (trained // 2, trained - 6, trained + 6, 3 * trained):
            probe = sequence(start, 4, axes, heads=self.facts.heads[-1], dtype=self.facts.dtypes[0])
            probe = self.subject.through(adapter, probe)
            answer = self.subject.ask(adapter, probe)
            seen += observed(self.subject, probe, answer, self.subject.deviates(answer, probe))
        return seen

    def aliased(self, adapter: str, dtype: str) -> str | None:
        """Two neighbouring positions that turn the same x alike, though nothing else explains why."""
        subject, axes = self.subject, self.subject.rope.axes
        if adapter not in subject.adapters() or adapter in FROM_ZERO:
            return None
        for start in (0, 256, 2048, 32767):
            if start + 8 >= self.facts.reach:
                break
            probe = subject.through(adapter, sequence(start, 8, axes, heads=self.facts.heads[-1], dtype=dtype))
            x = np.repeat(probe.x(subject.rope.head_dim, axes)[:, :, :1], 8, 2)
            answer = subject.ask(adapter, probe, x)
            if answer.y is None:
                break
            apart = np.abs(np.diff(subject.expected(probe, x)[0], axis=2)).max((0, 1, 3))
            same = (np.diff(answer.y, axis=2) == 0).all((0, 1, 3)) & (apart > 0.1)
            if same.any() and start == 0:  # what coincides there has lost more than digits
                return None
            if same.any():
                p, q = (probe.where[i].tolist() for i in (int(np.argmax(same)), int(np.argmax(same)) + 1))
                return f"positions {p} and {q} turn alike in {dtype}: positions lose their last digits"
        return None

    def turn(self, adapter: str, x: Any, positions: Any) -> Any:
        """One head of tokens through the implementation, for reading it off."""
        heads = self.facts.heads[0]
        probe = Probe(
            1, heads, tuple(map(tuple, positions.tolist())) if positions.ndim > 1 else tuple(positions.tolist())
        )
        probe = self.subject.through(adapter, replace(probe, dtype=self.facts.dtypes[0]), LONGEST)
        if np.max(probe.where, initial=0) < np.max(positions, initial=0):  # further than it can be asked
            return None
        if self.subject.implementation.valid_positions is not None and not np.array_equal(probe.where, positions):
            return None
        wide = np.zeros((1, probe.heads, probe.seq(self.subject.rope.axes), x.shape[-1]))
        wide[:, :, -len(x) :] = x  # behind others, where tokens are counted from 0
        answer = self.subject.ask(adapter, probe, wide)
        return None if answer.y is None else answer.y[0, 0, -len(x) :]


def other_channels(rope: Rope, reading: Reading) -> tuple[str, str] | None:
    """The class and the words, where the channels that turn are read off as others than they should be."""
    if not len(reading.first):
        return None
    speed = np.abs(rope.omega).reshape(rope.heads or 1, rope.pairs, -1).max((0, 2))
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    expected = list(zip(first.tolist(), second.tolist(), strict=True))
    turning = {pair for pair, w in zip(expected, speed, strict=True) if w > 0}
    # not so slow that it cannot be seen
    clear = {pair for pair, w in zip(expected, speed, strict=True) if w * reading.reach > 1e-3}
    found = set(zip(reading.first.tolist(), reading.second.tolist(), strict=True))
    if clear <= found <= turning:
        return None
    if not len(clear) <= len(found) <= len(turning):
        return "ROTDIM", f"{2 * len(found)} channels turn; expected {2 * len(turning)}"
    odd, usual = min(found - turning, default=None), min(turning - found, default=None)
    if odd is not None and usual is not None:
        return "LAYOUT", f"channels {odd[0]} and {odd[1]} turn together; expected pairs like {usual}"
    return None
