"""GGUF: the metadata of llama.cpp's files, and the small tensors that hold factors of frequencies.

Weights are not read. What a key means is as in llama.cpp (src/llama-model.cpp, src/llama-graph.cpp):

    w_i = freq_base^(-2i/n) / factor_i, then by scaling.type: none; linear, all divided by the factor; yarn; longrope,
    factors from rope_factors_short or rope_factors_long by the length

The converter reorders the rows of query and key weights of some architectures from halves to neighbours, so that the
same model turns neighbours there. Its Rope is told as of the model before: half-split.
"""

import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rope_ref import variants
from rope_ref.frequencies import geometric, mrope, mrope_interleaved
from rope_ref.parameters import Layer
from rope_ref.rope import Rope
from rope_ref.settings import Settings, number, size

MAGIC = b"GGUF"
SCALARS = "BbHhIif?sxQqd"  # by type: uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, ...
STRING, ARRAY = 8, 9
LONGEST = 1 << 24  # items of an array, bytes of a string

REORDERED = {
    "llama", "deci", "baichuan", "internlm2", "minicpm", "granite", "granitemoe", "arcee", "smollm3", "mistral3",
    "olmo", "xverse", "bailingmoe", "arctic", "deepseek", "chameleon",
}  # fmt: skip
NEIGHBOURS = {
    "llama4", "command-r", "cohere2", "deepseek2", "chatglm", "glm4", "ernie4_5", "ernie4_5-moe", "starcoder", "plm",
    "gptj",
}  # fmt: skip
HALVES = {
    "falcon", "grok", "dbrx", "nomic-bert", "stablelm", "bitnet", "qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe",
    "qwen3next", "olmo2", "olmoe", "phi2", "phi3", "phimoe", "gemma", "gemma2", "gemma3", "gemma3n", "starcoder2",
    "openelm", "gptneox", "codeshell", "nemotron", "exaone", "exaone4", "minicpm3", "dots1", "hunyuan-moe",
    "hunyuan-dense", "gpt-oss", "lfm2", "lfm2moe", "seed_oss", "apertus", "minimax-m2", "glm4moe", "bailingmoe2",
    "smallthinker", "orion", "plamo", "modern-bert", "cogvlm", "granitehybrid", "nemotron_h",
}  # fmt: skip
AXES: dict[str, Callable[..., Any]] = {
    "qwen2vl": mrope, "qwen3vl": mrope_interleaved, "qwen3vlmoe": mrope_interleaved,
}  # fmt: skip
# layers that do not rotate, (i + 1) % n == 0; and sliding ones with a base of their own, (i + 1) % n != 0
STILL = {"llama4": 4, "smollm3": 4, "cohere2": 4, "exaone4": 4}
SLIDING = {"gemma3": 6, "gemma3n": 5}


