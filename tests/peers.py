"""Who agrees with whom: other people's rotary embeddings against the specification.

    python -m tests.peers          prints the table of docs/peers.md

An adapter a peer. Each takes a case, a dtype and the first position, and rotates x (1, 1, seq, head_dim),
or says why it cannot. What a peer computes is judged by the bound that belongs to it:

    exact       float64 angles, float32 tables and arithmetic, one rounding on store
    float32     angles from float32 frequencies and positions
    half        the same, with tables and arithmetic in the dtype of x
    differs     outside all of these: explained in EXPLAINED, or the tests fail
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np
import onnx
import onnxruntime
import rotary_embedding_torch
import torch
from onnx.reference import ReferenceEvaluator
from transformers import CohereConfig, LlamaConfig, StableLmConfig
from transformers.models.cohere import modeling_cohere
from transformers.models.llama import modeling_llama
from transformers.models.stablelm import modeling_stablelm

import numba_kernels as nk
import rope_ref as rr
import torch_bridge
from rope_ref.exactness import budget
from tests.oracles import arithmetic, rounded, stored, value
from tests.strategies import normal
from torch_bridge.bench.peers import load_vllm

SEQ = 16
DTYPES = ("float32", "bfloat16")
STARTS = {"0": 0, "4,000": 4000, "100,000": 100_000, "1,000,000": 1_000_000, "-8": -8}


@dataclass(frozen=True)
class Case:
    """A Rope, and what transformers calls it."""

    rope: rr.Rope
    parameters: dict[str, Any] = field(default_factory=dict)


LONG = dict(short_factor=[1.0] * 32, long_factor=[float(f) for f in np.linspace(1, 8, 32)])
CASES = {
    "default": Case(rr.variants.default(64)),
    "interleaved": Case(rr.variants.default(64, pairing="interleaved")),
    "partial": Case(rr.variants.partial(64, 0.5), {"partial_rotary_factor": 0.5}),
    "linear": Case(rr.variants.linear(64, 4.0), {"rope_type": "linear", "factor": 4.0}),
    "dynamic": Case(
        rr.variants.dynamic_ntk(64, 4.0, length=1_000_016, max_position_embeddings=131072),
        {"rope_type": "dynamic", "factor": 4.0},
    ),
    "llama3": Case(
        rr.variants.llama3(64, 8.0),
        dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
             original_max_position_embeddings=8192),
    ),
    "yarn": Case(
        rr.variants.yarn(64, 4.0, 4096), dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=4096)
    ),
    "longrope": Case(
        rr.variants.longrope(64, **LONG, original_max_position_embeddings=4096, length=2_000_000, factor=32.0),
        dict(rope_type="longrope", **LONG, factor=32.0, original_max_position_embeddings=4096),
    ),
}  # fmt: skip


class Absent(Exception):
    """The peer does not have this."""


def kernels(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
    cos, sin = rr.tables(case.rope, start + np.arange(SEQ), arithmetic(dtype))
    return value(nk.rotate(stored(x, dtype), cos, sin, pairing=case.rope.pairing), dtype)


def drop_in(package: Any) -> Callable[..., np.ndarray]:
    def rotate(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
        rope = case.rope
        if rope.pairing != "interleaved":
            raise Absent("turns neighbours only")
        return package.RotaryEmbedding(dim=2 * rope.pairs).rotate_queries_or_keys(
            tensor(x, dtype), offset=start).double().numpy()  # fmt: skip

    return rotate


def transformers(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
    partial = case.rope.pairs < 32
    modeling, config, rotary = {
        ("half-split", False): (modeling_llama, LlamaConfig, "LlamaRotaryEmbedding"),
        ("half-split", True): (modeling_stablelm, StableLmConfig, "StableLmRotaryEmbedding"),
        ("interleaved", False): (modeling_cohere, CohereConfig, "CohereRotaryEmbedding"),
    }[case.rope.pairing, partial]
    parameters = {"rope_type": "default", "rope_theta": 10000.0} | case.parameters
    made = config(hidden_size=64, num_attention_heads=1, max_position_embeddings=131072, rope_parameters=parameters)
    t, width = tensor(x, dtype), 2 * case.rope.pairs
    cos, sin = getattr(modeling, rotary)(made)(t, torch.arange(start, start + SEQ)[None])
    turned, _ = modeling.apply_rotary_pos_emb(t[..., :width], t[..., :width], cos, sin)
    return torch.cat((turned, t[..., width:]), -1).double().numpy()


def by_onnx(run: Callable[[onnx.ModelProto, dict[str, np.ndarray]], np.ndarray]) -> Callable[..., np.ndarray]:
    def rotate(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
        if dtype != "float32":
            raise Absent("no bfloat16 on the CPU")
        rope = case.rope
        node = onnx.helper.make_node(
            "RotaryEmbedding", ["x", "cos", "sin"], ["y"], interleaved=int(rope.pairing == "interleaved"),
            rotary_embedding_dim=2 * rope.pairs if rope.rotary_dim else 0,
        )  # fmt: skip
        cos, sin = (t[None] for t in rr.tables(rope, start + np.arange(SEQ), np.float32))
        feeds = {"x": x.astype(np.float32), "cos": cos, "sin": sin}
        inputs = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, a.shape) for n, a in feeds.items()]
        output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, x.shape)
        graph = onnx.helper.make_graph([node], "rope", inputs, [output])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 23)], ir_version=10)
        return run(model, feeds).astype(np.float64)

    return rotate


def in_onnxruntime(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def in_reference(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    return ReferenceEvaluator(model).run(None, feeds)[0]


def mlx(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
    rope = case.rope
    if rope.attention_scale != 1:
        raise Absent("no magnitude")
    options: dict[str, Any] = {"base": rope.theta}
    if rope.inv_freq is not None:  # it takes the reciprocals
        options = {"base": None, "freqs": mx.array((1 / rope.omega).astype(np.float32))}
    array = mx.array(x.astype(np.float32)).astype(mx.bfloat16 if dtype == "bfloat16" else mx.float32)
    with mx.stream(mx.cpu):
        y = mx.fast.rope(
            array, 2 * rope.pairs, traditional=rope.pairing == "interleaved", scale=1.0, offset=start, **options
        )
        return np.array(y.astype(mx.float32)).astype(np.float64)


def vllm(case: Case, x: np.ndarray, start: int, dtype: str) -> np.ndarray:
    """The operator of vLLM's CPU build, in place on (tokens, heads * head_dim), tables as one row of cos then sin."""
    kind, rope = getattr(torch, dtype), case.rope
    cos, sin = (torch.from_numpy(t) for t in rr.tables(rope, start + np.arange(SEQ), np.float32))
    query = torch.from_numpy(x[0, 0]).to(kind)
    options = (64, torch.cat((cos, sin), -1).to(kind), rope.pairing == "half-split")
    torch.ops._C.rotary_embedding(torch.arange(SEQ), query, query.clone(), *options)
    return query.double().numpy()[None, None]


