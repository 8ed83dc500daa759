"""The Rope that the rope parameters of a config describe, for the layers of one type.

Older configs have `rope_theta` and `rope_scaling` (with `type`), newer ones `rope_parameters`
(with `rope_type`), flat or nested by layer type. A null counts as not given, except for
`truncate`, where transformers takes it for false: it must be true or false.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from rope_ref import frequencies, variants
from rope_ref.family import Family
from rope_ref.magnitude import yarn_softmax
from rope_ref.rope import Rope, changed
from rope_ref.settings import Settings, agreed, number

# rope_type: the variant, the keys it needs, the keys it may have
TYPES: dict[str, tuple[Callable[..., Rope], set[str], set[str]]] = {
    "default": (variants.default, set(), set()),
    "linear": (variants.linear, {"factor"}, set()),
    "dynamic": (variants.dynamic_ntk, {"factor"}, set()),
    "yarn": (
        variants.yarn,
        {"original_max_position_embeddings"},
        {"factor", "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"},
    ),
    "longrope": (
        variants.longrope,
        {"short_factor", "long_factor", "original_max_position_embeddings"},
        {"factor", "attention_factor"},
    ),
    "llama3": (
        variants.llama3,
        {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"},
        set(),
    ),
    "proportional": (variants.proportional, set(), {"factor"}),
    "ntk_alpha": (variants.ntk, {"alpha"}, set()),
}
COMMON = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
MROPE = {"mrope_section", "mrope_interleaved"}
ORIGINAL = "original_max_position_embeddings"
MSCALES = ("short_mscale", "long_mscale")


def parameters(settings: Settings, family: Family, kind: str) -> Settings:
    """The rope parameters of one layer type, whichever the schema, agreed with the keys beside them."""
    given = agreed("rope_parameters", settings.get("rope_scaling"), settings.get("rope_parameters"))
    if family.explicit and given is None:
        raise ValueError("rope_parameters are missing; expected them for this model_type")
    given = family.silent if given is None or given == {} else given
    if not isinstance(given, Mapping):
        raise ValueError(f"rope_parameters are {given!r}; expected a dict")
    nested = any(str(key).endswith("_attention") for key in given)
    if nested != family.by_type and given and settings.get("rope_parameters") is not None or nested > family.by_type:
        how = "a dict for each layer type" if family.by_type else "one dict for all layers"
        raise ValueError(f"rope_parameters are {given!r}; expected {how}")
    rests = family.resting
    if nested and not all(isinstance(each, Mapping) or each is None and key in rests for key, each in given.items()):
        raise ValueError(f"rope_parameters are {given!r}; expected a dict for each layer type")
    if nested and kind not in given:
        raise ValueError(f"rope_parameters have {', '.join(given)}; expected {kind} too")
    if nested:
        given = given[kind]
    elif family.by_type and kind not in family.scaled:
        given = {}
    merged = {key: value for key, value in given.items() if value is not None or key == "truncate"}
    local = family.local is not None and kind == "sliding_attention"
    outer = {"rope_theta": settings.get("rope_local_base_freq" if local else "rope_theta")}
    outer["partial_rotary_factor"] = settings.get("partial_rotary_factor")
    for key in outer:
        value = agreed(key, outer[key], merged.get(key))
        merged |= {} if value is None else {key: value}
    return {"rope_theta": family.local if local else family.theta} | merged


def rope_type(given: Settings, family: Family) -> str:
    """The rope type under its usual name."""
    names = [given[key] for key in ("rope_type", "type") if key in given] or ["default"]
    for name in names:
        if not isinstance(name, str) or name not in family.types:
            raise ValueError(f"rope_type is {name!r}; expected one of {', '.join(family.types)}")
    name = str(agreed("rope_type", *(family.types[name] for name in names)))
    return "ntk_alpha" if family.alpha and name == "dynamic" and given.get("alpha") else name


class Layer(NamedTuple):
    """One layer: its type, the rope type of its parameters ("none" where it does not rotate), their theta, its Rope.

    beside   what attention does to scores by the same parameters, which is no rotation
    open     the fields of the Rope that the description leaves open: a table of frequencies knows no pairing
    rounded  by how much, relative, frequencies may be off that were read off a table
    """

    kind: str
    rope_type: str
    theta: float
    rope: Rope
    beside: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    rounded: float = 0.0

    def settled(self, **fields: Any) -> "Layer":
        """The layer with these fields of its Rope, which are no longer open."""
        return self._replace(rope=changed(self.rope, **fields), open=tuple(set(self.open) - set(fields)))


def still(head_dim: int) -> Layer:
    """A layer that does not rotate."""
    rope = Rope(head_dim, rotary_dim=0)
    return Layer("still", "none", rope.theta, rope)


def read_layer(
    settings: Settings, family: Family, kind: str, head_dim: int, theta: float | None, length: int | None,
    angle_dtype: str,
) -> Layer:  # fmt: skip
    """What the layers of one type are; theta is the base of these layers, where they have one of their own."""
    if kind == "still":
        return still(head_dim)
    given = parameters(settings, family, kind) | ({} if theta is None else {"rope_theta": theta})
    name = rope_type(given, family)
    options = arguments(settings, family, given, name, length)
    fields = turned(settings, family, given, name, head_dim) | {"angle_dtype": angle_dtype}
    rope = TYPES[name][0](head_dim, **options, **fields)
    rope = over_axes(rope, given, family, fields) if family.sections else rope
    rope = replace(rope, inv_freq=-rope.omega) if family.backwards else rope
    return Layer(kind, name, given["rope_theta"], rope, tuple(beside(family, given | options, name)))


def beside(family: Family, given: Settings, name: str) -> Iterator[str]:
    """What attention does to scores: the softmax scale of DeepSeek, the temperature of queries of Mistral."""
    if family.latent and name == "yarn" and given.get("mscale_all_dim"):
        scale = yarn_softmax(given["factor"], given["mscale_all_dim"])
        yield f"times {scale:.6g}: yarn_softmax, by mscale_all_dim = {given['mscale_all_dim']:g}"
    if given.get("llama_4_scaling_beta"):
        beta, length = (number(given, key) for key in ("llama_4_scaling_beta", ORIGINAL))
        yield f"times 1 + {beta:g} ln(1 + floor(p / {length:,g})): query_temperature, p being the position of the query"


def arguments(settings: Settings, family: Family, given: Settings, name: str, length: int | None) -> Settings:
    """What the variant of this rope type is called with, every key accounted for."""
    _, needed, optional = TYPES[name]
    needed = needed | (set(MSCALES) if family.mscales and name == "longrope" else set())
    if ORIGINAL in needed:
        given = given | {ORIGINAL: agreed(ORIGINAL, settings.get(ORIGINAL), given.get(ORIGINAL))}
    allowed = needed | optional | COMMON | (MROPE if family.sections else set())
    for key, value in given.items():
        unread = value is False or key == "finetuned" or key in family.aside or name == "ntk_alpha"
        unread |= name == "default" and key == ORIGINAL
        if key not in allowed and not unread:
            names = ", ".join(sorted(allowed))
            raise ValueError(f"{key} is {value!r} in parameters of type {name!r}, which have {names}")
    for key in sorted(needed):
        if given.get(key) is None:
            raise ValueError(f"{key} is missing; parameters of type {name!r} need it")
    options = {key: checked(key, given[key]) for key in given if key in needed | optional}
    options["theta"] = number(given, "rope_theta")
    if name == "ntk_alpha":
        options["factor"] = options.pop("alpha")
    if name == "dynamic":
        options["max_position_embeddings"] = number(settings, "max_position_embeddings", whole=True)
        options["length"] = length or options["max_position_embeddings"]
    if name == "longrope":
        options["length"] = length or options[ORIGINAL]
    if name == "longrope" and family.mscales:
        scale = [options.pop(key) for key in MSCALES][options["length"] > options[ORIGINAL]]
        options["attention_factor"] = agreed("attention_factor", options.get("attention_factor"), scale)
    if name in ("yarn", "longrope") and "factor" not in options:
        options["factor"] = number(settings, "max_position_embeddings") / options[ORIGINAL]
    if name == "proportional":
        options["partial_rotary_factor"] = number(given, "partial_rotary_factor", family.partial or 1.0)
    return options


def turned(settings: Settings, family: Family, given: Settings, name: str, head_dim: int) -> Settings:
    """Which channels of the head turn, and in which pairs."""
    fields: Settings = {"pairing": family.pairing}
    if "rope_interleave" in family.defaults and settings["rope_interleave"] is False:
        fields["pairing"] = "half-split"
    part = number(given, "partial_rotary_factor", family.partial or 1.0)
    if part > 1 or (part != 1 and family.partial is None and name != "proportional"):
        most = "1" if family.partial is None else "at most 1"
        raise ValueError(f"partial_rotary_factor is {part!r}; expected {most} for this model_type")
    if part != 1 and name != "proportional":
        fields["rotary_dim"] = int(head_dim * part)
    if family.narrowed and settings.get("rotary_dim") is not None:
        width = number(settings, "rotary_dim", whole=True)
        fields["rotary_dim"] = agreed("rotary_dim", width, fields.get("rotary_dim"))
    if family.fixed:
        fields["rotary_dim"] = number(settings, "rotary_dim", whole=True)
    if family.latent:
        width = number(settings, "qk_rope_head_dim", whole=True)
        shared = None if family.partial is None else int(head_dim * part)  # of the whole head
        fields["rotary_dim"] = agreed("qk_rope_head_dim", width, shared)
        fields["start"] = head_dim - fields["rotary_dim"]
    return fields


def over_axes(rope: Rope, given: Settings, family: Family, fields: Settings) -> Rope:
    """The Rope whose pairs turn with the axes (t, h, w) of M-RoPE."""
    if given.get("mrope_interleaved", family.in_turn) is not family.in_turn:
        raise ValueError(f"mrope_interleaved is {given['mrope_interleaved']!r}; this model_type has {family.in_turn}")
    section = given.get("mrope_section", family.sections)
    if not isinstance(section, (list, tuple)) or len(section) != 3 or not all(type(s) is int for s in section):
        raise ValueError(f"mrope_section is {section!r}; expected three whole numbers")
    split = frequencies.mrope_interleaved if family.in_turn else frequencies.mrope
    split = frequencies.mrope_space_first if family.space_first else split
    omega = split(variants.unscaled(rope), section)
    return variants.turning(omega, rope.head_dim, fields | {"attention_scale": rope.attention_scale})


def checked(key: str, value: Any) -> Any:
    """A rope parameter of the kind its name asks for."""
    if key == "truncate":
        if not isinstance(value, bool):
            raise ValueError(f"truncate is {value!r}; expected true or false")
        return value
    if key in ("short_factor", "long_factor"):
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{key} is {value!r}; expected a list of positive numbers")
        return [number({key: each}, key) for each in value]
    if key in ("mscale", "mscale_all_dim") and value == 0:  # as good as not given
        return None
    return number({key: value}, key)
