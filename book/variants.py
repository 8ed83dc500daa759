"""One page a variant: its equations beside the lines that compute them, and everything else of its kind."""

import inspect
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from book import related
from book.prose import documented, inline
from rope_ref.catalogue import CATALOGUE
from rope_ref.conformance.samples import ARGUMENTS
from rope_ref.conformance.samples import rope as sample

ROOT = Path(__file__).parents[1]
GROUPS = {"rope_ref.vision": "Images", "rope_ref.video": "Video"}


def group(name: str) -> str:
    """The chapter of the catalogue in which a variant stands."""
    return GROUPS.get(CATALOGUE[name].__module__, "Text" if sample(name).axes is None else "Several axes")


def page(name: str) -> str:
    """The whole page in Markdown."""
    parts = [
        f"---\nhide: [toc]\n---\n\n# {name}",
        inline(summary(name), set()),
        f"![Wavelength of each pair, and score against distance](../figures/{name}.svg)",
        "## The specification",
        "What the docstring says, and beside it the lines that compute it.",
        *(beside(function) for function in related.lines(name)),
        *against_parent(name),
        "## Run it",
        example(name),
        *config(name),
        *differences(name),
        *real_bugs(name),
    ]
    return "\n\n".join(parts)


def summary(name: str) -> str:
    """The first sentence or line of the docstring."""
    return (inspect.getdoc(CATALOGUE[name]) or "").partition("\n\n")[0].replace("\n", " ")


def beside(function: Callable[..., Any]) -> str:
    """Documentation on the left, code on the right."""
    plain = inspect.unwrap(function)
    source, first = inspect.getsourcelines(plain)
    file = Path(inspect.getfile(plain)).relative_to(ROOT)
    code = re.sub(r'\n +""".*?"""\n', "\n", "".join(source), count=1, flags=re.DOTALL).rstrip()
    return (
        f'<div class="beside" markdown>\n<div markdown>\n\n[`{file.stem}.{plain.__name__}`](/{file}#{first})'
        f"\n\n{documented(plain)}\n\n</div>\n<div markdown>\n\n``` {{.py .source}}\n{code}\n```\n\n</div>\n</div>"
    )


def against_parent(name: str) -> list[str]:
    """What is different from the variant that this one changes."""
    above, (one, other) = related.parent(name), related.siblings(name)
    if above is None or other is None:
        return ["## What it changes", "Nothing: every other variant changes something of this one."]
    rows = related.changes(one, other)
    table = "\n".join(f"| {what} | {was} | {now} |" for what, was, now in rows)
    words = f"Against [{above}]({above}.md), given the same arguments as far as it takes them:"
    if not rows:
        return ["## What it changes", f"{words} nothing; it is that Rope under its own name."]
    return ["## What it changes", words, f"| | {above} | {name} |\n|---|---|---|\n{table}"]


def example(name: str) -> str:
    """A program that makes the Rope, rotates by it, and rotates back."""
    make, given = inspect.unwrap(CATALOGUE[name]), dict(ARGUMENTS[name])
    home = make.__module__.rpartition(".")[2]
    call = f"rr.{make.__name__}" if home == make.__name__ else f"rr.{home}.{make.__name__}"
    words = ", ".join(f"{key}={_argument(key, value)}" for key, value in given.items())
    rope = sample(name)
    heads = f"{rope.heads}, " if rope.heads else ""
    return f"""```python
import numpy as np
import rope_ref as rr

rope = {call}({words})
positions = {_positions(name)}
x = np.random.default_rng(0).standard_normal(({heads}len(positions), rope.head_dim))
y = rr.rotate(x, positions, rope)
assert np.allclose(rr.unrotate(y, positions, rope), x)
print(rope.pairs, "pairs, fastest", rope.omega.max(), "slowest", rope.omega[rope.omega > 0].min())
print("lengths change by", np.linalg.norm(y) / np.linalg.norm(x))
```"""


def _argument(key: str, value: Any) -> str:
    if key == "generator":
        return f"np.random.default_rng({value})"
    if isinstance(value, tuple) and len(value) > 8:
        same = len(set(value)) == 1
        return f"({value[0]!r},) * {len(value)}" if same else f"tuple(1 + i * i / 16 for i in range({len(value)}))"
    return repr(value)


def _positions(name: str) -> str:
    make, axes = inspect.unwrap(CATALOGUE[name]), sample(name).axes
    own = f"{make.__name__}_positions"
    module = inspect.getmodule(make)
    if hasattr(module, own):
        sizes = {"height": 2, "width": 3, "frames": 1}
        taken = [str(sizes[key]) for key in inspect.signature(getattr(module, own)).parameters if key in sizes]
        return f"rr.{make.__module__.rpartition('.')[2]}.{own}({', '.join(taken)})"
    return "np.arange(6)" if axes is None else f"rr.positions.grid({', '.join('12123'[-axes:])})"


def config(name: str) -> list[str]:
    """A published config that means this variant, and the names of the others."""
    models = related.models()[name]
    if not models:
        return []
    file = related.CONFIGS[models[0]]
    text = re.sub(r"\[[^\[\]]*\]", lambda m: re.sub(r"\s+", " ", m[0]), json.dumps(file["config"], indent=2))
    links = ", ".join(f"[{model}](../explorer.md?config={model})" for model in models)
    words = f"{file['model']}, and on the interactive page {links}:"
    return ["## A config that uses it", words, f"```json\n{text}\n```"]


def differences(name: str) -> list[str]:
    """Where published implementations are known to differ."""
    known = related.disagreements(name)
    return ["## Known disagreements", "From [who agrees with whom](../peers.md):", "\n".join(known)] if known else []


def real_bugs(name: str) -> list[str]:
    """Bugs that were found in the wild, each with the place where it was seen."""
    cases = related.bugs()[name]
    if not cases:
        return []
    rows = "\n".join(
        f"| {case.bug} | [{case.link}]({case.address}) | {(case.make.__doc__ or '').strip().replace(chr(10), ' ')} |"
        for case in cases
    )
    words = "Each is written anew in `tests/conformance/wrong`, where the kit must find it and name its class."
    return ["## Real bugs of this kind", words, f"| class | seen in | what happened |\n|---|---|---|\n{rows}"]


def overview() -> str:
    """The page that lists every variant, by group, with its first line."""
    parts = ["# Variants", "Each is a function that returns a `Rope`; `rope-ref show NAME` prints it."]
    for title in dict.fromkeys(map(group, CATALOGUE)):
        names = [name for name in CATALOGUE if group(name) == title]
        rows = [f"| [{name}]({name}.md) | {inline(summary(name), set())} |" for name in names]
        parts += [f"## {title}", "| variant | what it is |\n|---|---|\n" + "\n".join(rows)]
    return "\n\n".join(parts)
