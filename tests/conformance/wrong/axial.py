"""AXIAL: rows and columns of an image, and which pairs turn with which."""

import torch

import rope_ref as rr
from rope_ref.conformance import Implementation
from tests.conformance.wrong.case import case
from tests.conformance.wrong.plain import TORCH, adjacent, apply_rotary, halves, inverse_frequencies, rotate_every_two


@case("huggingface/pytorch-image-models#2541", bug="AXIAL")
def sizes_exchanged(broken):
    """For models that index (x, y) the grid is asked for with height and width exchanged; squares do not show it."""
    inv_freq = inverse_frequencies(32, 100.0)

    def get_grid(height, width):
        sizes = (height, width) if broken else (width, height)
        x, y = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="xy")
        return torch.stack((y, x), dim=-1).reshape(-1, 2)

    def apply(x, positions):
        freqs = positions.float()[..., None] * inv_freq
        freqs = torch.cat((freqs[..., 1, :], freqs[..., 0, :]), dim=-1)
        return apply_rotary(x, *adjacent(freqs[:, None] if freqs.ndim == 3 else freqs), rotate_every_two)

    return Implementation(apply=apply, grid=get_grid, **TORCH), rr.vision.sam2(64, theta=100.0)


@case("huggingface/pytorch-image-models#2549", bug="AXIAL")
def no_head_axis(broken):
    """With patches dropped each sample has a table of its own, (batch, patches, dim), and no axis for the heads."""
    inv_freq = inverse_frequencies(32)

    def apply_rot_embed_cat(x, emb):
        sin_emb, cos_emb = emb.chunk(2, dim=-1)
        return (x.float() * cos_emb + rotate_every_two(x.float()) * sin_emb).type_as(x)

    def apply(x, positions):
        cos, sin = adjacent((positions.float()[..., None] * inv_freq).flatten(-2))
        emb = torch.cat((sin, cos), dim=-1)
        if emb.ndim == 3 and not broken:
            emb = emb.unsqueeze(1)
        return apply_rot_embed_cat(x, emb)

    return Implementation(apply=apply, **TORCH), rr.vision.eva02(64)


@case("vllm-project/vllm-omni#1784", bug="AXIAL")
def halves_for_turns(broken):
    """The first half of the frequencies goes to y, the second to x; the model gives them to y and x in turn."""
    inv_freq = inverse_frequencies(128)

    def apply(x, positions):
        freqs = positions.float()[..., None] * inv_freq
        first = torch.arange(64) < 32 if broken else torch.arange(64) % 2 == 0
        freqs = torch.where(first, freqs[..., 0, :], freqs[..., 1, :])
        return apply_rotary(x, *halves(freqs[:, None] if freqs.ndim == 3 else freqs))

    return Implementation(apply=apply, **TORCH), rr.variants.mrope_interleaved(128, (32, 32))
