"""An ONNX graph, and the genai_config.json of onnxruntime-genai that names one.

What turns are the nodes RotaryEmbedding (ai.onnx and com.microsoft) and GroupQueryAttention with do_rotary; their
cos_cache and sin_cache (positions, pairs) are read off. An If node chooses between two caches, as for LongRoPE: its
first branch is that of sequences longer than the number it compares with. A graph without such nodes may still hold an
inv_freq. Weights are not read.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rope_ref.formats import tables
from rope_ref.parameters import Layer, still
from rope_ref.settings import size
from rope_ref.usage import extra

LARGEST = 2 << 30  # bytes: protobuf has no more
NEXT = b"\x12\x1a\x22\x2a\x3a\x42"  # tags of the fields that follow ir_version
UNITS = {10: 2.0**-11, 16: 2.0**-8}  # data_type: what its numbers are rounded by


def recognises(begin: bytes) -> bool:
    """Whether a file begins as an ONNX model does: field 1, ir_version, a small number, then another field."""
    return begin[:1] == b"\x08" and 0 < begin[1] < 64 and begin[2] in NEXT


def genai(given: Mapping[str, Any], path: Path, length: int | None, angle_dtype: str) -> list[Layer]:
    """The layers of the graph that a genai_config.json names, with the width of a head that it says."""
    model = given["model"]
    decoder = model.get("decoder") if isinstance(model, Mapping) else None
    name = decoder.get("filename") if isinstance(decoder, Mapping) else None
    if decoder is None or not isinstance(name, str) or Path(name).name != name or not (path.parent / name).is_file():
        raise ValueError(f"filename is {name!r} in {path}; expected that of a graph beside it")
    found = layers(path.parent / name, length, angle_dtype)
    if decoder.get("head_size") is not None:
        width = size(decoder, "head_size")
        found = [wider(one, width) for one in found]
    return found * size(decoder, "num_hidden_layers", 1) if len(found) == 1 else found


def wider(one: Layer, width: int) -> Layer:
    """The layer of heads as wide as this, of which its caches turn the first channels."""
    channels = 2 * one.rope.pairs
    if channels > width:
        raise ValueError(f"head_size is {width}; expected at least {channels}, the channels that its caches turn")
    if channels == width or one.rope.origin is None or one.rope_type == "proportional":
        return one.settled(head_dim=width)
    return one.settled(head_dim=width, rotary_dim=channels)


def layers(path: Path, length: int | None, angle_dtype: str) -> list[Layer]:
    """Every layer of a graph. Raises ValueError for a file that is not whole, and for caches that cannot be read."""
    with extra("onnx"):
        import onnx
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} has {path.stat().st_size} bytes; expected at most {LARGEST}")
    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own kinds
        raise ValueError(f"{path} is no whole ONNX model: {error}") from error
    reader = Reader(graph, path, length)
    made: dict[tuple[str, str], Layer] = {}
    each: dict[int, Layer] = {}
    for order, (node, caches) in enumerate(turning(graph)):
        if caches not in made:
            read = [reader.array(name) for name in caches]
            found = dict(zip(("cos", "sin"), (array for array, _ in read), strict=True))
            made[caches] = tables.layer(found, str(path), angle_dtype, max(unit for _, unit in read))
        pairing = "interleaved" if attribute(node, "interleaved") or attribute(node, "rotary_interleaved") else None
        one = made[caches].settled(pairing=pairing or "half-split")
        named = re.search(r"layers?[./_](\d+)", node.name)
        each.setdefault(int(named[1]) if named else order, one)
    if not each:
        held = {t.name: reader.array(t.name)[0].squeeze() for t in graph.initializer if t.name.endswith("inv_freq")}
        if not held:
            raise ValueError(f"{path} has no RotaryEmbedding, no GroupQueryAttention with do_rotary, and no inv_freq")
        return tables.read(held, str(path), angle_dtype)
    count = size({"layers": max(each) + 1}, "layers")
    first = next(iter(each.values()))
    if all(one == first for one in each.values()) and len(each) == count:
        return [first]  # it stands for all, of which some may be two nodes, for query and key
    between = still(first.rope.head_dim)._replace(open=("head_dim",))
    return [each.get(index, between) for index in range(count)]


def turning(graph: Any) -> Iterator[tuple[Any, tuple[str, str]]]:
    """The nodes that turn, and the names of their cos_cache and sin_cache."""
    for node in graph.node:
        if node.op_type == "GroupQueryAttention" and attribute(node, "do_rotary") and len(node.input) > 8:
            yield node, (node.input[7], node.input[8])
        elif node.op_type == "RotaryEmbedding" and len(node.input) > 2:
            first = 2 if node.domain == "com.microsoft" else 1
            yield node, (node.input[first], node.input[first + 1])


def attribute(node: Any, name: str) -> Any:
    """The whole number that a node has by this name; 0 where it has none."""
    return next((one.i for one in node.attribute if one.name == name), 0)


class Reader:
    """The arrays that a graph holds, by name."""

    def __init__(self, graph: Any, path: Path, length: int | None) -> None:
        self.path, self.length = path, length
        self.held = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: (node, index) for node in graph.node for index, name in enumerate(node.output)}

    def array(self, name: str, depth: int = 0) -> tuple[NDArray[Any], float]:
        """The numbers of this name, and what they are rounded by. Raises ValueError where the graph computes them."""
        if name in self.held:
            return self.numbers(self.held[name])
        node, index = self.makers.get(name, (None, 0))
        if node is not None and depth < 8:
            if node.op_type == "Constant":
                return self.numbers(node.attribute[0].t)
            if node.op_type in ("Identity", "Cast"):
                return self.array(node.input[0], depth + 1)
            if node.op_type == "If":
                wanted = "then_branch" if self.beyond(node.input[0]) else "else_branch"
                branch = next(one.g for one in node.attribute if one.name == wanted)
                return Reader(branch, self.path, self.length).array(branch.output[index].name, depth + 1)
        raise ValueError(f"{self.path} computes {name}; expected an array that the graph holds")

    def beyond(self, condition: str) -> bool:
        """Whether the length is more than the number that this condition compares with."""
        node, _ = self.makers.get(condition, (None, 0))
        if node is None or node.op_type not in ("Greater", "GreaterOrEqual"):
            raise ValueError(f"{self.path} chooses caches by {condition}; expected a length that is compared")
        return self.length is not None and self.length > float(self.array(node.input[1])[0].ravel()[0])

    def numbers(self, tensor: Any) -> tuple[NDArray[Any], float]:
        from onnx import numpy_helper

        count = int(np.prod(list(tensor.dims), dtype=object))
        if min(tensor.dims, default=0) < 0 or count > LARGEST // 8:
            raise ValueError(f"{self.path} has {tensor.name} of shape {list(tensor.dims)}; expected a table")
        try:
            array = numpy_helper.to_array(tensor, str(self.path.parent))
        except Exception as error:  # data that is not there, or too little of it
            raise ValueError(f"{self.path} has {tensor.name}, which cannot be read: {error}") from error
        with np.errstate(all="ignore"):
            return array.astype(np.float64), UNITS.get(tensor.data_type, 0.0)
