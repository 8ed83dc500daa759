"""Dynamic NTK: kept keys follow the frequencies of the present length (r/LocalLLaMA, emozilla, 2023).

Beyond the trained length the base grows with every token, so that each cached key has the frequencies of another
length, and distances between queries and keys mean nothing any more. Here keys are kept as they came, and at every
step rotated from there to the frequencies that queries have: within two roundings, their own and that one, they are
what rotating them anew would give. It costs one more reading of all keys for a token.

As with LongRoPE, what deeper layers kept was computed at the lengths of then: this is not a prefill of the whole text.
"""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

import rope_ref as rr
from rope_ref.rope import Rope
from torch_bridge.growing import Growing
from torch_bridge.rotation import rotate
from torch_bridge.streaming import check_plain


class Present:
    """The length that a model's queries are rotated for, which its layers follow."""

    def __init__(self, config: Any) -> None:
        self.text = config.get_text_config(decoder=True)
        self.stored = self.length = 0  # tokens that there will be after the forward that is under way; for what length
        self.rope = lru_cache(maxsize=4096)(self._rope)
        self.tables = lru_cache(maxsize=4)(self._tables)

    def before(self, layers: list[Any], given: dict[str, Any], exact: Any) -> None:
        """Before a model's forward, whose arguments these are. Raises ValueError where tokens are hidden or moved."""
        self.stored = layers[0].get_seq_length() + check_plain(layers, given)
        self.length = exact.length(self.stored, None)

    def _rope(self, layer: int, length: int) -> Rope:
        return rr.from_config(self.text, layer=layer, length=length)

    def _tables(self, layer: int, came: tuple[int, ...], length: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """cos and sin of p (w_now - w_then), the angle from each key to where it would be now."""
        then = np.stack([self.rope(layer, n).omega for n in came])
        by = torch.from_numpy(np.arange(len(came))[:, None] * (self.rope(layer, length).omega - then))
        return by.cos().to(dtype), by.sin().to(dtype)


class Rescaled(Growing):
    """A layer whose keys are kept as they came, and given as they would be at the present length."""

    def __init__(self, present: Present, layer: int) -> None:
        super().__init__()
        self.present, self.layer = present, layer
        self.came: list[int] = []  # the length for which each key was rotated

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        before, new, now = self.get_seq_length(), key_states.shape[-2], self.present
        if before + new != now.stored:
            raise ValueError(
                f"{before + new} tokens are there and {now.stored} were announced; expected a model that was patched, "
                f"which says before it calls how many come"
            )
        keys, values = super().update(key_states, value_states, *args, **kwargs)
        self.came = [*self.came[:before], *[now.length] * new]
        if all(length == now.length for length in self.came):
            return keys, values
        rope, dtype = now.rope(self.layer, now.length), torch.float64 if keys.dtype == torch.float64 else torch.float32
        cos, sin = now.tables(self.layer, tuple(self.came), now.length, dtype)
        return rotate(keys, cos, sin, pairing=rope.pairing, start=rope.start), values


def rescaled(config: Any, present: Present) -> list[Any]:
    """The layers of a cache for a model of this config, or ValueError where its keys do not turn as one."""
    text = present.text
    others = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    if others or getattr(text, "kv_lora_rank", None) is not None:
        named = ", ".join(sorted(others)) or "latent keys"
        raise ValueError(f"a {text.model_type} has layers of {named}; expected full_attention alone under dynamic NTK")
    return [Rescaled(present, layer) for layer in range(text.num_hidden_layers)]
