"""Each named variant as a composition of frequencies, magnitude and range.

A Rope is static. Where a variant depends on the length of a sequence, `length` says which one:
the length at hand, switched per call or per sequence, or the capacity of the cache. The choice
is the caller's; keys kept from before a switch hold the rotation they were given.

Further fields of `Rope` (start, pairing, angle_dtype, ...) may be given to every variant.
"""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import ArrayLike

from rope_ref import frequencies
from rope_ref.magnitude import XPos, longrope_attention, yarn_attention
from rope_ref.rope import Rope, angle_dtype, variant


@variant
def default(head_dim: int, theta: float = 10000.0, **fields: Any) -> Rope:
    """RoFormer (arXiv 2104.09864): geometric frequencies."""
    return Rope(head_dim, theta=theta, **fields)


@variant
def partial(
    head_dim: int, partial_rotary_factor: float, theta: float = 10000.0, exponent: str = "rotary_dim", **fields: Any
) -> Rope:
    """The first int(p d) channels turn, with theta^(-2i/r) (GPT-NeoX), or theta^(-2i/d) if exponent is "head_dim".

    For frequencies over head_dim that also pair up over the whole head see `proportional`.
    """
    if exponent not in ("rotary_dim", "head_dim"):
        raise ValueError(f"exponent is {exponent!r}; expected 'rotary_dim' or 'head_dim'")
    if not 0 <= partial_rotary_factor <= 1:
        raise ValueError(f"partial_rotary_factor is {partial_rotary_factor!r}; expected a number from 0 to 1")
    plain = Rope(head_dim, int(head_dim * partial_rotary_factor), theta=theta, **fields)
    if exponent == "rotary_dim":
        return plain
    inv_freq = frequencies.geometric(head_dim, theta, plain.angle_dtype)[: plain.pairs]
    return turning(inv_freq, head_dim, fields)


@variant
def proportional(
    head_dim: int, partial_rotary_factor: float = 1.0, theta: float = 10000.0, factor: float = 1.0, **fields: Any
) -> Rope:
    """p-RoPE (arXiv 2410.06205; Gemma 4): the slowest pairs of the whole head stand still."""
    inv_freq = frequencies.proportional(head_dim, partial_rotary_factor, theta, angle_dtype(fields))
    return turning(frequencies.linear(inv_freq, factor), head_dim, fields)


@variant
def half_truncated(head_dim: int, theta: float = 1024.0, **fields: Any) -> Rope:
    """The slower half of the pairs stands still, the faster runs from 1 to 1/theta (modded-nanogpt)."""
    return turning(frequencies.half_truncated(head_dim, theta, angle_dtype(fields)), head_dim, fields)


