"""Wrong formulas: which numbers are combined, and with which sign."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.properties.model import Context, Mutation, fixed
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from rope_ref.rotation import turn

Pair = Callable[[Array, Array, Array, Array], tuple[Array, Array]]

# (a, b, cos, sin) -> (a', b'), where a' = a cos - b sin and b' = a sin + b cos are right
FORMULAS: dict[str, Pair] = {
    "it turns the other way: the angle is -phi": lambda a, b, c, s: (a * c + b * s, b * c - a * s),
    "cos and sin are exchanged": lambda a, b, c, s: (a * s - b * c, a * c + b * s),
    "both sines are added: no rotation": lambda a, b, c, s: (a * c + b * s, a * s + b * c),
    "both sines are subtracted: no rotation": lambda a, b, c, s: (a * c - b * s, b * c - a * s),
    "the cosine term is missing": lambda a, b, c, s: (-b * s, a * s),
    "the cosine term is missing, the sine stands for it": lambda a, b, c, s: (-b * c, a * s),
    "the sine term is missing": lambda a, b, c, s: (a * c, b * c),
    "rotate_half keeps its halves in place": lambda a, b, c, s: (a * c - a * s, b * c + b * s),
    "rotate_half keeps its halves in place, without the sign": lambda a, b, c, s: (a * c + a * s, b * c + b * s),
    "the second channel is computed from the first one's result": lambda a, b, c, s: (
        a * c - b * s, (a * c - b * s) * s + b * c,
    ),
    "the first channel is computed from the second one's result": lambda a, b, c, s: (
        a * c - (a * s + b * c) * s, a * s + b * c,
    ),
    "the two results of a pair are exchanged": lambda a, b, c, s: (a * s + b * c, a * c - b * s),
}  # fmt: skip


def _split(order: str) -> Callable[[Array, Array], tuple[Array, Array]]:
    """A table of sin and cos in turn, cut in the middle, or one after the other, taken in turn."""

    def cut(cos: Array, sin: Array) -> tuple[Array, Array]:
        one, two = (sin, cos) if order.startswith("sin") else (cos, sin)
        turns = np.stack([one, two], -1).reshape(*cos.shape[:-1], -1)
        rows = np.concatenate([one, two], -1)
        n = cos.shape[-1]
        a, b = (turns[..., :n], turns[..., n:]) if order.endswith("cut") else (rows[..., ::2], rows[..., 1::2])
        return (b, a) if order.startswith("sin") else (a, b)

    return cut


SPLITS = {
    "a table of sin and cos in turn is cut in the middle": _split("sin, cut"),
    "a table of cos and sin in turn is cut in the middle": _split("cos, cut"),
    "a table of sines and then cosines is taken in turn": _split("sin, turns"),
    "a table of cosines and then sines is taken in turn": _split("cos, turns"),
}


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every wrong formula."""
    for text, formula in FORMULAS.items():
        yield Mutation("FORMULA", text, {"turn": fixed(lambda _, c, f: by(f), formula)})
    yield Mutation(
        "FORMULA", "neighbours share a table entry, halves are paired: the two channels of a pair turn by different "
        "angles" if rope.pairing == "half-split" else "the table is laid out in halves, neighbours are paired: the two "
        "channels of a pair turn by different angles", {"turn": lambda _, c: mixed},
    )  # fmt: skip
    other = "interleaved" if rope.pairing == "half-split" else "half-split"
    paired = "neighbours" if other == "interleaved" else "halves"
    yield Mutation(
        "LAYOUT", f"{paired} are paired, with tables laid out for {rope.pairing} pairs",
        {"turn": lambda _, c: lambda x, cos, sin, rope: mixed(x, cos, sin, replace(rope, pairing=other))},
    )  # fmt: skip
    if cut_in_order(rope):
        yield Mutation(
            "MROPE", "sections are cut from the table of both halves as if it were one: the two channels of a pair "
            "take other axes", {"turn": lambda _, c: fixed_sections(c)},
        )  # fmt: skip
    if rope.axes is not None and rope.heads is None:
        yield Mutation(
            "FORMULA", "within each axis, tables and channels are laid out in different ways",
            {"turn": lambda _, c: mixed_by_axis},
        )  # fmt: skip
    for text, split in SPLITS.items():
        yield Mutation("FORMULA", text, {"tables": fixed(lambda t, c, f: f(*t), split)})
    yield Mutation(
        "LAYOUT",
        "rotate_half takes neighbours and puts them out as halves",
        {"turn": lambda _, c: neighbours_as_halves},
    )
    yield Mutation(
        "LAYOUT", "rotate_half takes neighbours and puts them out as halves, with tables of neighbours",
        {"turn": lambda _, c: lambda x, cos, sin, rope: neighbours_as_halves(x, cos, sin, rope, "interleaved")},
    )  # fmt: skip
    for order, text in (("out", "the result is left in the order"), ("in", "x is taken in the order")):
        yield Mutation(
            "LAYOUT", f"{text} of {other} pairs", {"turn": fixed(lambda _, c, o: partial(reordered, order=o), order)}
        )
    yield Mutation("INPL", "it turns twice", {"turn": lambda _, c: lambda x, *t: turn(turn(x, *t), *t)})


