"""A layer, read off its frequencies or its cos and sin of positions 0, 1, 2, ...

Frequencies say how fast pairs turn, cos and sin with what magnitude too. Which channels make a pair is told only
where a table holds each entry twice, and how wide a head is not at all: `Layer.open` names what is left open.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rope_ref.formats.fitted import fitted
from rope_ref.parameters import Layer
from rope_ref.rope import Rope, changed

Floats = NDArray[np.float64]
NAMES = ("inv_freq", "cos", "sin", "freqs", "cos_cached", "sin_cached", "cos_cache", "sin_cache", "freqs_cis")
MADE = 2.0**-22  # relative error of a float32 frequency or angle, as models make them


def read(found: Mapping[str, NDArray[Any]], place: str, angle_dtype: str, unit: float = 0.0) -> list[Layer]:
    """The layers of arrays by their names: one if all are alike, else one for each, in order.

    found  inv_freq (pairs,); or cos and sin (positions, pairs), or twice as wide; the last part of a name says which
    unit   what the arrays were rounded by, relative
    """
    if len(found) == 1 and next(iter(found)).rsplit(".", 1)[-1] not in NAMES:
        found = {"inv_freq": next(iter(found.values()))}
    groups: dict[str, dict[str, NDArray[Any]]] = {}
    for name in sorted(found, key=by_number):
        prefix, _, last = name.rpartition(".")
        groups.setdefault(prefix, {})[last.replace("_cached", "").replace("_cache", "")] = found[name]
    made = [layer(each, place, angle_dtype, unit) for each in groups.values()]
    if not made:
        raise ValueError(f"{place} has no array; expected inv_freq, or cos and sin")
    same = all(one.rope == made[0].rope for one in made)
    kinds = {"".join(c for c in prefix if not c.isdigit()) for prefix in groups}
    if not same and len(kinds) > 1:
        raise ValueError(f"{place} has tables of {' and '.join(sorted(kinds))} that differ; expected those of one part")
    return made[:1] if same else made


def by_number(name: str) -> list[tuple[int, str]]:
    """Names in order, layer 10 after layer 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def layer(named: Mapping[str, NDArray[Any]], place: str, angle_dtype: str, unit: float) -> Layer:
    """The layer of one set of tables. Raises ValueError for arrays that describe no rotation."""
    pairing, m, left = None, 1.0, {"head_dim", "start", "axes", "pairing"}
    if "inv_freq" in named and not np.iscomplexobj(named["inv_freq"]):
        w, left = np.asarray(named["inv_freq"], np.float64), left | {"attention_scale"}
        rounding = np.full(w.shape, max(MADE * 16, 2 * unit))
    else:
        complexes = [each for each in named.values() if np.iscomplexobj(each)]
        if complexes:
            cos, sin = complexes[0].real, complexes[0].imag
        elif {"cos", "sin"} <= set(named):
            (cos, pairing), (sin, _) = narrow(named["cos"]), narrow(named["sin"])
        else:
            raise ValueError(f"{place} has {', '.join(named)}; expected inv_freq, or cos and sin")
        w, m, rounding = from_tables(cos, sin, unit)
    if w.ndim != 1 or not w.size or not np.isfinite(w).all():
        raise ValueError(f"{place} has inv_freq of shape {w.shape}; expected finite (pairs,)")
    fields: dict[str, Any] = {"pairing": pairing or "half-split", "angle_dtype": angle_dtype}
    rope = fitted(w, m, rounding)
    left -= {"pairing"} if pairing else set()
    name, theta = "read off", float("nan")
    if rope is None:
        rope = Rope(2 * len(w), inv_freq=w, attention_scale=m, **fields)
    elif rope.origin:
        name, theta, rope = rope.origin.make.__name__, rope.origin.given["theta"], changed(rope, **fields)
    return Layer("full_attention", name, theta, rope, open=tuple(sorted(left)), rounded=float(rounding.max()))


def from_tables(cos: NDArray[Any], sin: NDArray[Any], unit: float) -> tuple[Floats, float, Floats]:
    """The frequencies (pairs,), the magnitude, and by how much, relative, each frequency may be off.

    The frequency is the slope of the line through the first position that is closest to the angles. Entries are off
    by `unit` of themselves, angles so by 1.5 units at most, which matters less the farther a pair has turned.
    """
    if cos.shape != sin.shape or cos.ndim != 2 or len(cos) < 2:
        raise ValueError(f"cos and sin have shapes {cos.shape} and {sin.shape}; expected one, (positions, pairs)")
    m = float(np.median(np.hypot(cos, sin)))
    angle = np.unwrap(np.arctan2(sin, cos), axis=0)
    p = np.arange(len(cos))
    w = (p[1:, None] * (angle[1:] - angle[0])).sum(0) / (p[1:] ** 2).sum()
    turned = np.maximum(np.abs(w) * len(cos), 1e-300)
    rounding = MADE * 16 + 2 * unit * np.minimum(1, 2 / turned)
    off = max(1e-6, 2 * unit)
    return w, m if abs(m - 1) > off else 1.0, rounding


def narrow(table: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    """(positions, pairs) of a table that has each entry once, or twice; and the pairing that the second tells."""
    table = table.reshape(-1, table.shape[-1])
    n = table.shape[-1] // 2
    if table.shape[-1] == 2 * n and np.array_equal(table[:, :n], table[:, n:]):
        return table[:, :n], "half-split"
    if table.shape[-1] == 2 * n and np.array_equal(table[:, ::2], table[:, 1::2]):
        return table[:, ::2], "interleaved"
    return table, None
