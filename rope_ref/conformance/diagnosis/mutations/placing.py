"""Wrong positions: rows, tokens and axes that stand elsewhere than where they were put."""

from collections.abc import Callable, Iterator

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.properties.model import Context, Mutation, fixed
from rope_ref.rope import Rope

Place = Callable[[Array, Context], Array]
LENGTHS = (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every way of standing in the wrong place."""
    for bug, text, place in PLACES:
        yield Mutation(bug, text, {"positions": place})
    for by in (1, -1, 2, -2):
        bug, words = ("AXIAL", "coordinates are") if rope.axes else ("OFFSET", "tokens stand")
        yield Mutation(bug, f"{words} {abs(by)} too {'far' if by > 0 else 'near'}", {"positions": shifted(by)})
    for text, lengths in BEFORE.items():
        yield Mutation("OFFSET", text, {"positions": fixed(lambda p, c, f: p + f(c), lengths)})
    yield Mutation("AXIS", "positions run along the heads", {"angles": along_heads})
    yield Mutation("AXIS", "heads are taken for tokens: head h turns as if it stood h further on", {"angles": by_head})
    yield Mutation(
        "AXIS", "heads are counted in place of tokens, from the first position on",
        {"angles": lambda phi, c: by_head(np.broadcast_to(phi[:, :, :1], phi.shape), c)},
    )  # fmt: skip
    yield Mutation("AXIS", "rows (batch, seq, heads) are counted as (batch, heads, seq)", {"angles": flat("bsh", 1)})
    yield Mutation("AXIS", "rows (batch, heads, seq) are counted as (batch, seq, heads)", {"angles": flat("bhs", 0)})
    yield Mutation("AXIS", "rows (seq, batch, heads) are counted as (batch, seq, heads)", {"angles": flat("sbh", 0)})
    yield Mutation("AXIS", "rows (seq, batch, heads) are counted as (batch, heads, seq)", {"angles": flat("sbh", 1)})
    yield Mutation("AXIS", "heads are taken for tokens: the first rows turn, as many as tokens", {"angles": first_rows})
    if rope.axes is not None:
        bug = "MROPE" if rope.axes == 3 else "AXIAL"
        for a in range(rope.axes):
            yield Mutation(bug, f"all axes take the positions of axis {a}", {"positions": one_axis(a)})
            yield Mutation(bug, f"the positions of axis {a} are taken as 0", {"positions": no_axis(a)})
            for b in range(a):
                yield Mutation(bug, f"axes {b} and {a} are exchanged", {"positions": exchanged(a, b)})
        yield Mutation(bug, "the axes are in reverse order", {"positions": lambda p, c: p[..., ::-1]})
        for by in (1, 2):
            yield Mutation(bug, f"the axes are moved round by {by}", {"positions": rolled(by)})
    trained = rope.origin.given.get("original_max_position_embeddings") if rope.origin else None
    for length in dict.fromkeys((*([int(trained)] if trained else []), *LENGTHS)):
        yield Mutation(
            "RANGE", f"positions from {length} on stand at {length - 1}", {"positions": clipped(0, length - 1)}
        )
        yield Mutation(
            "RANGE", f"positions begin again at {length}", {"positions": fixed(lambda p, c, n: np.mod(p, n), length)}
        )
        yield Mutation(
            "OFFSET", f"the first position is held below {length}, the rest counts on from it",
            {"positions": fixed(lambda p, c, n: np.minimum(p[:, :1], n - 1) + p - p[:, :1], length)}, alone=True,
        )  # fmt: skip
        yield Mutation(
            "RANGE", f"negative positions take rows from the end of a table of {length}",
            {"positions": fixed(lambda p, c, n: np.where(p < 0, p + n, p), length)},
        )  # fmt: skip
    for length in (16, 32, 64, 128):
        yield Mutation(
            "RANGE", f"positions begin again at {length}", {"positions": fixed(lambda p, c, n: np.mod(p, n), length)},
            alone=True,
        )  # fmt: skip
    yield Mutation("RANGE", "negative positions stand at 0", {"positions": clipped(0, np.inf)})
    yield Mutation("RANGE", "the sign of positions is lost", {"positions": lambda p, c: np.abs(p)})
    yield Mutation(
        "RANGE", "rows of the table are missing: the result there is 0",
        {"result": lambda y, c: y * 0},
    )  # fmt: skip


def by_head(phi: Array, context: Context) -> Array:
    """One position further on for every head."""
    w = context.rope.omega if context.rope.axes is None else context.rope.omega.sum(-1)
    return np.asarray(phi + np.arange(context.probe.heads)[:, None, None] * w[..., None, :])


def index(p: Array, context: Context) -> Array:
    """0, 1, 2, ... whatever was given."""
    seq = context.probe.seq(context.rope.axes)
    count = np.arange(seq) if context.rope.axes is None else np.arange(seq)[:, None]
    return np.broadcast_to(count, p.shape)


def first_token(p: Array, context: Context) -> Array:
    return np.broadcast_to(p[:, :1], p.shape)


def last_token(p: Array, context: Context) -> Array:
    return np.broadcast_to(p[:, -1:], p.shape)


def onwards(p: Array, context: Context) -> Array:
    """The count goes on from row to row."""
    rows, seq = p.shape[:2]
    more = (np.arange(rows) * seq).reshape(-1, *(1,) * (p.ndim - 1))
    return np.asarray(p + more)


def from_the_first(p: Array, context: Context) -> Array:
    """Only the first position is taken, the rest counts on from it."""
    return np.asarray(p[:, :1] + index(p, context))


def as_int32(p: Array, context: Context) -> Array:
    """The bytes of int64 numbers read as int32: p0, 0, p1, 0, ..."""
    flat = np.ascontiguousarray(p.reshape(p.shape[0], -1)).astype("<i8").view("<i4")
    return flat[:, : int(np.prod(p.shape[1:]))].reshape(p.shape)


PLACES: tuple[tuple[str, str, Place], ...] = (
    ("OFFSET", "every token stands at 0", lambda p, c: p * 0),
    ("POSIGN", "positions are ignored: tokens are counted from 0", index),
    (
        "POSIGN",
        "positions are ignored: tokens are counted on from the call before",
        lambda p, c: index(p, c) + sum(c.probe.before),
    ),
    ("POSIGN", "only the first position of a row is taken, the rest counts on", from_the_first),
    ("BATCHPOS", "all rows stand where the first one does", lambda p, c: np.broadcast_to(p[:1], p.shape)),
    ("BATCHPOS", "all rows stand where the last one does", lambda p, c: np.broadcast_to(p[-1:], p.shape)),
    ("BATCHPOS", "the count goes on from row to row", onwards),
    ("BATCHPOS", "the count goes on from row to row, whatever was given", lambda p, c: onwards(index(p, c), c)),
    ("OFFSET", "all tokens stand where the first one does", first_token),
    ("OFFSET", "all tokens stand where the last one does", last_token),
    ("POSDT", "positions in int64 are read as int32", as_int32),
    ("POSDT", "positions are cut to whole numbers", lambda p, c: np.floor(p)),
    ("POSDT", "positions are rounded to whole numbers", lambda p, c: np.rint(p)),
    ("AXIS", "the tokens are in reverse order", lambda p, c: p[:, ::-1]),
)

BEFORE: dict[str, Callable[[Context], int]] = {
    "tokens stand where their own call begins at 0": lambda c: -sum(c.probe.before),
    "the length of the call before is counted twice": lambda c: c.probe.before[-1] if c.probe.before else 0,
    "the length of the first call is counted twice": lambda c: c.probe.before[0] if c.probe.before else 0,
    "calls are counted in place of tokens": lambda c: len(c.probe.before) - sum(c.probe.before),
    "calls after the first are counted as one token each": lambda c: len(c.probe.before[1:]) - sum(c.probe.before[1:]),
    "one more for every call before": lambda c: len(c.probe.before),
    "one more from the second call on": lambda c: min(len(c.probe.before), 1),
    "one more for every layer before": lambda c: c.probe.layer,
    "one more in every layer but the first": lambda c: min(c.probe.layer, 1),
    "its own length too much": lambda c: c.probe.seq(c.rope.axes),
    "every layer before counts its own length": lambda c: c.probe.layer * c.probe.seq(c.rope.axes),
    "the length of the prompt is counted again at every step": lambda c: (
        sum(c.probe.before[:1]) * max(len(c.probe.before) - 1, 0)
    ),
    "what came before is counted twice": lambda c: sum(c.probe.before),
    "what came before the last call is counted twice": lambda c: sum(c.probe.before[:-1]),
}


def shifted(by: int) -> Place:
    return lambda p, c: p + by


def clipped(low: float, high: float) -> Place:
    return lambda p, c: np.clip(p, low, high)


def one_axis(a: int) -> Place:
    return lambda p, c: np.broadcast_to(p[..., a : a + 1], p.shape)


def no_axis(a: int) -> Place:
    return lambda p, c: p * (np.arange(p.shape[-1]) != a)


def exchanged(a: int, b: int) -> Place:
    def swapped(p: Array, context: Context) -> Array:
        p = p.copy()
        p[..., [a, b]] = p[..., [b, a]]
        return p

    return swapped


def rolled(by: int) -> Place:
    return lambda p, c: np.roll(p, by, -1)


def along_heads(phi: Array, context: Context) -> Array:
    """The angles of token h for head h, where there are as many tokens as heads at least, else wrapped."""
    heads, seq = context.x.shape[1:3]
    taken = phi[:, :1, np.arange(heads) % seq]
    return np.broadcast_to(np.moveaxis(taken, 2, 1), (phi.shape[0], heads, seq, phi.shape[-1]))


def first_rows(phi: Array, context: Context) -> Array:
    """Rows (batch, seq, heads) in one line: row t turns as token t, those beyond the last token not at all."""
    batch, heads, seq = context.x.shape[:3]
    number = np.arange(batch * seq * heads).reshape(batch, seq, heads).transpose(0, 2, 1)
    all_tokens = phi[:, 0].reshape(batch * seq, -1)
    turned: Array = np.where((number < batch * seq)[..., None], all_tokens[np.minimum(number, batch * seq - 1)], 0.0)
    return turned


def flat(order: str, heads_inside: int) -> Place:
    """Tokens found from the number of a row: n mod seq, or n // heads mod seq, with rows numbered in this order."""

    def counted(phi: Array, context: Context) -> Array:
        batch, heads, seq = context.x.shape[:3]
        sizes = {"b": batch, "h": heads, "s": seq}
        number = np.arange(batch * heads * seq).reshape([sizes[letter] for letter in order])
        number = number.transpose([order.index(letter) for letter in "bhs"])
        token = number % seq if heads_inside else number // heads % seq
        head = np.minimum(np.arange(heads), phi.shape[1] - 1)[:, None]  # one for all heads, or each its own
        taken: Array = phi[np.arange(batch)[:, None, None], head, token]
        return taken

    return counted
