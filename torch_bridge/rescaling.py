"""Dynamic NTK: kept keys follow the frequencies of the present length (r/LocalLLaMA, emozilla, 2023).

Beyond the trained length the base grows with every token, so that each cached key has the frequencies of another
length, and distances between queries and keys mean nothing any more. Here keys are kept as they came, and at every
step rotated from there to the frequencies that queries have: within two roundings, their own and that one, they are
what rotating them anew would give. It costs one more reading of all keys for a token.

As with LongRoPE, what deeper layers kept was computed at the lengths of then: this is not a prefill of the whole text.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rope_ref.configs import layers
from rope_ref.rope import Rope
from torch_bridge.functions import tables
from torch_bridge.growing import Growing
from torch_bridge.rotation import rotate
from torch_bridge.streaming import check_layers, check_plain


class Present:
    """The length that a model's queries are rotated for, which its layers follow.

    came   the length for which each token was rotated, after the forward that is under way
    """

    def __init__(self, config: Any) -> None:
        self.text = config.get_text_config(decoder=True)
        self.came: list[int] = []
        self._by: Tensor | None = None  # from each key to where it would be now, (tokens, pairs) in radians
        self._tables: dict[torch.dtype, tuple[Tensor, Tensor]] = {}
        self._ropes: dict[int, Rope] = {}

    def before(self, kept: list[Any], given: dict[str, Any], exact: Any) -> None:
        """Before a model's forward, whose arguments these are. Raises ValueError where tokens are hidden or moved."""
        before, new = kept[0].get_seq_length(), check_plain(kept, given)
        self.meet([*self.came[:before], *[exact.length(before + new, None)] * new])

    def meet(self, came: list[int]) -> None:
        """Keys that were rotated for these lengths are to stand as for the last of them."""
        lengths, which = np.unique(came, return_inverse=True)
        self.came, self._by, self._tables = came, None, {}
        if len(lengths) > 1:
            then = np.stack([self.rope(int(length)).omega for length in lengths])[which]
            now = self.rope(came[-1]).omega
            self._by = torch.from_numpy(np.arange(len(came))[:, None] * (now - then))

    def moved(self, keys: Tensor) -> Tensor:
        """Keys as they would be now; the tables are made once for all layers."""
        if self._by is None:
            return keys
        if keys.dtype not in self._tables:
            self._tables[keys.dtype] = tables(self._by, keys.dtype)
        rope = self.rope(self.came[-1])
        return rotate(keys, *self._tables[keys.dtype], pairing=rope.pairing, start=rope.start)

    def rope(self, length: int) -> Rope:
        """That of all layers that rotate, of which a patched model has one kind."""
        if length not in self._ropes:
            self._ropes[length] = next(one.rope for one in layers(self.text, length=length) if one.rope.pairs)
        return self._ropes[length]


class Rescaled(Growing):
    """A layer whose keys are kept as they came, and given as they would be at the present length."""

    def __init__(self, present: Present) -> None:
        super().__init__()
        self.present = present

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        now, there = self.present, self.get_seq_length() + key_states.shape[-2]
        if there != len(now.came):
            raise ValueError(
                f"{there} tokens are there and {len(now.came)} were announced; expected a model that was patched, "
                f"which says before it calls how many come"
            )
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        return now.moved(keys), values


def rescaled(present: Present) -> list[Any]:
    """The layers of a cache for a model, or ValueError where its keys do not turn as one; some may rest."""
    text = present.text
    check_layers(text, "full_attention")
    if getattr(text, "kv_lora_rank", None) is not None:
        raise ValueError(f"a {text.model_type} keeps latent keys; expected whole ones under dynamic NTK")
    return [Rescaled(present) if layer.rope.pairs else Growing() for layer in layers(text)]
