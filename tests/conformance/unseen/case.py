"""Implementations that nothing of the kit was made with: wrong ones, and right ones of an unusual form."""

import importlib
import pkgutil

from tests.conformance.wrong.case import Case

WRONG: list[Case] = []
RIGHT: list[Case] = []


def wrong(bug):
    """Register a function broken -> (Implementation, rope)."""

    def register(function):
        WRONG.append(Case(name=function.__name__, link="", bug=bug, make=function))
        return function

    return register


def right(function):
    """Register a function () -> (Implementation, rope) that conforms."""
    RIGHT.append(Case(name=function.__name__, link="", bug="", make=lambda broken: function()))
    return function


def load():
    """The wrong ones and the right ones of this package."""
    package = importlib.import_module("tests.conformance.unseen")
    for module in pkgutil.iter_modules(package.__path__):
        if module.name not in ("__main__", "case"):
            importlib.import_module(f"tests.conformance.unseen.{module.name}")
    return WRONG, RIGHT
