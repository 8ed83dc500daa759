"""`RotaryCache`: the keys and values of a model of transformers, appended in place.

The caches of transformers join all that was kept with what is new, for every token and layer. Here tokens go into
memory that was asked for ahead, twice what there was, so that a token costs what it is large itself.
"""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from torch_bridge.kernel import compiling, empty_like, needs_gradient
from torch_bridge.rerotation import Crossing
from torch_bridge.streaming import Streaming, renumbered, streaming

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


GROWING: dict[type, type] = {DynamicLayer: Growing, DynamicSlidingWindowLayer: GrowingWindow}


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


class RotaryCache(DynamicCache):
    """A cache of transformers, in whose layers tokens are appended in place.

    config   of the model: which of its layers see a window; without it, all see everything
    window   tokens that are kept at most, besides `sinks` first ones, so that generation may go on for ever in
             constant memory and time (see ``streaming``); for a model that is patched, full attention, and rows
             without padding
    rerotate   when LongRoPE passes its trained length, rotate all kept keys to its other list (see ``rerotation``)

    A model that `patch` has changed makes the layers of any new DynamicCache append in place by itself. Cropping
    (assisted decoding), beams, and choosing or repeating rows of a batch are as in DynamicCache. Raises TypeError or
    ValueError for a window that the model was not trained for, or whose layers cannot keep one.
    """

    def __init__(
        self, config: Any = None, *, window: int | None = None, sinks: int = 4, rerotate: bool = False
    ) -> None:
        super().__init__(config=config)
        if rerotate and (config is None or window is not None):
            raise ValueError("rerotate is given without a config or beside a window; expected a config alone")
        self.crossing = Crossing(config) if rerotate else None
        if window is not None:
            if config is None:
                raise ValueError("window is given without a config; expected that of the model, by which keys move")
            self.layers = streaming(config, window, sinks)
        elif config is None:
            self.layer_class_to_replicate = Growing
        grow(self)


def grow(cache: Any) -> None:
    """Make the ordinary layers of a cache append in place; leave every other kind as it is."""
    if type(cache) not in (DynamicCache, RotaryCache) or cache.offloading:
        return
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = Growing
    for layer in cache.layers:
        layer.__class__ = GROWING.get(type(layer), type(layer))


def ready(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before a model's forward: make the cache that it is given append in place, or have room."""
    if compiling():
        return None
    named = dict(zip(("input_ids", "attention_mask", "position_ids"), args, strict=False)) | kwargs
    for given in (*args, *kwargs.values()):
        if isinstance(given, DynamicCache):
            grow(given)
            if given.layers and isinstance(given.layers[0], Streaming):
                return (), renumbered(given.layers, named)
            if isinstance(given, RotaryCache) and given.crossing is not None:
                given.crossing.cross(given.layers, named)
    return None
