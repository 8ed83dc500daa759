"""Values out of a config, checked as they are read."""

import sys
from collections.abc import Mapping
from typing import Any

Settings = dict[str, Any]


MOST = 1 << 16  # layers of a model, channels of a head: what is more is a file that lies


def size(settings: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """A number of layers or channels from the settings, checked."""
    value = int(number(settings, key, default, whole=True))
    if value > MOST:
        raise ValueError(f"{key} is {value}; expected at most {MOST}")
    return value


def number(settings: Mapping[str, Any], key: str, default: float | None = None, *, whole: bool = False) -> Any:
    """A positive number from the settings, checked."""
    value = settings.get(key)
    value = default if value is None else value
    kind = "whole number" if whole else "number"
    if value is None:
        raise ValueError(f"{key} is missing; expected a positive {kind}")
    right = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
    if not right or not 0 < value <= sys.float_info.max:
        raise ValueError(f"{key} is {value!r}; expected a positive {kind}")
    return value


def listed(name: str, value: Any, length: int | None, allowed: tuple[Any, ...]) -> list[Any]:
    """A list with one of the allowed values for each layer; of any length, if that is None."""
    if not isinstance(value, (list, tuple)) or len(value) < (length or 1):
        raise ValueError(f"{name} is {value!r}; expected a list of {length}, one for each layer")
    for each in value:
        if each not in allowed:
            raise ValueError(f"{name} holds {each!r}; expected one of {', '.join(map(repr, allowed))}")
    return list(value[:length])


def agreed(name: str, *values: Any) -> Any:
    """The one value that was given, however often; None if none was."""
    given = [value for value in values if value is not None]
    for value in given:
        if value is not given[0] and value != given[0]:
            raise ValueError(f"{name} is both {given[0]!r} and {value!r}; expected one value")
    return given[0] if given else None
