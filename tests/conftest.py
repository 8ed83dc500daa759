"""How properties are run, and which of the long tests."""

import os
import time
import zlib

import pytest
from hypothesis import settings

# How long an example takes is no property of the code. Everywhere the same examples are drawn, so that a failure
# belongs to a change; `make fuzz` draws anew, each round by a seed of its own.
settings.register_profile("ours", deadline=None, derandomize=True)
settings.register_profile("anew", deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("ROPE_REF_EXAMPLES", "ours"))

TURNS = 8  # days in which every long test is run once


def pytest_addoption(parser):
    parser.addoption("--every", action="store_true", help=f"run all long tests, not only this day's of {TURNS} parts")


def pytest_collection_modifyitems(config, items):
    """Of tests marked `in_turn`, many of a kind, a part is run each day."""
    if config.getoption("--every"):
        return
    today = int(time.time() // 86400) % TURNS
    skip = pytest.mark.skip(reason=f"one of many, and not of part {today + 1} of {TURNS}, today's; --every runs all")
    for item in items:
        if item.get_closest_marker("in_turn") and zlib.crc32(item.nodeid.encode()) % TURNS != today:
            item.add_marker(skip)
