"""Parts of an implementation that can be asked by themselves: tables, frequencies, positions, weights, ranks."""

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from rope_ref.conformance.adapters.arrays import Array, arranged, given, numbers
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.capabilities import Facts
from rope_ref.conformance.adapters.probes import nested, sequence
from rope_ref.conformance.adapters.subject import Deviation, Subject, differs
from rope_ref.conformance.diagnosis.candidates import Observation
from rope_ref.conformance.properties.coordinates import ids, patches, segments, sizes
from rope_ref.conformance.properties.model import Accuracy, computed
from rope_ref.conformance.properties.property import Case, Property, Trial, drawn, failed, needs
from rope_ref.pairing import channels
from rope_ref.rope import Rope
from rope_ref.rotation import aligned, turn
from rope_ref.shards import contiguous, zigzag


def from_tables(subject: Subject, adapter: str, case: Case) -> Trial:
    """Turn by the tables that are given, and judge the result."""
    probe = replace(case[0], dtype="float32")
    rope = subject.rope_for(probe)
    try:
        raw = subject.call(subject.implementation.tables, subject.positions(probe))
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise Failed(f"returned {type(raw).__name__}; expected the pair cos, sin")
        cos, sin = (_narrow(subject.call(numbers, table), rope) for table in raw)
    except Failed as error:
        return failed(error)
    width = cos.shape[-1] if cos.ndim else 0
    if width != rope.pairs or cos.shape != sin.shape:
        text = f"tables are {width} wide; expected {rope.pairs}, or {2 * rope.pairs} with each entry twice"
        return Trial(Deviation(text), (), "ROTDIM", text)
    x = probe.x(rope.head_dim, rope.axes)
    try:
        y = turn(x, aligned(cos, x, rope), aligned(sin, x, rope), rope)
    except ValueError as error:
        return failed(error)
    level = Accuracy("float32", subject.implementation.table or "float32", "float64")
    deviation = differs(y, *computed(probe, rope, level))
    return Trial(deviation, [Observation(probe, rope, y, deviation is None)])


def _narrow(table: Array, rope: Rope) -> Array:
    """(..., pairs) of a table that has each entry once or twice."""
    n = rope.pairs
    table = table[0] if table.ndim > 2 and len(table) == 1 else table
    if table.shape[-1:] == (2 * n,) and n:
        if np.array_equal(table[..., :n], table[..., n:]):
            return table[..., :n]
        if np.array_equal(table[..., ::2], table[..., 1::2]):
            return table[..., ::2]
    return table


def from_frequencies(subject: Subject, adapter: str, case: Case) -> Trial:
    """Turn by the frequencies and the magnitude that are given, and judge the result."""
    probe = replace(case[0], dtype="float32")
    rope = subject.rope_for(probe)
    try:
        raw = subject.call(subject.implementation.frequencies)
        inv_freq, scale = raw if isinstance(raw, (tuple, list)) and len(raw) == 2 else (raw, None)
        omega = subject.call(numbers, inv_freq)
    except Failed as error:
        return failed(error)
    if omega.shape != rope.omega.shape:
        text = f"inv_freq has shape {omega.shape}; expected {rope.omega.shape}"
        return Trial(Deviation(text), (), "ROTDIM" if rope.axes is None else "AXIAL", text)
    if not np.isfinite(omega).all():
        return Trial(Deviation("inv_freq is not finite"), (), "LIFE", "inv_freq is not finite")
    theirs = replace(rope, inv_freq=omega, theta=10000.0, attention_scale=float(scale or rope.attention_scale))
    y, _ = computed(probe, theirs, Accuracy("exact", "float64", "float64"))
    deviation = differs(y, *computed(probe, rope, Accuracy("float32", "float32", "float32")))
    return Trial(deviation, [Observation(probe, rope, y, deviation is None)])


