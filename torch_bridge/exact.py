"""Which tables a language model rotates by: the Rope of its config, for a layer type and a length."""

import copy
from typing import Any

import torch
from torch import Tensor

from rope_ref.configs import ABOUT_ROTATION, layers
from rope_ref.parameters import ORIGINAL
from torch_bridge.tables import Tables

SIZES = ("head_dim", "hidden_size", "num_attention_heads", "max_position_embeddings")


class Exact:
    """The tables of one model, exact where its own are made of float32 angles.

    Rounding a frequency and an angle to float32 moves position p by up to a few p 2^-24 radians of the
    fastest pair: 0.01 at 100,000 positions. No model could learn that noise, which differs from token to
    token, so angles here are float64 and rounded once, in the table.

    Where frequencies depend on the length, that is judged as in transformers: LongRoPE by the largest
    position of a call, dynamic NTK by the largest so far until a call is shorter than the trained length.
    `lengths` holds that largest one for each layer type. `unchecked` is the dtype of a model that had no memory
    when it was patched, and is verified when it first makes tables. Raises ValueError for a config that
    `rope_ref.from_config` refuses, and for one that was edited since.
    """

    def __init__(self, config: Any, by_type: bool, lengths: dict[str | None, int]) -> None:
        self.config, self.by_type, self.lengths = config, by_type, dict(lengths)
        self.unchecked: torch.dtype | None = None
        self._said, self._words = about(config), len(vars(config))
        self._made: dict[tuple[str | None, int | None], Tables] = {}
        each = [layer for layer in layers(config) if layer.rope.pairs]
        self.types = {layer.kind if by_type else None: layer.rope_type for layer in each}
        if not each:
            raise ValueError(f"no layer of this {config.model_type} rotates")
        pairings = {self._tables(kind, None).rope.pairing for kind in self.types}
        if len(pairings) != 1:
            raise ValueError(f"layers pair channels in {len(pairings)} ways; expected one for all that rotate")
        (self.pairing,) = pairings

    def __call__(self, position_ids: Tensor, dtype: torch.dtype, layer_type: str | None) -> tuple[Tensor, Tensor]:
        """cos and sin (batch, seq, pairs) of position_ids (batch, seq), or (axes, batch, seq) for M-RoPE."""
        if not torch.compiler.is_compiling():
            self._refuse_what_was_edited()
        made = self._tables(layer_type, self._length(position_ids, layer_type))
        if made.rope.axes is not None:
            position_ids = position_ids.expand(made.rope.axes, -1, -1).movedim(0, -1)
        return made(position_ids, dtype)

    def _refuse_what_was_edited(self) -> None:
        now = vars(self.config)
        if len(now) != self._words or any(now.get(key) != value for key, value in self._said.items()):
            now, before = about(self.config), self._said
            edited = ", ".join(key for key in now | before if now.get(key) != before.get(key))
            if edited:
                raise ValueError(f"{edited} changed since the model was patched; expected a new model for it")

    def _length(self, position_ids: Tensor, layer_type: str | None) -> int | None:
        """The length by which frequencies are chosen, where they depend on one."""
        if self.types[layer_type] not in ("dynamic", "longrope"):
            return None
        length = self.length(int(position_ids.max()) + 1, layer_type)
        if self.types[layer_type] == "dynamic":
            self.lengths[layer_type] = length
        return length

    def length(self, here: int, layer_type: str | None) -> int:
        """The length by which frequencies are chosen for a call of so many tokens, with those before them."""
        if self.types[layer_type] == "longrope":
            given = self.config.rope_parameters
            trained = int((given[layer_type] if self.by_type else given)[ORIGINAL])
            return trained + (here > trained)
        trained = int(self.config.max_position_embeddings)
        largest = self.lengths.get(layer_type, trained)
        return max(here, largest) if here >= trained else trained

    def _tables(self, layer_type: str | None, length: int | None) -> Tables:
        found = self._made.get((layer_type, length))
        if found is None:
            if len(self._made) > 2 * len(self.types):  # dynamic NTK has one for each length
                self._made.clear()
            each = [one for one in layers(self.config, length=length) if one.rope.pairs]
            ropes = {one.rope for one in each if layer_type in (None, one.kind)}
            if len(ropes) != 1:
                raise ValueError(f"layers differ in {len(ropes)} ways; expected one Rope for all that rotate")
            found = self._made[layer_type, length] = Tables(ropes.pop())
        return found


def about(config: Any) -> dict[str, Any]:
    """What a config says of rotation."""
    return {
        key: copy.deepcopy(value)
        for key, value in vars(config).items()
        if (key in SIZES or ABOUT_ROTATION.search(key)) and not key.startswith("_")
    }
