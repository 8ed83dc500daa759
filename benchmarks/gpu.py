"""Speed of the CUDA kernels on whatever GPU is there: make bench-gpu, or python -m benchmarks.gpu [largest MiB]

Times are those of the device, by events, medians of calls taken in turn so that a device that slows down slows everyone
down. Ratios are against a copy on the device that moves the same bytes: 1.0 is the speed of memory. `host`
is what a launch costs the caller. `graph` replays calls that CUDA has recorded, where no host is in the way.
Results go to benchmarks/results/ as JSON.
"""

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torch_bridge import rotate
from torch_bridge.bench import machine
from torch_bridge.bench.timing import duration
from torch_bridge.cuda import installed
from torch_bridge.plain import plain

RESULTS = Path(__file__).parent / "results"
HEADS, HEAD_DIM = 32, 128
LARGEST = 1024  # MiB of x
PACKAGES = ("torch", "numba", "numba-cuda", "triton", "liger-kernel", "flash-attn", "rotary-embedding-torch")
Calls = dict[str, Callable[[], Any]]


def main(largest: str = str(LARGEST)) -> None:
    if not torch.cuda.is_available():
        print("There is no CUDA device that torch can use: nothing can be measured here.")
        return
    if not installed():
        print("The extra `cuda` is not installed: pip install 'rope-ref[cuda]'. Nothing was measured.")
        return
    print(__doc__.split("\n\n", 1)[1])
    rows: list[dict[str, Any]] = []
    for tokens in sizes(int(largest)):
        for dtype in (torch.float32, torch.bfloat16):
            for pairing in ("half-split", "interleaved"):
                rows += measure(tokens, dtype, pairing)
    path = save(rows)
    print(f"kept in {path}")


def sizes(largest: int) -> list[int]:
    """Tokens whose rotated float32 heads take one row, then up to the largest number of MiB, fourfold each time."""
    row = HEADS * HEAD_DIM * 4
    steps, most = [1], largest * 2**20 // row
    while steps[-1] < most:
        steps.append(min(most, max(16, steps[-1] * 4)))
    return steps


def measure(tokens: int, dtype: torch.dtype, pairing: str) -> list[dict[str, Any]]:
    x = torch.randn(1, HEADS, tokens, HEAD_DIM, device="cuda", dtype=dtype)
    inv_freq = 500000.0 ** -torch.linspace(0, 1, HEAD_DIM // 2, device="cuda")
    angle = torch.arange(tokens, device="cuda")[:, None] * inv_freq
    cos, sin = angle.cos(), angle.sin()
    rows = []
    for backward in (False, True):
        calls = ways(x, cos, sin, pairing, backward)
        times = on_device(calls)
        for name, seconds in times.items():
            row = {"tokens": tokens, "dtype": str(dtype).removeprefix("torch."), "pairing": pairing,
                   "MiB": x.nbytes / 2**20, "backward": backward, "way": name, "seconds": seconds,
                   "of copy": times["copy"] / seconds, "host": on_host(calls[name]),
                   "graph": None if backward else in_graph(calls[name])}  # fmt: skip
            rows.append(row)
            graph = "" if row["graph"] is None else duration(row["graph"])
            way = f"{tokens:7} {row['dtype']:9} {pairing:12} {'both' if backward else 'forward':8} {name:14}"
            figures = f"{duration(seconds):>9} {row['of copy']:6.2f} {duration(row['host']):>9} {graph:>9}"
            print(way, figures, flush=True)
    return rows


def ways(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, backward: bool) -> Calls:
    """What is compared, each from x to a new tensor; with `backward`, and from a gradient to one of x."""
    turns: dict[str, Callable[[Tensor], Tensor]] = {
        "copy": torch.clone,
        "eager": lambda t: plain(t, cos, sin, pairing, 0),
        "torch.compile": torch.compile(lambda t: plain(t, cos, sin, pairing, 0), dynamic=False),
        "ours": lambda t: rotate(t, cos, sin, pairing=pairing),
        **peers(x, cos, sin, pairing),
    }
    if not backward:
        return {name: lambda turn=turn: turn(x) for name, turn in turns.items()}
    leaf, upstream = x.detach().requires_grad_(), torch.randn_like(x)
    return {name: lambda turn=turn: torch.autograd.grad(turn(leaf), leaf, upstream) for name, turn in turns.items()}


def peers(x: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Kernels of others, where they are installed and turn such pairs."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    try:
        from flash_attn.ops.triton.rotary import apply_rotary

        half = cos.to(x.dtype), sin.to(x.dtype)
        found["flash-attn"] = lambda t: apply_rotary(
            t.transpose(1, 2), *half, interleaved=pairing == "interleaved").transpose(1, 2)  # fmt: skip
    except ImportError:
        pass
    if pairing == "half-split":
        try:
            from liger_kernel.ops.rope import LigerRopeFunction

            wide = [torch.cat((t, t), -1)[None].to(x.dtype) for t in (cos, sin)]
            found["liger"] = lambda t: LigerRopeFunction.apply(t, t[:, :1], *wide)[0]
        except ImportError:
            pass
    else:
        try:
            from rotary_embedding_torch import RotaryEmbedding

            module = RotaryEmbedding(dim=HEAD_DIM, theta=500000.0).cuda()
            found["rotary-embedding-torch"] = module.rotate_queries_or_keys
        except ImportError:
            pass
    return found


def on_device(calls: Calls, rounds: int = 15, warm: int = 3) -> dict[str, float]:
    """Seconds of one call on the device, the cache filled with other things before each."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    other = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")
    for i in range(warm + rounds):
        for name, call in calls.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            other.zero_()
            begin.record()
            call()
            end.record()
            end.synchronize()
            if i >= warm:
                taken[name].append(begin.elapsed_time(end) / 1e3)
    return {name: statistics.median(times) for name, times in taken.items()}


def on_host(call: Callable[[], Any], calls: int = 50) -> float:
    """Seconds until a call returns, the device being free to fall behind."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(calls):
        call()
    taken = (time.perf_counter() - begin) / calls
    torch.cuda.synchronize()
    return taken


def in_graph(call: Callable[[], Any], calls: int = 20) -> float | None:
    """Seconds of a call among several that a CUDA graph replays, or None where a call cannot be recorded."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    torch.cuda.current_stream().wait_stream(stream)
    try:
        with torch.cuda.graph(graph):
            for _ in range(calls):
                call()
    except RuntimeError:
        return None
    return on_device({"graph": graph.replay})["graph"] / calls


def save(rows: list[dict[str, Any]]) -> Path:
    device = torch.cuda.get_device_name()
    about = {
        "device": device, "host": platform.node(), "capability": torch.cuda.get_device_capability(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: machine.installed(name) for name in PACKAGES},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gpu-{device.lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main(*sys.argv[1:])
