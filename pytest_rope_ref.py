"""The plugin for pytest that makes each property of `rope_ref.conformance.conforms` a test of its own.

It is loaded at the start of every run of pytest, used or not, so it imports nothing.
"""

from typing import Any


def pytest_generate_tests(metafunc: Any) -> None:
    conformance = getattr(metafunc.function, "rope_ref_conformance", None)
    if conformance is None:
        return
    try:
        names = conformance.names(metafunc.definition.path.parent)
    except (OSError, ValueError, TypeError) as error:
        from pytest import Collector

        raise Collector.CollectError(f"{metafunc.function.__name__} cannot be checked: {error}") from error
    metafunc.parametrize("rope_ref_property", names)
