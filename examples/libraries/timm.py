"""timm: its embeddings of images are right: DINOv3's, EVA-02's in pixels and the mixed one, and so are its grids."""

import torch

import rope_ref as rr
from examples.libraries import alone, rows_of
from rope_ref.conformance import Implementation

embed = alone("timm.layers.pos_embed_sincos")
HEAD_DIM, SIDE = 64, 14
dinov3 = embed.RotaryEmbeddingDinoV3(HEAD_DIM)
eva02 = embed.RotaryEmbeddingCat(HEAD_DIM, in_pixels=False, feat_shape=[SIDE, SIDE], ref_feat_shape=[16, 16])
mixed = embed.RotaryEmbeddingMixed(2 * HEAD_DIM, depth=1, num_heads=2)


def by_coordinates(x, positions):
    """positions (seq, 2) from -1 to 1."""
    tables = torch.cat(dinov3._get_pos_embed_from_coords(positions.float()), -1)
    return embed.apply_rot_embed_cat(x, tables, half=True)


def of_grid(tables, places):
    """Tables of one grid (patches, 2 head_dim) as a function of positions, which must be places of its patches."""
    rows = rows_of(places)

    def apply(x, positions):
        return embed.apply_rot_embed_cat(x, tables[..., rows(positions), :])

    return Implementation(apply=apply, arrays="torch", rows=False, valid_positions=places)


EVA = rr.vision.eva02_positions(SIDE, SIDE)
GRID = rr.positions.grid(SIDE, SIDE)
speeds = mixed.freqs[:, 0].detach().double().permute(1, 2, 0)  # (heads, pairs, axes), x before y
CHECKS = {
    "dinov3": (
        Implementation(
            apply=by_coordinates, grid=embed.make_coords_dinov3, arrays="torch", fractional=True, rows=False
        ),
        rr.CATALOGUE["dinov3"](HEAD_DIM),
    ),
    "eva02": (of_grid(eva02.get_embed(), EVA), rr.CATALOGUE["eva02"](HEAD_DIM)),
    "mixed": (
        of_grid(mixed.get_embed([SIDE, SIDE])[0].detach(), GRID),
        rr.variants.custom(HEAD_DIM, speeds.flip(-1).numpy(), pairing="interleaved"),
    ),
}
