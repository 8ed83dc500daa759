"""What may be declared about an implementation in words, as on a command line, checked."""

import ast
from collections.abc import Callable, Sequence
from typing import Any

from rope_ref.conformance.adapters.implementation import ANGLES, ARRAYS, DTYPES, STORED

Expected = tuple[str, Callable[[Any], bool]]  # in words, and whether a value is so

INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")


def one_of(names: Sequence[str]) -> Expected:
    return f"one of {', '.join(names)}", lambda value: value in names


def some_of(names: Sequence[str]) -> Expected:
    return f"some of {','.join(names)}", lambda value: isinstance(value, tuple) and set(value) <= set(names)


def is_whole(value: Any) -> bool:
    return type(value) is int and value > 0


def are_heads(value: Any) -> bool:
    return is_whole(value) or (isinstance(value, tuple) and len(value) == 2 and all(map(is_whole, value)))


YES_OR_NO: Expected = "True or False", lambda value: isinstance(value, bool)
WHOLE: Expected = "a positive whole number", is_whole
NUMBER: Expected = "a positive number", lambda value: type(value) in (int, float) and value > 0

DECLARATIONS: dict[str, Expected] = {
    "arrays": one_of(ARRAYS),
    "layout": ("a layout such as bhsd", lambda value: isinstance(value, str)),
    "heads": ("a positive whole number, or two: 8,2", are_heads),
    "dtypes": some_of(DTYPES),
    "angle": one_of(ANGLES),
    "table": one_of(DTYPES),
    "arithmetic": one_of(DTYPES),
    "rows": YES_OR_NO,
    "negative": YES_OR_NO,
    "fractional": YES_OR_NO,
    "position_dtypes": some_of(INTEGERS),
    "strided": YES_OR_NO,
    "min_position": WHOLE,
    "max_position": WHOLE,
    "valid_positions": ("positions with commas between", lambda value: isinstance(value, tuple) and len(value) > 0),
    "logit_scale": NUMBER,
    "layers": WHOLE,
    "order": one_of(("contiguous", "zigzag")),
    "audio_chunk": WHOLE,
    "evicted": one_of(("renumbered", "absolute")),
    "stored": one_of(tuple(STORED)),
    "deviations": ("CLASS or CLASS:property, with commas between", lambda value: isinstance(value, tuple)),
    "time_limit": NUMBER,
}
LISTS = ("dtypes", "position_dtypes", "deviations")


def declaration(name: str, value: Any) -> Any:
    """The value of a declaration of `Implementation`. Raises ValueError for a name or a value that it cannot have.

    >>> declaration("dtypes", "float32,bfloat16")
    ('float32', 'bfloat16')
    """
    if name not in DECLARATIONS:
        raise ValueError(f"{name!r} cannot be declared; expected one of {', '.join(DECLARATIONS)}")
    if name in LISTS and isinstance(value, str):
        value = tuple(value.split(","))
    expected, right = DECLARATIONS[name]
    if not right(value):
        raise ValueError(f"{name} is {value!r}; expected {expected}")
    return value


def assignments(option: str, given: Sequence[str]) -> dict[str, Any]:
    """NAME=VALUE, each value as Python reads it, or else as the text it is. Raises ValueError for anything else.

    >>> assignments("--set", ["factor=8.0", "mrope_section=16,24,24", "exponent=head_dim"])
    {'factor': 8.0, 'mrope_section': (16, 24, 24), 'exponent': 'head_dim'}
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not name.isidentifier():
            raise ValueError(f"{option} is {text!r}; expected NAME=VALUE")
        if name in found:
            raise ValueError(f"{option} gives {name} twice")
        try:
            found[name] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            found[name] = value
    return found
