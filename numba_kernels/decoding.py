"""The layer above the loops of ``attention``: checks, dtypes and memory."""

import math
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numba_kernels import attention, layout
from numba_kernels.attention import STRETCH
from numba_kernels.threads import Loops

NEW = 16  # queries of a sequence at once: with more, a product of matrices is faster
WIDEST = 512  # numbers of a head
KINDS = ("float32", "float16", "bfloat16")
FOREVER = 1 << 60  # the window where there is none

Shape = tuple[int, ...]


def attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    *,
    scale: float | None = None,
    starts: ArrayLike | None = None,
    lengths: ArrayLike | None = None,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: ArrayLike | None = None,
    out: NDArray[Any] | None = None,
) -> NDArray[Any]:
    """The newest tokens of each sequence attend to all before them and to themselves: keys and values are read once.

    query     (batch, heads, new, head_dim), up to 16 new tokens, rotated; float32, float16, or bfloat16 (as uint16)
    key       (batch, kv_heads, tokens, head_dim), rotated; query head h reads key head h // (heads // kv_heads)
    value     (batch, kv_heads, tokens, value_dim); all three of one dtype, with any strides
    scale     of the scalar products; head_dim ** -0.5 unless given
    starts    (batch,) and
    lengths   (batch,) integers: row b holds tokens starts[b] <= j < lengths[b]; all unless given. The new queries are
              the last of them
    window    tokens that a query sees, itself included; all before it unless given
    soft_cap  c, for scores c tanh(s / c)
    sinks     (heads,), one more logit of each head in the sum of its softmax
    out       (batch, heads, new, value_dim), where to write, or None for a new array

    Returns out. A query that sees no token gives zeros. Scores, exponentials and sums are float32 and rounded once when
    stored; the same numbers come out with any number of threads. Raises TypeError or ValueError before anything is
    written.

    >>> attend(np.zeros((1, 1, 1, 2), "f4"), np.zeros((1, 1, 2, 2), "f4"), np.float32([[[[1], [3]]]]))
    array([[[[2.]]]], dtype=float32)
    """
    named = {"query": query, "key": key, "value": value}
    kinds = {name: layout.kind_of(name, array) for name, array in named.items()}
    for name, kind in kinds.items():
        if kind not in KINDS or kind != kinds["query"]:
            expected = "that of query" if kinds["query"] in KINDS else " or ".join(KINDS)
            raise TypeError(f"{name} has dtype {named[name].dtype}; expected {expected}")
    query, key, value = (array if layout.is_dense(array) else array.copy() for array in named.values())
    shape = check(query.shape, key.shape, value.shape)
    result = np.empty(shape, query.dtype) if out is None else out
    if layout.kind_of("out", result) != kinds["query"]:
        raise TypeError(f"out has dtype {result.dtype}; expected {query.dtype}, as query")
    if result.shape != shape:
        raise ValueError(f"out has shape {result.shape}; expected {shape}")
    begins, ends = rows_of(query.shape, key.shape[2], starts, lengths)
    numbers = options(query.shape, scale, window, soft_cap)
    logits = no_sinks(shape[1]) if sinks is None else logits_of(sinks, shape[1])
    if out is not None:
        layout.check_writeable(out)
        for name, array in named.items():
            if layout.meet(out, array):
                raise ValueError(f"out overlaps {name}; expected an array apart from it")
    if result.size == 0:
        return result
    target = result if result.flags.c_contiguous and result.flags.aligned else np.empty(shape, query.dtype)
    lie = [(array.shape, layout.steps_of(array.strides, array.itemsize)) for array in (query, key, value)]
    loops = plan(kinds["query"], lie[0], lie[1], lie[2], begins, ends, numbers[1])
    places = [array.ctypes.data for array in (query, key, value, target, logits, begins, ends)]
    loops(*places, numbers[0], numbers[2])
    if target is not result:
        np.copyto(layout.bits(result), layout.bits(target))
    return result


