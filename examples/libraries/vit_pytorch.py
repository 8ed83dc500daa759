"""vit-pytorch: golden-gate RoPE is right, in the ten iterations of its published form, and so are RvT and ViT-5.

But in bfloat16 ViT-5 rounds frequencies and angles to it, and RvT the frequencies.
"""

import torch

import rope_ref as rr
from examples.libraries import alone, rows_of
from rope_ref.conformance import Implementation

HEAD_DIM, HEADS, SIDE = 64, 4, 12
golden = alone("vit_pytorch.vit_nd_rotary").GoldenGateRoPENd(3, HEADS, HEAD_DIM, rope_max_freq=100.0)
rvt, vit_5 = alone("vit_pytorch.rvt"), alone("vit_pytorch.vit_5")


def in_space(x, positions):
    """positions (seq, 3) or (batch, seq, 3)."""
    return golden(x, positions[None] if positions.ndim == 2 else positions)


def of_grid(module, places, registers=0):
    """One grid as a function of positions, which must be places of its patches."""
    rows = rows_of(places)

    def apply(x, positions):
        sin, cos = module(torch.zeros(1, SIDE * SIDE + registers, HEAD_DIM, dtype=x.dtype))
        here = [row + registers for row in rows(positions)]
        return (x * cos[..., here, :] + rvt.rotate_every_two(x) * sin[..., here, :]).to(x.dtype)

    def adapter(dtype):
        return Implementation(apply=apply, arrays="torch", rows=False, valid_positions=places, dtypes=(dtype,))

    return adapter


GRID = rr.positions.grid(SIDE, SIDE)
of_rvt = of_grid(rvt.AxialRotaryEmbedding(HEAD_DIM), 2 * GRID / (SIDE - 1) - 1)  # from -1 to 1
of_vit_5 = of_grid(vit_5.AxialRotaryEmbedding(HEAD_DIM), GRID, registers=4)
PIXEL = rr.variants.pixel(HEAD_DIM // 2, max_freq=10.0).omega
pixel = rr.variants.custom(HEAD_DIM, rr.frequencies.block_diagonal([PIXEL, PIXEL]), pairing="interleaved")
axial = rr.variants.axial(HEAD_DIM, (HEAD_DIM // 2, HEAD_DIM // 2), 100000.0, pairing="interleaved")
CHECKS = {
    "golden": (
        Implementation(apply=in_space, arrays="torch", heads=HEADS),
        rr.CATALOGUE["golden"](HEAD_DIM, axes=3, heads=HEADS, max_freq=100.0, iterations=10),
    ),
    "RvT": (of_rvt("float32"), pixel),
    "ViT-5": (of_vit_5("float32"), axial),
}
FAULTS = {
    "RvT, bfloat16": (of_rvt("bfloat16"), pixel, "INVDT"),
    "ViT-5, bfloat16": (of_vit_5("bfloat16"), axial, "ANGDT"),
}
