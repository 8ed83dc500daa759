"""Keys that are already rotated, in a key-value cache: move them without their unrotated values.

A rotation can be undone, and rotations of a pair add up, so a cached key need not be kept twice.
Both functions take the Rope of the queries; keys are turned by its `.keys`.
"""

from dataclasses import replace

from numpy.typing import ArrayLike

from rope_ref.rope import Rope
from rope_ref.rotation import Array, rotate, unrotate


def shift(keys: ArrayLike, by: ArrayLike, rope: Rope) -> Array:
    """Keys that stood at p, as they are at p + by: R(p + by) x = R(by) R(p) x.

    by: how far each key moves, as `rotate` takes positions: (), (seq,), or with leading axes;
    (1, axes) or (seq, axes) where the Rope has several.
    StreamingLLM (arXiv 2309.17453) and llama.cpp (K-shift) move keys down after eviction. Only the
    channels that turn may turn, and by this Rope's frequencies: a head_dim in the place of
    rotary_dim, or a base rescaled since, gives keys that no query expects. The constant magnitude
    is in the keys already; xPos moves by its own power, whatever the center.

    With angle_dtype "float32" this is the exact shift of the product of two rounded rotations: it
    differs from rotating anew by the rounding of the three angles.

    >>> rope = Rope(head_dim=2)
    >>> bool(abs(shift(rotate([[1.0, 0.0]], [7], rope), -3, rope) - rotate([[1.0, 0.0]], [4], rope)).max() < 1e-15)
    True
    """
    step = rope.keys if rope.xpos is None else replace(rope.keys, xpos=replace(rope.xpos.inverse, center=0.0))
    return rotate(keys, by, replace(step, attention_scale=1.0))


def rerotate(keys: ArrayLike, old_positions: ArrayLike, new_positions: ArrayLike, old: Rope, new: Rope) -> Array:
    """Keys that `old` rotated at old_positions, as `new` rotates them at new_positions.

    What a cache needs when the frequencies change under it: dynamic NTK past the trained length,
    LongRoPE at the switch from the short to the long list, xPos with another center.

    >>> old, new = Rope(head_dim=2), Rope(head_dim=2, inv_freq=(0.5,))
    >>> moved = rerotate(rotate([[1.0, 0.0]], [4], old), [4], [2], old, new)
    >>> bool(abs(moved - rotate([[1.0, 0.0]], [2], new)).max() < 1e-15)
    True
    """
    return rotate(unrotate(keys, old_positions, old.keys), new_positions, new.keys)
