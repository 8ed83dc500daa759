"""Scripts with which a shell completes the command: `rope-ref completion SHELL`. Written by shtab."""

import argparse
import contextlib
from collections.abc import Iterator

import shtab

from rope_ref.usage import Parser

KINDS = {"CONFIG": shtab.FILE, "FILE": shtab.FILE, "PROGRAM": shtab.FILE, "DIR": shtab.DIRECTORY}


def script(shell: str, parser: Parser) -> str:
    """The script for "bash", "zsh" or "fish"; the metavar of an argument says whether it is a file or a folder."""
    for action in actions(parser):
        if action.metavar in KINDS:
            action.complete = KINDS[action.metavar]  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell))


def actions(parser: Parser) -> Iterator[argparse.Action]:
    """Every argument of a parser and of its commands."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                with contextlib.suppress(ImportError):  # its extra is not installed: its name alone is completed
                    command.load()
                yield from actions(command)
