"""What is plugged in: adapters to somebody's rotary embedding, and what they declare about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Call = Callable[..., Any]

ARRAYS = ("numpy", "torch", "jax")
DTYPES = ("float32", "bfloat16", "float16", "float64")
ANGLES = ("exact", "float32", "recurrence")
# the largest error that keeping a key in a dtype makes, in parts of the largest of its numbers
STORED = {"int8": 1 / 254, "float8_e4m3": 2.0**-4, "float8_e5m2": 2.0**-3, "bfloat16": 2.0**-8, "float16": 2.0**-11}


@dataclass(frozen=True, kw_only=True)
class Implementation:
    """An implementation under test. Every adapter is optional, as long as there is one.

    Adapters; x, q and k are arrays of the declared kind, layout and dtype, positions integer arrays
    (seq,), (batch, seq) or, where the Rope has several axes, with these as a last dimension:

    apply(x, positions) -> y                  the rotation
    apply_qk(q, k, q_positions, k_positions)  -> (q', k'), of a query and a key of other heads and lengths
    in_place(x, positions) -> x or None       overwrites x
    into(x, positions, out) -> out or None    writes a given buffer
    tables(positions) -> (cos, sin)           (..., pairs), or each entry twice in (..., rotary_dim)
    frequencies() -> inv_freq                 (pairs,), or (inv_freq, scale) with the constant magnitude
    decode(x, offset) -> y                    x at offset, offset + 1, ...
    sequence(x) -> y                          all tokens of a sequence, which it counts from 0
    make() -> apply                           a fresh stateful object, called many times in any order
    session() -> step                         step(x) takes the next tokens of a sequence and knows where they stand
    cache() -> object                         a cache of keys: append(k), scores(q), and if it can, evict(start, stop),
                                              truncate(length), shift(distance); q stands at the last position
    scores(q, k, q_positions, k_positions)    -> logits (..., q, k), logit_scale <q', k'>, or their softmax
    shift(keys, positions, distance) -> keys  keys rotated for `positions` moved to `positions + distance`
    grad(x, positions, upstream) -> dx        the gradient of sum(upstream * apply(x, positions))
    module() -> torch.nn.Module               a fresh module; `call(module, x, positions) -> y` rotates with it
    shard(x, positions, rank, ranks) -> y     what a rank holds of the whole x, rotated
    position_ids(parts) -> positions          (seq, 3) of parts, each {"text": length} or {"grid": (t, h, w)} before
                                              merging 2 x 2, with the "seconds" between frames, at 2 positions a
                                              second; and "audio", so many tokens that take turns with those of
                                              the grid, if `audio_chunk` is declared; see `multimodal.position_ids`
    grid(height, width) -> positions          (height width, axes) of an image's patches, row by row
    convert(weight) -> weight                 interleaved projection weights (heads head_dim, hidden) made half-split
    paths                                     name -> another adapter like `apply` that must agree: a fast path, a
                                              compiled one, one under autocast, after a device move

    padded(padding) -> step                   a session of one row for each entry: so many of its first tokens are
                                              padding; step(x) takes the next tokens of all rows, padding included

    expected                                  "grid" or "position_ids" -> a function that takes the same and gives what
                                              is right, where that is neither the variant's own nor as above;
                                              "query_scale" -> a function of positions, (...) -> (...), with what
                                              queries are multiplied by beside the Rope (`query_temperature`)

    Declarations; None is inferred and reported:

    arrays            "numpy", "torch" or "jax"
    layout            the axes of x: "bhsd", "bshd", packed "shd" (batch 1, positions (seq,)), flat "bs(hd)", ...
    heads             heads of x, where the implementation fixes them; (query heads, key heads) for apply_qk
    dtypes            those of x, of "float32", "bfloat16", "float16", "float64"
    angle             "exact"; "float32"; or "recurrence", float32 with inv_freq made by repeated multiplication
    table             the dtype to which cos and sin are rounded
    arithmetic        the dtype in which pairs are turned
    rows              whether positions may differ from row to row
    negative          whether positions may be negative
    fractional        whether positions may be floating-point numbers
    position_dtypes   integer dtypes that positions may have
    strided           whether x may be a view that is not contiguous
    min_position      the least position that it serves; 0 unless given
    max_position      the first position that is beyond its range; -max_position is too
    valid_positions   all positions that it serves, where they are no range: (n,), or (n, axes)
    logit_scale       what scores are multiplied by; 1/sqrt(head_dim) unless given
    evicted           where keys stand that a cache keeps after an eviction: "renumbered", from 0 without a gap, or
                      "absolute", where they stood
    stored            the dtype in which a cache keeps its keys, where it is coarser than theirs: "int8" with a scale
                      of its own for each token, channel, head or the whole, "float8_e4m3", "float8_e5m2", ...
    layers            number of layers that a session rotates with one counter; step(x, layer)
    order             how `shard` splits a sequence: "contiguous" or "zigzag"
    audio_chunk       ids after which tokens of a video and of its audio take turns, where `position_ids` knows audio
    deviations        bugs that are known and accepted: class ids, or "class:property"
    time_limit        seconds that one call may take, each in a thread of its own; None for no limit, in the caller's
    """

    apply: Call | None = None
    apply_qk: Call | None = None
    in_place: Call | None = None
    into: Call | None = None
    tables: Call | None = None
    frequencies: Call | None = None
    decode: Call | None = None
    sequence: Call | None = None
    make: Call | None = None
    session: Call | None = None
    padded: Call | None = None
    cache: Call | None = None
    scores: Call | None = None
    shift: Call | None = None
    grad: Call | None = None
    module: Call | None = None
    call: Call | None = None
    shard: Call | None = None
    position_ids: Call | None = None
    grid: Call | None = None
    convert: Call | None = None
    paths: Mapping[str, Call] = field(default_factory=dict)
    expected: Mapping[str, Call] = field(default_factory=dict)

    arrays: str | None = None
    layout: str = "bhsd"
    heads: int | tuple[int, int] | None = None
    dtypes: tuple[str, ...] | None = None
    angle: str | None = None
    table: str | None = None
    arithmetic: str | None = None
    rows: bool | None = None
    negative: bool | None = None
    fractional: bool | None = None
    position_dtypes: tuple[str, ...] | None = None
    strided: bool | None = None
    min_position: int | None = None
    max_position: int | None = None
    valid_positions: Any = None
    logit_scale: float | None = None
    evicted: str | None = None
    stored: str | None = None
    layers: int = 1
    order: str = "contiguous"
    audio_chunk: int | None = None
    deviations: tuple[str, ...] = ()
    time_limit: float | None = 30.0