def tensor(x: np.ndarray, dtype: str) -> torch.Tensor:
    return torch.from_numpy(x).to(getattr(torch, dtype))


PEERS = {
    "numba_kernels": kernels,
    "torch_bridge": drop_in(torch_bridge),
    "transformers": transformers,
    "rotary-embedding-torch": drop_in(rotary_embedding_torch),
    "onnxruntime": by_onnx(in_onnxruntime),
    "onnx reference": by_onnx(in_reference),
    "mlx": mlx,
}

# Peers that are not on every machine: how to load them, and how to call them.
OPTIONAL = {"vllm": (load_vllm, vllm)}

# Why a peer differs, or raises: peer, cases, dtype, first positions, and whether it is a bug, a policy or a convention.
FAR = ("4,000", "100,000", "1,000,000")
EXPLAINED = [
    ("rotary-embedding-torch", ("interleaved",), "bfloat16", FAR,
     "bug: makes positions in the dtype of the queries, so neighbours become one from 256 on"),
    ("mlx", ("default", "interleaved", "partial", "dynamic"), "float32", FAR,
     "policy: frequencies are exp(-i ln(theta) / n) in float32, up to thirteen units of 2^-24 off, where a power and a "
     "reciprocal are two or three: the rounded exponent makes nine, the exponential of its CPU code seven to thirteen"),
    ("transformers", ("dynamic",), "float32", ("0", "4,000", "100,000", "-8"),
     "convention: the base follows the farthest position of each call; this Rope is the one of a longer sequence"),
    ("transformers", ("dynamic",), "bfloat16", ("0", "4,000", "100,000", "-8"), "as in float32"),
    ("transformers", ("longrope",), "float32", ("0", "4,000", "-8"),
     "convention: takes the short list while the farthest position of a call is within the original length; "
     "this Rope is the one of a longer sequence"),
    ("transformers", ("longrope",), "bfloat16", ("0", "4,000", "-8"), "as in float32"),
]  # fmt: skip


