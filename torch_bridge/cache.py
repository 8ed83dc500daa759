"""`RotaryCache`: the keys and values of a model of transformers, appended in place, moved, or rotated anew."""

from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from torch_bridge.growing import Growing, GrowingWindow
from torch_bridge.kernel import compiling
from torch_bridge.rerotation import Crossing, rope_type
from torch_bridge.rescaling import Present, rescaled
from torch_bridge.streaming import Streaming, renumbered, streaming

GROWING: dict[type, type] = {DynamicLayer: Growing, DynamicSlidingWindowLayer: GrowingWindow}


class RotaryCache(DynamicCache):
    """A cache of transformers, in whose layers tokens are appended in place.

    config   of the model: which of its layers see a window; without it, all see everything
    window   tokens that are kept at most, besides `sinks` first ones, so that generation may go on for ever in
             constant memory and time (see ``streaming``); for a model that is patched, full attention, and rows
             without padding
    rerotate   when LongRoPE passes its trained length, rotate all kept keys to its other list (see ``rerotation``);
             under dynamic NTK, to the frequencies of every length (see ``rescaling``)

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
        self.moves: Crossing | Present | None = None
        if rerotate:
            self.moves = moves = Present(config) if rope_type(config) == "dynamic" else Crossing(config)
            if isinstance(moves, Present):
                self.layers = rescaled(moves)
        elif window is not None:
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


def ready(rotary: Any, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Before a model's forward: make the cache that it is given append in place, have room, or know the length."""
    if compiling():
        return None
    named = dict(zip(("input_ids", "attention_mask", "position_ids"), args, strict=False)) | kwargs
    for given in (*args, *kwargs.values()):
        if isinstance(given, DynamicCache):
            grow(given)
            if given.layers and isinstance(given.layers[0], Streaming):
                return (), renumbered(given.layers, named)
            if isinstance(given, RotaryCache) and given.moves is not None:
                given.moves.before(given.layers, named, rotary.exact)
    return None
