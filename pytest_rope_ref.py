"""The plugin for pytest that makes each property of `rope_ref.conformance.conforms` a test of its own.

It is loaded at the start of every run of pytest, used or not, so it imports nothing.
"""

from typing import Any


def pytest_generate_tests(metafunc: Any) -> None:
    conformance = getattr(metafunc.function, "rope_ref_conformance", None)
    if conformance is not None:
        metafunc.parametrize("rope_ref_property", conformance.names(metafunc.definition.path.parent))
