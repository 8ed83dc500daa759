"""LongRoPE at its trained length (arXiv 2402.13753): kept keys follow the queries to the other list of frequencies.

Phi-3.5 and Phi-4-mini rotate by a short list up to 4,096 tokens and by a long one beyond. A cache that is filled below
and used above holds keys of the one for queries of the other, so that distances between them mean nothing any more.
Here all kept keys are rotated from the one to the other in one pass, before the first query of the other comes: within
two roundings, their own and that of the pass, they are what rotating them anew would give.

What deeper layers kept was computed under the short list all the same: this is not a prefill of the whole text.
"""

from typing import Any

import torch
from torch import Tensor

import rope_ref as rr
from rope_ref.rope import Rope
from rope_ref.rotation import angles, magnitude
from torch_bridge.functions import tables
from torch_bridge.rotation import rotate
from torch_bridge.streaming import check_plain


def rope_type(config: Any) -> Any:
    """That of a model's config, None where each layer type has its own, or there is none."""
    return (getattr(config.get_text_config(decoder=True), "rope_parameters", None) or {}).get("rope_type")


class Crossing:
    """Where a model of this config passes its trained length, and how its keys move there.

    Raises ValueError for a config without LongRoPE.
    """

    def __init__(self, config: Any) -> None:
        text = config.get_text_config(decoder=True)
        if rope_type(config) != "longrope":
            kind = rope_type(config)
            raise ValueError(f"a {text.model_type} has rope_type {kind!r}; expected 'longrope' or 'dynamic'")
        self.trained = int(text.rope_parameters["original_max_position_embeddings"])
        self.ropes = [
            tuple(rr.from_config(text, layer=layer, length=length) for length in (self.trained, self.trained + 1))
            for layer in range(text.num_hidden_layers)
        ]

    def before(self, layers: list[Any], given: dict[str, Any], exact: Any) -> None:
        """Before a model's forward, whose arguments these are: move what is kept if that is what passes the length."""
        stored = layers[0].get_seq_length() if layers else 0
        if stored and stored <= self.trained < stored + check_plain(layers, given):
            for layer, (old, new) in zip(layers, self.ropes, strict=True):
                layer.keys.copy_(moved(layer.keys, old, new))


def moved(keys: Tensor, old: Rope, new: Rope) -> Tensor:
    """Keys (batch, heads, seq, head_dim) that `old` rotated at 0, 1, 2, ..., as `new` rotates them there.

    By phi_new - phi_old, and by the ratio of their magnitudes: `rope_ref.cache.rerotate` in one rotation.
    """
    places = torch.arange(keys.shape[2]).numpy()
    by = torch.from_numpy(angles(new.keys, places) - angles(old.keys, places))
    scale = torch.as_tensor(magnitude(new.keys, places) / magnitude(old.keys, places))
    cos, sin = tables(by, keys.dtype, scale)
    return rotate(keys, cos, sin, pairing=old.pairing, start=old.start)