@variant
def linear(head_dim: int, factor: float, theta: float = 10000.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """Position interpolation (arXiv 2306.15595): every frequency divided by `factor`."""
    plain = Rope(head_dim, rotary_dim, theta=theta, **fields)
    return turning(frequencies.linear(unscaled(plain), factor), head_dim, fields)


@variant
def ntk(head_dim: int, factor: float, theta: float = 10000.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """NTK-aware (bloc97): theta rescaled so that the slowest pair is interpolated, the fastest not.

    Hunyuan's `alpha` is this factor.
    """
    frequencies.check_factor(factor)
    plain = Rope(head_dim, rotary_dim, theta=theta, **fields)
    return Rope(head_dim, rotary_dim, theta=frequencies.ntk_theta(theta, factor, 2 * plain.pairs), **fields)


@variant
def dynamic_ntk(
    head_dim: int, factor: float, max_position_embeddings: int, length: int, theta: float = 10000.0,
    rotary_dim: int | None = None, **fields: Any,
) -> Rope:  # fmt: skip
    """Dynamic NTK (emozilla): NTK-aware with a factor that grows with `length` beyond the trained length."""
    stretch = frequencies.dynamic_factor(factor, length, max_position_embeddings)
    return ntk(head_dim, stretch, theta, rotary_dim, **fields)


@variant
def ntk_by_parts(
    head_dim: int, factor: float, original_max_position_embeddings: int, theta: float = 10000.0,
    alpha: float = 1.0, beta: float = 32.0, rotary_dim: int | None = None, **fields: Any,
) -> Rope:  # fmt: skip
    """NTK-by-parts (arXiv 2309.00071, section 3.2): interpolated below `alpha` rotations, untouched above `beta`."""
    w = unscaled(Rope(head_dim, rotary_dim, theta=theta, **fields))
    parts = frequencies.by_parts(w, factor, original_max_position_embeddings, alpha, beta)
    return turning(parts, head_dim, fields)


@variant
def llama3(
    head_dim: int, factor: float, low_freq_factor: float = 1.0, high_freq_factor: float = 4.0,
    original_max_position_embeddings: int = 8192, theta: float = 500000.0, rotary_dim: int | None = None, **fields: Any,
) -> Rope:  # fmt: skip
    """Llama 3.1: NTK-by-parts between low_freq_factor and high_freq_factor rotations."""
    bands = {"alpha": low_freq_factor, "beta": high_freq_factor}
    return ntk_by_parts(
        head_dim, factor, original_max_position_embeddings, theta, rotary_dim=rotary_dim, **bands, **fields
    )


@variant
def yarn(
    head_dim: int, factor: float, original_max_position_embeddings: int, theta: float = 10000.0,
    beta_fast: float = 32.0, beta_slow: float = 1.0, truncate: bool = True, attention_factor: float | None = None,
    mscale: float | None = None, mscale_all_dim: float | None = None, rotary_dim: int | None = None, **fields: Any,
) -> Rope:  # fmt: skip
    """YaRN (arXiv 2309.00071). An `attention_factor` replaces the magnitude 0.1 ln s + 1; see `yarn_attention`."""
    plain = Rope(head_dim, rotary_dim, theta=theta, **fields)
    inv_freq = frequencies.yarn(
        2 * plain.pairs, theta, factor, original_max_position_embeddings, beta_fast, beta_slow, truncate,
        plain.angle_dtype,
    )  # fmt: skip
    m = yarn_attention(factor, mscale, mscale_all_dim) if attention_factor is None else attention_factor
    return turning(inv_freq, head_dim, fields | {"attention_scale": m})


@variant
def dynamic_yarn(head_dim: int, original_max_position_embeddings: int, length: int, **fields: Any) -> Rope:
    """YaRN with the factor that `length` needs: s = max(1, n/L) (jquesnelle/yarn)."""
    frequencies.check_length("length", length)
    frequencies.check_length("original_max_position_embeddings", original_max_position_embeddings)
    factor = max(1.0, length / original_max_position_embeddings)
    return yarn(head_dim, factor, original_max_position_embeddings, **fields)


@variant
def longrope(
    head_dim: int, short_factor: Sequence[float], long_factor: Sequence[float], original_max_position_embeddings: int,
    length: int, factor: float | None = None, attention_factor: float | None = None, theta: float = 10000.0,
    rotary_dim: int | None = None, **fields: Any,
) -> Rope:  # fmt: skip
    """LongRoPE (arXiv 2402.13753): frequencies divided by the short list up to the original length, beyond by the long.

    `factor`, the ratio of the longest length to the original one, gives the magnitude
    sqrt(1 + ln s / ln L) at every length, 1 where it is below 1; an `attention_factor` replaces it.
    """
    frequencies.check_length("length", length)
    frequencies.check_length("original_max_position_embeddings", original_max_position_embeddings)
    if attention_factor is None:
        if factor is None:
            raise ValueError("factor and attention_factor are both None; expected one of them")
        if not 0 < factor < float("inf"):
            raise ValueError(f"factor is {factor!r}; expected a positive number")
        attention_factor = longrope_attention(factor, original_max_position_embeddings)
    plain = Rope(head_dim, rotary_dim, theta=theta, **fields)
    lists = [
        frequencies.geometric(2 * plain.pairs, theta, plain.angle_dtype, divisors)
        for divisors in (short_factor, long_factor)
    ]
    inv_freq = lists[length > original_max_position_embeddings]
    return turning(inv_freq, head_dim, fields | {"attention_scale": attention_factor})


@variant
def mrope(head_dim: int, mrope_section: Sequence[int], theta: float = 10000.0, **fields: Any) -> Rope:
    """M-RoPE (Qwen2-VL, arXiv 2409.12191): positions (t, h, w), one section of the pairs for each."""
    return turning(frequencies.mrope(unscaled(Rope(head_dim, theta=theta, **fields)), mrope_section), head_dim, fields)


@variant
def mrope_interleaved(head_dim: int, mrope_section: Sequence[int], theta: float = 10000.0, **fields: Any) -> Rope:
    """Interleaved M-RoPE (Qwen3-VL): positions (t, h, w), the pairs take them in turn."""
    omega = frequencies.mrope_interleaved(unscaled(Rope(head_dim, theta=theta, **fields)), mrope_section)
    return turning(omega, head_dim, fields)


@variant
def pixel(head_dim: int, max_freq: float = 10.0, rotary_dim: int | None = None, **fields: Any) -> Rope:
    """Frequencies for coordinates in [-1, 1] (rotary-embedding-torch)."""
    width = head_dim - fields.get("start", 0) if rotary_dim is None else rotary_dim
    return Rope(head_dim, rotary_dim, inv_freq=frequencies.pixel(width, max_freq), **fields)


@variant
def constant(head_dim: int, num_freqs: int = 1, **fields: Any) -> Rope:
    """All frequencies one (rotary-embedding-torch)."""
    return turning(frequencies.constant(num_freqs), head_dim, fields)


@variant
def custom(head_dim: int, inv_freq: ArrayLike, **fields: Any) -> Rope:
    """The frequencies given, (pairs,), (pairs, axes) or (heads, pairs, axes)."""
    return turning(inv_freq, head_dim, fields)


@variant
def xpos(head_dim: int, scale_base: float = 512.0, center: float = 0.0, **fields: Any) -> Rope:
    """xPos (arXiv 2212.10554), the Rope of queries; keys take its `.keys`."""
    return Rope(head_dim, xpos=XPos(scale_base, center), **fields)


@variant
def axial(head_dim: int, axis_dims: Sequence[int], theta: float = 10000.0, **fields: Any) -> Rope:
    """One block of `axis_dims[a]` channels for each axis; positions have a last axis of that many."""
    for width in axis_dims:
        if width < 2 or width % 2:
            raise ValueError(f"axis_dims holds {width}; expected even numbers of at least 2")
    blocks = [frequencies.geometric(width, theta, angle_dtype(fields)) for width in axis_dims]
    return turning(frequencies.block_diagonal(blocks), head_dim, fields)


def unscaled(rope: Rope) -> frequencies.Array:
    """The frequencies of a Rope in the dtype in which its angles are computed."""
    return rope.omega.astype(rope.angle_dtype)


def turning(omega: ArrayLike, head_dim: int, fields: dict[str, Any]) -> Rope:
    """The Rope that turns with these frequencies."""
    return Rope(head_dim, inv_freq=omega, **fields)


def __getattr__(name: str) -> Callable[..., Rope]:
    """The schemes of images and videos, by their names in the catalogue."""
    from rope_ref.catalogue import CATALOGUE

    if name not in CATALOGUE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return CATALOGUE[name]