def rotate_append_attend(
    query: NDArray[Any],
    key: NDArray[Any],
    value: NDArray[Any],
    cos: ArrayLike,
    sin: ArrayLike,
    keys: NDArray[Any],
    values: NDArray[Any],
    length: int,
    *,
    pairing: str,
    start: int = 0,
    scale: float | None = None,
    window: int | None = None,
    soft_cap: float | None = None,
    sinks: ArrayLike | None = None,
) -> NDArray[Any]:
    """What a layer does between its projections: rotate query and key, append key and value to the cache, attend.

    query, key, value   of the new tokens, (batch, heads or kv_heads, new, width), not rotated
    cos, sin            (..., new, pairs), as `rotate` takes them
    keys, values        memory of the cache, (batch, kv_heads, room, width), of which `length` tokens are there: what is
                        new is written behind them

    All else, dtypes and what is returned are as for `rotate` and `attend`. Raises TypeError or ValueError before
    anything is written.

    >>> keys, values = np.zeros((1, 1, 8, 2), "f4"), np.zeros((1, 1, 8, 1), "f4")
    >>> x, v, cos, sin = np.ones((1, 1, 1, 2), "f4"), np.ones((1, 1, 1, 1), "f4"), np.zeros((1, 1)), np.ones((1, 1))
    >>> rotate_append_attend(x, x, v, cos, sin, keys, values, 0, pairing="half-split"), keys[0, 0, 0]
    (array([[[[1.]]]], dtype=float32), array([-1.,  1.], dtype=float32))
    """
    if isinstance(length, bool) or not isinstance(length, (int, np.integer)):
        raise TypeError(f"length is {length!r}; expected a whole number")
    new = {"query": query, "key": key, "value": value, "keys": keys, "values": values}
    for name, array in new.items():
        if layout.kind_of(name, array) not in KINDS or array.dtype != query.dtype:
            raise TypeError(f"{name} has dtype {array.dtype}; expected one of {', '.join(KINDS)}, and that of query")
    check(query.shape, key.shape, value.shape)
    for name, memory, array in (("keys", keys, key), ("values", values, value)):
        wanted = (*array.shape[:2], "room", array.shape[3])
        if memory.ndim != 4 or memory.shape[:2] + memory.shape[3:] != array.shape[:2] + array.shape[3:]:
            raise ValueError(f"{name} have shape {memory.shape}; expected ({', '.join(map(str, wanted))})")
        if not 0 <= length <= memory.shape[2] - array.shape[2]:
            raise ValueError(
                f"length is {length}, and {array.shape[2]} tokens come; expected room in {name}, of {memory.shape}"
            )
        layout.check_writeable(memory)
    options(query.shape, scale, window, soft_cap)
    logits = None if sinks is None else logits_of(sinks, query.shape[1])
    end = int(length) + key.shape[2]
    turned = layout.rotate(query, cos, sin, pairing=pairing, start=start)
    layout.rotate(key, cos, sin, pairing=pairing, start=start, out=keys[:, :, length:end])
    values[:, :, length:end] = value
    return attend(
        turned, keys[:, :, :end], values[:, :, :end], scale=scale, window=window, soft_cap=soft_cap, sinks=logits
    )


def check(query: Shape, key: Shape, value: Shape) -> Shape:
    """The shape of what comes back, or ValueError where three shapes do not fit together."""
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) != 4:
            raise ValueError(f"{name} has shape {shape}; expected (batch, heads, tokens, head_dim)")
        if not 1 <= shape[3] <= WIDEST:
            raise ValueError(f"{name} has shape {shape}; expected 1 to {WIDEST} numbers in its last axis")
    if key[0] != query[0] or key[3] != query[3] or key[1] < 1 or query[1] % key[1]:
        raise ValueError(f"key has shape {key}; expected batch and head_dim of query {query}, a divisor of its heads")
    if value[:3] != key[:3]:
        raise ValueError(f"value has shape {value}; expected {key[:3]} first, as key")
    if not 1 <= query[2] <= NEW:
        raise ValueError(f"query has shape {query}; expected 1 to {NEW} new tokens")
    return (*query[:3], value[3])