def explained() -> set[tuple[str, str, str, str]]:
    return {(peer, case, dtype, start) for peer, cases, dtype, starts, _ in EXPLAINED for case in cases
            for start in starts}  # fmt: skip


def verdict(peer: str, name: str, dtype: str, start: int) -> tuple[str, float]:
    """What the peer computes, in a word, and its largest error."""
    case, positions = CASES[name], start + np.arange(SEQ)
    rotate = PEERS[peer] if peer in PEERS else OPTIONAL[peer][1]
    x = rounded(normal(0, 1, 1, SEQ, 64), dtype)
    try:
        y = rotate(case, x, start, dtype)
    except Absent:
        return "absent", 0.0
    except Exception:  # whatever it raises is its verdict
        return "raises", np.inf
    return judged(y, x, positions, case.rope, dtype)


def judged(y: np.ndarray, x: np.ndarray, positions: np.ndarray, rope: rr.Rope, dtype: str) -> tuple[str, float]:
    """How near y is to x turned by the Rope, in a word, and its largest error."""
    error = np.abs(y - rr.rotate(x, positions, rope))
    # float32 frequencies (a power, a reciprocal, a scaling of two or three operations), the position and the product
    angle = np.abs(positions)[:, None] * np.abs(rope.omega) * 8 * 2.0**-24
    wide = arithmetic(dtype)
    bounds = {
        "exact": budget(x, positions, rope, store=dtype, arithmetic=wide, table=wide, angle=1e-9),
        "float32": budget(x, positions, rope, store=dtype, arithmetic=wide, table=wide, angle=angle),
        "half": budget(x, positions, rope, store=dtype, arithmetic=dtype, table=dtype, angle=angle),
    }
    word = next((word for word, bound in bounds.items() if (error <= bound).all()), "differs")
    return word, float(error.max())


def verdicts(peers: Iterable[str] = PEERS) -> dict[tuple[str, str, str, str], tuple[str, float]]:
    return {(peer, case, dtype, label): verdict(peer, case, dtype, start)
            for peer in peers for case in CASES for dtype in DTYPES for label, start in STARTS.items()}  # fmt: skip


def table(found: dict[tuple[str, str, str, str], tuple[str, float]]) -> str:
    """Markdown: a row for each case and first position, a column for each peer, float32 / bfloat16."""
    peers = list(dict.fromkeys(peer for peer, *_ in found))
    lines = [f"| case | from | {' | '.join(peers)} |", f"|---|---|{'---|' * len(peers)}"]
    for case in CASES:
        for start in STARTS:
            cells = (" / ".join(found[peer, case, dtype, start][0] for dtype in DTYPES) for peer in peers)
            lines.append(f"| {case} | {start} | {' | '.join(cells)} |")
    return "\n".join(lines)


def reasons(found: dict[tuple[str, str, str, str], tuple[str, float]]) -> str:
    """Markdown: a line for each disagreement, with its largest error."""
    lines = []
    for peer, cases, dtype, starts, why in EXPLAINED:
        largest = max(found[peer, case, dtype, start][1] for case in cases for start in starts)
        lines.append(f"- {peer}, {dtype}, {', '.join(cases)} from {'; '.join(starts)}: {why} (error {largest:.1g}).")
    return "\n".join(lines)


def main() -> None:
    found = verdicts()
    print(table(found), reasons(found), sep="\n\n")
    for name, (load, _) in OPTIONAL.items():
        try:
            load()
        except (ImportError, OSError) as error:
            print(f"\nleft out: {name} ({error})")
            continue
        print(f"\n{table(verdicts([name]))}")


if __name__ == "__main__":
    main()
