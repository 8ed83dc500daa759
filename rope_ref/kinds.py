"""The layers of a language model: what each is called, how wide its heads are, and its own base if it has one."""

from collections.abc import Mapping

from rope_ref.family import Family
from rope_ref.settings import Settings, agreed, listed, number, size

STILL = {"linear_attention", "conv", "mlp"}  # kinds of layers without rotation


def layer_types(settings: Settings, family: Family, layers: int) -> list[str]:
    """What each layer is called; "still" if it does not rotate."""
    if settings.get("alibi") or family.rotates not in (None, settings.get("position_embedding_type")):
        return ["still"] * layers
    if family.still == "no_rope_layers":
        every = number(settings, "no_rope_layer_interval", 4, whole=True)
        turns = settings.get("no_rope_layers") or [int((i + 1) % every != 0) for i in range(layers)]
        return ["full_attention" if turn else "still" for turn in listed("no_rope_layers", turns, layers, (0, 1))]
    if family.still == "layer_rope_theta":
        return ["full_attention" if base else "still" for base in layer_thetas(settings, family, layers)]
    if family.still == "cross_attention_layers":
        crossing = settings.get("cross_attention_layers") or []
        return ["still" if i in crossing else "full_attention" for i in range(layers)]
    if family.still == "attn_layer_indices":
        turning = settings.get("attn_layer_indices") or []
        return ["full_attention" if i in turning else "still" for i in range(layers)]
    if family.still == "block_types":
        blocks = listed("block_types", settings["block_types"], None, ("recurrent", "attention"))
        return ["full_attention" if blocks[i % len(blocks)] == "attention" else "still" for i in range(layers)]
    if family.still == "rope_parameters" and settings.get("rope_parameters", "by default") is None:
        return ["still"] * layers
    if not family.by_type and family.still in (None, "rope_parameters") and family.other == "sliding_attention":
        return ["full_attention"] * layers
    if settings.get("layer_types") is not None:
        allowed = ("full_attention", family.other, *family.kinds)
        kinds = listed("layer_types", settings["layer_types"], layers, allowed)
    elif family.full_first:
        n = number(settings, "global_attn_every_n_layers", family.full_first, whole=True)
        kinds = [family.other if i % n else "full_attention" for i in range(layers)]
    elif family.full_every is None:
        raise ValueError(f"layer_types is missing; expected a list, as every {settings['model_type']} config has it")
    else:
        key = "sliding_window_pattern" if family.other == "sliding_attention" else "full_attention_interval"
        n = number(settings, key, family.full_every, whole=True)
        kinds = [family.other if (i + 1) % n else "full_attention" for i in range(layers)]
    if family.full_last:
        kinds[-1] = "full_attention"
    windowed = settings.get("sliding_window", "by default") is not None
    if family.still == "full_attention":
        kinds = [kind if kind == "sliding_attention" and windowed else "still" for kind in kinds]
    if family.still == "full_attention beside sliding" and windowed:
        kinds = [kind if kind == "sliding_attention" else "still" for kind in kinds]
    return ["still" if kind in STILL | family.resting else kind for kind in kinds]


def layer_thetas(settings: Settings, family: Family, layers: int) -> list[float]:
    """layer_rope_theta: the base of each layer, 0 where it does not rotate."""
    given = settings.get("layer_rope_theta")
    if given is None:  # every so many layers, counted from the last, one stands still
        n = family.full_every
        return [0.0 if n and (layers - 1 - i) % n == 0 else 1.0 for i in range(layers)]
    if not isinstance(given, (list, tuple)) or len(given) < layers:
        raise ValueError(f"layer_rope_theta is {given!r}; expected a list of {layers}, one for each layer")
    return [0.0 if base == 0 else number({"layer_rope_theta": base}, "layer_rope_theta") for base in given[:layers]]


def bases(settings: Settings, family: Family, kinds: list[str]) -> list[float | None]:
    """The base that each layer has of its own, if it has one."""
    if family.still != "layer_rope_theta" or settings.get("layer_rope_theta") is None:
        return [None] * len(kinds)
    return [base or None for base in layer_thetas(settings, family, len(kinds))]


def head_dims(settings: Settings, family: Family, kinds: list[str]) -> list[int]:
    """The width of the heads of each layer."""
    if family.latent:
        turning, still = (size(settings, key) for key in ("qk_rope_head_dim", "qk_nope_head_dim"))
        if settings.get("head_dim") not in (None, turning, turning + still):
            raise ValueError(f"head_dim is {settings['head_dim']!r}; expected qk_rope_head_dim = {turning}")
        return [turning + still] * len(kinds)
    if settings.get("head_dim") is not None and not family.derived:
        width = size(settings, "head_dim")
    else:
        hidden, heads = (number(settings, key, whole=True) for key in ("hidden_size", "num_attention_heads"))
        if hidden % heads:
            raise ValueError(f"hidden_size is {hidden}; expected a multiple of the {heads} heads, or head_dim")
        width = size({"head_dim": agreed("head_dim", hidden // heads, settings.get("head_dim"))}, "head_dim")
    widths = [width] * len(kinds)
    own = settings.get("per_layer_config")
    if own is not None and "global_head_dim" in family.defaults:
        if not isinstance(own, Mapping):
            raise ValueError(f"per_layer_config is {own!r}; expected a dict of layers")
        for index, layer in own.items():
            if not 0 <= int(index) < len(kinds) or not isinstance(layer, Mapping):
                raise ValueError(f"per_layer_config has {index!r}: {layer!r}; expected a dict for one of the layers")
            widths[int(index)] = number(layer, "head_dim", width, whole=True)
    elif "global_head_dim" in family.defaults:
        full = number(settings, "global_head_dim", whole=True)
        widths = [full if kind == "full_attention" else width for kind in kinds]
    return widths
