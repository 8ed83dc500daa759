"""The examples in C, compiled as strictly as a compiler can be asked to."""

import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples" / "c"
STRICT = ("-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2")


def compiled(name, folder, *flags):
    """The path of a program made from `name`.c."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    program = folder / "-".join([name, *(flag.removeprefix("-D") for flag in flags)])
    command = [compiler, *STRICT, *flags, "-o", str(program), str(FOLDER / f"{name}.c"), "-lm"]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return str(program)
