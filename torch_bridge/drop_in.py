"""The names of rotary-embedding-torch 0.9.1, without its caches and its half-precision positions."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from rope_ref import frequencies
from rope_ref.magnitude import XPos
from torch_bridge.rotation import rotate


def broadcat(tensors: Any, dim: int = -1) -> Tensor:
    """Broadcast the tensors against each other and concatenate them along `dim`."""
    return torch.cat(torch.broadcast_tensors(*tensors), dim=dim)


def apply_rotary_emb(
    freqs: Tensor,
    t: Tensor,
    start_index: int = 0,
    scale: Any = 1.0,
    seq_dim: int = -2,
    freqs_seq_dim: int | None = None,
) -> Tensor:
    """Turn channel pairs (2i, 2i + 1) of t by angles freqs (..., seq, 2 pairs), then scale them.

    Each channel has its own angle, as the original allows; where freqs has more rows than t
    the last ones are taken. Angles are evaluated in float64.
    """
    if not t.is_floating_point():
        raise TypeError(f"t has dtype {t.dtype}; expected floating point")
    width = freqs.shape[-1]
    stop = start_index + width
    if width % 2 or start_index < 0 or stop > t.shape[-1]:
        raise ValueError(f"freqs turn channels {start_index} to {stop}; expected an even range of {t.shape[-1]}")
    if freqs_seq_dim is None and (freqs.ndim == 2 or t.ndim == 3):
        freqs_seq_dim = 0
    if freqs_seq_dim is not None:
        have, need = freqs.shape[freqs_seq_dim], t.shape[seq_dim]
        freqs = freqs.narrow(freqs_seq_dim, max(have - need, 0), min(have, need))
    angle = freqs.to(_wide(t.device))
    arithmetic = torch.float64 if t.dtype == torch.float64 else torch.float32
    cos, sin = angle.cos().to(arithmetic), angle.sin().to(arithmetic)
    middle = t[..., start_index:stop].to(arithmetic)
    a, b = middle.unflatten(-1, (-1, 2)).unbind(-1)
    turned = (middle * cos + torch.stack((-b, a), -1).flatten(-2) * sin) * scale
    return torch.cat((t[..., :start_index], turned.to(t.dtype), t[..., stop:]), -1)


def apply_learned_rotations(
    rotations: Tensor, t: Tensor, start_index: int = 0, freq_ranges: Tensor | None = None
) -> Tensor:
    """Turn t by angles (..., pairs) given per token, times every range where ranges are given."""
    if freq_ranges is not None:
        rotations = (rotations[..., None] * freq_ranges).flatten(-2)
    return apply_rotary_emb(rotations.repeat_interleave(2, -1), t, start_index=start_index)


def _wide(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64  # that device has no float64


class RotaryEmbedding(nn.Module):
    """The constructor, methods and defaults of rotary-embedding-torch, with exact angles.

    Positions and angles are float64 and rounded once to a table, whatever dtype the queries
    have and whatever the module was cast to. Nothing is remembered between calls.
    """

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
        if dim < 2 or dim % 2:
            raise ValueError(f"dim is {dim}; expected an even number of at least 2")
        if not interpolate_factor >= 1:
            raise ValueError(f"interpolate_factor is {interpolate_factor}; expected at least 1")
        if custom_freqs is not None:
            exact = custom_freqs.detach().double().cpu().clone()
        elif freqs_for == "lang":
            base = frequencies.ntk_theta(theta, theta_rescale_factor, dim)
            exact = torch.from_numpy(frequencies.geometric(dim, base))
        elif freqs_for == "pixel":
            exact = torch.from_numpy(frequencies.pixel(dim, max_freq))
        elif freqs_for == "constant":
            exact = torch.from_numpy(frequencies.constant(num_freqs))
        else:
            raise ValueError(f"freqs_for is {freqs_for!r}; expected 'lang', 'pixel' or 'constant'")
        self.freqs_for, self.learned_freq = freqs_for, learned_freq
        self.use_xpos, self.scale_base = use_xpos, xpos_scale_base
        self.interpolate_factor, self.dim = interpolate_factor, dim
        self.cache_if_possible, self.cache_max_seq_len = cache_if_possible, cache_max_seq_len
        self.seq_before_head_dim = seq_before_head_dim
        self.default_seq_dim = -3 if seq_before_head_dim else -2
        self._exact = exact
        self.freqs = nn.Parameter(exact.float(), requires_grad=learned_freq)

    apply_rotary_emb = staticmethod(apply_rotary_emb)

    def _apply(self, fn: Any, recurse: bool = True) -> "RotaryEmbedding":
        """Move with the module, but never round the frequencies to a half type."""
        kept = self.freqs.detach()
        super()._apply(fn, recurse)
        if self.freqs.dtype in (torch.float16, torch.bfloat16):
            self.freqs.data = kept.to(self.freqs.device)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any) -> None:
        """Frequencies that merely round the exact ones leave those in force; others replace them."""
        super()._load_from_state_dict(state_dict, prefix, *args)
        loaded = state_dict.get(prefix + "freqs")
        if loaded is None or loaded.shape != self._exact.shape:
            return
        few = 4 * torch.finfo(loaded.dtype).eps
        if not self.learned_freq and torch.allclose(loaded.double().cpu(), self._exact, rtol=few, atol=0):
            self.freqs.data.copy_(self._exact)
        else:
            self._exact = loaded.detach().double().cpu().clone()

    @property
    def device(self) -> torch.device:
        return self.freqs.device

    def get_seq_pos(self, seq_len: int, device: Any = None, dtype: Any = None, offset: float = 0) -> Tensor:
        """Positions offset .. offset + seq_len - 1 over the interpolation factor; never a half type."""
        dtype = torch.float32 if dtype in (None, torch.float16, torch.bfloat16) else dtype
        return self._positions(seq_len, device or self.device, offset).to(dtype)

    def _positions(self, seq_len: int, device: Any, offset: float = 0) -> Tensor:
        wide = _wide(torch.device(device))
        return (torch.arange(seq_len, device=device, dtype=wide) + offset) / self.interpolate_factor

    def _angles(self, positions: Tensor) -> Tensor:
        omega = self.freqs if self.learned_freq else self._exact
        return positions[..., None] * omega.to(positions.device, positions.dtype)

    def forward(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """Angles (..., 2 pairs) of the positions t, each twice; seq_len and offset change nothing."""
        return self._angles(t.to(_wide(t.device))).to(self.freqs.dtype).repeat_interleave(2, -1)

    def _zeta(self, positions: Tensor, center: float, power: float) -> Tensor:
        zeta = torch.from_numpy(XPos().zeta(self.dim // 2)).to(positions.device, positions.dtype)
        return zeta ** (power * (positions[:, None] - center) / self.scale_base)

    def get_scale(self, t: Tensor, seq_len: int | None = None, offset: float = 0) -> Tensor:
        """xPos magnitudes (seq, dim), centred on len(t) // 2."""
        if not self.use_xpos:
            raise ValueError("use_xpos is False; expected a module made with use_xpos=True")
        return self._zeta(t.to(_wide(t.device)), len(t) // 2, 1).float().repeat_interleave(2, -1)

    def _rotate(self, t: Tensor, seq_dim: int | None, offset: float, center: float = 0, power: float = 0) -> Tensor:
        axis = (self.default_seq_dim if seq_dim is None else seq_dim) % t.ndim
        positions = self._positions(t.shape[axis], t.device, offset)
        angle = self._angles(positions)
        magnitude = self._zeta(positions, center, power) if power else 1.0
        arithmetic = torch.float64 if t.dtype == torch.float64 else torch.float32
        shape = (len(positions), *(1,) * (t.ndim - 2 - axis), angle.shape[-1])
        cos, sin = ((magnitude * f).to(arithmetic).reshape(shape) for f in (angle.cos(), angle.sin()))
        return rotate(t, cos, sin)

    def rotate_queries_or_keys(
        self, t: Tensor, seq_dim: int | None = None, offset: float = 0, scale: Any = None
    ) -> Tensor:
        """t turned by its places along seq_dim, from `offset` on; scale multiplies what turned."""
        if self.use_xpos and scale is None:
            raise ValueError("scale is None; expected one, or rotate_queries_and_keys, since use_xpos is True")
        if scale is None:
            return self._rotate(t, seq_dim, offset)
        width = 2 * len(self.freqs)
        turned = self._rotate(t.to(torch.promote_types(t.dtype, torch.float32)), seq_dim, offset)
        return torch.cat(((turned[..., :width] * scale).to(t.dtype), t[..., width:]), -1)

    def rotate_queries_and_keys(self, q: Tensor, k: Tensor, seq_dim: int | None = None) -> tuple[Tensor, Tensor]:
        """xPos: queries decay, keys grow, and only their distance remains in the scores."""
        if not self.use_xpos:
            raise ValueError("use_xpos is False; expected a module made with use_xpos=True")
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        center = q.shape[axis] // 2
        return self._rotate(q, axis, 0, center, 1), self._rotate(k, axis, 0, center, -1)

    def rotate_queries_with_cached_keys(
        self, q: Tensor, k: Tensor, seq_dim: int | None = None, offset: float = 0
    ) -> tuple[Tensor, Tensor]:
        """Queries are the last of the keys; both share one xPos centre, so scores match the uncached."""
        axis = self.default_seq_dim if seq_dim is None else seq_dim
        ahead = k.shape[axis] - q.shape[axis]
        if ahead < 0:
            raise ValueError(f"q has {q.shape[axis]} positions; expected at most the {k.shape[axis]} of k")
        power, center = (1, k.shape[axis] // 2) if self.use_xpos else (0, 0)
        return self._rotate(q, axis, ahead + offset, center, power), self._rotate(k, axis, 0, center, -power)

    def get_axial_freqs(self, *dims: int, offsets: Any = None) -> Tensor:
        """Angles (*dims, len(dims) * 2 pairs), one block of channels for each axis."""
        if offsets is not None and len(offsets) != len(dims):
            raise ValueError(f"offsets has {len(offsets)} entries; expected {len(dims)}, one for each axis")
        blocks = []
        for axis, size in enumerate(dims):
            wide = _wide(self.device)
            if self.freqs_for == "pixel":
                place = torch.linspace(-1, 1, size, device=self.device, dtype=wide)
            else:
                place = torch.arange(size, device=self.device, dtype=wide)
            block = self.forward(place + (0 if offsets is None else offsets[axis]))
            blocks.append(block.reshape(*(size if a == axis else 1 for a in range(len(dims))), -1))
        return torch.cat([b.expand(*dims, -1) for b in blocks], -1)