def weights(subject: Subject, adapter: str, case: Case) -> Trial:
    """Half-split rotation of converted weights is the interleaved one with its channels in the other order."""
    rope, heads, hidden = subject.rope, case[0].heads, 5
    weight = np.random.default_rng(0).standard_normal((heads * rope.head_dim, hidden))
    try:
        raw = subject.call(subject.implementation.convert, given(weight, "float32", subject.kind))
        found = subject.call(numbers, raw)
    except Failed as error:
        return failed(error)
    rows = np.arange(rope.head_dim)
    for to, of in zip(channels("half-split", rope.pairs, rope.start), channels("interleaved", rope.pairs, rope.start),
                      strict=True):  # fmt: skip
        rows[to] = of
    each = weight.astype(np.float32).astype(np.float64).reshape(heads, rope.head_dim, hidden)
    expected = each[:, rows].reshape(weight.shape)
    if found.shape == expected.shape and np.array_equal(found, expected):
        return Trial(None)
    text = "rows of the weight are neither in the order of halves nor in that of neighbours"
    if found.shape == expected.shape and np.array_equal(found, each.reshape(weight.shape)):
        text = "rows of the weight are left in the order of neighbours"
    elif found.shape == expected.shape and np.array_equal(found, each[:, np.argsort(rows)].reshape(weight.shape)):
        text = "rows of the weight are permuted the other way, from halves to neighbours"
    return Trial(Deviation(text), (), "LAYOUT", text)


def union(subject: Subject, adapter: str, case: Case) -> Trial:
    """What the ranks hold is, put together, what one machine would."""
    probe, one = case[0], subject.implementation
    ranks = max(len(probe.before), 1)
    rope = subject.rope_for(probe)
    x = probe.x(rope.head_dim, rope.axes)
    expected, bound = subject.expected(probe)
    rows = {"contiguous": contiguous, "zigzag": zigzag}[one.order]
    for rank in range(ranks):
        mine = rows(x.shape[2], rank, ranks)
        shape = (*x.shape[:2], len(mine), x.shape[3])
        try:
            raw = subject.call(
                one.shard,
                given(arranged(x, one.layout), probe.dtype, subject.kind),
                subject.positions(probe),
                rank,
                ranks,
            )
            y = subject.read(raw, shape)
        except Failed as error:
            return Trial(Deviation(str(error), 0.0), (), "SHARD", f"rank {rank} of {ranks} {error}")
        deviation = differs(y, expected[:, :, mine], bound[:, :, mine])
        if deviation is not None:
            text = f"rank {rank} of {ranks}, {one.order}, does not turn its tokens by their own positions"
            return Trial(deviation, (), "SHARD", text)
    return Trial(None)


def shares(subject: Subject, facts: Facts) -> st.SearchStrategy[Case]:
    axes, heads = subject.rope.axes, facts.heads[-1]

    def made(ranks: int, chunks: int, batch: int, start: int, rows: bool, packed: bool) -> Case:
        probe = sequence(start, 2 * ranks * chunks, axes, batch=batch, heads=heads, seed=5, before=(0,) * ranks)
        if packed:  # the count begins again in the middle
            p = probe.where.copy()
            p[len(p) // 2 :] -= p[len(p) // 2] - start
            probe = replace(probe, positions=nested(p))
        if rows and facts.rows and batch > 1:
            p = np.stack([probe.where + 3 * b for b in range(batch)])
            probe = replace(probe, positions=nested(p))
        return (probe,)

    return st.builds(made, st.sampled_from([1, 2, 2, 3, 4]), st.integers(1, 3), st.sampled_from(facts.batches),
                     st.sampled_from([0, 0, 11]), st.booleans(), st.booleans())  # fmt: skip


PARTS = (
    Property("tables", "cos and sin are those of the positions", "UNKNOWN",
             drawn(starts=lambda f: (0, 3000)), from_tables, skip=needs("tables")),
    Property("frequencies", "inv_freq and the magnitude are those of the variant", "UNKNOWN",
             drawn(starts=lambda f: (0, 50)), from_frequencies, skip=needs("frequencies")),
    Property("position ids", "text counts on three axes, a grid on its own", "MROPE", segments, ids,
             skip=needs("position_ids")),
    Property("grid", "patches are numbered row by row", "AXIAL", sizes, patches, skip=needs("grid")),
    Property("converted weights", "converted weights make the other pairing the same rotation", "LAYOUT",
             drawn(seqs=(1, 1)), weights, skip=needs("convert")),
    Property("ranks", "the union of the shards is the whole", "SHARD", shares, union, skip=needs("shard")),
)  # fmt: skip
