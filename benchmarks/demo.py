"""The main job on real input: a Llama's queries and keys over a text, rotated in six ways.

    python -m benchmarks.demo [FILE]

Builds a transformers Llama with the attention and rope settings of Llama 3.2 1B, two layers
and random weights, runs it over the bytes of FILE (the README), catches queries and keys of
each layer before rotation, and compares. Errors are the largest against the specification.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import rotary_embedding_torch
import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaModel
from transformers.models.llama import modeling_llama

import numba_kernels as nk
import rope_ref as rr
import torch_bridge
from torch_bridge.bench.cases import array
from torch_bridge.bench.timing import duration, medians
from torch_bridge.rotation import rotate

# meta-llama/Llama-3.2-1B: attention as published, fewer layers, bytes for tokens
CONFIG = dict(
    vocab_size=256, hidden_size=2048, intermediate_size=512, num_hidden_layers=2, num_attention_heads=32,
    num_key_value_heads=8, head_dim=64, max_position_embeddings=131072, rms_norm_eps=1e-5,
    rope_parameters=dict(
        rope_type="llama3", rope_theta=500000.0, factor=32.0, low_freq_factor=1.0, high_freq_factor=4.0,
        original_max_position_embeddings=8192,
    ),
)  # fmt: skip
Heads = list[Tensor]


def main(path: str = "README.md") -> None:
    say(f"building a Llama of {CONFIG['num_hidden_layers']} layers with the attention of Llama 3.2 1B ...")
    torch.manual_seed(0)
    model = LlamaModel(LlamaConfig(**CONFIG)).eval()
    text = Path(path).read_bytes()
    say(f"running it over the {len(text)} bytes of {path} ...")
    heads, inv_freq = catch(model, torch.tensor([list(text)]))
    rope = rr.Rope(CONFIG["head_dim"], inv_freq=tuple(inv_freq))
    positions = np.arange(len(text))
    say(f"caught queries and keys of {len(heads) // 2} layers: {', '.join(str(tuple(t.shape)) for t in heads[:2])}")
    for dtype in (torch.float32, torch.bfloat16):
        rounded = [t.to(dtype) for t in heads]
        say("rotating with the specification ...")
        exact = [rr.rotate(t.double().numpy(), positions, rope) for t in rounded]
        calls = {name: make(rope, len(text), rounded) for name, make in ADAPTERS.items()}
        errors = {}
        for name, call in calls.items():
            begin = time.perf_counter()
            results = call()
            errors[name] = max(np.abs(r.double().numpy() - e).max() for r, e in zip(results, exact, strict=True))
            say(f"{name}: first call {duration(time.perf_counter() - begin)}")
        table(dtype, errors, medians(calls, rounds=7), len(text), max(float(t.abs().max()) for t in rounded))


def catch(model: LlamaModel, ids: Tensor) -> tuple[Heads, Any]:
    """Queries and keys (1, heads, seq, head_dim) as they reach the rotation, and the model's frequencies."""
    caught: Heads = []
    original = modeling_llama.apply_rotary_pos_emb

    def watch(q: Tensor, k: Tensor, *rest: Any, **options: Any) -> Any:
        caught.extend((q.detach().clone(), k.detach().clone()))
        return original(q, k, *rest, **options)

    modeling_llama.apply_rotary_pos_emb = watch
    try:
        with torch.no_grad():
            model(ids)
    finally:
        modeling_llama.apply_rotary_pos_emb = original
    return caught, model.rotary_emb.inv_freq.double().tolist()


def with_specification(rope: rr.Rope, seq: int, heads: Heads) -> Callable[[], Heads]:
    return lambda: [torch.from_numpy(rr.rotate(t.double().numpy(), np.arange(seq), rope)) for t in heads]


def with_kernels(rope: rr.Rope, seq: int, heads: Heads) -> Callable[[], Heads]:
    cos, sin = rr.tables(rope, np.arange(seq), np.float32)
    arrays, dtype = [array(t) for t in heads], heads[0].dtype
    return lambda: [torch.from_numpy(nk.rotate(a, cos, sin, pairing=rope.pairing)).view(dtype) for a in arrays]


def with_bridge(rope: rr.Rope, seq: int, heads: Heads) -> Callable[[], Heads]:
    cos, sin = map(torch.from_numpy, rr.tables(rope, np.arange(seq), np.float32))
    return lambda: [rotate(t, cos, sin, pairing=rope.pairing) for t in heads]


def with_drop_in(package: Any) -> Callable[[rr.Rope, int, Heads], Callable[[], Heads]]:
    """RotaryEmbedding turns neighbours, so channels are moved there and back; only the rotation is timed."""

    def make(rope: rr.Rope, seq: int, heads: Heads) -> Callable[[], Heads]:
        module = package.RotaryEmbedding(dim=rope.head_dim, custom_freqs=torch.tensor(rope.inv_freq))
        there = torch.stack((torch.arange(rope.pairs), torch.arange(rope.pairs) + rope.pairs), -1).flatten()
        moved = [t[..., there].contiguous() for t in heads]
        return lambda: InHalves([module.rotate_queries_or_keys(t) for t in moved], there.argsort())

    return make


class InHalves(list[Tensor]):
    """Results whose channels are put in half-split order when they are looked at, not when they are made."""

    def __init__(self, results: Heads, back: Tensor) -> None:
        super().__init__(results)
        self.back = back

    def __iter__(self) -> Any:
        return (t[..., self.back] for t in super().__iter__())


def with_hugging_face(rope: rr.Rope, seq: int, heads: Heads) -> Callable[[], Heads]:
    module = modeling_llama.LlamaRotaryEmbedding(LlamaConfig(**CONFIG))
    cos, sin = module(heads[0], torch.arange(seq)[None])
    pairs = list(zip(heads[::2], heads[1::2], strict=True))
    return lambda: [t for q, k in pairs for t in modeling_llama.apply_rotary_pos_emb(q, k, cos, sin)]


ADAPTERS = {
    "rope_ref (the reference)": with_specification,
    "numba_kernels": with_kernels,
    "torch_bridge.rotate": with_bridge,
    "torch_bridge.RotaryEmbedding": with_drop_in(torch_bridge),
    "Hugging Face formula": with_hugging_face,
    "rotary-embedding-torch": with_drop_in(rotary_embedding_torch),
}


def say(options: str) -> None:
    print(options, file=sys.stderr, flush=True)


def table(dtype: torch.dtype, errors: dict[str, Any], times: dict[str, float], seq: int, largest: float) -> None:
    print(f"\n{str(dtype).removeprefix('torch.')}, {seq} positions, queries and keys of all layers")
    print(f"{'':30} {'largest error':>14} {'time':>10} {'against numba_kernels':>22}")
    for name in ADAPTERS:
        ratio = times[name] / times["numba_kernels"]
        print(f"{name:30} {errors[name]:14.2g} {duration(times[name]):>10} {ratio:21.1f}x")
    near = largest * torch.finfo(dtype).eps / 2
    print(f"Queries and keys reach {largest:.2g}. Rounding a right result to this dtype may cost {near:.1g};")
    print(f"an error near {largest:.2g} means wrong angles. More than 1.0x is slower than our kernels.\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
