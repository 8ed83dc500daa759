"""What is laid over a config where a model is served: vLLM's --hf-overrides, SGLang's --json-model-override-args."""

from collections.abc import Mapping
from typing import Any

from rope_ref.settings import Settings, agreed

SCHEMAS = ("rope_parameters", "rope_scaling")


def overridden(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> Settings:
    """The config with these keys in place of its own: a config within it (text_config) key by key, all else whole.

    Scaling is replaced whole, whichever schema either side is written in; the base stays unless it is given too.

    >>> config = {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    >>> overridden(config, {"rope_parameters": {"rope_type": "yarn", "factor": 4.0}})
    {'rope_theta': 1000000.0, 'rope_parameters': {'rope_type': 'yarn', 'factor': 4.0}}
    """
    if not isinstance(overrides, Mapping):
        raise TypeError(f"overrides are {overrides!r}; expected a dict")
    made = dict(settings)
    for key, value in overrides.items():
        within = key.endswith("_config") and isinstance(value, Mapping) and isinstance(made.get(key), Mapping)
        made[key] = overridden(made[key], value) if within else value
    if not {"rope_theta", *SCHEMAS} & set(overrides):
        return made
    source = overrides if set(SCHEMAS) & set(overrides) else settings
    schema = next((key for key in SCHEMAS if source.get(key) is not None), None)
    theta = base(overrides) or base(settings)
    made = {key: value for key, value in made.items() if key not in ("rope_theta", *SCHEMAS)}
    made |= {} if theta is None else {"rope_theta": theta}
    if schema is None:
        return made
    given = source[schema]
    return made | {schema: without_base(given) if isinstance(given, Mapping) else given}


def base(settings: Mapping[str, Any]) -> Any:
    """rope_theta, beside the parameters or among them."""
    inner = [settings[key] for key in SCHEMAS if isinstance(settings.get(key), Mapping)]
    return agreed("rope_theta", settings.get("rope_theta"), *(one.get("rope_theta") for one in inner))


def without_base(given: Mapping[str, Any]) -> Settings:
    return {key: value for key, value in given.items() if key != "rope_theta"}
