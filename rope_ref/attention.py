"""What a rotated query does with rotated keys: scaled dot products, a softmax, a weighted sum. float64 throughout.

The meaning of every kernel and cache that decodes, and the oracle that they are tested against.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def attend(
    query: ArrayLike, key: ArrayLike, value: ArrayLike, *, scale: float | None = None,
    starts: ArrayLike | None = None, lengths: ArrayLike | None = None, window: int | None = None,
    soft_cap: float | None = None, sinks: ArrayLike | None = None,
) -> Array:  # fmt: skip
    """The newest tokens attend to all before them and to themselves.

        s_ij = scale q_i . k_j                     arXiv 1706.03762, eq. 1
        s_ij = c tanh(s_ij / c)                    with a soft cap c: arXiv 2408.00118, section 2
        p_ij = exp(s_ij) / sum_j exp(s_ij)         over the tokens j that i sees
        o_i  = sum_j p_ij v_j

    query     (batch, heads, new, head_dim), rotated
    key       (batch, kv_heads, tokens, head_dim), rotated; query head h reads key head h // (heads // kv_heads):
              grouped queries, arXiv 2305.13245
    value     (batch, kv_heads, tokens, value_dim)
    scale     head_dim ** -0.5 unless given
    starts    (batch,) and
    lengths   (batch,): row b holds tokens starts[b] <= j < lengths[b], all unless given
    window    tokens that a query sees, itself included: arXiv 2004.05150
    sinks     (heads,): one more logit for each head, with no value: gpt-oss, after arXiv 2309.17453

    The new queries stand last: query i is token lengths - new + i. One that sees no token gives zeros.
    Returns (batch, heads, new, value_dim). Raises ValueError where shapes do not fit.

    >>> attend(np.zeros((1, 1, 1, 2)), np.zeros((1, 1, 2, 2)), [[[[1.0], [3.0]]]])
    array([[[[2.]]]])
    """
    q, k, v = (np.asarray(x, np.float64) for x in (query, key, value))
    check(q.shape, k.shape, v.shape)
    group = q.shape[1] // k.shape[1]
    s = scores(q, np.repeat(k, group, axis=1), q.shape[-1] ** -0.5 if scale is None else scale, soft_cap)
    s = np.where(seen(q.shape, k.shape[2], starts, lengths, window), s, -np.inf)
    p = softmax(s, None if sinks is None else np.asarray(sinks, np.float64)[:, None, None])
    return weighted(p, np.repeat(v, group, axis=1))


def query_temperature(positions: ArrayLike, length: float = 8192, beta: float = 0.1, first: int = 0) -> Array:
    """1 + beta ln(1 + floor((p + first) / length)): what a query at position p is multiplied by, so that it can still
    tell one of very many keys (Scalable-Softmax, arXiv 2501.19399).

    It is no rotation, though configs write it beside one:

    - Ministral 3 and Mistral 4: length is original_max_position_embeddings, beta is llama_4_scaling_beta, positions
      begin at 0, and queries are rotated
    - Llama 4: floor_scale and attn_scale, positions begin at 1 (first=1), on the layers that do not rotate

    positions  (...), whole numbers. Returns (...). Raises ValueError for a length that is not positive.

    >>> query_temperature([0, 8190, 8191, 8192], first=1).round(4)
    array([1.    , 1.    , 1.0693, 1.0693])
    """
    if not length > 0:
        raise ValueError(f"length is {length!r}; expected a positive number of positions")
    return 1 + beta * np.log1p((np.asarray(positions, np.float64) + first) // length)


def scores(query: Array, key: Array, scale: float, soft_cap: float | None = None) -> Array:
    """s = scale q . k, (..., new, tokens); capped, c tanh(s / c)."""
    s = scale * query @ np.swapaxes(key, -1, -2)
    return s if soft_cap is None else soft_cap * np.tanh(s / soft_cap)


def seen(
    query: tuple[int, ...], tokens: int, starts: ArrayLike | None, lengths: ArrayLike | None, window: int | None
) -> NDArray[np.bool_]:
    """Which tokens each query sees, (batch, 1, new, tokens): those of its row, up to itself, within the window."""
    batch, _, new, _ = query
    start, length = (
        np.broadcast_to(usual if given is None else np.asarray(given), batch).reshape(batch, 1, 1, 1)
        for given, usual in ((starts, 0), (lengths, tokens))
    )
    i, j = length - new + np.arange(new)[:, None], np.arange(tokens)
    sees: NDArray[np.bool_] = (start <= j) & (j <= i) & (j > i - (np.inf if window is None else window))
    return sees


def softmax(s: Array, sink: Array | None = None) -> Array:
    """exp(s) / (exp(sink) + sum exp(s)) over the last axis, zeros where every s is -inf; the greatest is taken off."""
    top = s.max(-1, keepdims=True, initial=-np.inf)
    top = top if sink is None else np.maximum(top, sink)
    top = np.where(np.isneginf(top), 0, top)
    e = np.exp(s - top)
    total = e.sum(-1, keepdims=True) + (0 if sink is None else np.exp(sink - top))
    return e / np.where(total == 0, 1, total)


def weighted(p: Array, value: Array) -> Array:
    """o = p v, of the values that have a weight: what is not seen may hold anything, NaN too."""
    o: Array = p @ np.where(np.any(p > 0, axis=-2, keepdims=True).swapaxes(-1, -2), value, 0)
    return o


def check(query: tuple[int, ...], key: tuple[int, ...], value: tuple[int, ...]) -> None:
    """Raise ValueError where three shapes do not fit together."""
    for name, shape in (("query", query), ("key", key), ("value", value)):
        if len(shape) != 4:
            raise ValueError(f"{name} has shape {shape}; expected (batch, heads, tokens, head_dim)")
    if key[0] != query[0] or key[3] != query[3] or key[1] < 1 or query[1] % key[1]:
        raise ValueError(f"key has shape {key}; expected batch, a divisor of heads, and head_dim as query {query}")
    if value[:3] != key[:3]:
        raise ValueError(f"value has shape {value}; expected {key[:3]} first, as key")
