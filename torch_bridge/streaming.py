"""Generation without end: a layer of a cache that keeps the first tokens and the latest, at positions of their own.

As in StreamingLLM (arXiv 2309.17453): the first few tokens stay, the oldest of the others leave, and those that are
left close up, so that no position ever exceeds what the layer holds. A key that closes up is rotated from what was
first stored, by how far it has moved since then in all: it carries two roundings, its own and that of one rotation,
however often it moves.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import DynamicLayer

import rope_ref as rr
from rope_ref.rope import Rope
from torch_bridge.kernel import empty_like
from torch_bridge.models import in_caches
from torch_bridge.rotation import rotate
from torch_bridge.tables import Tables


class Streaming(DynamicLayer):
    """The keys and values of `sinks` first tokens and of up to `window` latest ones, in memory that is asked for once.

    rope    by which keys were rotated before they came here
    latent  whether a model that compresses keys and values (MLA, arXiv 2405.04434) may keep them compressed: then
            what it calls values are the rotated channels alone
    """

    def __init__(self, rope: Rope, window: int, sinks: int, latent: bool = False) -> None:
        super().__init__()
        self.latent, self.turned = latent, 0  # whether keys (0) or values (1) are moved
        self.rope, self.sinks, self.capacity = rope, sinks, sinks + window
        self.block = max(1, window // 8)  # tokens that leave at once: the others are gone over then
        self.stored = self.left = 0  # tokens that are here, and that were
        self._moves = Tables(replace(rope.keys, attention_scale=1.0))

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        if self.latent and key_states.shape[-1] != self.rope.head_dim:
            self.turned, width = 1, 2 * self.rope.pairs
            self.rope = replace(self.rope, head_dim=width, rotary_dim=None, start=0)
        moved = (key_states, value_states)[self.turned]
        if moved.shape[-1] != self.rope.head_dim:
            name = ("key", "value")[self.turned]
            raise ValueError(f"{name} has {moved.shape[-1]} channels; expected {self.rope.head_dim}, as {self.rope}")
        self._memory = [empty_like(t, (*t.shape[:2], self.capacity, t.shape[3])) for t in (key_states, value_states)]
        self._first = empty_like(moved, self._memory[self.turned].shape)  # what is moved, as it came
        self._came_to = torch.empty(self.capacity, dtype=torch.int64)  # the positions that they came to

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        begin, end = self.stored, self.stored + key_states.shape[-2]
        if end > self.capacity:
            raise ValueError(
                f"{key_states.shape[-2]} tokens come to {begin} of {self.capacity}; expected room for them, which a "
                f"model that was patched makes before it calls: patch it"
            )
        both = (key_states, value_states)
        for memory, new in zip((*self._memory, self._first), (*both, both[self.turned]), strict=True):
            memory[:, :, begin:end] = new
        self._came_to[begin:end] = torch.arange(begin, end)
        return self._hold(end)

    def make_room(self, new: int) -> None:
        """Let the oldest tokens behind the first ones leave, so that `new` have room. Raises ValueError if none can."""
        over = self.stored + new - self.capacity
        if over <= 0:
            return
        if new > self.capacity - self.sinks:
            window = self.capacity - self.sinks
            raise ValueError(f"{new} tokens come at once; expected at most the window, {window}: give them in parts")
        count = min(max(over, self.block), self.stored - self.sinks)
        begin, end = self.sinks, self.stored - count
        if self.is_initialized:
            for memory in (self._memory[1 - self.turned], self._first):
                memory[:, :, begin:end] = memory[:, :, begin + count : end + count].clone()
            self._came_to[begin:end] = self._came_to[begin + count : end + count].clone()
            moved = torch.arange(begin, end) - self._came_to[begin:end]
            self._memory[self.turned][:, :, begin:end] = self._rotated(self._first[:, :, begin:end], moved)
        self.left += count
        self._hold(end)

    def _rotated(self, keys: Tensor, by: Tensor) -> Tensor:
        if not self.rope.pairs:
            return keys
        cos, sin = self._moves(by, keys.dtype)
        return rotate(keys, cos, sin, pairing=self.rope.pairing, start=self.rope.start)

    def _hold(self, stored: int) -> tuple[Tensor, Tensor]:
        self.stored = stored
        self.keys, self.values = (memory[:, :, :stored] for memory in self._memory)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Tokens that have come, as who generates counts them."""
        return self.left + self.stored

    def get_mask_sizes(self, query_length: int | Tensor) -> tuple[int, int]:
        new = query_length if isinstance(query_length, int) else len(query_length)  # in transformers 5.0, the places
        return self.stored + new, self.left

    def reset(self) -> None:
        self.stored = self.left = 0
        super().reset()

    is_croppable = False

    def crop(self, *args: Any) -> None:
        raise ValueError("a cache with a window cannot be cropped, as assisted decoding does: what has left is gone")

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self._choose(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self._choose(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.is_initialized:
            self._choose(torch.arange(len(self._first)).repeat_interleave(repeats))

    def _choose(self, rows: Tensor) -> None:
        if self.is_initialized:
            self._memory, self._first = [memory[rows] for memory in self._memory], self._first[rows]
            self._hold(self.stored)


def streaming(config: Any, window: int, sinks: int) -> list[Any]:
    """The layers for a model of this config, or ValueError where its keys cannot be moved so."""
    for name, number, least in (("window", window, 1), ("sinks", sinks, 0)):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"{name} is {number!r}; expected a whole number")
        if number < least:
            raise ValueError(f"{name} is {number}; expected at least {least}")
    text = config.get_text_config(decoder=True)
    trained = getattr(text, "max_position_embeddings", None)
    if trained is not None and window + sinks > trained:
        raise ValueError(f"window is {window} beside {sinks} sinks; expected at most {trained} together, as trained")
    check_layers(text, "full_attention", "sliding_attention")
    ropes = [in_caches(text, rr.from_config(text, layer=layer)) for layer in range(text.num_hidden_layers)]
    if any(rope.axes is not None or rope.xpos is not None for rope in ropes):
        raise ValueError(f"a {text.model_type} rotates by several axes or a magnitude of its own; expected one axis")
    return [Streaming(rope, window, sinks, getattr(text, "kv_lora_rank", None) is not None) for rope in ropes]


def check_layers(text: Any, *kinds: str) -> None:
    """Raise ValueError where a config has layers of other kinds."""
    others = set(getattr(text, "layer_types", None) or ()) - set(kinds)
    if others:
        raise ValueError(
            f"a {text.model_type} has layers of {', '.join(sorted(others))}; expected {' or '.join(kinds)}"
        )


def renumbered(layers: list[Any], given: dict[str, Any]) -> dict[str, Any]:
    """What a model's forward is given, where layers have made room: positions as these count them, and no mask.

    Raises ValueError for rows with padding, whose first tokens would be none, and for positions of one's own.
    """
    new = check_plain(layers, given)
    for layer in layers:
        layer.make_room(new)
    stored = layers[0].stored
    return given | {"attention_mask": None, "position_ids": torch.arange(stored, stored + new)[None]}


def check_plain(layers: list[Any], given: dict[str, Any]) -> int:
    """How many tokens come next. Raises ValueError unless each of them, and all before, stands where it is counted."""
    ids: Any = given["inputs_embeds"] if given.get("input_ids") is None else given["input_ids"]
    new, before = ids.shape[1], layers[0].get_seq_length()
    mask, position_ids = given.get("attention_mask"), given.get("position_ids")
    if mask is not None and (mask.dim() != 2 or not mask.all()):
        raise ValueError("attention_mask hides tokens; expected none to be hidden where a cache moves its keys")
    if position_ids is not None and not (position_ids == torch.arange(before, before + new)).all():
        raise ValueError(f"position_ids are {position_ids.tolist()}; expected those from {before} on")
    return int(new)