def by(formula: Pair) -> Callable[..., Array]:
    """A rotation of all pairs with another formula."""

    def turned(x: Array, cos: Array, sin: Array, rope: Rope) -> Array:
        first, second = channels(rope.pairing, rope.pairs, rope.start)
        y = x.copy()
        y[..., first], y[..., second] = formula(x[..., first], x[..., second], cos, sin)
        return y

    return turned


def wide(table: Array, pairing: str) -> Array:
    """Each entry twice: halves one after the other, or neighbours."""
    return np.concatenate([table, table], -1) if pairing == "half-split" else np.repeat(table, 2, -1)


def mixed(x: Array, cos: Array, sin: Array, rope: Rope) -> Array:
    """Channels paired as the Rope says, tables laid out for the other pairing."""
    other = "interleaved" if rope.pairing == "half-split" else "half-split"
    first, second = channels(rope.pairing, rope.pairs)
    turned = x[..., rope.start : rope.start + 2 * rope.pairs]
    swapped = np.empty_like(turned)
    swapped[..., first], swapped[..., second] = -turned[..., second], turned[..., first]
    return placed(x, turned * wide(cos, other) + swapped * wide(sin, other), rope)


def cut_in_order(rope: Rope) -> bool:
    """Whether pairs turn with one of three axes each, in sections one behind the other (Qwen2-VL)."""
    if rope.axes != 3 or rope.heads is not None or rope.pairing != "half-split":
        return False
    axis = np.abs(rope.omega).argmax(-1)
    return bool((np.diff(axis) >= 0).all() and axis[0] < axis[-1])


def fixed_sections(context: Context) -> Callable[..., Array]:
    """A rotation with a table of both halves, cut into sections of twice the width."""

    def turned(x: Array, cos: Array, sin: Array, rope: Rope) -> Array:
        axis = np.repeat(np.abs(rope.omega).argmax(-1), 2)  # of each column of the table
        phi = context.probe.rows(3)[..., axis] * np.tile(np.abs(rope.omega).sum(-1), 2)
        m = rope.attention_scale
        part = x[..., rope.start : rope.start + 2 * rope.pairs]
        a, b = part[..., : rope.pairs], part[..., rope.pairs :]
        return placed(x, m * (part * np.cos(phi)[:, None] + np.concatenate([-b, a], -1) * np.sin(phi)[:, None]), rope)

    return turned


def mixed_by_axis(x: Array, cos: Array, sin: Array, rope: Rope) -> Array:
    """The same, each block of pairs that turn with one axis by itself."""
    axis = np.abs(rope.omega).argmax(-1)
    y = x.copy()
    first, second = channels(rope.pairing, rope.pairs, rope.start)
    for a in np.unique(axis):
        block = axis == a
        own = np.sort(np.concatenate([first[block], second[block]]))
        part = replace(rope, head_dim=len(own), rotary_dim=None, start=0, inv_freq=np.ones(block.sum()))
        y[..., own] = mixed(x[..., own], cos[..., block], sin[..., block], part)
    return y


def neighbours_as_halves(x: Array, cos: Array, sin: Array, rope: Rope, tables: str = "half-split") -> Array:
    """x cos + J x sin where J reads (2i, 2i + 1) and writes (i, i + r/2)."""
    turned = x[..., rope.start : rope.start + 2 * rope.pairs]
    swapped = np.concatenate([-turned[..., 1::2], turned[..., ::2]], -1)
    return placed(x, turned * wide(cos, tables) + swapped * wide(sin, tables), rope)


def reordered(x: Array, cos: Array, sin: Array, rope: Rope, order: str) -> Array:
    """Right, but for the order of the channels that come out, or go in."""
    y = turn(x, cos, sin, rope) if order == "out" else x
    part = y[..., rope.start : rope.start + 2 * rope.pairs]
    other = "interleaved" if rope.pairing == "half-split" else "half-split"
    first, second = channels(rope.pairing, rope.pairs)
    to_first, to_second = channels(other, rope.pairs)
    moved = np.empty_like(part)
    moved[..., to_first], moved[..., to_second] = part[..., first], part[..., second]
    y = placed(y, moved, rope)
    return y if order == "out" else turn(y, cos, sin, rope)


def placed(x: Array, part: Array, rope: Rope) -> Array:
    """x with other numbers where it turns."""
    y = x.copy()
    y[..., rope.start : rope.start + 2 * rope.pairs] = part
    return y
