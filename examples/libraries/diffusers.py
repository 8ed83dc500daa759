"""diffusers: right, in both pairings, as complex numbers, and on the axes of Flux, Wan, CogVideoX and Qwen-Image."""

import torch
from diffusers.models.embeddings import apply_rotary_emb, get_1d_rotary_pos_embed, get_3d_rotary_pos_embed
from diffusers.models.transformers.transformer_flux import FluxPosEmbed
from diffusers.models.transformers.transformer_qwenimage import QwenEmbedRope, apply_rotary_emb_qwen
from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

import rope_ref as rr
from examples.libraries import rows_of
from rope_ref.conformance import Implementation

HEAD_DIM, SHAPE = 64, (3, 6, 8)  # frames, rows, columns
rope = rr.variants.default(HEAD_DIM)
interleaved = rr.variants.default(HEAD_DIM, pairing="interleaved")


def real(neighbours, **options):
    def apply(x, positions):
        tables = get_1d_rotary_pos_embed(
            HEAD_DIM, positions, use_real=True, repeat_interleave_real=neighbours, **options
        )
        return apply_rotary_emb(x, tables, use_real_unbind_dim=-1 if neighbours else -2)

    return Implementation(apply=apply, arrays="torch", rows=False)


def turned(x, positions):
    return apply_rotary_emb(x, get_1d_rotary_pos_embed(HEAD_DIM, positions)[None], use_real=False)


def flux(x, positions):
    return apply_rotary_emb(x, FluxPosEmbed(10000, [16, 24, 24])(positions))


def of_video(turn, tables, places):
    """The tables of one video as a function of positions, which must be places of its patches."""
    rows = rows_of(places)

    def apply(x, positions):
        here = rows(positions)
        return turn(x, *(table[here] for table in tables))

    return Implementation(apply=apply, arrays="torch", rows=False, valid_positions=places)


VIDEO = rr.positions.grid(*SHAPE)
wan = [t[0, :, 0] for t in WanRotaryPosEmbed(HEAD_DIM, (1, 1, 1), 32)(torch.zeros(1, 1, *SHAPE))]
cogvideox = get_3d_rotary_pos_embed(HEAD_DIM, ((0, 0), SHAPE[1:]), SHAPE[1:], SHAPE[0])
qwen = QwenEmbedRope(10000, [16, 24, 24], scale_rope=True)([SHAPE], torch.device("cpu"), 4)[:1]
CENTERED = VIDEO - [0, SHAPE[1] - SHAPE[1] // 2, SHAPE[2] - SHAPE[2] // 2]


def by_tables(x, cos, sin):
    return apply_rotary_emb(x, (cos, sin))


def by_complex(x, table):
    return apply_rotary_emb_qwen(x.transpose(1, 2), table, use_real=False).transpose(1, 2)


CHECKS = {
    "half-split": (real(False), rope),
    "interleaved": (real(True), interleaved),
    "linear": (real(True, linear_factor=4.0), rr.variants.linear(HEAD_DIM, 4.0, pairing="interleaved")),
    "float64": (real(True, freqs_dtype=torch.float64), interleaved),
    "complex": (Implementation(apply=turned, arrays="torch", layout="bshd", rows=False), interleaved),
    "flux": (Implementation(apply=flux, arrays="torch", rows=False), rr.CATALOGUE["flux"]((16, 24, 24))),
    "wan": (of_video(by_tables, wan, VIDEO), rr.CATALOGUE["wan"](HEAD_DIM)),
    "cogvideox": (of_video(by_tables, cogvideox, VIDEO), rr.CATALOGUE["cogvideox"](HEAD_DIM)),
    "qwen-image": (of_video(by_complex, qwen, CENTERED), rr.CATALOGUE["flux"]((16, 24, 24))),
}
