"""A wrong implementation, where it was seen, and the class of its bug."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rope_ref.conformance import Implementation

Make = Callable[[bool], tuple[Implementation, Any]]


@dataclass(frozen=True)
class Case:
    """make(broken) gives what `check` takes: the implementation, and the Rope that it should be."""

    name: str
    link: str
    bug: str
    make: Make

    @property
    def address(self) -> str:
        """Where it was seen."""
        name, _, number = self.link.replace("@", "#").partition("#")
        return f"https://github.com/{name}/{'issues' if number.isdigit() else 'commit'}/{number}"


CASES: list[Case] = []


def case(link: str, bug: str) -> Callable[[Make], Make]:
    """Register a function broken -> (Implementation, rope): link is "owner/repo#number" or "owner/repo@commit"."""

    def register(function: Make) -> Make:
        CASES.append(Case(name=function.__name__, link=link, bug=bug, make=function))
        return function

    return register


def load() -> list[Case]:
    """Every case of this package."""
    package = importlib.import_module("tests.conformance.wrong")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"tests.conformance.wrong.{module.name}")
    return CASES
