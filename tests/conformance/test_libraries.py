"""Other libraries through the kit: what is right passes, what is wrong is named, and its mended form passes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from examples.libraries import REQUIREMENTS
from examples.libraries.__main__ import installed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "peers.md").read_text()


@pytest.mark.in_turn
@pytest.mark.parametrize("name", REQUIREMENTS)
def test_each_is_as_its_file_says(name):
    if not installed(name):
        pytest.skip(f"{name} is not installed: make libraries NAMES={name}")
    run = [sys.executable, "-W", "ignore", "-m", "examples.libraries", name]
    done = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, env=os.environ, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_has_a_row_of_the_page_with_its_version():
    for requirement in (requirements[0] for requirements in REQUIREMENTS.values()):
        package, version = requirement.split("==")
        assert f"| {package} {version} |" in PAGE


def test_each_has_a_file_with_checks():
    files = {path.stem for path in (ROOT / "examples" / "libraries").glob("*.py")} - {"__init__", "__main__"}
    assert files == set(REQUIREMENTS)
