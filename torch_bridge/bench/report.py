"""What was measured, for people and for programs: tables on a terminal, JSON, and a chart of bandwidth by size."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from torch_bridge.bench.rows import Row, Section
from torch_bridge.bench.timing import Figure

COLOURS = {"float32": "#0b6e99", "bfloat16": "#c4521b", "float16": "#4c7a34"}


def show(section: Section, rows: Sequence[Row], console: Console) -> None:
    """Print a section, its figures as median ±spread, the distance of the quartiles in percent."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), title=section.title, title_justify="left", title_style="bold")
    labels = list(dict.fromkeys(name for row in rows for name in row.labels))
    units = {name: figure.unit for row in rows for name, figure in row.figures.items()}
    for name in labels:
        table.add_column(name, no_wrap=True)
    for name, unit in units.items():
        table.add_column(f"{name}, {unit}" if unit else name, justify="right", no_wrap=True)
    table.add_column("runs", justify="right")
    for row in rows:
        cells = [escape(str(row.labels.get(name, ""))) for name in labels]
        cells += [cell(row.figures.get(name)) for name in units]
        table.add_row(*cells, "/".join(dict.fromkeys(str(figure.runs) for figure in row.figures.values())))
    console.print(table)
    console.print(Text(section.notes, "dim"), soft_wrap=True)
    console.print()


def cell(figure: Figure | None) -> str:
    """
    >>> cell(Figure(0.8612, 3.21, 25, ""))
    '0.86 ±3%'
    """
    if figure is None:
        return ""
    digits = 2 if figure.median < 10 else 1 if figure.median < 100 else 0
    return f"{figure.median:.{digits}f}" + (f" ±{figure.spread:.0f}%" if figure.runs > 1 else "")


def as_json(
    machine: Mapping[str, Any], sections: Mapping[str, tuple[Section, Sequence[Row]]], left_out: Mapping[str, str]
) -> str:
    """All that was measured; spread is in percent."""
    found = {
        name: {
            "title": section.title,
            "notes": section.notes.splitlines(),
            "rows": [{"labels": row.labels, "figures": {key: f._asdict() for key, f in row.figures.items()}}
                     for row in rows],
        }
        for name, (section, rows) in sections.items()
    }  # fmt: skip
    return json.dumps({"machine": machine, "sections": found, "left out": left_out}, indent=1, allow_nan=False) + "\n"


def draw(rows: Sequence[Row], title: str, file: Path) -> None:
    """Bandwidth in place by the number of tokens; the limit is dashed. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure as Drawing

    drawing = Drawing(figsize=(8, 4.5), layout="constrained")
    axes = drawing.subplots()
    for dtype, colour in COLOURS.items():
        of_it = [row for row in rows if (row.labels["dtype"], row.labels["pairing"]) == (dtype, "half-split")]
        tokens = [row.labels["tokens"] for row in of_it]
        for name, style in (("bandwidth", "o-"), ("bandwidth of mul_", "--")):
            label = dtype if style == "o-" else f"{dtype}, mul_ by 1.0"
            axes.plot(tokens, [row.figures[name].median for row in of_it], style, ms=4, color=colour, label=label)
    axes.set(xscale="log", xlabel="tokens", ylabel="GB/s, read and written", ylim=(0, None))
    axes.set_xticks(tokens, [f"{n:,}" for n in tokens], minor=False)
    axes.minorticks_off()
    axes.set_title(f"Rotation in place, half-split, (1, 32, tokens, 128)\n{title}", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.2)
    axes.legend(frameon=False)
    drawing.savefig(file, format="png", dpi=150)