def rows_of(
    query: Shape, tokens: int, starts: ArrayLike | None, lengths: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where each row of a batch begins and ends, or TypeError or ValueError."""
    batch, _, new, _ = query
    if starts is None and lengths is None and new <= tokens:
        return whole(batch, tokens)
    found = []
    for name, given, usual in (("starts", starts, 0), ("lengths", lengths, tokens)):
        array = np.full(batch, usual, np.int64) if given is None else np.asarray(given)
        if array.dtype.kind not in "iu":
            raise TypeError(f"{name} have dtype {array.dtype}; expected integers")
        if array.shape != (batch,):
            raise ValueError(f"{name} have shape {array.shape}; expected ({batch},), one for each row")
        found.append(np.ascontiguousarray(array, np.int64))
    begins, ends = found
    if batch and not (begins.min() >= 0 and (begins <= ends).all() and new <= ends.min() and ends.max() <= tokens):
        raise ValueError(
            f"starts are {begins.tolist()} and lengths {ends.tolist()}; "
            f"expected 0 <= start <= length, and {new} <= length <= {tokens}"
        )
    return begins, ends


def whole(batch: int, tokens: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows that hold all tokens."""
    rows = np.zeros((2, batch), np.int64)
    rows[1] = tokens
    return rows[0], rows[1]


def options(query: Shape, scale: Any, window: Any, soft_cap: Any) -> tuple[float, int, float]:
    """scale, window and cap as the loops take them, or TypeError or ValueError."""
    for name, number in (("scale", scale), ("soft_cap", soft_cap)):
        if number is not None and (isinstance(number, bool) or not isinstance(number, (int, float, np.number))):
            raise TypeError(f"{name} is {number!r}; expected a number or None")
    if scale is not None and not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; expected a finite number")
    if soft_cap is not None and not 0 < soft_cap < math.inf:
        raise ValueError(f"soft_cap is {soft_cap}; expected a number above 0")
    if window is not None and (isinstance(window, bool) or not isinstance(window, (int, np.integer))):
        raise TypeError(f"window is {window!r}; expected a whole number or None")
    if window is not None and window < 1:
        raise ValueError(f"window is {window}; expected at least 1")
    wide = FOREVER if window is None else min(int(window), FOREVER)
    return float(query[3] ** -0.5 if scale is None else scale), wide, float(soft_cap or 0)


@cache
def no_sinks(heads: int) -> NDArray[np.float32]:
    """Logits that add nothing to a sum."""
    return np.full(heads, -np.inf, np.float32)


def logits_of(sinks: ArrayLike, heads: int) -> NDArray[np.float32]:
    array = np.asarray(sinks)
    if array.dtype.kind != "f" and not layout.is_bfloat16(array):
        raise TypeError(f"sinks have dtype {array.dtype}; expected floating point")
    if array.shape != (heads,):
        raise ValueError(f"sinks have shape {array.shape}; expected ({heads},), one for each head")
    return np.ascontiguousarray(array, np.float32)


Lie = tuple[Shape, Shape]  # a shape, and steps in numbers


def plan(
    kind: str, query: Lie, key: Lie, value: Lie, begins: NDArray[np.int64], ends: NDArray[np.int64], window: int
) -> Loops:
    """The loops for tensors that lie so, whose rows begin and end there."""
    (batch, heads, new, dim), (_, kv_heads, _, _), width = query[0], key[0], value[0][3]
    rows: list[tuple[int, int]] = list(zip(begins.tolist(), ends.tolist(), strict=True))
    tokens = max([end - max(begin, end - new - window + 1) for begin, end in rows])  # that a row's queries see together
    stretches = -(-tokens // STRETCH)
    sizes = (batch, kv_heads, heads // kv_heads, new, window, max(1, stretches), dim, width)
    words = np.array(sizes + query[1][:3] + key[1][:3] + value[1][:3], np.int64)
    form = attention.Form(kind, dim, width)
    size = batch * kv_heads * tokens * (dim + width)
    return Loops(lambda parallel: attention.kernel(form, parallel), words, size)
