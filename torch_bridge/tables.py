"""cos and sin of a Rope at any positions, for torch: angles in float64, one rounding to a table."""

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from rope_ref.rope import Rope
from torch_bridge.functions import tables, wide
from torch_bridge.kernel import at_hand
from torch_bridge.plain import arithmetic

MOST = 32768  # rows that are kept; at 64 pairs 16 MiB in float32


class Tables:
    """cos and sin of one Rope, magnitude included.

    The frequencies are no buffers: no cast of a module rounds them and no `to_empty` leaves them without
    values. What is kept between calls is a function of the Rope alone.

    >>> cos, sin = Tables(Rope(head_dim=2))(torch.arange(3), torch.float32)
    >>> sin[1]
    tensor([0.8415])
    """

    def __init__(self, rope: Rope) -> None:
        self.rope = rope
        self._omega = torch.from_numpy(rope.omega.copy())
        self._rows: dict[torch.dtype, Tensor] = {}
        self._last: tuple[Any, Tensor | None, Any] = (None, None, None)  # a key, positions, and what was made of them

    def __reduce__(self) -> Any:
        return shared, (self.rope,)  # rows are cheaper to make than to copy or store

    def __call__(self, positions: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The tables of `rope_ref.tables` in the type that tensors of `dtype` are rotated in."""
        dtype = arithmetic(dtype)
        if at_hand(positions) and self.rope.axes is None and positions.dtype == torch.int64 and positions.numel():
            low, high = (int(end) for end in positions.aminmax())
            if 0 <= low and high < MOST:
                both = torch.nn.functional.embedding(positions, self._first_rows(high + 1, dtype))
                cos, sin = both.chunk(2, -1)
                return cos, sin
        return tables(self.angles(positions), dtype, self.magnitude(positions))

    def last(self, key: Any, positions: Tensor | None) -> Any:
        """What was kept last, if that was under an equal key for positions with equal numbers; else None."""
        kept, places, made = self._last
        if kept != key:
            return None
        if positions is None or places is None:
            return made if positions is places else None
        return made if positions.dtype == places.dtype and torch.equal(positions, places) else None

    def keep(self, key: Any, positions: Tensor | None, made: Any) -> None:
        """Keep something for `last`, which every module of an equal Rope asks."""
        self._last = (key, None if positions is None else positions.clone(), made)

    def _first_rows(self, rows: int, dtype: torch.dtype) -> Tensor:
        """At least `rows` rows of cos and sin, side by side, from position 0 on."""
        found = self._rows.get(dtype)
        if found is None or len(found) < rows:
            with torch.inference_mode(False):  # such tables could not serve training later
                places = torch.arange(max(64, 1 << (rows - 1).bit_length()), device="cpu")
                found = torch.cat(tables(self.angles(places), dtype, self.magnitude(places)), -1)
            self._rows[dtype] = found
        return found

    def angles(self, positions: Tensor) -> Tensor:
        """phi = Omega p in radians, in the shapes of `rope_ref.angles` and with its errors."""
        rope, device = self.rope, positions.device
        if positions.is_complex() or positions.dtype == torch.bool:
            raise ValueError(f"positions have dtype {positions.dtype}; expected real numbers")
        if rope.axes is not None and (positions.ndim < rope.omega.ndim - 1 or positions.shape[-1] != rope.axes):
            expected = f"(..., {rope.axes})" if rope.heads is None else f"(..., seq, {rope.axes})"
            raise ValueError(f"positions have shape {tuple(positions.shape)}; expected {expected}")
        dtype = wide(device) if rope.angle_dtype == "float64" else torch.float32
        p, omega = positions.to(dtype), self._omega.to(device, dtype)
        if rope.axes is None:
            return (p[..., None] * omega).to(wide(device))
        if rope.heads is not None:
            p, omega = p[..., None, :, :], omega[:, None]
        return (p[..., None, :] * omega).sum(-1).to(wide(device))

    def magnitude(self, positions: Tensor) -> Tensor | float:
        """The scale of every pair, a number or (..., pairs)."""
        rope, xpos = self.rope, self.rope.xpos
        if xpos is None:
            return rope.attention_scale
        if rope.axes is not None:
            raise ValueError(f"xpos is given for {rope.axes} axes; expected positions with one axis")
        dtype = wide(positions.device)
        zeta = torch.from_numpy(xpos.zeta(rope.pairs)).to(positions.device, dtype)
        exponent = xpos.power * ((positions.to(dtype)[..., None] - xpos.center) / xpos.scale_base)
        return rope.attention_scale * zeta**exponent


@lru_cache(maxsize=64)
def shared(rope: Rope) -> Tables:
    """The tables of all modules of an equal Rope."""
    return Tables(rope)
