"""Speed of the CUDA kernels on whatever GPU is there: make bench-gpu, or python -m benchmarks.gpu [largest MiB]

The first time is that of the device, by events, the median of calls taken in turn so that a device that slows down
slows everyone down. It is followed by the bytes of x read and written over that time, and by the share of the speed of
a copy on the device that moves the same bytes: 1.00 is the speed of memory. The second time is what a call costs
the host; the third that of a call among many small ones that CUDA has recorded, where no host is in the way.
With `both`, a gradient is turned too. Results go to benchmarks/results/ as JSON.
"""

import itertools
import json
import platform
import statistics
import subprocess
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
SMALL = 2**26  # bytes of x
WAIT = 2_000_000  # cycles of the device, a millisecond
PACKAGES = ("torch", "numba", "numba-cuda", "triton", "liger-kernel", "flash-attn", "rotary-embedding-torch")
PAIRINGS = ("half-split", "interleaved")
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
    for tokens, dtype, pairing in cases(int(largest)):
        rows += measure(tokens, dtype, pairing)
    path = save(rows)
    print(f"kept in {path}")


def cases(largest: int) -> list[tuple[int, torch.dtype, str]]:
    """From one token, sixteenfold each time, to where rotated float32 heads take the largest number of MiB."""
    sizes, most = [1], largest * 2**20 // (HEADS * HEAD_DIM * 4)
    while sizes[-1] < most:
        sizes.append(min(most, sizes[-1] * 16))
    return [*itertools.product(sizes, (torch.float32, torch.bfloat16), PAIRINGS),
            *itertools.product(sizes[-1:], (torch.float16,), PAIRINGS)]  # fmt: skip


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
                   "GB/s": (4 if backward else 2) * x.nbytes / seconds / 1e9,
                   "of copy": times["copy"] / seconds, "host": on_host(calls[name]),
                   "graph": None if backward or x.nbytes > SMALL else in_graph(calls[name])}  # fmt: skip
            rows.append(row)
            graph = "" if row["graph"] is None else duration(row["graph"])
            way = f"{tokens:6} {row['dtype']:9} {pairing:12} {'both' if backward else 'forward':8} {name:22}"
            figures = f"{duration(seconds):>9} {row['GB/s']:7.1f} {row['of copy']:6.2f} {duration(row['host']):>9}"
            figures += f" {graph:>9}"
            print(way, figures, flush=True)
    return rows


def ways(x: Tensor, cos: Tensor, sin: Tensor, pairing: str, backward: bool) -> Calls:
    """What is compared, each from x to a new tensor; with `backward`, and from a gradient to one of x."""
    torch.compiler.reset()  # or it counts compilations of earlier cases against its limit, and gives up
    turns: dict[str, Callable[[Tensor], Tensor]] = {
        "copy": torch.clone,
        "eager": lambda t: plain(t, cos, sin, pairing, 0),
        "torch.compile": torch.compile(lambda t: plain(t, cos, sin, pairing, 0), dynamic=False),
        "ours": lambda t: rotate(t, cos, sin, pairing=pairing),
        **peers(x, cos, sin, pairing),
    }
    leaf, upstream = x.detach().requires_grad_(), torch.randn_like(x)
    if backward:
        turns["copy"] = Copy.apply
        calls = {name: lambda turn=turn: torch.autograd.grad(turn(leaf), leaf, upstream)
                 for name, turn in turns.items()}  # fmt: skip
    else:
        calls = {name: lambda turn=turn: turn(x) for name, turn in turns.items()}
    return {name: call for name, call in calls.items() if works(name, call)}


class Copy(torch.autograd.Function):
    """A copy of x, and one of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0].clone()


def works(name: str, call: Callable[[], Any]) -> bool:
    """Whether this can be measured: others may not do what is asked."""
    try:
        call()
    except Exception as failure:
        if name in ("copy", "ours"):
            raise
        print(f"{name}: {type(failure).__name__}: {str(failure).partition(chr(10))[0][:150]}")
        return False
    return True


def peers(x: Tensor, cos: Tensor, sin: Tensor, pairing: str) -> dict[str, Callable[[Tensor], Tensor]]:
    """Kernels of others, where they are installed and turn such pairs."""
    found: dict[str, Callable[[Tensor], Tensor]] = {}
    try:
        from flash_attn.layers.rotary import apply_rotary_emb

        half = cos.to(x.dtype), sin.to(x.dtype)
        found["flash-attn"] = lambda t: apply_rotary_emb(
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
    """Seconds of one call on the device, the cache filled with other things before each.

    The device is kept waiting until the call is in its queue, or it would be the host's time that is taken.
    """
    taken: dict[str, list[float]] = {name: [] for name in calls}
    other = torch.empty(256 * 2**20, dtype=torch.uint8, device="cuda")
    for i in range(warm + rounds):
        for name, call in calls.items():
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            other.zero_()
            torch.cuda._sleep(WAIT)
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


def driver() -> str | None:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError):
        return None


def save(rows: list[dict[str, Any]]) -> Path:
    device = torch.cuda.get_device_name()
    about = {
        "device": device, "host": platform.node(), "capability": torch.cuda.get_device_capability(),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "driver": driver(), "versions": {name: machine.installed(name) for name in PACKAGES},
    }  # fmt: skip
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"gpu-{device.lower().replace(' ', '-')}.json"
    path.write_text(json.dumps(about | {"rows": rows}, indent=1) + "\n")
    return path


if __name__ == "__main__":
    main(*sys.argv[1:])
