"""How much a rotation also scales: constants of YaRN and LongRoPE, and xPos, which depends on position."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray


def yarn_scale(factor: float, mscale: float = 1.0) -> float:
    """0.1 mscale ln s + 1 for s > 1, else 1 (arXiv 2309.00071, section 3.4).

    >>> yarn_scale(1.0), round(yarn_scale(40.0), 6)
    (1.0, 1.368888)
    """
    return 0.1 * mscale * math.log(factor) + 1.0 if factor > 1 else 1.0


def yarn_attention(factor: float, mscale: float | None = None, mscale_all_dim: float | None = None) -> float:
    """The magnitude of YaRN: the ratio of two scales where both are given and not zero (DeepSeek), else the plain one.

    >>> yarn_attention(40.0, mscale=1.0, mscale_all_dim=1.0)
    1.0
    """
    if mscale and mscale_all_dim:
        return yarn_scale(factor, mscale) / yarn_scale(factor, mscale_all_dim)
    return yarn_scale(factor)


def yarn_softmax(factor: float, mscale_all_dim: float) -> float:
    """(0.1 mscale_all_dim ln s + 1)^2, by which DeepSeek V2 and V3 also multiply the softmax scale.

    It is no part of the rotation: a Rope holds the ratio of `yarn_attention` alone, and whoever
    computes attention scores from it owes them this factor.
    """
    return yarn_scale(factor, mscale_all_dim) ** 2


def longrope_attention(factor: float, original_max_position_embeddings: float) -> float:
    """sqrt(1 + ln s / ln L) for s > 1, else 1 (arXiv 2402.13753).

    >>> round(longrope_attention(32.0, 4096), 6)
    1.190238
    """
    if not original_max_position_embeddings > 1:
        raise ValueError(
            f"original_max_position_embeddings is {original_max_position_embeddings!r}; expected more than 1 position"
        )
    return math.sqrt(1 + math.log(factor) / math.log(original_max_position_embeddings)) if factor > 1 else 1.0


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
