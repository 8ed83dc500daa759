"""What a model's rotation is written in, beside the config.json of transformers: told apart by content.

Each file reads one format: ``gguf``, ``native`` (params.json of Meta and Mistral, DeepSeek's own config),
``engines`` (TensorRT-LLM, Megatron and NeMo), ``diffusers``, ``arrays`` (inv_freq, or cos and sin, in .npy and
safetensors files). A reader takes what was found and returns the layers; what it does not understand is a ValueError.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rope_ref.formats import arrays, diffusers, engines, gguf, native
from rope_ref.parameters import Layer

Content = Mapping[str, Any]
Recognises = Callable[[Content], bool]
Layers = Callable[[Content, int | None, str], list[Layer]]
READERS: tuple[tuple[Recognises, Layers], ...] = tuple(
    (one.recognises, one.layers) for one in (native, engines, diffusers)
)
LARGEST = 64 << 20  # bytes of JSON


def read(source: object, length: int | None, angle_dtype: str) -> list[Layer] | None:
    """The layers that a file or a dict of another format describes; None for what may be a config of transformers."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        with path.open("rb") as file:
            begin = file.read(9)
        if begin[:4] == gguf.MAGIC:
            return gguf.layers(path, length, angle_dtype)
        if begin[:6] == arrays.NPY or begin[8:9] == b"{":
            return arrays.layers(path, angle_dtype)
        source = from_json(path)
    if isinstance(source, Mapping):
        for recognises, layers in READERS:
            if recognises(source):
                return layers(source, length, angle_dtype)
    return None


def from_json(path: Path) -> Any:
    """What a JSON file holds. Raises ValueError for what is none, names a key twice, or is too large or deep."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {LARGEST} of JSON")
    try:
        return json.loads(path.read_bytes(), object_pairs_hook=once)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"config is {str(path)!r}, which is not JSON: {error}") from error
    except RecursionError:
        raise ValueError(f"config is {str(path)!r}, whose JSON is nested too deep") from None


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The dict of a JSON object. Raises ValueError for a key that is given twice with two values."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found and found[key] != value:
            raise ValueError(f"{key} is given twice, as {found[key]!r} and {value!r}")
        found[key] = value
    return found
