"""What a rotary embedding is: a linear map from positions to angles, then planar rotations."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, NamedTuple, ParamSpec

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rope_ref import frequencies
from rope_ref.magnitude import XPos
from rope_ref.pairing import check

ANGLE_DTYPES = ("float64", "float32")


class Origin(NamedTuple):
    """The variant that made a Rope, and all that it was given: make(**given) makes it again."""

    make: Callable[..., "Rope"]
    given: dict[str, Any]


@dataclass(frozen=True, repr=False)
class Rope:
    """A rotary embedding: frozen, checked when made, equal by content.

    head_dim         channels of a head
    rotary_dim       channels that turn (even); by default all that frequencies or head_dim imply
    start            first channel that turns; the others pass through untouched
    theta            base of the geometric frequencies, used where `inv_freq` is not given
    inv_freq         radians per position: (pairs,), Omega (pairs, axes), or (heads, pairs, axes)
                     where each head turns at its own speeds; held as nested tuples
    pairing          "half-split" or "interleaved"
    attention_scale  a constant magnitude
    xpos             a magnitude that depends on position, or None
    angle_dtype      "float64", exact; "float32" rounds frequency and angle as most trained models did

    `origin`, which takes no part in equality, says which variant made it, if one did.

    Raises ValueError for anything that cannot be rotated.

    >>> Rope(head_dim=64)
    Rope(head_dim=64)
    >>> Rope(head_dim=4, inv_freq=(1.0, 0.5)).pairs
    2
    """

    head_dim: int
    rotary_dim: int | None = None
    start: int = 0
    theta: float = 10000.0
    inv_freq: ArrayLike | None = None
    pairing: str = "half-split"
    attention_scale: float = 1.0
    xpos: XPos | None = None
    angle_dtype: str = "float64"
    origin: Origin | None = field(default=None, init=False, compare=False)

    def __post_init__(self) -> None:
        check(self.pairing)
        for name in ("head_dim", "start"):
            value = getattr(self, name)
            if not isinstance(value, (int, np.integer)) or value < (name == "head_dim"):
                raise ValueError(f"{name} is {value!r}; expected a whole number, not negative")
        angle_dtype({"angle_dtype": self.angle_dtype})
        if not (np.isfinite(self.theta) and self.theta > 0):
            raise ValueError(f"theta is {self.theta!r}; expected a positive number")
        if not (np.isfinite(self.attention_scale) and self.attention_scale > 0):
            raise ValueError(f"attention_scale is {self.attention_scale!r}; expected a positive number")
        if self.inv_freq is not None:
            omega = np.asarray(self.inv_freq, np.float64)
            if omega.ndim not in (1, 2, 3) or omega.size == 0 or not np.isfinite(omega).all():
                raise ValueError(
                    f"inv_freq has shape {omega.shape}; expected finite (pairs,), (pairs, axes) or (heads, pairs, axes)"
                )
            object.__setattr__(self, "inv_freq", _frozen(omega.tolist()))
        implied = None if self.inv_freq is None else 2 * self.pairs
        width = self.rotary_dim if self.rotary_dim is not None else implied or self.head_dim - self.start
        if width % 2 or width < 0 or self.start + width > self.head_dim:
            raise ValueError(
                f"rotary_dim is {width}; expected an even number of at most {self.head_dim - self.start} "
                f"(head_dim {self.head_dim}, start {self.start})"
            )
        if implied is not None and width != implied:
            raise ValueError(f"rotary_dim is {width}; expected {implied}, twice the {implied // 2} pairs of inv_freq")
        if self.rotary_dim is not None or width not in (implied, self.head_dim - self.start):
            object.__setattr__(self, "rotary_dim", int(width))

    @property
    def omega(self) -> NDArray[np.float64]:
        """The frequencies as given or implied, in the shapes of `inv_freq`, radians per position."""
        return self._omega.copy()

    @functools.cached_property
    def _omega(self) -> NDArray[np.float64]:
        if self.inv_freq is not None:
            return np.asarray(self.inv_freq, np.float64)
        width = self.head_dim - self.start if self.rotary_dim is None else self.rotary_dim
        return frequencies.geometric(width, self.theta, self.angle_dtype).astype(np.float64)

    @property
    def pairs(self) -> int:
        """How many pairs turn."""
        return int(self._omega.shape[-1 if self._omega.ndim == 1 else -2])

    @property
    def axes(self) -> int | None:
        """Length of the trailing axis of positions, or None where positions have none."""
        return None if self._omega.ndim == 1 else self._omega.shape[-1]

    @property
    def heads(self) -> int | None:
        """How many heads turn at speeds of their own, or None where all share one Omega."""
        return self._omega.shape[0] if self._omega.ndim == 3 else None

    @property
    def keys(self) -> "Rope":
        """The Rope of the keys: this one, with the xPos magnitude inverted."""
        return self if self.xpos is None else replace(self, xpos=self.xpos.inverse)

    def __repr__(self) -> str:
        given = [f for f in fields(self) if f.init]
        shown = [f for f in given if f.name == "head_dim" or getattr(self, f.name) != f.default]
        return f"Rope({', '.join(f'{f.name}={getattr(self, f.name)!r}' for f in shown)})"


Given = ParamSpec("Given")


def variant(make: Callable[Given, Rope]) -> Callable[Given, Rope]:
    """Let the Ropes that a function makes remember it, so that what differs from them can be told in its words."""
    signature = inspect.signature(make)

    @functools.wraps(make)
    def remembered(*args: Given.args, **kwargs: Given.kwargs) -> Rope:
        rope = replace(make(*args, **kwargs))
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = dict(bound.arguments)
        given |= given.pop("fields", {})
        if any(isinstance(value, np.random.Generator) for value in given.values()):
            return rope  # which has moved on, and would make another
        arrays = {name: value for name, value in given.items() if isinstance(value, np.ndarray)}
        given |= {name: _frozen(array.tolist()) for name, array in arrays.items()}
        object.__setattr__(rope, "origin", Origin(remembered, given))
        return rope

    return remembered


def changed(rope: Rope, **fields: Any) -> Rope:
    """The same Rope with other fields, made as it was made."""
    return replace(rope, **fields) if rope.origin is None else rope.origin.make(**rope.origin.given | fields)


def angle_dtype(fields: Mapping[str, Any]) -> str:
    """The dtype in which a Rope with these fields computes its angles. Raises ValueError for an unknown one."""
    dtype = fields.get("angle_dtype", "float64")
    if dtype not in ANGLE_DTYPES:
        raise ValueError(f"angle_dtype is {dtype!r}; expected one of {', '.join(map(repr, ANGLE_DTYPES))}")
    return str(dtype)


def _frozen(values: Any) -> Any:
    return tuple(map(_frozen, values)) if isinstance(values, list) else values
