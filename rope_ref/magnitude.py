"""xPos: a magnitude that depends on position (arXiv 2212.10554)."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class XPos:
    """zeta_i^(power (p - center) / scale_base), zeta_i = (2i/r + gamma) / (1 + gamma).

    Queries take power 1 and keys power -1, so the score of positions m and n carries
    zeta_i^((m - n)/scale_base): the center cancels if both sides use the same one.
    """

    scale_base: float = 512.0
    center: float = 0.0
    gamma: float = 0.4
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.scale_base > 0:
            raise ValueError(f"scale_base is {self.scale_base!r}; expected a positive number of positions")

    def zeta(self, pairs: int) -> NDArray[np.float64]:
        """The decay of each pair, shape (pairs,)."""
        return (np.arange(pairs) / pairs + self.gamma) / (1 + self.gamma)

    def __call__(self, positions: ArrayLike, pairs: int) -> NDArray[np.float64]:
        """The magnitude of every pair, shape (..., pairs)."""
        exponent = (np.asarray(positions, np.float64)[..., None] - self.center) / self.scale_base
        return self.zeta(pairs) ** (self.power * exponent)

    @property
    def inverse(self) -> "XPos":
        """What keys use where queries use this."""
        return replace(self, power=-self.power)
