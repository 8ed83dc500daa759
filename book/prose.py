"""Docstrings as prose and mathematics: formulas are found where they stand, blocks of them set apart."""

import inspect
import re
import textwrap
from collections.abc import Callable
from html import escape
from typing import Any

from book.mathml import Known, Parser, Unreadable, formula, symbol, wrap

START = re.compile(r"(?<![\w^/.'`-])(?=[A-Za-z0-9(|-])")
SIGNS = re.compile(r"[=^<>]| /+ |\w/\w|\b\w_\w|\b(?:ln|sqrt|int|linspace)\b|\d [A-Za-z]\b")


def documented(function: Callable[..., Any]) -> str:
    """The docstring of a function as Markdown, without its examples; its parameters count as symbols."""
    first, _, rest = (function.__doc__ or "").partition("\n")
    text = re.split(r"\n\s*(?=>>> )", f"{first}\n{re.sub('(?m)^    ', '', rest)}")[0].rstrip()
    names = set(inspect.signature(function).parameters) if callable(function) else set()
    return rendered(text, names)


def rendered(text: str, names: set[str]) -> str:
    """Paragraphs with formulas in MathML; indented blocks as equations, or as they stand where they are none."""
    parts = [
        block(part) if all(line.startswith("    ") for line in part.splitlines()) else inline(part, names)
        for part in re.split(r"\n{2,}", text)
    ]
    return "\n\n".join(parts)


def block(text: str) -> str:
    """An indented block: one equation or more a line, wide gaps between them and the words about them."""
    lines = [equation(line.strip()) for line in text.splitlines()]
    if any(line is None for line in lines):
        return f"```text\n{textwrap.dedent(text)}\n```"
    rows = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table class="equations">{rows}</table>'


def equation(line: str, known: Known = lambda name: True) -> str | None:
    """Cells of a table: a formula, then another or what is said about it; None unless the line begins with one."""
    text, words = re.sub(r"\s+(?=[=<>])", " ", line), ""
    if gap := re.search(r"(?<![,\s])\s{3,}", text):
        text, words = text[: gap.start()], text[gap.end() :]
    try:
        set_out = formula(text, wide=True, known=known)
    except Unreadable:
        return None
    if words and (also := equation(words, symbol)):
        return f"<td>{set_out}</td>{also}"
    said = re.sub("`(.*?)`", r"<code>\1</code>", inline(words, set()))
    return f"<td>{set_out}{said and f'<small>{said}</small>'}</td>" if re.search(r"[=<>^]| / ", text) else None


def inline(text: str, names: set[str]) -> str:
    """A paragraph: code in backticks stays, every longest run of symbols with an operator becomes a formula."""
    return "".join(
        part if part.startswith("`") else _formulas(part, names)
        for part in re.split(r"(`+[^`]+`+)", text)
    )  # fmt: skip


def _formulas(text: str, names: set[str]) -> str:
    done, at = "", 0
    while match := START.search(text, at):
        parser = Parser(text[match.start() :], lambda name: symbol(name) or name in names, prose=True)
        try:
            inner = parser.statement()
        except Unreadable:
            inner = ""
        run = text[match.start() : match.start() + parser.end]
        if inner and SIGNS.search(run) and not run.startswith("(arXiv") and parser.end:
            done += escape(text[at : match.start()], quote=False) + wrap(inner)
            at = match.start() + parser.end
        else:
            word = re.compile(r"\S\s?").match(text, match.start())
            stop = word.end() if word else len(text)
            done += escape(text[at:stop], quote=False)
            at = stop
    return done + escape(text[at:], quote=False)
