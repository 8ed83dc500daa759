"""Whether two descriptions of a model turn alike, and if not, what each says: `rope-ref diff`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any

import numpy as np

from rope_ref.configs import layers
from rope_ref.exactness import UNIT
from rope_ref.pairing import channels
from rope_ref.parameters import Layer
from rope_ref.rope import Rope
from rope_ref.spectrum import spans

POSITIONS = (1024, 8192, 32768, 131072)
PLACES = ("head_dim", "channels that turn", "first channel", "pairing", "axes")
SAME = 1e-6  # relative: frequencies that differ by less were rounded to float32 on one side


@dataclass(frozen=True)
class Difference:
    """What differs in layers that differ alike.

    layers       which, counted from 0
    values       what each side gives: name -> (on the left, on the right)
    apart        radians by which angles are apart at each of `POSITIONS`, of the pair where they are most; empty where
                 other channels turn
    tells        the dtype of a kernel -> the position from which on it turns otherwise
    magnitude    the ratio of the magnitudes, left over right
    permutation  channel of the left for each channel of the right, where pairing alone differs
    """

    layers: tuple[int, ...]
    values: dict[str, tuple[Any, Any]]
    apart: tuple[float, ...] = ()
    tells: dict[str, int] | None = None
    magnitude: float = 1.0
    permutation: tuple[int, ...] = ()

    def __str__(self) -> str:
        lines = [f"layers {spans(self.layers)}:"]
        lines += [f"    {name}: {left} against {right}" for name, (left, right) in self.values.items()]
        if any(self.apart):
            each = (f"{a:.3g} at {p:,}" for a, p in zip(self.apart, POSITIONS, strict=True))
            lines.append(f"    angles are apart by up to (radians): {', '.join(each)}")
            for dtype, position in (self.tells or {}).items():
                lines.append(f"    in {dtype} results differ from position {position:,} on")
        elif self.magnitude != 1:
            lines.append(
                f"    only the magnitude differs, by {self.magnitude:.6g}: scores by {self.magnitude**2:.6g}, which a "
                f"softmax scale of {self.magnitude**-2:.6g} times as much makes up for"
            )
        if self.permutation:
            lines.append(
                f"    only pairing differs: they are equal when the rows of each head of the query and key weights are "
                f"reordered to {listed(self.permutation)}"
            )
        return "\n".join(lines)


@dataclass(frozen=True)
class Comparison:
    """What differs between two descriptions; nothing where they turn alike."""

    differences: tuple[Difference, ...]

    @property
    def alike(self) -> bool:
        return not self.differences

    def __str__(self) -> str:
        return "\n".join(map(str, self.differences)) or "they turn alike"

    def as_json(self) -> dict[str, Any]:
        """{alike, positions, differences: [{layers, values, apart, tells, magnitude, permutation}]}"""
        return {"alike": self.alike, "positions": POSITIONS, "differences": [vars(d) for d in self.differences]}


def compare(
    left: object, right: object, *, length: int | None = None, overrides: Mapping[str, Any] | None = None
) -> Comparison:
    """Compare two descriptions, in any formats that `from_config` reads, layer by layer; or two Ropes.

    length     of the sequence, for dynamic NTK and LongRoPE
    overrides  keys laid over the right one, a config of transformers, as vLLM and SGLang do where they serve it

    What stands in one layer alone (a table of frequencies) is compared with every layer of the other. Raises what
    `from_config` raises.

    >>> config = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 2, "rope_theta": 500000.0}
    >>> print(compare(config, config | {"rope_theta": 10000.0}))
    layers 0-1:
        theta: 500000.0 against 10000.0
        angles are apart by up to (radians): 133 at 1,024, 1.06e+03 at 8,192, 4.24e+03 at 32,768, 1.7e+04 at 131,072
        in float32 results differ from position 1 on
        in bfloat16 results differ from position 1 on
    >>> compare(config, config).alike
    True
    """
    one, two = (one_kind(each) for each in (described(left, length), described(right, length, overrides)))
    if len(one) == 1 or len(two) == 1:
        one, two = (one * len(two), two) if len(one) == 1 else (one, two * len(one))
    groups: dict[tuple[Layer | None, Layer | None], list[int]] = {}
    for index, sides in enumerate(zip_longest(one, two)):
        pair = closed(*sides), closed(*sides[::-1])
        if not alike(*pair):
            groups.setdefault(pair, []).append(index)
    return Comparison(tuple(difference(*pair, which) for pair, which in groups.items()))


def described(source: object, length: int | None, overrides: Mapping[str, Any] | None = None) -> list[Layer]:
    if isinstance(source, Rope):
        make, given = source.origin or (None, {})
        name = make.__name__ if make else "default" if source.inv_freq is None else "given"
        return [Layer("full_attention", name, float(given.get("theta") or source.theta), source)]
    return layers(source, length=length, overrides=overrides)


def one_kind(each: list[Layer]) -> list[Layer]:
    """The layers, all called alike where those that rotate do so alike: a window is no matter of rotation."""
    alike = len({one.rope for one in each if one.rope.pairs}) < 2
    return [one._replace(kind="full_attention") if alike and one.rope.pairs else one for one in each]


def closed(one: Layer | None, other: Layer | None) -> Layer | None:
    """The layer, with what its description leaves open as the other has it, where that fits."""
    if one is None or other is None or not one.open or one.rope.pairs != other.rope.pairs:
        return one
    mine, fields = one.rope, {name: getattr(other.rope, name) for name in one.open if name != "axes"}
    w = mine.omega
    if "axes" in one.open and other.rope.axes and mine.axes is None:
        w = np.where(other.rope.omega != 0, w[:, None], 0.0)
    width = max(fields.get("head_dim", mine.head_dim), fields.get("start", mine.start) + 2 * mine.pairs)
    rope = replace(mine, **fields | {"head_dim": width}, rotary_dim=2 * mine.pairs, inv_freq=w)
    object.__setattr__(rope, "origin", mine.origin)
    return one._replace(rope=rope)


def alike(one: Layer | None, two: Layer | None) -> bool:
    """Whether both turn every channel alike, but for rounding to float32."""
    if one is None or two is None:
        return False
    a, b = one.rope, two.rope
    if not a.omega.any() and not b.omega.any():
        return True
    same = (a.pairing, a.start, a.omega.shape, a.xpos) == (b.pairing, b.start, b.omega.shape, b.xpos)
    close = same and bool(np.allclose(a.omega, b.omega, rtol=rounding(one, two), atol=0))
    # channels that pass through on the right of those that turn count where half-split pairs reach over them
    return close and abs(a.attention_scale / b.attention_scale - 1) < rounding(one, two)


def rounding(*sides: Layer) -> float:
    """By how much, relative, frequencies differ that are the same."""
    return max(SAME, *(one.rounded for one in sides))


def difference(one: Layer | None, two: Layer | None, which: list[int]) -> Difference:
    if one is None or two is None:
        there = ("there", "missing") if two is None else ("missing", "there")
        return Difference(tuple(which), {"layer": there})
    a, b = one.rope, two.rope
    differing = dict(differences(one, two))
    ratio = a.attention_scale / b.attention_scale
    if a.omega.shape != b.omega.shape or a.start != b.start:
        return Difference(tuple(which), differing, magnitude=ratio)
    off = np.abs(a.omega - b.omega)
    off = np.where(off <= rounding(one, two) * np.abs(b.omega), 0.0, off)
    fastest = float(off.max(initial=0.0))
    apart = tuple(fastest * p for p in POSITIONS) if fastest else ()
    order: tuple[int, ...] = ()
    ratio = 1.0 if abs(ratio - 1) < rounding(one, two) else ratio
    if not fastest and ratio == 1:  # by whatever names it is said
        differing = {name: both for name, both in differing.items() if name in PLACES}
        order = permutation(a, b) if a.pairing != b.pairing else ()
    return Difference(tuple(which), differing, apart, tells(fastest) if fastest else None, ratio, order)


def differences(one: Layer, two: Layer) -> Iterator[tuple[str, tuple[Any, Any]]]:
    """What each side says where they say other things, by the names of the specification."""
    sides = [facts(one), facts(two)]
    for name in dict.fromkeys((*sides[0], *sides[1])):
        values = tuple(side.get(name) for side in sides)
        if values[0] != values[1] and not close(*values):
            yield name, (values[0], values[1])


def facts(layer: Layer) -> dict[str, Any]:
    rope, given = layer.rope, layer.rope.origin.given if layer.rope.origin else {}
    turning = np.flatnonzero((rope.omega != 0).reshape(rope.pairs, -1).any(-1))
    found = {
        "kind of layer": layer.kind, "rope_type": layer.rope_type, "theta": layer.theta, "head_dim": rope.head_dim,
        "channels that turn": 2 * len(turning), "first channel": rope.start, "pairing": rope.pairing,
        "axes": rope.axes, "magnitude": rope.attention_scale,
    }  # fmt: skip
    skipped = {*found, "start", "angle_dtype", "rotary_dim", "attention_scale", "inv_freq", "attention_factor"}
    return found | {name: value for name, value in given.items() if name not in skipped and value is not None}


def close(one: Any, two: Any) -> bool:
    number = isinstance(one, (int, float)) and isinstance(two, (int, float))
    return number and (one != one or two != two or abs(one - two) <= SAME * abs(two))


def tells(fastest: float) -> dict[str, int]:
    """The first position at which angles are apart by more than two roundings of a result."""
    return {dtype: int(np.ceil(2 * UNIT[dtype] / fastest)) for dtype in ("float32", "bfloat16")}


def permutation(a: Rope, b: Rope) -> tuple[int, ...]:
    order = np.arange(a.head_dim)
    for to, of in zip(channels(b.pairing, b.pairs, b.start), channels(a.pairing, a.pairs, a.start), strict=True):
        order[to] = of
    return tuple(order.tolist())


def listed(order: tuple[int, ...]) -> str:
    return ", ".join(map(str, order[:6])) + (", ..." if len(order) > 6 else "")
