"""A Rope in JSON, for programs that are not Python.

Keys come in a fixed order, each once, as `"key": value`, so that a reader can get by with a search.
Numbers that decide angles and magnitudes stand in decimal (the shortest that reads back as the
same float64) and, under the key with `_hex` added, as C's exact hexadecimal floats in quotes.

    layout            axes of x: "bhsd" is (batch, heads, seq, head_dim)
    head_dim          channels of a head
    start             first channel that turns
    rotary_dim        channels that turn, 2 pairs; the others pass through
    pairing           "half-split": (start + i, start + i + pairs), "interleaved": (start + 2i, start + 2i + 1)
    angle_dtype       "float64", or "float32" where frequency and angle are rounded to it
    heads             1 where all heads share the frequencies, else how many there are
    pairs, axes       pairs that turn, and numbers in a position
    inv_freq_shape    (pairs), (pairs, axes) or (heads, pairs, axes), as `Rope` holds them
    attention_scale   the constant magnitude
    xpos              null, or scale_base, center, gamma, power: pair i is also scaled by
                      ((i/pairs + gamma) / (1 + gamma))^(power (position - center) / scale_base)
    theta             base of the frequencies where they are theta^(-2i/rotary_dim), else null
    inv_freq          radians per position: heads pairs axes numbers, row by row
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from rope_ref.magnitude import XPos
from rope_ref.rope import Rope


def describe(rope: Rope) -> dict[str, Any]:
    """The description of a Rope, made of what JSON has."""
    omega = rope.omega
    return {
        "layout": "bhsd",
        "head_dim": int(rope.head_dim),
        "start": int(rope.start),
        "rotary_dim": 2 * rope.pairs,
        "pairing": rope.pairing,
        "angle_dtype": rope.angle_dtype,
        "heads": rope.heads or 1,
        "pairs": rope.pairs,
        "axes": rope.axes or 1,
        "inv_freq_shape": list(omega.shape),
        **_both("attention_scale", rope.attention_scale),
        "xpos": rope.xpos and {key: v for name, n in asdict(rope.xpos).items() for key, v in _both(name, n).items()},
        **_both("theta", rope.theta if rope.inv_freq is None else None),
        "inv_freq": omega.ravel().tolist(),
        "inv_freq_hex": [w.hex() for w in omega.ravel().tolist()],
    }


def described(description: Mapping[str, Any]) -> Rope:
    """The Rope of a description, read from the hexadecimal numbers.

    >>> described(describe(Rope(head_dim=8, theta=500.0))) == Rope(head_dim=8, rotary_dim=8, theta=500.0)
    True
    """
    given = dict(description)
    fields = {key: given[key] for key in ("head_dim", "start", "rotary_dim", "pairing", "angle_dtype")}
    fields["attention_scale"] = float.fromhex(given["attention_scale_hex"])
    if given["xpos"] is not None:
        names = ("scale_base", "center", "gamma", "power")
        fields["xpos"] = XPos(**{name: float.fromhex(given["xpos"][f"{name}_hex"]) for name in names})
    if given["theta"] is not None:
        fields["theta"] = float.fromhex(given["theta_hex"])
    else:
        omega = np.array([float.fromhex(w) for w in given["inv_freq_hex"]])
        fields["inv_freq"] = omega.reshape(given["inv_freq_shape"])
    return Rope(**fields)


def text(value: Any, depth: int = 1) -> str:
    """JSON, with a line for each entry down to this depth.

    >>> print(text({"a": [1.0, 2.0], "b": None}))
    {
    "a": [1.0, 2.0],
    "b": null
    }
    """
    if depth and isinstance(value, dict):
        return "{\n" + ",\n".join(f"{json.dumps(key)}: {text(v, depth - 1)}" for key, v in value.items()) + "\n}"
    if depth and isinstance(value, list):
        return "[\n" + ",\n".join(text(v, depth - 1) for v in value) + "\n]"
    return json.dumps(value, allow_nan=False)


def _both(name: str, number: float | None) -> dict[str, Any]:
    number = None if number is None else float(number)
    return {name: number, f"{name}_hex": None if number is None else number.hex()}
