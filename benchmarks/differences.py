"""What docs/differences.md says, measured: python -m benchmarks.differences

Prints a Markdown table of each difference from rotary-embedding-torch with the figure of both.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import rotary_embedding_torch
import torch
from torch import Tensor

import rope_ref as rr
import torch_bridge

BOTH = (rotary_embedding_torch, torch_bridge)


def sample(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


T = sample(1, 1, 2048, 64)
LONG = sample(1, 1, 4096, 64)


def error(y: Tensor, t: Tensor, positions: Any) -> float:
    """The largest distance of y from the exact rotation of t."""
    exact = rr.rotate(t.double().numpy(), positions, rr.Rope(64, pairing="interleaved"))
    return float(np.abs(y.double().detach().numpy() - exact).max())


def rounding(dtype: torch.dtype) -> float:
    """The error of rounding the exact result alone."""
    exact = rr.rotate(T.to(dtype).double().numpy(), np.arange(2048), rr.Rope(64, pairing="interleaved"))
    return float((torch.from_numpy(exact).to(dtype).double() - torch.from_numpy(exact)).abs().max())


def half_input(package: Any, t: Tensor) -> float:
    return error(package.RotaryEmbedding(dim=64).rotate_queries_or_keys(t), t, np.arange(t.shape[-2]))


def after_half_input(package: Any) -> float:
    module = package.RotaryEmbedding(dim=64)
    module.rotate_queries_or_keys(T.bfloat16())
    return error(module.rotate_queries_or_keys(T), T, np.arange(2048))


def cast_module(package: Any) -> float:
    module = package.RotaryEmbedding(dim=64).bfloat16()
    return error(module.rotate_queries_or_keys(T).float(), T, np.arange(2048))


def fractional_offset(package: Any) -> float:
    module = package.RotaryEmbedding(dim=64)
    module.rotate_queries_or_keys(T)
    return error(module.rotate_queries_or_keys(T[..., :64, :], offset=0.5), T[..., :64, :], np.arange(64) + 0.5)


def negative_offset(package: Any) -> float:
    module = package.RotaryEmbedding(dim=64)
    module.rotate_queries_or_keys(T)
    return error(module.rotate_queries_or_keys(T[..., :64, :], offset=-8), T[..., :64, :], np.arange(64) - 8)


def far_offset(package: Any) -> float:
    t = T[..., :64, :]
    module = package.RotaryEmbedding(dim=64)
    return error(module.rotate_queries_or_keys(t, offset=1_000_000), t, np.arange(64) + 1_000_000)


def cached_xpos(package: Any) -> float:
    module, (q, k) = package.RotaryEmbedding(dim=64, use_xpos=True), sample(2, 1, 1, 50, 64)
    whole = [t.double() for t in module.rotate_queries_and_keys(q, k)]
    last = [t.double() for t in module.rotate_queries_with_cached_keys(q[..., -1:, :], k)]
    return float((last[0] @ last[1].mT - (whole[0] @ whole[1].mT)[..., -1:, :]).abs().max())


def axial_offsets(package: Any) -> float:
    module = package.RotaryEmbedding(dim=4)
    return float((module.get_axial_freqs(3, 3, offsets=(0, 5)) - module.get_axial_freqs(3, 8)[:, 5:]).abs().max())


def more_rows_than_places(package: Any) -> float:
    t, angles = sample(7, 3, 4), sample(7, 3, 2)
    learned = rotary_embedding_torch.rotary_embedding_torch if package is rotary_embedding_torch else package
    rows = torch.stack([learned.apply_learned_rotations(angles[i], t[i]) for i in range(7)])
    return float((learned.apply_learned_rotations(angles, t) - rows).abs().max())


def from_meta(package: Any) -> float:
    with torch.device("meta"):
        module = package.RotaryEmbedding(dim=64)
    module = module.to_empty(device="cpu")
    return error(module.rotate_queries_or_keys(T), T, np.arange(2048))


def compiled(package: Any) -> float:
    module = package.RotaryEmbedding(dim=64)
    turn = torch.compile(lambda t, n: module.rotate_queries_or_keys(t, offset=n), fullgraph=True, backend="eager")
    return max(error(turn(T[..., :n, :], 0), T[..., :n, :], np.arange(n)) for n in (64, 96, 64))


MEASURES: dict[str, Callable[[Any], float]] = {
    "bfloat16 input, 2,048 positions": lambda p: half_input(p, T.bfloat16()),
    "float16 input, 4,096 positions": lambda p: half_input(p, LONG.half()),
    "float32 input after a bfloat16 call on the same module": after_half_input,
    "module cast with `.bfloat16()`, float32 input": cast_module,
    "offset 0.5 after a longer call": fractional_offset,
    "offset -8 after a longer call": negative_offset,
    "offset 1,000,000": far_offset,
    "xPos scores of the last query, cached against uncached": cached_xpos,
    "`get_axial_freqs(3, 3, offsets=(0, 5))`, radians": axial_offsets,
    "learned rotations of a batch larger than the sequence": more_rows_than_places,
    "built on the meta device, then `to_empty` (the original: whatever memory held)": from_meta,
    "`torch.compile(fullgraph=True)`, lengths 64, 96, 64": compiled,
}


def figure(measure: Callable[[Any], float], package: Any) -> str:
    try:
        return f"{measure(package):.2g}"
    except Exception as failure:  # whatever the original raises is its figure
        return f"raises {type(failure).__name__}"


def main() -> None:
    print(f"rounding alone: {rounding(torch.bfloat16):.2g} in bfloat16, {rounding(torch.float16):.2g} in float16\n")
    print("| largest error of | rotary-embedding-torch 0.9.1 | torch_bridge |\n|---|---|---|")
    for name, measure in MEASURES.items():
        print(f"| {name} | {figure(measure, BOTH[0])} | {figure(measure, BOTH[1])} |", flush=True)


if __name__ == "__main__":
    main()
