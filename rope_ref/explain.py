"""A model's rotary embedding in words, equations and wavelengths: what `rope-ref explain` prints."""

import inspect
import re
import textwrap
from collections.abc import Iterable
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from rope_ref import frequencies
from rope_ref.configs import check_layer, layers
from rope_ref.exactness import UNIT
from rope_ref.parameters import TYPES, Layer
from rope_ref.rope import Rope

# where the equation of each rope type stands
EQUATIONS = {
    "default": frequencies.geometric,
    "linear": frequencies.linear,
    "dynamic": frequencies.dynamic_factor,
    "yarn": frequencies.yarn,
    "longrope": frequencies.geometric,
    "llama3": frequencies.by_parts,
    "proportional": frequencies.proportional,
}


# the symbols of those equations: by what name a variant was given each
SYMBOLS = {
    "L": ("original_max_position_embeddings", "max_position_embeddings"), "s": ("factor",),
    "low": ("low_freq_factor", "alpha"), "high": ("high_freq_factor", "beta"), "beta_fast": ("beta_fast",),
    "beta_slow": ("beta_slow",), "n": ("length",), "p": ("partial_rotary_factor",),
}  # fmt: skip

Groups = dict[Layer, list[int]]


def grouped(
    config: object, *, layer: int | None = None, length: int | None = None, angle_dtype: str = "float64"
) -> Groups:
    """The layers of a model, or the one named, those of the same Rope together. Errors as in `from_config`."""
    every = layers(config, length=length, angle_dtype=angle_dtype)
    check_layer(layer, len(every))
    groups: Groups = {}
    for index in range(len(every)) if layer is None else [layer]:
        groups.setdefault(every[index], []).append(index)
    return groups


def explain(groups: Groups) -> str:
    """What each Rope of a model is, and which layers have it."""
    return "\n\n".join(_one(one, which) for one, which in groups.items())


def _one(one: Layer, which: list[int]) -> str:
    kind = "" if one.kind in ("full_attention", "still") else f", {one.kind}"
    title = f"Layer{'s' * (len(which) > 1)} {spans(which)}{kind}"
    title = f"{title}\n{'=' * len(title)}"
    if not speeds(one.rope).any():
        return f"{title}\nNo rotation."
    parts = [title, _words(one), _facts(one), bands(one.rope, one.theta), rounded_angles(one.rope), limits(one.rope)]
    return "\n\n".join(parts)


def _words(one: Layer) -> str:
    """The first paragraph of the variant, the equation where it stands, and the value of each of its symbols here."""
    rope_type = one.rope_type
    if rope_type not in EQUATIONS:
        return f"read off a file: {rope_type}"
    said, equation = TYPES[rope_type][0], EQUATIONS[rope_type]
    words = f"{rope_type}: {(inspect.getdoc(said) or '').split(chr(10) * 2)[0]}"
    text = re.split(r"\n+(?:Raises|>>>)", inspect.getdoc(equation) or "")[0]
    here = f"here: {values}" if (values := symbols(one)) else ""
    told = f"{words}\n\n{equation.__module__}.{equation.__name__}:\n{textwrap.indent(text, '    ')}"
    return f"{told}\n\n{here}" if here else told


def symbols(one: Layer) -> str:
    """The values that the symbols of the equation have in this model.

    >>> from rope_ref import variants
    >>> symbols(Layer("full_attention", "llama3", 500000.0, variants.llama3(64, 8.0)))
    'theta = 500,000, r = 64, L = 8,192, s = 8, low = 1, high = 4'
    """
    rope, given = one.rope, one.rope.origin.given if one.rope.origin else {}
    found = [f"theta = {one.theta:,.10g}", f"r = {2 * rope.pairs}"]
    for symbol, names in SYMBOLS.items():
        values = [given[name] for name in names if isinstance(given.get(name), (int, float))]
        found += [f"{symbol} = {values[0]:,.10g}"] if values else []
    return ", ".join(found)


def _facts(one: Layer) -> str:
    rope = one.rope
    stop = rope.start + 2 * rope.pairs
    rows = [
        ("theta", f"{one.theta:g}"),
        ("channels", f"{rope.start} to {stop - 1} of {rope.head_dim}, {rope.pairs} {rope.pairing} pairs"),
        ("magnitude", f"{rope.attention_scale:.9g}" + (" (squared in a score)" if rope.attention_scale != 1 else "")),
        ("angles", rope.angle_dtype),
    ]
    rows += [("scores", text) for text in one.beside]
    if rope.axes is not None:
        of = [int((rope.omega[:, axis] != 0).sum()) for axis in range(rope.axes)]
        rows.append(("axes", f"{rope.axes}, with {', '.join(map(str, of))} pairs"))
    if rope.axes == 3:
        rows += [
            ("", "positions are (t, h, w): a token of text stands at (p, p, p); one of an image or a video at the"),
            ("", "frame, row and column within it, from the end of what came before on: see rope_ref.multimodal"),
        ]
    return "\n".join(f"{name:10} {text}" for name, text in rows)


