"""One Rope of every named variant, with the parameters of a published model where there is one, and its positions.

Positions come in kinds that differ in what they expose; coordinates that are measured rather than
counted have kinds of their own.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from rope_ref.catalogue import CATALOGUE
from rope_ref.rope import Rope

LONG_FACTORS = tuple(1 + i * i / 16 for i in range(32))  # in float64 exactly, and as steep as those of Phi-3

ARGUMENTS: dict[str, dict[str, Any]] = {
    "default": {"head_dim": 64, "theta": 10000.0},
    "partial": {"head_dim": 64, "partial_rotary_factor": 0.25, "theta": 10000.0},
    "proportional": {"head_dim": 128, "partial_rotary_factor": 0.25, "theta": 1000000.0, "factor": 8.0},
    "half_truncated": {"head_dim": 128, "theta": 1024.0},
    "linear": {"head_dim": 64, "factor": 8.0, "theta": 1000000.0},
    "ntk": {"head_dim": 64, "factor": 8.0, "theta": 10000.0},
    "dynamic_ntk": {"head_dim": 64, "factor": 2.0, "max_position_embeddings": 4096, "length": 8192, "theta": 10000.0},
    "ntk_by_parts": {"head_dim": 64, "factor": 16.0, "original_max_position_embeddings": 4096, "theta": 10000.0},
    "llama3": {
        "head_dim": 128, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "theta": 500000.0,
    },
    "yarn": {"head_dim": 128, "factor": 4.0, "original_max_position_embeddings": 32768, "theta": 1000000.0},
    "dynamic_yarn": {"head_dim": 64, "original_max_position_embeddings": 4096, "length": 10000, "theta": 10000.0},
    "longrope": {
        "head_dim": 64, "short_factor": (1.0,) * 32, "long_factor": LONG_FACTORS,
        "original_max_position_embeddings": 4096, "length": 8192, "factor": 32.0, "theta": 10000.0,
    },
    "mrope": {"head_dim": 128, "mrope_section": (16, 24, 24), "theta": 1000000.0},
    "mrope_interleaved": {"head_dim": 128, "mrope_section": (24, 20, 20), "theta": 5000000.0},
    "pixel": {"head_dim": 64, "max_freq": 10.0, "rotary_dim": 32, "pairing": "interleaved"},
    "constant": {"head_dim": 64, "num_freqs": 16, "start": 8},
    "custom": {"head_dim": 64, "inv_freq": (1.0, 0.7, 0.5, 0.3, 0.2, 0.1, 0.01, 0.001)},
    "xpos": {"head_dim": 64, "scale_base": 512.0},
    "axial": {"head_dim": 64, "axis_dims": (32, 32), "pairing": "interleaved"},
    "eva02": {"head_dim": 64, "theta": 10000.0},
    "pixtral": {"head_dim": 64, "theta": 10000.0},
    "qwen2_vl_vision": {"head_dim": 80, "theta": 10000.0},
    "dinov3": {"head_dim": 64, "theta": 100.0},
    "sam2": {"head_dim": 64, "theta": 10000.0},
    "llama4_vision": {"head_dim": 88, "theta": 10000.0},
    "moonvit": {"head_dim": 72, "theta": 10000.0},
    "mixed": {"head_dim": 64, "heads": 3, "generator": 0, "theta": 10.0},
    "wan": {"head_dim": 128, "theta": 10000.0},
    "hunyuan_video": {"axes_dim": (16, 56, 56), "theta": 256.0},
    "cogvideox": {"head_dim": 64, "theta": 10000.0},
    "flux": {"axes_dim": (16, 56, 56), "theta": 10000.0},
    "v_jepa_2": {"head_dim": 64, "theta": 10000.0},
    "golden": {"head_dim": 64, "axes": 2},
    "decoupled": {"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "theta": 10000.0},
}  # fmt: skip


def rope(name: str) -> Rope:
    """The Rope of a variant. Raises ValueError for an unknown one.

    >>> rope("decoupled")
    Rope(head_dim=192, rotary_dim=64, start=128, pairing='interleaved')
    """
    if name not in ARGUMENTS:
        raise ValueError(f"the variant is {name!r}; expected one of {', '.join(ARGUMENTS)}")
    given = dict(ARGUMENTS[name])
    if "generator" in given:
        given["generator"] = np.random.default_rng(given["generator"])
    return CATALOGUE[name](**given)


class Kind(NamedTuple):
    """Positions in words, and the dtype in which x is rotated at them."""

    name: str
    words: str
    dtype: str
    draw: Callable[[Generator, tuple[int, ...]], NDArray[Any]]


FIRST = Kind(
    "first", "0, 1, 2, ..., the same in every row; on several axes each at a pace of its own", "float32",
    lambda generator, shape: np.broadcast_to(np.arange(shape[1])[:, None] * (1 + np.arange(shape[2])), shape),
)  # fmt: skip
APART = Kind(
    "apart", "from 0 to 255, in no order, other ones in each row, as after padding, packing or eviction", "float16",
    lambda generator, shape: generator.integers(0, 256, shape),
)  # fmt: skip
NEGATIVE = Kind(
    "negative", "from -256 to -1, for those that take negative positions", "float32",
    lambda generator, shape: generator.integers(-256, 0, shape),
)  # fmt: skip
BEYOND = Kind(
    "beyond", "odd numbers from 257 to 4095, which bfloat16 does not have", "bfloat16",
    lambda generator, shape: 2 * generator.integers(128, 2048, shape) + 1,
)  # fmt: skip
FAR = Kind(
    "far", "from 65,536 to 131,071: positions of a long context", "float32",
    lambda generator, shape: generator.integers(65536, 131072, shape),
)  # fmt: skip
MEASURED = tuple(
    Kind("measured", "coordinates from -1 to 1, with fractions, other ones in each row", dtype,
         lambda generator, shape: generator.uniform(-1, 1, shape))
    for dtype in ("float32", "float16", "bfloat16")
)  # fmt: skip
RESCALED = Kind(
    "rescaled", "from 0 to 45, with fractions, as a grid that is fitted to the trained one", "float32",
    lambda generator, shape: generator.uniform(0, 45, shape),
)  # fmt: skip

COUNTED = (FIRST, APART, NEGATIVE, BEYOND, FAR)
KINDS: dict[str, tuple[Kind, ...]] = {
    "pixel": MEASURED,
    "dinov3": MEASURED,
    "golden": MEASURED,
    "eva02": (FIRST, RESCALED, BEYOND),
    "cogvideox": (FIRST, RESCALED, BEYOND),
    "xpos": (FIRST, APART, NEGATIVE, BEYOND),  # magnitudes at FAR, 3.5^(131071/512), are beyond every dtype
}


def kinds(name: str) -> tuple[Kind, ...]:
    """The kinds of positions at which a variant is sampled."""
    return KINDS.get(name, COUNTED)
