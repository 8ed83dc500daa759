"""Code of the pages, executed: what it prints is shown below it, and what fails fails the build."""

import contextlib
import io
import os
import re
import shutil
import subprocess
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path

FENCE = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)


class Broken(Exception):
    """An example that does not run."""


def executed(markdown: str, page: str, folder: Path | None = None) -> str:
    """The page with what its examples print. They share their names and run in a folder that is thrown away.

    Examples about the files of `folder`, which has a Makefile, find them there, built.
    """
    names: dict[str, object] = {"__name__": page}

    def run(match: re.Match[str]) -> str:
        printed = io.StringIO()
        try:
            with contextlib.redirect_stdout(printed):
                exec(compile(match[1], page, "exec"), names)
        except Exception as error:
            raise Broken(f"an example of {page} fails:\n{match[1]}\n{traceback.format_exc()}") from error
        said = printed.getvalue().rstrip()
        return match[0] + (f'\n\n``` {{.text .printed title="prints"}}\n{said}\n```' if said else "")

    if not FENCE.search(markdown):
        return markdown
    with elsewhere(folder):
        return FENCE.sub(run, markdown)


@contextlib.contextmanager
def elsewhere(folder: Path | None) -> Iterator[None]:
    """Work in a new folder, a copy of the given one where that has something to build."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        if folder is not None and (folder / "Makefile").exists():
            shutil.copytree(folder, name, dirs_exist_ok=True)
            subprocess.run(["make", "-s"], cwd=name, check=True)
        os.chdir(name)
        try:
            yield
        finally:
            os.chdir(before)