def speeds(rope: Rope) -> NDArray[np.float64]:
    """Radians per position of every pair, whichever axis it turns with, shape (pairs,)."""
    return rope.omega if rope.axes is None else np.abs(rope.omega).max(-1)


def bands(rope: Rope, theta: float) -> str:
    """A table of wavelengths, 2 pi / w positions, against those of w = theta^(-2i/r).

    A pair is unchanged, stretched (by the most of all), blended (by less), shortened, or still.

    >>> print(bands(Rope(8, inv_freq=(1.0, 0.1, 0.0, 0.0)), 10000.0))
    band           pairs   wavelength in positions    slowed by
    unchanged        0-1   6.28319 to 62.8319         1
    still            2-3   never turns
    """
    w = speeds(rope)
    slowed = np.divide(frequencies.geometric(2 * rope.pairs, theta), w, out=np.full(rope.pairs, np.inf), where=w > 0)
    most = slowed[np.isfinite(slowed)].max(initial=1.0)  # the 1 names no pair: those are unchanged
    close = 1e-5  # float32 frequencies differ by less from exact ones
    names = np.select(
        [~np.isfinite(slowed), slowed < 1 - close, slowed <= 1 + close, slowed >= most * (1 - close)],
        ["still", "shortened", "unchanged", "stretched"], "blended",
    )  # fmt: skip
    lines = [f"{'band':10} {'pairs':>9}   {'wavelength in positions':26} slowed by"]
    for name, run in groupby(range(rope.pairs), key=lambda i: str(names[i])):
        i = list(run)
        if name == "still":
            lines.append(f"{name:10} {spans(i):>9}   never turns")
            continue
        waves, by = 2 * np.pi / w[i], slowed[i]
        lines.append(f"{name:10} {spans(i):>9}   {_range(waves):26} {_range(by)}")
    return "\n".join(lines)


def rounded_angles(rope: Rope) -> str:
    """From which position on angles that are computed in float32, as models' own code does, are off by how much.

    A frequency and a product that are rounded to float32 are off by at most 2^-24 of themselves each, so an angle
    p w by at most 2^-23 p w. Positions in bfloat16 have 8 bits: from 256 on neighbours coincide.

    >>> print(rounded_angles(Rope(64)))
    Angles in float32, as the code of most models has them, may be off
        by 0.01 radians from position 83,887 on
        by 0.1 radians from position 838,861 on
    Positions in bfloat16 coincide from 256 on, in float16 from 2,048 on.
    """
    fastest = float(speeds(rope).max(initial=0.0))
    lines = ["Angles in float32, as the code of most models has them, may be off"]
    for off in (0.01, 0.1):
        lines.append(f"    by {off:g} radians from position {int(np.ceil(off / (2 * UNIT['float32'] * fastest))):,} on")
    return "\n".join([*lines, "Positions in bfloat16 coincide from 256 on, in float16 from 2,048 on."])


def limits(rope: Rope) -> str:
    """Up to which position angles are as good as exact: their error stays below one rounding of a table.

    An angle p w is computed from a rounded frequency by a rounded product, each off by at most
    the unit roundoff u of angle_dtype, so that its error is at most 2 u p w, and that of cos and
    sin no more. A table rounds by its own unit, which the error reaches at p = unit / (2 u w).
    Whole positions end at 1/u, where neighbours become one; they are the only limit where no pair turns.
    """
    u, fastest = UNIT[rope.angle_dtype], float(speeds(rope).max(initial=0.0))
    lines = [f"Angles in {rope.angle_dtype}, as here, stay within one rounding of a table up to position"]
    for table in ("float32", "float16", "bfloat16"):
        lines.append(f"    {table:9} {int(min(UNIT[table] / (2 * u * fastest) if fastest else np.inf, 1 / u)):,}")
    lines.append(f"    and name whole positions up to {int(1 / u):,}")
    return "\n".join(lines)


def decay(rope: Rope, distances: NDArray[np.float64]) -> NDArray[np.float64]:
    """The score of equal query and key, all pairs of length one, against distance: m^2 mean_i cos(w_i d)."""
    score: NDArray[np.float64] = np.cos(distances[:, None] * speeds(rope)).mean(-1)
    return rope.attention_scale**2 * score


def spans(numbers: Iterable[int]) -> str:
    """Whole numbers in order, runs shortened.

    >>> spans([0, 1, 2, 5, 7, 8])
    '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][-1] + 1:
            runs[-1].append(n)
        else:
            runs.append([n])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _range(values: NDArray[np.float64]) -> str:
    ends = [f"{v:,.6g}" if v < 1e5 else f"{v:,.0f}" for v in (values.min(), values.max())]
    return ends[0] if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
