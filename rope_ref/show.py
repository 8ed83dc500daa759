"""The code that computes a variant: what `rope-ref show` prints."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from rope_ref.rope import Rope

HOMES = ("rope_ref.frequencies", "rope_ref.magnitude", "rope_ref.variants", "rope_ref.video", "rope_ref.vision")
HELPERS = ("turning", "unscaled", "angle_dtype")


def shown(make: Callable[..., Rope]) -> list[Callable[..., Any]]:
    """The function that makes a variant, and those of the specification that compute its numbers, as it calls them.

    >>> from rope_ref.catalogue import CATALOGUE
    >>> [function.__name__ for function in shown(CATALOGUE["yarn"])]
    ['yarn', 'yarn', 'yarn_attention', 'geometric', 'yarn_scale']
    """
    found: list[Callable[..., Any]] = [inspect.unwrap(make)]
    for function in found:  # which grows
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
        for node in ast.walk(tree):
            called = node.func if isinstance(node, ast.Call) else None
            scope = inspect.unwrap(function).__globals__
            if isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                other = getattr(scope.get(called.value.id), called.attr, None)
            else:
                other = scope.get(called.id) if isinstance(called, ast.Name) else None
            other = inspect.unwrap(other) if inspect.isfunction(other) else None
            if other is not None and computes(other) and other not in found:
                found.append(other)
    return found


def computes(function: Callable[..., Any]) -> bool:
    """Whether a function of the specification computes numbers, rather than checking what it was given."""
    name = function.__name__
    return function.__module__ in HOMES and not name.startswith("check") and name not in HELPERS
