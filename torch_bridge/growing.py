"""Layers of a cache whose tokens are appended in place.

The caches of transformers join all that was kept with what is new, for every token and layer. Here tokens go into
memory that was asked for ahead, twice what there was, so that a token costs what it is large itself.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from torch_bridge.kernel import empty_like, needs_gradient

LEAST = 256  # tokens that there is room for at first


class Room:
    """Memory in which tokens are appended behind those that are there."""

    def __init__(self) -> None:
        self.memory: Tensor | None = None  # (batch, heads, room for tokens, head_dim)

    def append(self, kept: Tensor, new: Tensor) -> Tensor:
        """kept and then new (batch, heads, tokens, head_dim), side by side in memory; kept stays where it is if it can.

        Memory behind kept is written: whoever cuts off tokens and appends others overwrites what was cut off.
        """
        n, t = kept.shape[-2] if kept.numel() else 0, new.shape[-2]
        first = self.place(kept) if n else None
        memory = self.memory
        if memory is None or first is None or first + n + t > memory.shape[-2]:
            batch, heads, _, width = new.shape
            memory, first = empty_like(new, (batch, heads, max(LEAST, 2 * (n + t)), width)), 0
            if n:
                memory.narrow(2, 0, n).copy_(kept)
            self.memory = memory
        memory.narrow(2, first + n, t).copy_(new)
        return memory.narrow(2, first, n + t)

    def place(self, kept: Tensor) -> int | None:
        """The token of the memory that kept begins with, None where it is not a part of it."""
        memory = self.memory
        if (
            memory is None or kept.shape[:2] != memory.shape[:2] or kept.stride() != memory.stride()
            or kept.untyped_storage().data_ptr() != memory.untyped_storage().data_ptr()
        ):  # fmt: skip
            return None
        return (kept.storage_offset() - memory.storage_offset()) // memory.stride(-2)


class Growing(DynamicLayer):
    """A layer whose tokens are appended in place; cut, chosen and repeated as those of its base are."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not takes(self, key_states, value_states):
            return super().update(key_states, value_states, *args, **kwargs)
        self.keys, self.values = append(self, key_states, value_states)
        return self.keys, self.values


class GrowingWindow(DynamicSlidingWindowLayer):
    """The same for a layer that sees a window: what has left it makes place when the memory is full."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        kept_whole = getattr(self, "record_past", False)  # of transformers later than 5.12
        if kept_whole or not takes(self, key_states, value_states):
            return super().update(key_states, value_states, *args, **kwargs)
        self.cumulative_length += key_states.shape[-2]
        keys, values = append(self, key_states, value_states)
        left = max(0, keys.shape[-2] - self.sliding_window + 1)
        self.keys, self.values = keys[:, :, left:], values[:, :, left:]
        return keys, values


def takes(layer: Any, key: Tensor, value: Tensor) -> bool:
    """Whether tokens may be written in place, which nothing that is differentiated may. Makes the layer ready."""
    if not layer.is_initialized:
        layer.lazy_initialization(key, value)
    elif layer.keys.numel():
        check("key", key, layer.keys)
        check("value", value, layer.values)
    return not needs_gradient(key, value, layer.keys, layer.values)


def check(name: str, new: Tensor, kept: Tensor) -> None:
    """Raise ValueError unless new tokens are as those that are kept."""
    (batch, heads, _, width), (*_, other) = new.shape, kept.shape
    if batch != kept.shape[0] or heads != kept.shape[1] or width != other or new.dtype != kept.dtype:
        raise ValueError(
            f"{name} has shape {tuple(new.shape)} and {new.dtype}; expected "
            f"as this cache holds, {tuple(kept.shape)} and {kept.dtype}, but for the number of tokens"
        )


def append(layer: Any, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    rooms = layer.__dict__.setdefault("rooms", (Room(), Room()))
    return rooms[0].append(layer.keys, key), rooms[1].append(layer.values, value)
