"""What a model's rotation is written in, beside the config.json of transformers: told apart by content.

Each file reads one format: ``gguf``, ``graphs`` (ONNX), ``native`` (params.json of Meta and Mistral, DeepSeek's own
config), ``engines`` (TensorRT-LLM, Megatron and NeMo), ``diffusers``; ``arrays`` (.npy, safetensors) and
``checkpoints`` (torch.save) find inv_freq, or cos and sin, from which ``tables`` reads a layer off and ``fitted`` names
the variant. A reader takes what was found and returns the layers; what it does not understand is a ValueError.
"""

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rope_ref.formats import arrays, checkpoints, diffusers, engines, gguf, graphs, native, tables
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
        for reads, begins in (
            (arrays.npy, begin[:6] == arrays.NPY), (checkpoints.tables, begin[:4] == checkpoints.ZIP),
            (arrays.safetensors, begin[8:9] == b"{"),
        ):  # fmt: skip
            if begins:
                found, unit = reads(path)
                return tables.read(found, str(path), angle_dtype, unit)
        if graphs.recognises(begin):
            return graphs.layers(path, length, angle_dtype)
        source = from_json(path)
        if isinstance(source, Mapping) and "model" in source and "model_type" not in source:
            return graphs.genai(source, path, length, angle_dtype)
    if isinstance(source, Mapping):
        for recognises, layers in READERS:
            if recognises(source):
                return layers(source, length, angle_dtype)
    return None


NAMES = ("config.json", "params.json", "genai_config.json")


def found(path: Path) -> Path:
    """The file that describes the model of a folder; a path to a file is itself."""
    if not path.is_dir():
        return path
    files = [path / name for name in NAMES if (path / name).is_file()] or sorted(path.glob("*.gguf"))[:1]
    if not files:
        raise ValueError(f"{path} has none of {', '.join(NAMES)}, and no .gguf; expected one")
    return files[0]


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
