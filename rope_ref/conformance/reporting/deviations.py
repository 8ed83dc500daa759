"""Bugs that are known and accepted, listed in a file that the project keeps."""

import os
import re
from pathlib import Path

ENTRY = re.compile(r"[A-Z0-9]+(:.+)?")


def read_deviations(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The entries of a file: a class of bugs or "CLASS:property" a line, # before a comment.

    Raises ValueError for a line that is no entry, OSError where there is no file.
    """
    entries = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        entry = ":".join(part.strip() for part in line.partition("#")[0].split(":"))
        if entry and not ENTRY.fullmatch(entry):
            raise ValueError(f"{path}, line {number} is {entry!r}; expected CLASS or CLASS:property, as in LAYOUT")
        entries += [entry] if entry else []
    return tuple(entries)
