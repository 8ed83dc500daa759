"""The picture of `rope-ref explain --plot`: wavelengths against the unscaled ones, and the decay of the score."""

from pathlib import Path

import numpy as np

from rope_ref import frequencies
from rope_ref.explain import Groups
from rope_ref.spectrum import decay, speeds

INK, PALE, COLOURS = "#333333", "#999999", ("#0b6e99", "#c4521b", "#4c7a34", "#7a4c91")


def plot(groups: Groups, file: str | Path) -> None:
    """Draw every Rope of a model into `file`, in the format of its ending. Raises ImportError without matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    waves, score = figure.subplots(1, 2)
    distances = np.unique(np.geomspace(1, 131072, 1500).astype(int)).astype(float)
    turning = {one: which for one, which in groups.items() if one.rope.pairs}
    for (one, which), colour in zip(turning.items(), COLOURS * len(turning), strict=False):
        w = speeds(one.rope)
        pair = np.arange(len(w))
        label = f"{one.rope_type}, theta {one.theta:g}, {len(which)} layer{'s' * (len(which) > 1)}"
        waves.plot(pair, 2 * np.pi / frequencies.geometric(2 * len(w), one.theta), "--", color=colour, alpha=0.5)
        waves.plot(pair[w > 0], 2 * np.pi / w[w > 0], "o-", ms=3, color=colour, label=label)
        score.plot(distances, decay(one.rope, distances), color=colour, lw=1, label=label)
    waves.set(yscale="log", xlabel="pair", ylabel="positions", title="Wavelength (dashed: unscaled)")
    score.set(xscale="log", xlabel="distance in positions", ylabel="score", title="Score of equal query and key")
    score.axhline(0, color=PALE, lw=0.8, zorder=0)
    for axes in (waves, score):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(colors=INK)
        axes.grid(alpha=0.2)
    if turning:
        waves.legend(frameon=False)
    figure.savefig(file, dpi=150)
