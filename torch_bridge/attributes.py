"""What other people's code reads of a `RotaryEmbedding`: values that are made when they are asked for."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rope_ref.magnitude import XPos

if TYPE_CHECKING:
    from torch_bridge.drop_in import RotaryEmbedding


class Attributes:
    """The buffers of the original, none of which is kept here: no cast and no checkpoint changes them."""

    @property
    def dummy(self: Any) -> Tensor:
        """A number on the device of the module."""
        return torch.zeros((), dtype=torch.long, device=self.device)

    @property
    def scale(self: "RotaryEmbedding") -> Tensor | None:  # type: ignore[misc]
        """The decay of each pair under xPos, (dim / 2,); None without it."""
        if not self.use_xpos:
            return None
        return torch.from_numpy(XPos().zeta(self.dim // 2)).float().to(self.device)

    @property
    def cached_freqs(self: "RotaryEmbedding") -> Tensor:  # type: ignore[misc]
        """Angles (cache_max_seq_len, 2 pairs) of the first positions."""
        return self.forward(self.get_seq_pos(self.cache_max_seq_len, self.device)).detach()

    @property
    def cached_freqs_seq_len(self: "RotaryEmbedding") -> Tensor:  # type: ignore[misc]
        """How many rows `cached_freqs` has."""
        return torch.tensor(self.cache_max_seq_len)

    @property
    def cached_scales(self: "RotaryEmbedding") -> Tensor | None:  # type: ignore[misc]
        """xPos magnitudes (cache_max_seq_len, dim) of the first positions; None without xPos."""
        return self.get_scale(self.get_seq_pos(self.cache_max_seq_len, self.device)) if self.use_xpos else None

    @property
    def cached_scales_seq_len(self: "RotaryEmbedding") -> Tensor:  # type: ignore[misc]
        """How many rows `cached_scales` has."""
        return torch.tensor(self.cache_max_seq_len if self.use_xpos else 0)
