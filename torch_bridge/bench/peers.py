"""Other implementations, each made ready to rotate given tensors again and again.

A peer takes tensors (1, heads, tokens, head_dim), a Rope and the position of the first token. What it needs for
that alone, tables and arrays of its own, is made before and not timed. It raises ImportError where it is not installed,
LeftOut where it does not do this.
"""

import importlib.util
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rope_ref.exactness import UNIT
from rope_ref.rope import Rope
from rope_ref.rotation import tables
from torch_bridge.bench.formulas import apply_rotary_pos_emb, complex_view, hugging_face, widened
from torch_bridge.bench.rows import LeftOut


class Peer(NamedTuple):
    """
    call      what is timed
    result    what it returned as tensors (1, heads, tokens, head_dim)
    inner     the least exact type it computes in
    angle     by how many radians its angles may be off
    in_place  whether it writes to its own copies of x, (tokens, heads, head_dim)
    """

    call: Callable[[], Any]
    result: Callable[[Any], Sequence[Tensor]]
    inner: str
    angle: float = 0.0
    in_place: bool = False


def tables_at(rope: Rope, start: int, tokens: int) -> tuple[Tensor, Tensor]:
    """cos and sin (tokens, pairs) in float32."""
    cos, sin = (torch.from_numpy(t) for t in tables(rope, start + np.arange(tokens), np.float32))
    return cos, sin


def name_of(x: Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")


def as_it_is(result: Any) -> Sequence[Tensor]:
    return result  # type: ignore[no-any-return]


def angles_in_float32(rope: Rope, last: int) -> float:
    """Frequencies with thirteen roundings, as mlx makes them, and a product."""
    return float(np.abs(rope.omega).max()) * last * 14 * UNIT["float32"]


def eager(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    cos, sin = tables_at(rope, start, xs[0].shape[2])
    formulas = [hugging_face(x, cos, sin, rope.pairing) for x in xs]
    return Peer(lambda: [formula() for formula in formulas], as_it_is, name_of(xs[0]))


def compiled(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    wide = [widened(t, rope.pairing).to(xs[0].dtype) for t in tables_at(rope, start, xs[0].shape[2])]

    def formulas(xs: Sequence[Tensor], cos: Tensor, sin: Tensor) -> Sequence[Tensor]:
        return [apply_rotary_pos_emb(x, cos, sin, rope.pairing) for x in xs]

    torch.compiler.reset()  # else the compiler makes one program for all sizes from the second on
    turn = torch.compile(formulas, dynamic=False)
    return Peer(lambda: turn(xs, *wide), as_it_is, name_of(xs[0]))


def complex_numbers(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    cos, sin = tables_at(rope, start, xs[0].shape[2])
    formulas = [complex_view(x, cos, sin) for x in xs]
    return Peer(lambda: [formula() for formula in formulas], as_it_is, "float32")


def rotary_embedding_torch(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    from rotary_embedding_torch import RotaryEmbedding

    module, last = RotaryEmbedding(dim=rope.head_dim), start + xs[0].shape[2]
    turn = module.rotate_queries_or_keys
    return Peer(lambda: [turn(x, offset=start) for x in xs], as_it_is, name_of(xs[0]), angles_in_float32(rope, last))


def onnxruntime(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    import onnxruntime
    from onnx import TensorProto, helper

    kinds = {torch.float32: TensorProto.FLOAT, torch.float16: TensorProto.FLOAT16}
    if xs[0].dtype not in kinds:
        raise LeftOut(f"has no kernel for {name_of(xs[0])}")
    arrays = {f"x{i}": x.numpy() for i, x in enumerate(xs)}
    names = {f"y{i}": arrays[f"x{i}"].shape for i in range(len(xs))}
    cos, sin = (t[None].to(xs[0].dtype).numpy() for t in tables_at(rope, start, xs[0].shape[2]))
    interleaved = int(rope.pairing == "interleaved")
    feeds = arrays | {"cos": cos, "sin": sin}
    given, made = (
        [helper.make_tensor_value_info(name, kinds[xs[0].dtype], shape) for name, shape in named.items()]
        for named in ({name: array.shape for name, array in feeds.items()}, names)
    )
    nodes = [helper.make_node("RotaryEmbedding", [x, "cos", "sin"], [y], interleaved=interleaved)
             for x, y in zip(arrays, names, strict=True)]  # fmt: skip
    graph = helper.make_graph(nodes, "rope", given, made)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # it would slow down whoever comes next
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Peer(lambda: session.run(None, feeds), lambda ys: [torch.from_numpy(y) for y in ys], name_of(xs[0]))


def mlx(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    import mlx.core as mx

    kind = getattr(mx, name_of(xs[0]))
    arrays = [mx.array(x.float().numpy()).astype(kind) for x in xs]
    words: dict[str, Any] = {"traditional": rope.pairing == "interleaved", "base": rope.theta, "scale": 1.0}
    mx.eval(arrays)

    def call() -> Any:
        ys = [mx.fast.rope(x, rope.head_dim, offset=start, **words, stream=mx.cpu) for x in arrays]
        mx.eval(ys)
        return ys

    def result(ys: Any) -> Sequence[Tensor]:
        return [torch.from_numpy(np.array(y.astype(mx.float32))).to(xs[0].dtype) for y in ys]

    return Peer(call, result, name_of(xs[0]), angles_in_float32(rope, start + xs[0].shape[2]))


@cache
def load_vllm() -> None:
    """Load the operators of vLLM's CPU build without the package around them. Raises ImportError without it."""
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        raise ImportError("vllm is not installed", name="vllm")
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = "_C_AVX512.abi3.so" if "avx512" in flags else "_C_AVX2.abi3.so"
    torch.ops.load_library(str(Path(found.origin).parent / name))


def vllm(xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    load_vllm()
    tokens = xs[0].shape[2]
    table = torch.cat(tables_at(rope, start, tokens), -1).to(xs[0].dtype)
    packed = [x[0].transpose(0, 1).flatten(1).clone() for x in xs]  # of one token it would be x itself
    query, key = packed if len(packed) == 2 else (packed[0], None)
    positions, neox = torch.arange(tokens), rope.pairing == "half-split"
    turn = torch.ops._C.rotary_embedding

    def result(_: Any) -> Sequence[Tensor]:
        return [x.unflatten(-1, (-1, rope.head_dim)).transpose(0, 1)[None] for x in packed]

    return Peer(lambda: turn(positions, query, key, rope.head_dim, table, neox), result, name_of(xs[0]), in_place=True)


PEERS: dict[str, tuple[Callable[[Sequence[Tensor], Rope, int], Peer], str]] = {
    "torch, formula of Hugging Face": (eager, "half-split"),
    "torch, complex numbers": (complex_numbers, "interleaved"),
    "torch.compile of the formula": (compiled, "half-split"),
    "rotary-embedding-torch": (rotary_embedding_torch, "interleaved"),
    "onnxruntime": (onnxruntime, "half-split"),
    "mlx": (mlx, "half-split"),
    "vLLM": (vllm, "half-split"),
}
