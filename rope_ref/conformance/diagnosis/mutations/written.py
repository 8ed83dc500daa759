"""Results that are not all written: rows, heads, tokens or channels that come back as they were."""

from collections.abc import Callable, Iterator

import numpy as np

from rope_ref.conformance.adapters.arrays import Array
from rope_ref.conformance.properties.model import Context, Mutation
from rope_ref.pairing import channels
from rope_ref.rope import Rope

Result = Callable[[Array, Context], Array]
TILES = (2, 4, 8, 16, 32, 64, 128, 256)
ROW, HEAD, TOKEN = 0, 1, 2  # axes of a result


def mutations(rope: Rope) -> Iterator[Mutation]:
    """Every part of a result that is known to be left out."""
    yield Mutation("NOOP", "x comes back as it was: nothing turns", {"result": lambda y, c: c.x})
    for which, words in enumerate(("first", "second")):
        yield Mutation("NOOP", f"the {words} half of the turned channels is left as it was", {"result": half(which)})
    yield Mutation("NOOP", "only the first head turns", {"result": first(1, HEAD)})
    yield Mutation("BATCHPOS", "only the first row of the batch turns", {"result": first(1, ROW)})
    yield Mutation("BATCHPOS", "only the first head of the first row turns", {"result": first(1, ROW, HEAD)})
    yield Mutation("BATCHPOS", "only the first row of the batch is written", {"result": first(1, ROW, other=0.0)})
    yield Mutation(
        "BATCHPOS", "only the first head of the first row is written", {"result": first(1, ROW, HEAD, other=0.0)}
    )
    yield Mutation("NOOP", "only the first token turns", {"result": first(1, TOKEN)})
    yield Mutation("NOOP", "the last token is left as it was", {"result": first(-1, TOKEN)})
    yield Mutation("NOOP", "the last head is left as it was", {"result": first(-1, HEAD)}, alone=True)
    for n in (2, 3):
        yield Mutation("NOOP", f"only the first {n} heads turn", {"result": first(n, HEAD)}, alone=True)
    for n in TILES:
        yield Mutation("NOOP", f"tokens beyond the last whole tile of {n} are left as they were", {
            "result": whole_tiles(n)}, alone=True)  # fmt: skip
        yield Mutation("NOOP", f"tokens beyond the last whole tile of {n} are left as they were, if there is one", {
            "result": whole_tiles(n, least=n)}, alone=True)  # fmt: skip
        yield Mutation("NOOP", f"only the first {n} tokens of a call turn", {"result": first(n, TOKEN)}, alone=True)
    if 2 * rope.pairs < rope.head_dim:
        rest = np.setdiff1d(np.arange(rope.head_dim), np.concatenate(channels(rope.pairing, rope.pairs, rope.start)))
        for text, value in (("zero", 0.0), ("one", 1.0)):
            yield Mutation("ROTDIM", f"channels that should pass through are {text}", {"result": filled(rest, value)})
        yield Mutation("ROTDIM", "channels that should pass through are scaled too", {"result": scaled(rest)})


def half(which: int) -> Result:
    def left(y: Array, context: Context) -> Array:
        rope, y = context.rope, y.copy()
        begin = rope.start + which * rope.pairs
        y[..., begin : begin + rope.pairs] = context.x[..., begin : begin + rope.pairs]
        return y

    return left


def first(n: int, *axes: int, other: float = 1.0) -> Result:
    """The result in the first n places of each axis, x times `other` elsewhere."""

    def written(y: Array, context: Context) -> Array:
        index = [slice(None)] * 4
        for axis in axes:
            index[axis] = slice(0, n)
        result = context.x * other
        result[tuple(index)] = y[tuple(index)]
        return result

    return written


def whole_tiles(n: int, least: int = 0) -> Result:
    """The result where whole tiles of n tokens are, x behind them; in fewer tokens than least, all of the result."""

    def written(y: Array, context: Context) -> Array:
        seq = y.shape[TOKEN]
        return y if seq < least else first(seq - seq % n, TOKEN)(y, context)

    return written


def filled(rest: Array, value: float) -> Result:
    def constant(y: Array, context: Context) -> Array:
        y = y.copy()
        y[..., rest] = value
        return y

    return constant


def scaled(rest: Array) -> Result:
    def larger(y: Array, context: Context) -> Array:
        y = y.copy()
        y[..., rest] *= context.rope.attention_scale
        return y

    return larger
