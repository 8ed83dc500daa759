"""How each adapter is called with a probe, and which probes it can be asked."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from rope_ref.conformance.adapters.arrays import Array, arranged, given, numbers, restored
from rope_ref.conformance.adapters.calling import Failed
from rope_ref.conformance.adapters.probes import Probe, nested

if TYPE_CHECKING:
    from rope_ref.conformance.adapters.implementation import Implementation
    from rope_ref.rope import Rope

Adapter = Callable[[Probe, Array], tuple[Any, bool]]  # (probe, x) -> what came back, whether x was changed
FROM_ZERO = ("sequence", "session")  # adapters that count tokens themselves
LONGEST = 4100  # tokens that are asked of them at once


class Adapters:
    """What a subject is asked through; the subject itself knows what should come back."""

    if TYPE_CHECKING:
        implementation: Implementation
        kind: str

        @property
        def rope(self) -> Rope: ...
        @property
        def layered(self) -> bool: ...
        def rope_for(self, probe: Probe) -> Rope: ...
        def call(self, function: Any, *args: Any) -> Any: ...

    def adapters(self) -> dict[str, Adapter]:
        """The adapters that rotate a whole x at given positions."""
        one = self.implementation
        known: dict[str, Any] = {
            "apply": one.apply and partial(self._apply, one.apply),
            "apply_qk.query": one.apply_qk and not self.layered and partial(self._side, 0),
            "apply_qk.key": one.apply_qk and not self.layered and partial(self._side, 1),
            "make": one.make and (lambda probe, x: self._apply(self.call(one.make), probe, x)),
            "in_place": one.in_place and self._in_place,
            "into": one.into and self._into,
            "decode": one.decode and self._decode,
            "sequence": one.sequence and self._sequence,
            "session": one.session and self._session,
            **{f"paths.{name}": partial(self._apply, function) for name, function in one.paths.items()},
        }
        return {name: adapter for name, adapter in known.items() if adapter}

    def through(self, adapter: str, probe: Probe, longest: int = 700) -> Probe:
        """The probe, or the one nearest to it that an adapter can be asked, in as many tokens where it counts."""
        if self.implementation.valid_positions is not None and adapter not in ("decode", *FROM_ZERO):
            probe = self.served(probe)
        least = self.implementation.min_position or 0
        if least and np.min(probe.where, initial=least) < least:
            moved, end = probe.where + least - np.min(probe.where), self.implementation.max_position
            probe = replace(probe, positions=nested(moved if end is None else np.minimum(moved, end - 1)))
        if adapter == "decode":
            p = probe.where
            return replace(probe, positions=tuple((p.min() + np.arange(p.shape[-1])).tolist()))
        if adapter in FROM_ZERO:
            limit = max(longest // self.implementation.layers, 64)
            n = min(int(np.max(probe.where, initial=0)) + 1, limit)
            if self.kind == "jax":  # which compiles for every length
                n = min(limit, next(length for length in (1, 5, 9, 65, 700, LONGEST) if length >= n))
            shape = (n,) if self.rope.axes is None else (n, self.rope.axes)
            count = np.arange(n) if self.rope.axes is None else np.broadcast_to(np.arange(n)[:, None], shape)
            return replace(probe, positions=nested(count), position_dtype="int64")
        if adapter == "apply_qk.key":
            declared = self.implementation.heads
            return replace(probe, key=True, heads=declared[1] if isinstance(declared, tuple) else probe.heads)
        return probe

    def served(self, probe: Probe) -> Probe:
        """The same tokens at positions that are served: where they are, or else where the count of them leads."""
        valid = np.asarray(self.implementation.valid_positions)
        axes = 1 if self.rope.axes is None else self.rope.axes
        listed, p = valid.reshape(-1, axes), probe.where.reshape(-1, axes)
        index = p.astype(np.int64) @ (np.arange(axes) * 6 + 1) % len(listed)
        here = (p[:, None] == listed).all(-1)
        index = np.where(here.any(-1), here.argmax(-1), index)
        whole = np.issubdtype(valid.dtype, np.integer)
        where = listed[index].reshape(probe.where.shape)
        return replace(probe, positions=nested(where), position_dtype=probe.position_dtype if whole else "float64")

    def laid(self, x: Array, dtype: str, memory: str = "contiguous", kind: str | None = None) -> Any:
        """x in the layout of the implementation, in a dtype and a memory layout, as an array of a kind."""
        layout, kind = self.implementation.layout, kind or self.kind
        a = arranged(x, layout)
        if memory == "sliced":  # out of something wider, as queries lie in a fused projection
            wide = np.concatenate([np.full_like(a, 3.0)[..., :2], a, np.full_like(a, 7.0)[..., :5]], -1)
            return given(wide, dtype, kind)[..., 2 : 2 + a.shape[-1]]
        if memory == "transposed" and a.ndim > 2:
            return given(a.swapaxes(-3, -2), dtype, kind).swapaxes(-3, -2)
        if memory == "stepped":
            wide = np.full((*a.shape[:-2], 2 * a.shape[-2], a.shape[-1]), 5.0)
            wide[..., ::2, :] = a
            return given(wide, dtype, kind)[..., ::2, :]
        if memory == "expanded" and "h" in layout and "(" not in layout:  # one head, seen as many
            axis = layout.index("h")
            one = given(a.take([0], axis), dtype, kind)
            shape = tuple(a.shape)
            return np.broadcast_to(one, shape) if kind == "numpy" else one.expand(shape)
        return given(a, dtype, kind)

    def misread(self, x: Array, probe: Probe) -> Array:
        """The numbers of a view from its first one on, in the order of memory, as if it were contiguous."""
        view = self.laid(x, "float64", probe.memory, "numpy")
        found = np.lib.stride_tricks.as_strided(view, view.shape, np.empty(view.shape).strides)
        return restored(found.copy(), self.implementation.layout, x.shape)

    def positions(self, probe: Probe) -> Any:
        declared, dtype = self.implementation.position_dtypes, probe.position_dtype
        if dtype == "int64" and declared and dtype not in declared:
            dtype = declared[0]
        return given(probe.where, dtype, self.kind)

    def _apply(self, function: Any, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        extra = (probe.layer,) if self.layered else ()
        positions = self.positions(probe)
        raw = self.call(function, array, positions, *extra)
        return raw, self.changed(array, x) or not np.array_equal(numbers(positions), probe.where)

    def _in_place(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory if probe.memory != "expanded" else "contiguous")
        raw = self.call(self.implementation.in_place, array, self.positions(probe))
        if raw is not None and not np.array_equal(numbers(raw), numbers(array), equal_nan=True):
            raise Failed("returned something other than what it left in x")
        return array, False

    def _into(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array, poison = self.laid(x, probe.dtype, probe.memory), self.laid(np.full(x.shape, np.nan), probe.dtype)
        raw = self.call(self.implementation.into, array, self.positions(probe), poison)
        if raw is not None and not np.array_equal(numbers(raw), numbers(poison), equal_nan=True):
            raise Failed("returned something other than what it left in out")
        return poison, self.changed(array, x)

    def _decode(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        raw = self.call(self.implementation.decode, array, int(probe.where.ravel()[0]))
        return raw, self.changed(array, x)

    def _side(self, side: int, probe: Probe, x: Array) -> tuple[Any, bool]:
        """The query (0) or the key (1) of a call, beside other numbers at the same positions."""
        declared, rope = self.implementation.heads, self.rope_for(probe)
        heads = declared[1 - side] if isinstance(declared, tuple) else probe.heads
        other = replace(probe, heads=heads, seed=91, memory="contiguous")
        both, arrays = (x, other.x(rope.head_dim, rope.axes))[:: 1 - 2 * side], []
        for numbers_of, memory in zip(both, (probe.memory, "contiguous")[:: 1 - 2 * side], strict=True):
            arrays.append(self.laid(numbers_of, probe.dtype, memory))
        raw = self.call(self.implementation.apply_qk, *arrays, self.positions(probe), self.positions(probe))
        if not isinstance(raw, (tuple, list)) or len(raw) != 2:
            raise Failed(f"returned {type(raw).__name__}; expected the pair of a query and a key")
        return raw[side], any(map(self.changed, arrays, both))

    def _sequence(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        array = self.laid(x, probe.dtype, probe.memory)
        return self.call(self.implementation.sequence, array), self.changed(array, x)

    def _session(self, probe: Probe, x: Array) -> tuple[Any, bool]:
        """The first call of a session: layer by layer, where several share one counter."""
        layers, step = self.implementation.layers, self.call(self.implementation.session)
        for layer in range(layers):
            array = self.laid(x, probe.dtype, probe.memory)
            raw = self.call(step, array, *((layer,) if layers > 1 else ()))
            if layer == probe.layer:
                found = raw, self.changed(array, x)
        return found

    def changed(self, array: Any, x: Array) -> bool:
        """Whether an array that was handed over still holds x."""
        return not np.array_equal(numbers(array), arranged(x, self.implementation.layout))
