"""What the properties of other ways in have in common."""

from collections.abc import Callable

import numpy as np

from rope_ref.conformance.interview import Facts
from rope_ref.conformance.properties import Trial, unless
from rope_ref.conformance.subject import Deviation, Subject


def failed(error: Exception) -> Trial:
    return Trial(Deviation(str(error), np.inf))


def needs(name: str) -> Callable[[Subject, Facts], str]:
    return unless(lambda s, f: getattr(s.implementation, name) is not None, f"no `{name}`")
