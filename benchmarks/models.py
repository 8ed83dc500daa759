"""Models of transformers, unpatched and patched: tokens per second, and the share of time that rotation takes.

    python -m benchmarks.models                    both models, both dtypes: an hour
    python -m benchmarks.models llama --layers 2   one, with fewer layers

Weights are random: speed does not depend on them. Each figure is the median of `rounds` runs, unpatched and
patched in turn. Rotation is the rotary module and what attention calls with its tables, timed call by
call; a clock read costs 50 ns.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import transformers

from torch_bridge.models import EXPECTED
from torch_bridge.patch import patch, search
from torch_bridge.patched import own

SHAPES: dict[str, Callable[..., Any]] = {
    "llama": lambda **options: transformers.LlamaConfig(**{
        "vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "max_position_embeddings": 131072,
        "tie_word_embeddings": True, "eos_token_id": None, "rope_parameters": {
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}} | options),
    "qwen3": lambda **options: transformers.Qwen3Config(**{
        "vocab_size": 151936, "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "max_position_embeddings": 40960,
        "tie_word_embeddings": True, "eos_token_id": None,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}} | options),
}  # fmt: skip
NAMES = {"llama": "Llama 3.2 1B", "qwen3": "Qwen3 0.6B"}
DTYPES = (torch.float32, torch.bfloat16)
CONTEXTS = (512, 2048, 8192, 32768)  # tokens that are in the cache when others are decoded
DECODED = 8  # tokens


class Figure(NamedTuple):
    """Tokens per second, and the seconds of one run that were rotation, of how many."""

    speed: float
    rotation: float
    total: float


@contextmanager
def timed(model: Any) -> Iterator[list[float]]:
    """Seconds of each call that rotates, of the original or of ours, whichever is in place."""
    taken: list[float] = []

    def around(inner: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            out = inner(*given, **options)
            taken.append(time.perf_counter() - begin)
            return out

        return call

    ((_, rotary),) = search(model)
    module = sys.modules[own(rotary).__module__]
    names = [name for name in EXPECTED if hasattr(module, name)]
    before = {name: getattr(module, name) for name in names}
    for name in names:
        setattr(module, name, around(before[name]))
    rotary.forward = around(rotary.forward)
    try:
        yield taken
    finally:
        del rotary.forward
        for name in names:
            setattr(module, name, before[name])


@torch.no_grad()
def prefill(model: Any, tokens: int) -> Figure:
    ids = torch.randint(model.config.vocab_size, (1, tokens), generator=torch.Generator().manual_seed(0))
    with timed(model) as rotation:
        begin = time.perf_counter()
        model(input_ids=ids, use_cache=True, logits_to_keep=1)
        total = time.perf_counter() - begin
    return Figure(tokens / total, sum(rotation), total)


@torch.no_grad()
def decode(model: Any, tokens: int) -> Figure:
    """`DECODED` tokens, one at a time, after `tokens` in a cache of random numbers, which cost no time to fill."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    cache = transformers.DynamicCache(config=config)
    heads, width = config.num_key_value_heads, config.head_dim
    for layer in range(config.num_hidden_layers):
        kept = torch.randn(2, 1, heads, tokens, width, generator=generator).to(model.dtype)
        cache.update(kept[0], kept[1], layer)
    ids = torch.randint(config.vocab_size, (1, DECODED + 2), generator=generator)
    for n in range(2):  # the first makes room in the cache
        model(input_ids=ids[:, n : n + 1], cache=cache, use_cache=True)
    with timed(model) as rotation:
        begin = time.perf_counter()
        for n in range(2, DECODED + 2):
            model(input_ids=ids[:, n : n + 1], cache=cache, use_cache=True)
        total = time.perf_counter() - begin
    return Figure(DECODED / total, sum(rotation), total)


def measure(model: Any, task: Callable[[Any, int], Figure], tokens: int, rounds: int) -> list[Figure]:
    """Medians, unpatched and patched, of runs taken in turn after one of each that does not count."""
    before, after = [], []
    for _ in range(rounds + 1):
        before.append(task(model, tokens))
        with patch(model):
            after.append(task(model, tokens))
    return [Figure(*(statistics.median(column) for column in zip(*runs[1:], strict=True))) for runs in (before, after)]


def row(name: str, before: Figure, after: Figure) -> str:
    share = [figure.rotation / figure.total for figure in (before, after)]
    return (f"{name:38} {before.speed:9.2f} {after.speed:9.2f} {after.speed / before.speed:6.2f}x"
            f" {share[0]:8.2%} {share[1]:8.2%} {share[0] / share[1]:6.1f}x")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"of {', '.join(SHAPES)}; by default all")
    parser.add_argument("--layers", type=int, help="as many layers, where time is short; by default all")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    given = parser.parse_args()
    if not set(given.models) <= set(SHAPES):
        parser.error(f"expected models of {', '.join(SHAPES)}")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {torch.get_num_threads()} threads\n")
    print(f"{'':38} {'tokens/s':>9} {'patched':>9} {'ratio':>7} {'rotation':>8} {'patched':>8} {'ratio':>7}")
    options = {} if given.layers is None else {"num_hidden_layers": given.layers}
    for name in given.models or SHAPES:
        for dtype in DTYPES:
            model = transformers.AutoModelForCausalLM.from_config(SHAPES[name](**options), dtype=dtype).eval()
            for task, tokens in [(prefill, 512), (prefill, 2048), *((decode, length) for length in CONTEXTS)]:
                what = f"{NAMES[name]}, {str(dtype).removeprefix('torch.')}, {task.__name__} {tokens}"
                print(row(what, *measure(model, task, tokens, given.rounds)), flush=True)


if __name__ == "__main__":
    main()
