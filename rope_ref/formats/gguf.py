"""GGUF: the metadata of llama.cpp's files, and the small tensors that hold factors of frequencies.

Weights are not read. What a key means is as in llama.cpp (src/llama-model.cpp, src/llama-graph.cpp):

    w_i = freq_base^(-2i/n) / factor_i, then by scaling.type: none; linear, all divided by the factor, also where no
    type is named; yarn; longrope, factors from rope_factors_short or rope_factors_long by the length
"""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from rope_ref import variants
from rope_ref.formats.architectures import ARCHITECTURES, Architecture
from rope_ref.formats.fitted import fitted
from rope_ref.frequencies import mrope, mrope_interleaved, ntk_theta
from rope_ref.magnitude import yarn_attention
from rope_ref.parameters import Layer, still
from rope_ref.rope import changed
from rope_ref.settings import Settings, listed, number, size

MAGIC = b"GGUF"
SCALARS = "BbHhIif?sxQqd"  # by type: uint8, int8, uint16, int16, uint32, int32, float32, bool, string, array, ...
STRING, ARRAY = 8, 9
LONGEST = 1 << 24  # items of an array, bytes of a string

AXES: dict[str, Callable[..., Any]] = {"blocks": mrope, "in turn": mrope_interleaved}
ROUNDING = 2.0**-20  # relative: factors are float32, of angles and lengths that were
NEVER = 1e29  # a factor from which on a pair stands still: Gemma 4's converter writes 1e30


def layers(path: Path, length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a model. Raises ValueError for what is not understood, with the name of the key."""
    found, tensors = contents(path)
    name = found.get("general.architecture")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        raise ValueError(f"general.architecture is {name!r} in {path}; expected one that is known to rotate")
    arch = ARCHITECTURES[name]
    given = {key.removeprefix(f"{name}."): value for key, value in found.items() if key.startswith(f"{name}.")}
    count = size(given, "block_count") - int(given.get("nextn_predict_layers", 0))  # those that draft come last
    fields: Settings = {"pairing": arch.pairing, "angle_dtype": angle_dtype}
    if arch.still == "all":
        return [still(size(given, "attention.key_length", 128))] * count
    full = one(arch, given, tensors, length, fields)
    sliding = windows(arch, given, count)
    near = full
    if any(sliding):
        unscaled = {key: value for key, value in given.items() if arch.scaled or not key.startswith("rope.scal")}
        base = given.get("rope.freq_base_swa", arch.base)
        own = {"rope.freq_base": base} if base is not None else {}
        for key in ("attention.key_length", "rope.dimension_count"):
            own |= {key: given[f"{key}_swa"]} if f"{key}_swa" in given else {}
        near = one(arch, unscaled | own, tensors if arch.scaled else {}, length, fields)
        near = near._replace(kind="sliding_attention")
    rests = resting(arch, given, sliding, count)
    none = still(full.rope.head_dim)
    return [none if rests[i] else near if sliding[i] else full for i in range(count)]


def windows(arch: Architecture, given: Settings, count: int) -> list[bool]:
    """Which layers have a sliding window."""
    key = "attention.sliding_window_pattern"
    pattern = given.get(key, arch.every)
    if isinstance(pattern, list):
        return [bool(each) for each in listed(key, pattern, count, (0, 1))]
    if not pattern or (arch.windowed and not given.get("attention.sliding_window")):
        return [False] * count
    n = int(number({key: pattern}, key, whole=True))
    return [(i % n != 0) if arch.first else (i % n != n - 1) for i in range(count)]


def resting(arch: Architecture, given: Settings, sliding: list[bool], count: int) -> list[bool]:
    """Which layers do not rotate."""
    if arch.still == "not finetuned" and given.get("rope.scaling.finetuned") is False:
        return [True] * count
    heads, pattern = given.get("attention.head_count_kv"), given.get("attention.rope_pattern")
    if isinstance(pattern, list):
        return [not each for each in listed("attention.rope_pattern", pattern, count, (0, 1))]
    if arch.recurrent:
        n = int(number(given, "full_attention_interval", 4, whole=True))
        return [(i + 1) % n != 0 for i in range(count)]
    if isinstance(heads, list) and len(heads) >= count:
        return [heads[i] == 0 for i in range(count)]
    if arch.still == "full" and any(sliding):
        return [not each for each in sliding]
    return [arch.still == "fourth" and (i + 1) % 4 == 0 for i in range(count)]


def one(arch: Architecture, given: Settings, tensors: Settings, length: int | None, fields: Settings) -> Layer:
    """The layers that these keys are meant for."""
    heads = given.get("attention.head_count")
    heads = max(heads) if isinstance(heads, list) and heads else heads
    if "attention.key_length" not in given and not isinstance(heads, int):
        raise ValueError(f"attention.head_count is {heads!r}; expected one number, or attention.key_length")
    width = int(given.get("attention.key_length_mla", given.get("attention.key_length")) or 0)
    width = width or number(given, "embedding_length", whole=True) // int(heads or 1)
    width, turning = size({"head_dim": width}, "head_dim"), size(given, "rope.dimension_count", width)
    theta = float(number(given, "rope.freq_base", 10000.0))
    if given.get("rope.scaling.alpha"):
        theta = float(ntk_theta(theta, number(given, "rope.scaling.alpha"), turning))
    if turning != width:
        fields = fields | {"start": width - turning if arch.latent else 0, "rotary_dim": turning}
    factor = float(given.get("rope.scaling.factor", given.get("rope.scale_linear", 1.0)) or 1.0)
    scaling = given.get("rope.scaling.type", "linear")
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
        # the factor of the file, yarn_attn_factor, is written over before it is read
        log = arch.log * float(given.get("rope.scaling.yarn_log_multiplier", 0.0))
        m = attention * (1.0 if arch.latent and log else yarn_attention(factor, 1.0, log or None))
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
        made = np.where(divisors < NEVER, variants.unscaled(rope) / divisors, 0.0)
        rope, scaling = variants.turning(made, width, fields), "divided by rope_freqs.weight"
        rounding = np.full(rope.pairs, ROUNDING)
        named = fitted(made, 1.0, rounding) if turning == width and not arch.axes else None
        if named is not None and named.origin:
            rope = changed(named, **fields)
            return Layer("full_attention", named.origin.make.__name__, theta, rope, rounded=ROUNDING)
    section = [int(n) for n in given.get("rope.dimension_sections", [])[:3]]
    if arch.axes and any(section):
        omega = AXES[arch.axes](variants.unscaled(rope), section)
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