def layers(path: Path, length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a model. Raises ValueError for what is not understood, with the name of the key."""
    found, tensors = contents(path)
    name = found.get("general.architecture")
    pairing = "half-split" if name in REORDERED | HALVES | set(AXES) else "interleaved"
    if not isinstance(name, str) or name not in REORDERED | HALVES | NEIGHBOURS | set(AXES):
        raise ValueError(f"general.architecture is {name!r} in {path}; expected one that is known to rotate")
    given = {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}
    count = size(given, "block_count")
    fields: Settings = {"pairing": pairing, "angle_dtype": angle_dtype}
    full = one(name, given, tensors, length, fields)
    each = [full] * count
    if name in STILL and (name != "exaone4" or given.get("attention.sliding_window")):
        still = Layer("still", "none", full.theta, Rope(full.rope.head_dim, rotary_dim=0))
        each = [still if (i + 1) % STILL[name] == 0 else full for i in range(count)]
    if name in SLIDING:
        base = float(given.get("rope.freq_base_swa", 10000.0))
        rope = variants.default(full.rope.head_dim, base, rotary_dim=2 * full.rope.pairs, **fields)
        near = Layer("sliding_attention", "default", base, rope)
        each = [full if (i + 1) % SLIDING[name] == 0 else near for i in range(count)]
    return each


def one(name: str, given: Settings, tensors: Settings, length: int | None, fields: Settings) -> Layer:
    """The layers that scaling is meant for."""
    heads = given.get("attention.head_count")
    if "attention.key_length" not in given and not isinstance(heads, int):
        raise ValueError(f"attention.head_count is {heads!r}; expected one number, or attention.key_length")
    width = int(given.get("attention.key_length_mla", given.get("attention.key_length")) or 0)
    width = width or number(given, "embedding_length", whole=True) // int(heads or 1)
    width, turning = size({"head_dim": width}, "head_dim"), size(given, "rope.dimension_count", width)
    theta = float(number(given, "rope.freq_base", 10000.0))
    if turning != width:
        fields = fields | {"start": width - turning if name == "deepseek2" else 0, "rotary_dim": turning}
    scaling, factor = given.get("rope.scaling.type", "none"), float(given.get("rope.scaling.factor", 1.0) or 1.0)
    if "rope.scale_linear" in given:  # before scaling had a type
        scaling, factor = "linear", float(given["rope.scale_linear"])
    trained = given.get("rope.scaling.original_context_length") or given.get("context_length")
    attention = float(given.get("rope.scaling.attn_factor", 1.0))
    divisors = tensors.get("rope_freqs.weight")
    if scaling == "longrope" or "rope_factors_short.weight" in tensors:
        lists = [tensors.get(f"rope_factors_{which}.weight") for which in ("short", "long")]
        if any(each is None for each in lists):
            raise ValueError("rope_factors_short.weight or rope_factors_long.weight is missing; expected both")
        original = int(number({"original_context_length": trained}, "original_context_length"))
        short, long = (np.asarray(each).tolist() for each in lists)
        rope = variants.longrope(
            width, short, long, original, length or original, attention_factor=attention, theta=theta, **fields
        )
        return Layer("full_attention", "longrope", theta, rope)
    if scaling == "yarn":
        fast, slow = (float(given.get(f"rope.scaling.yarn_{n}", b)) for n, b in (("beta_fast", 32), ("beta_slow", 1)))
        m = attention * float(given.get("rope.scaling.yarn_attn_factor", 1.0)) * (1 + 0.1 * math.log(factor))
        m = 1.0 if name == "deepseek2" else m  # there it is in the scale of the softmax alone
        original = int(number({"original_context_length": trained}, "original_context_length"))
        rope = variants.yarn(width, factor, original, theta, fast, slow, attention_factor=m, **fields)
    elif scaling in ("linear", "none"):
        factor = factor if scaling == "linear" else 1.0
        scaling = "linear" if factor != 1 else "default"
        plain = variants.default(width, theta, **fields)
        rope = variants.linear(width, factor, theta, **fields) if factor != 1 else plain
    else:
        raise ValueError(f"rope.scaling.type is {scaling!r}; expected none, linear, yarn or longrope")
    if divisors is not None:
        if divisors.shape != (rope.pairs,):
            raise ValueError(f"rope_freqs.weight has shape {divisors.shape}; expected ({rope.pairs},)")
        made = geometric(2 * rope.pairs, theta, fields["angle_dtype"]) / divisors
        rope, scaling = variants.turning(made, width, fields), "divided by rope_freqs.weight"
    if name in AXES:
        section = [int(n) for n in given.get("rope.dimension_sections", [])[:3]]
        omega = AXES[name](variants.unscaled(rope), section)
        rope = variants.turning(omega, width, fields | {"attention_scale": rope.attention_scale})
    return Layer("full_attention", str(scaling), theta, rope)


# ---- the file ----


def contents(path: Path) -> tuple[Settings, Settings]:
    """The metadata without long arrays, and the tensors of factors. Raises ValueError for a file that is not whole."""
    with path.open("rb") as file:
        reader = Reader(path, file)
        if reader.take(4) != MAGIC:
            raise ValueError(f"{path} begins with other bytes than GGUF")
        version = reader.number("I")
        if version not in (2, 3):
            raise ValueError(f"{path} is of GGUF version {version}; expected 2 or 3")
        tensors, keys = reader.number("Q"), reader.number("Q")
        if max(tensors, keys) > 1 << 20:
            raise ValueError(f"{path} names {tensors} tensors and {keys} keys; expected at most {1 << 20}")
        found: Settings = {}
        for _ in range(keys):
            key = reader.text()
            if key in found:
                raise ValueError(f"{path} gives {key} twice")
            found[key] = reader.value(reader.number("I"))
        places = {}
        for _ in range(tensors):
            name, axes = reader.text(), reader.number("I")
            if axes > 4:
                raise ValueError(f"{path} has {name} with {axes} axes; expected at most 4")
            shape = [reader.number("Q") for _ in range(axes)]
            kind, offset = reader.number("I"), reader.number("Q")
            if name.startswith("rope_f"):
                places[name] = shape, kind, offset
        align = int(number(found, "general.alignment", 32, whole=True))
        begin = -(-file.tell() // align) * align
        return found, {name: reader.floats(name, begin, *place) for name, place in places.items()}


class Reader:
    """Numbers and texts out of a file, whose end is checked."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file, self.size = path, file, path.stat().st_size

    def take(self, count: int) -> bytes:
        at = self.file.tell()
        if count > self.size - at:
            raise ValueError(f"{self.path} ends at byte {self.size}; expected {count} more from byte {at} on")
        return self.file.read(count)

    def number(self, kind: str) -> Any:
        return struct.unpack(f"<{kind}", self.take(struct.calcsize(f"<{kind}")))[0]

    def text(self) -> str:
        count = self.number("Q")
        if count > LONGEST:
            raise ValueError(f"{self.path} has a text of {count} bytes; expected at most {LONGEST}")
        return self.take(count).decode("utf-8", "replace")

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, count = self.number("I"), self.number("Q")
            least = {STRING: 8, ARRAY: 12}.get(inner, 1)  # bytes of an item
            if count > LONGEST or depth > 2 or count * least > self.size - self.file.tell():
                raise ValueError(f"{self.path} has an array of {count} items, {depth} deep; expected what fits in it")
            if inner not in (STRING, ARRAY) and 0 <= inner < len(SCALARS):
                items = f"<{count}{SCALARS[inner]}"
                return list(struct.unpack(items, self.take(struct.calcsize(items))))
            return [self.value(inner, depth + 1) for _ in range(count)]
        if not 0 <= kind < len(SCALARS):
            raise ValueError(f"{self.path} has a value of type {kind}; expected 0 to {len(SCALARS) - 1}")
        return self.number(SCALARS[kind])

    def floats(self, name: str, begin: int, shape: list[int], kind: int, offset: int) -> Any:
        """A tensor of factors, (pairs,), of float32 or float16."""
        dtypes = {0: "<f4", 1: "<f2"}
        if kind not in dtypes or len(shape) != 1 or shape[0] > 1 << 16:
            raise ValueError(f"{self.path} has {name} of type {kind} and shape {shape}; expected (pairs,) of floats")
        if begin + offset > self.size:
            raise ValueError(f"{self.path} ends at byte {self.size}; expected {name} at byte {begin + offset}")
        self.file.seek(begin + offset)
        raw = self.take(shape[0] * np.dtype(dtypes[kind]).itemsize)
        factors = np.frombuffer(raw, dtypes[kind]).astype(np.float64)
        if not (np.isfinite(factors).all() and (factors > 0).all()):
            raise ValueError(f"{self.path} has {name} with numbers that are not positive")
        return factors
