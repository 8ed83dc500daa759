"""The figures of the book, drawn from rope_ref while it is built.

python -m book.figures writes docs/float32_angles.svg, which is read without the book too.
"""

import io
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from rope_ref import rotation, variants
from rope_ref.catalogue import CATALOGUE
from rope_ref.conformance.samples import KINDS, MEASURED
from rope_ref.conformance.samples import rope as sample
from rope_ref.exactness import UNIT, budget
from rope_ref.rope import Rope

FILE = Path(__file__).parents[1] / "docs" / "float32_angles.svg"
Array = NDArray[np.float64]
INK, COLOURS = "#7a7f87", ("#2a7fb8", "#d1632a", "#5b9a3c", "#8e5bb0")
STYLE = {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "rope", "svg.fonttype": "none"} | {
    f"{part}color": INK for part in ("text.", "xtick.", "ytick.", "axes.label")
}


def svg(figure: Figure) -> str:
    """The picture as text, the same for the same numbers, on no background, so that it suits light and dark pages."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(INK)
        axes.minorticks_off()
        axes.grid(alpha=0.2)
        axes.title.set_color(INK)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    return text.getvalue()


def sheet() -> tuple[Figure, list[Axes]]:
    """An empty figure, two side by side."""
    figure = Figure(figsize=(8.8, 3.1))
    figure.subplots_adjust(left=0.07, right=0.99, bottom=0.17, top=0.89, wspace=0.19)
    return figure, list(figure.subplots(1, 2))


def variant(name: str, rope: Rope) -> str:
    """Wavelength per pair and score against distance: the Rope, and beside it an unscaled one as wide."""
    figure, (waves, score) = sheet()
    omega = np.abs(rope.omega if rope.heads is None else rope.omega[0])
    omega = omega[:, None] if rope.axes is None else omega
    theta = (rope.origin.given if rope.origin else {}).get("theta", 10000.0)
    plain = variants.default(2 * rope.pairs, theta).omega
    measured = KINDS.get(name) == MEASURED
    distances = np.linspace(0, 2, 500) if measured else np.unique(np.geomspace(1, 32768, 600).astype(int)).astype(float)
    if not measured:
        waves.plot(2 * np.pi / plain, "--", color=INK, lw=1, label=f"unscaled, theta {theta:g}")
        score.plot(distances, decay(plain[:, None], distances)[0], "--", color=INK, lw=0.8)
    scores = decay(omega, distances, rope)
    for axis, colour in zip(range(omega.shape[1]), COLOURS, strict=False):
        turns = omega[:, axis] > 0
        label = f"{name}, axis {axis}" if omega.shape[1] > 1 else name
        waves.plot(np.flatnonzero(turns), 2 * np.pi / omega[turns, axis], "o", ms=3, color=colour, label=label)
        score.plot(distances, scores[axis], color=colour, lw=1)
    waves.set(yscale="log", xlabel="pair", ylabel="positions", title="Wavelength: once around")
    score.set(xscale="linear" if measured else "log", xlabel="distance in positions", title="Score of equal vectors")
    return svg(figure)


def decay(omega: Array, distances: Array, rope: Rope | None = None) -> Array:
    """The score of a query and an equal key, all pairs of length one, as they part along each axis, (axes, distances).

    m^2 mean_i zeta_i^(d/B) cos(w_i d), zeta = 1 without xPos.
    """
    size = np.ones((1, len(distances), 1)) if rope is None else np.full((1, 1, 1), rope.attention_scale**2)
    if rope is not None and rope.xpos is not None:
        size = rope.xpos.zeta(len(omega)) ** (distances[:, None] / rope.xpos.scale_base) * size
    return np.asarray((size * np.cos(distances[None, :, None] * omega.T[:, None, :])).mean(-1))


def float32_angles() -> str:
    """The largest error of float32 angles, and of the numbers rotated by them, against position."""
    figure, (angle, turned) = sheet()
    positions = np.unique(np.geomspace(1, 1e7, 400).astype(int))
    for theta, colour in zip((10000.0, 500000.0), COLOURS, strict=False):
        exact = variants.default(128, theta)
        coarse = variants.default(128, theta, angle_dtype="float32")
        error = np.abs(rotation.angles(coarse, positions) - rotation.angles(exact, positions)).max(-1)
        label = f"theta {theta:g}"
        angle.plot(positions, error, ".", ms=2, color=colour, label=label)
        x = np.ones((len(positions), 128)) / np.sqrt(2)
        apart = np.abs(rotation.rotate(x, positions, coarse) - rotation.rotate(x, positions, exact)).max(-1)
        turned.plot(positions, np.maximum.accumulate(apart), color=colour, label=label)
        bound = budget(x, positions, exact, store="bfloat16", arithmetic="float32", table="float32").max(-1)
    u = UNIT["float32"]
    angle.plot(positions, 2 * u * positions + u * u * positions, "--", color=INK, lw=1, label="bound: 2 u p, u = 2^-24")
    turned.plot(positions, bound, "--", color=INK, lw=1, label="all roundings of bfloat16 storage")
    angle.set(xscale="log", yscale="log", xlabel="position", ylabel="radians", title="Largest error of an angle")
    turned.set(xscale="log", yscale="log", xlabel="position", title="Largest error up to there, pairs of length 1")
    return svg(figure)


def drawn() -> dict[str, str]:
    """The picture of every variant by its name."""
    with matplotlib.rc_context(STYLE):
        return {name: variant(name, sample(name)) for name in CATALOGUE}


if __name__ == "__main__":
    with matplotlib.rc_context(STYLE):
        FILE.write_text(float32_angles(), encoding="utf-8")
