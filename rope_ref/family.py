"""What can be special about a model family: the columns of the table in `families`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

TYPES = ("default", "linear", "dynamic", "yarn", "longrope", "llama3", "proportional")


@dataclass(frozen=True)
class Family:
    """One model family.

    pairing     how the checkpoint pairs channels
    theta       base where the config is silent
    by_type     layer types have rope parameters of their own
    local       base of sliding attention where the config is silent, if it is another than theta
    scaled      by_type: the layer types that the one rope_scaling of an older config is meant for
    silent      by_type: the rope parameters of a config that has none, None for layers that do not rotate; such a
                family has no older schema
    explicit    a config without rope parameters means none of the usual ones; it is refused
    partial     rotated part of the head where the config is silent; None: all of it, whatever the config
    fixed       nothing but rotary_dim can be chosen (and `rotary`, which is always true)
    derived     a head is hidden_size / num_attention_heads wide, whatever else the config says
    latent      multi-head latent attention: qk_nope_head_dim channels, then qk_rope_head_dim that rotate
    sections    M-RoPE: the default mrope_section
    in_turn     M-RoPE: the axes take turns
    space_first M-RoPE: rows and columns take turns, then comes time
    backwards   pairs turn from the second channel to the first
    narrowed    the config may say rotary_dim, channels that rotate
    rotates     what position_embedding_type is where layers rotate
    aside       rope parameters that concern something else
    still       the layers that do not rotate: "no_rope_layers" and "layer_rope_theta", where that key has a zero;
                "cross_attention_layers", those of that key; "attn_layer_indices", those it leaves out;
                "block_types", those it does not call attention; "full_attention", those layers; "full_attention
                beside sliding", those layers if the model has a sliding window; "rope_parameters", all, if it is null
    other       the layers beside those of full attention; "linear_attention" and "conv" have no rotation
    kinds       further layers, which may be named by layer_types
    full_every  where layer_types is missing: layer i has full attention if (i + 1) % n == 0 ...
    full_first  ... or if i % n == 0
    full_last   the last layer has full attention, whatever layer_types says
    text        the model_type assumed for text_config, which holds the language model
    within      the key that holds it, where that has another name
    flat        older configs have no text_config and all its keys at the top
    types       rope types that the family knows, by its own names for them
    alpha       dynamic scaling with an alpha is NTK-aware by that factor at every length, whatever stands beside it
    mscales     LongRoPE's magnitude is given by short_mscale and long_mscale
    aliases     keys with another name in this family
    defaults    keys that published configs of this family leave out
    """

    pairing: str = "half-split"
    theta: float = 10000.0
    by_type: bool = False
    local: float | None = None
    scaled: tuple[str, ...] = ("full_attention",)
    silent: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    explicit: bool = False
    partial: float | None = None
    fixed: bool = False
    derived: bool = False
    latent: bool = False
    sections: tuple[int, ...] = ()
    in_turn: bool = False
    space_first: bool = False
    backwards: bool = False
    narrowed: bool = False
    rotates: str | None = None
    aside: tuple[str, ...] = ()
    still: str | None = None
    other: str = "sliding_attention"
    kinds: tuple[str, ...] = ()
    full_every: int | None = None
    full_first: int | None = None
    full_last: bool = False
    text: str | None = None
    within: str = "text_config"
    flat: bool = False
    types: Mapping[str, str] = field(default_factory=lambda: {t: t for t in TYPES})
    alpha: bool = False
    mscales: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, Any] = field(default_factory=dict)

    @property
    def resting(self) -> set[str]:
        """The layer types that `silent` says do not rotate."""
        return {kind for kind, given in self.silent.items() if given is None}
