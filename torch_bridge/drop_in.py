"""`RotaryEmbedding` of rotary-embedding-torch 0.9.1, without its half-precision positions and stale caches."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from rope_ref.magnitude import XPos
from torch_bridge.attributes import Attributes
from torch_bridge.frequencies import Frequencies, chosen, whole
from torch_bridge.functions import apply_rotary_emb, tables, turn, wide
from torch_bridge.kernel import takes_kernel
from torch_bridge.plain import arithmetic
from torch_bridge.rotation import rotate

Tables = tuple[Tensor, Tensor]


class RotaryEmbedding(Attributes, Frequencies):
    """Rotary embedding with the constructor, methods, defaults and shapes of rotary-embedding-torch.

    dim                    channels that turn: the first ones of every head, in pairs (2i, 2i + 1)
    custom_freqs           frequencies (pairs,) in radians per position, instead of those below
    freqs_for              "lang": theta^(-2i/dim); "pixel": pi linspace(1, max_freq/2, dim/2); "constant": ones
    learned_freq           whether frequencies are trained
    use_xpos               xPos magnitudes (arXiv 2212.10554), one e-fold scale in xpos_scale_base positions
    interpolate_factor     positions are divided by it (arXiv 2306.15595), at least 1
    theta_rescale_factor   NTK-aware: theta times its power dim/(dim - 2)
    seq_before_head_dim    queries are (batch, seq, heads, head_dim) rather than (batch, heads, seq, head_dim)
    cache_if_possible      keep tables of the first cache_max_seq_len positions

    Positions and angles are float64 and rounded once, to a table, whatever dtype the queries
    have and whatever the module was cast to. What is kept between calls is a pure function of
    position and frequency, so no call changes what another returns. Raises ValueError for
    arguments out of range.

    >>> RotaryEmbedding(dim=32).rotate_queries_or_keys(torch.randn(1, 8, 1024, 64)).shape
    torch.Size([1, 8, 1024, 64])
    """

    apply_rotary_emb = staticmethod(apply_rotary_emb)

    def __init__(
        self,
        dim: int,
        custom_freqs: Tensor | None = None,
        freqs_for: Literal["lang", "pixel", "constant"] = "lang",
        theta: float = 10000,
        max_freq: float = 10,
        num_freqs: int = 1,
        learned_freq: bool = False,
        use_xpos: bool = False,
        xpos_scale_base: float = 512,
        interpolate_factor: float = 1.0,
        theta_rescale_factor: float = 1.0,
        seq_before_head_dim: bool = False,
        cache_if_possible: bool = True,
        cache_max_seq_len: int = 8192,
    ) -> None:
        super().__init__()
        dim = whole(dim)
        odd = custom_freqs is None and freqs_for == "lang"  # there pairs are counted by dim itself
        if dim < 1 or (odd and (dim < 2 or dim % 2)):
            raise ValueError(f"dim is {dim}; expected an even number of at least 2")
        if not interpolate_factor >= 1:
            raise ValueError(f"interpolate_factor is {interpolate_factor}; expected at least 1")
        if not xpos_scale_base > 0:
            raise ValueError(f"xpos_scale_base is {xpos_scale_base}; expected a positive number of positions")
        exact = chosen(dim, custom_freqs, freqs_for, theta, max_freq, num_freqs, theta_rescale_factor)
        self.freqs_for, self.learned_freq = freqs_for, learned_freq
        self.use_xpos, self.scale_base = use_xpos, xpos_scale_base
        self.interpolate_factor, self.dim = interpolate_factor, dim
        self.cache_if_possible, self.cache_max_seq_len = cache_if_possible, cache_max_seq_len
        self.seq_before_head_dim = seq_before_head_dim
        self.default_seq_dim = -3 if seq_before_head_dim else -2
        self._hold(exact, custom_freqs)
        self._kept: tuple[Tensor, float, dict[torch.dtype, Tables]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_kept": None}  # tables are cheaper to make than to copy or store

    def get_seq_pos(
        self, seq_len: int, device: Any = None, dtype: torch.dtype | None = None, offset: float = 0
    ) -> Tensor:
        """Positions offset .. offset + seq_len - 1 over the interpolation factor; never a half or a whole type."""
        dtype = torch.float64 if dtype == torch.float64 else torch.float32
        return self._positions(seq_len, torch.device(device or self.device), offset).to(dtype)

    def _positions(self, seq_len: int, device: torch.device, offset: float = 0) -> Tensor:
        return (torch.arange(seq_len, device=device, dtype=wide(device)) + offset) / self.interpolate_factor

    def _angles(self, positions: Tensor) -> Tensor:
        """Radians (..., pairs)."""
        return positions[..., None] * self._omega(positions.device)

    def forward(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """Angles (..., 2 pairs) of the positions t, each twice; seq_len and offset change nothing."""
        return self._angles(t.to(wide(t.device))).to(self._angles_in).repeat_interleave(2, -1)

    def _zeta(self, positions: Tensor, center: float, power: float) -> Tensor:
        """xPos magnitudes (seq, pairs)."""
        zeta = torch.from_numpy(XPos().zeta(self.dim // 2)).to(positions.device, positions.dtype)
        return zeta ** (power * (positions[:, None] - center) / self.scale_base)

    def get_scale(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """xPos magnitudes (seq, dim), centred on len(t) // 2."""
        self._need_xpos()
        return self._zeta(t.to(wide(t.device)), len(t) // 2, 1).float().repeat_interleave(2, -1)

    def _need_xpos(self) -> None:
        if not self.use_xpos:
            raise ValueError("use_xpos is False; expected a module made with use_xpos=True")

    def _tables(self, seq_len: int, offset: float, t: Tensor, center: float, power: float) -> Tables:
        """cos and sin (seq, pairs) of positions from `offset` on, with the xPos magnitude where power is not 0."""
        stop = offset + seq_len
        if self._overridden():
            places = self.get_seq_pos(seq_len, device=t.device, dtype=t.dtype, offset=offset)
            angle = self(places, seq_len=seq_len, offset=offset)[..., ::2].to(wide(t.device))
            m = self.get_scale(places, seq_len=seq_len)[..., ::2].to(angle.dtype) ** power if power else 1.0
            return tables(angle, t.dtype, m)
        if not (self.cache_if_possible and takes_kernel(t) and not self.learns and power == 0
                and isinstance(offset, int) and 0 <= offset and stop <= self.cache_max_seq_len):  # fmt: skip
            positions = self._positions(seq_len, t.device, offset)
            return tables(self._angles(positions), t.dtype, self._zeta(positions, center, power) if power else 1.0)
        cos, sin = self._first_rows(int(stop), arithmetic(t.dtype))
        return cos[offset : int(stop)], sin[offset : int(stop)]

    def _overridden(self) -> bool:
        """Whether a subclass says where tokens stand, how they turn or how they are scaled in words of its own."""
        return any(
            getattr(type(self), name) is not getattr(RotaryEmbedding, name)
            for name in ("get_seq_pos", "forward", "get_scale")
        )

    def _first_rows(self, rows: int, dtype: torch.dtype) -> Tables:
        """At least `rows` rows of the tables from position 0 on, kept while frequencies stay as they are."""
        freqs, kept = self.freqs.detach(), self._kept
        if kept is None or kept[1] != self.interpolate_factor or not torch.equal(kept[0], freqs):
            kept = self._kept = (freqs.clone(), self.interpolate_factor, {})
        found = kept[2].get(dtype)
        if found is None or len(found[0]) < rows:
            with torch.inference_mode(False):  # such tables could not serve training later
                length = min(self.cache_max_seq_len, max(64, 1 << (rows - 1).bit_length()))
                found = tables(self._angles(self._positions(length, torch.device("cpu"))), dtype)
            kept[2][dtype] = found
        return found

    def _turn(self, t: Tensor, seq_dim: int | None, offset: float, center: float = 0, power: float = 0) -> Tensor:
        cos, sin = self._shaped(t, seq_dim, offset, center, power)
        return rotate(t, cos, sin, pairing="interleaved")

    def _shaped(
        self, t: Tensor, seq_dim: int | None, offset: float, center: float = 0, power: float = 0
    ) -> Tables:
        """The tables of t's positions along seq_dim, shaped to broadcast against t."""
        if not t.is_floating_point():
            raise TypeError(f"t has dtype {t.dtype}; expected floating point")
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        if not -t.ndim <= axis < t.ndim:
            raise ValueError(f"seq_dim is {axis}; expected an axis of t, which has shape {tuple(t.shape)}")
        axis %= t.ndim
        if t.shape[-1] < 2 * len(self.freqs):
            raise ValueError(f"t has {t.shape[-1]} channels; expected at least {2 * len(self.freqs)}, which dim turns")
        cos, sin = self._tables(t.shape[axis], offset, t, center, power)
        if axis < t.ndim - 2:
            shape = (t.shape[axis], *(1,) * (t.ndim - 2 - axis), cos.shape[-1])
            cos, sin = cos.reshape(shape), sin.reshape(shape)
        return cos, sin

    def rotate_queries_or_keys(
        self, t: Tensor, seq_dim: int | None = None, offset: float = 0, scale: Tensor | float | None = None
    ) -> Tensor:
        """t turned by its places along seq_dim, from `offset` on; scale multiplies what turned."""
        if self.use_xpos and scale is None:
            raise ValueError("scale is None; expected one, or rotate_queries_and_keys, since use_xpos is True")
        if scale is None:
            return self._turn(t, seq_dim, offset)
        return turn(t, *self._shaped(t, seq_dim, offset), scale)

    def rotate_queries_and_keys(self, q: Tensor, k: Tensor, seq_dim: int | None = None) -> tuple[Tensor, Tensor]:
        """xPos: queries decay, keys grow, and only their distance remains in the scores."""
        self._need_xpos()
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        center = q.shape[axis] // 2
        return self._turn(q, axis, 0, center, 1), self._turn(k, axis, 0, center, -1)

    def rotate_queries_with_cached_keys(
        self, q: Tensor, k: Tensor, seq_dim: int | None = None, offset: float = 0
    ) -> tuple[Tensor, Tensor]:
        """Queries are the last of the keys; both share one xPos centre, so scores match the uncached."""
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        ahead = k.shape[axis] - q.shape[axis]
        if ahead < 0:
            raise ValueError(f"q has {q.shape[axis]} positions; expected at most the {k.shape[axis]} of k")
        power, center = (1, k.shape[axis] // 2) if self.use_xpos else (0, 0)
        return self._turn(q, axis, ahead + offset, center, power), self._turn(k, axis, 0, center, -power)

    def get_axial_freqs(self, *dims: int, offsets: Sequence[float] | Tensor | None = None) -> Tensor:
        """Angles (*dims, len(dims) * 2 pairs), one block of channels for each axis.

        Places along an axis are 0, 1, ..., or linspace(-1, 1) for "pixel", plus its offset.
        """
        if offsets is not None and len(offsets) != len(dims):
            raise ValueError(f"offsets has {len(offsets)} entries; expected {len(dims)}, one for each axis")
        blocks = []
        for axis, size in enumerate(dims):
            if self.freqs_for == "pixel":
                place = torch.linspace(-1, 1, size, device=self.device, dtype=wide(self.device))
            else:
                place = torch.arange(size, device=self.device, dtype=wide(self.device))
            block = self.forward(place if offsets is None else place + offsets[axis])
            blocks.append(block.reshape(*(size if a == axis else 1 for a in range(len(dims))), -1))
        return torch.cat([b.expand(*dims, -1) for b in blocks], -1)
