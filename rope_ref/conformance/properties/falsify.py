"""Looking for a case in which a property does not hold, and for the smallest one."""

import contextlib
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Flaky
from hypothesis.strategies import SearchStrategy

from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import Probe
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.diagnosis.candidates import Observation
from rope_ref.conformance.properties.property import Case, Property, Trial

KEPT = 24  # answers of each kind that are kept to diagnose from
TRIES = 200  # trials that making a case smaller may take


class Falsified(NamedTuple):
    """The smallest case that was found, what came of it, and answers, right and wrong, that were seen on the way."""

    case: Case
    trial: Trial
    observations: list[Observation]
    refused: list[Probe]


class _Fails(Exception):
    pass


def falsify(
    subject: Subject, adapter: str, prop: Property, facts: Facts, *, examples: int, number: int
) -> Falsified | list[Observation]:
    """A case in which the property fails, or the answers that were seen, all of them right."""
    seen: dict[bool, list[Observation]] = {True: [], False: []}
    failed: list[tuple[Case, Trial]] = []
    refused: list[Probe] = []

    def gather(case: Case) -> None:
        trial = prop.trial(subject, adapter, case)
        for observation in trial.observations:
            if len(seen[observation.right]) < KEPT:
                seen[observation.right].append(observation)
        if trial.deviation is not None:
            failed.append((case, trial))
            if np.isinf(trial.deviation.error) and len(refused) < KEPT:
                refused.extend(case)

    cases = prop.draw(subject, facts)
    run(gather, cases, examples, number, (Phase.generate,))
    if not failed:
        return seen[True]
    tries = 0

    def shrink(case: Case) -> None:
        nonlocal tries
        tries += 1
        if tries > TRIES:
            raise _Enough
        trial = prop.trial(subject, adapter, case)
        if trial.deviation is not None:
            failed.append((case, trial))
            raise _Fails

    run(shrink, cases, examples, number, (Phase.generate, Phase.shrink))
    case, trial = min(failed, key=lambda one: size(one[0]))
    return Falsified(case, trial, [*trial.observations, *seen[False], *seen[True]], refused)


class _Enough(BaseException):
    """Ends a run of Hypothesis from inside."""


def run(test: Callable[[Case], None], cases: SearchStrategy[Case], examples: int, number: int, phases: Any) -> None:
    """Let Hypothesis call the test."""
    decorated = seed(number)(
        settings(
            max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck),
            phases=phases, report_multiple_bugs=False, print_blob=False,
        )(given(cases)(test))
    )  # fmt: skip
    with warnings.catch_warnings(), contextlib.suppress(_Fails, _Enough, Flaky):
        warnings.simplefilter("ignore")
        decorated()


def size(case: Case) -> tuple[int, int, int]:
    """How large a case is: calls, tokens, how far they stand."""
    tokens = sum(probe.batch * probe.heads * probe.where.size for probe in case)
    return len(case), tokens, int(sum(np.abs(probe.where).sum() for probe in case))
