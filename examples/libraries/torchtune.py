"""torchtune: right, within its table; a position below zero takes a row from the table's end.

Its embedding of images counts patches from 1 and leaves the class token, the last one, as it is.
"""

import torch

import rope_ref as rr
from examples.libraries import alone, rows_of
from rope_ref.conformance import Implementation

embeddings = alone("torchtune.modules.position_embeddings")
Default, Vision = embeddings.RotaryPositionalEmbeddings, embeddings.VisionRotaryPositionalEmbeddings
Llama3 = alone("torchtune.models.llama3_1._position_embeddings").Llama3ScaledRoPE
HEAD_DIM, LENGTH = 64, 8192


def adapter(embedding, **declared):
    def apply(x, positions):
        return embedding(x, input_pos=positions)

    return Implementation(
        apply=apply, arrays="torch", layout="bshd",
        **{"negative": False, "max_position": LENGTH, "deviations": ("RANGE",)} | declared,
    )  # fmt: skip


def of_tile(side):
    """One tile of side x side patches; positions are (column, row), from 1."""
    module = Vision(patch_size=1, tile_size=side, max_num_tiles=1, dim=HEAD_DIM // 2)
    places = rr.positions.grid(side, side)[:, ::-1] + 1
    rows = rows_of(places)

    def apply(x, positions):
        tile = torch.zeros(len(x), side * side + 1, *x.shape[2:], dtype=x.dtype)
        y = torch.empty_like(x)
        for token, row in enumerate(rows(positions)):  # a tile for each, since several may stand at one place
            tile[:, row] = x[:, token]
            y[:, token] = module(tile)[:, row]
        return y

    return Implementation(apply=apply, arrays="torch", layout="bshd", rows=False, valid_positions=places)


rope = rr.variants.default(HEAD_DIM, pairing="interleaved")
CHECKS = {
    "default": (adapter(Default(HEAD_DIM, LENGTH)), rope),
    "llama3": (
        adapter(Llama3(HEAD_DIM, LENGTH, base=500000)),
        rr.variants.llama3(HEAD_DIM, 8.0, pairing="interleaved"),
    ),
    "tile": (of_tile(8), rr.variants.axial(HEAD_DIM, (HEAD_DIM // 2, HEAD_DIM // 2), pairing="interleaved")),
}
FAULTS = {
    "below zero": (adapter(Default(HEAD_DIM, LENGTH), negative=None, deviations=()), rope, "RANGE"),
}
