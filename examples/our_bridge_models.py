"""What a model calls of torch_bridge: `Rotary`, queries and keys at once, in place, with their normalisation."""

import torch

import rope_ref as rr
from examples.our_bridge_paths import EXACT, FLOAT32, refuses, tabulated
from examples.our_kernel_paths import weights_of_pairs
from rope_ref.conformance import Implementation
from torch_bridge import Rotary, rotate_qk, rotate_qk_norm


def rotary(rope, side=0):
    """`Rotary` by positions, by an offset, from 0, in every layout and as packed sequences; side 0 is the query."""
    held, axes = Rotary(rope), rope.axes is not None

    def both(x, layout="bhsd"):
        """x and as many other numbers, of one head: what is turned beside x."""
        other = x.narrow(layout.index("h"), 0, 1).flip(-1)
        return (x, other) if side == 0 else (other, x)

    def apply(x, positions):
        return held(*both(x), positions)[side]

    def tokens_first(x, positions):
        x = x.transpose(1, 2)
        return held(*both(x, "bshd"), positions, layout="bshd")[side].transpose(1, 2)

    def packed(x, positions):
        """Rows of a batch end to end, each with the same positions."""
        rows, heads, seq, width = x.shape
        many = positions.ndim > 1 + axes
        places = positions if many else positions.expand(rows, *positions.shape)
        flat = x.transpose(1, 2).reshape(rows * seq, heads, width)
        turned = held(*both(flat, "thd"), places.flatten(0, 1), layout="thd")[side]
        return turned.unflatten(0, (rows, seq)).transpose(1, 2)

    def by_row(x, positions):
        """Each row by its first position, where tokens lie one behind the other."""
        step = positions.diff(dim=-1)
        if axes or not (step == 1).all():
            return apply(x, positions)
        first = positions[..., 0].expand(x.shape[0])
        return held(*both(x), offset=first)[side]

    def trained(x, positions):
        q, k = both(x.detach().clone().requires_grad_())
        return held(q, k, positions)[side].detach()

    def kept_out(x, positions):
        refusals(held, x, positions)
        return apply(x, positions)

    paths = (tokens_first, packed, trained, kept_out) + (() if axes else (by_row,))
    return Implementation(
        apply=apply, rows=True, paths={f.__name__.replace("_", " "): f for f in paths},
        decode=None if axes else lambda x, offset: held(*both(x), offset=offset)[side],
        sequence=None if axes else lambda x: held(*both(x))[side], **EXACT,
    )  # fmt: skip


def refusals(held, x, positions):
    for error, q, k, options in (
        (ValueError, x, x[..., :-1], {}), (ValueError, x, x[:, :, :0], {}), (TypeError, x.int(), x.int(), {}),
        (ValueError, x, x, {"layout": "sbhd"}), (ValueError, x, x, {"cu_seqlens": torch.tensor([0, x.shape[2]])}),
        (ValueError, x[0], x[0], {}), (ValueError, x, x.float() if x.dtype == torch.float64 else x.double(), {}),
    ):  # fmt: skip
        refuses(error, held, q, k, positions, **options)
    if held.rope.axes is None:
        flat = x[0].transpose(0, 1)
        for cu in ([1, flat.shape[0]], [0, flat.shape[0] + 1], [0, 2, 1, flat.shape[0]]):
            refuses(ValueError, held, flat, flat, layout="thd", cu_seqlens=torch.tensor(cu))
        refuses(ValueError, held, x, x, offset=torch.zeros(x.shape[0] + 1, dtype=torch.int64))


def at_once(rope):
    """rotate_qk: x is the query, then the key, then in place, then with gradients; and back again."""
    options, tables = {"pairing": rope.pairing, "start": rope.start}, tabulated(rope)

    def apply(x, positions):
        return rotate_qk(x, x[:, :1].flip(-1), *tables(positions), **options)[0]

    def as_key(x, positions):
        return rotate_qk(x[:, :1].flip(-1), x, *tables(positions), **options)[1]

    def with_gradients(x, positions):
        x = x.detach().clone().requires_grad_()
        return rotate_qk(x, x[:, :1], *tables(positions), **options)[0].detach()

    def back(x, positions):
        return rotate_qk(x, x[:, :1], *tables(-positions), inverse=True, **options)[0]

    def in_place(x, positions):
        rotate_qk(x, torch.ones_like(x[:, :1].contiguous()), *tables(positions), inplace=True, **options)

    paths = {"key": as_key, "gradients": with_gradients, "back": back}
    return Implementation(apply=apply, in_place=in_place, rows=True, paths=paths, **EXACT)


def normalised(rope):
    """rotate_qk_norm, of which weights and norm are divided out again: a few roundings more."""
    options, tables = {"pairing": rope.pairing, "start": rope.start}, tabulated(rope)
    weight = torch.from_numpy(weights_of_pairs(rope))

    def apply(x, positions, side=0, grad=False):
        x = x.detach()
        given, other = x.clone().requires_grad_(grad), x[:, :1].flip(-1)
        pair, weights = ((given, other), (weight, 2 * weight)) if side == 0 else ((other, given), (2 * weight, weight))
        y = rotate_qk_norm(*pair, *(w.to(x.dtype) for w in weights), *tables(positions), epsilon=0.5, **options)[side]
        norm = (x.double().square().mean(-1, keepdim=True) + 0.5).sqrt()
        return (y.detach().double() * norm / weight.to(x.dtype).double()).to(x.dtype)

    paths = {"key": lambda x, p: apply(x, p, 1), "gradients": lambda x, p: apply(x, p, 0, True)}
    half = {"table": "bfloat16", "arithmetic": "bfloat16", "dtypes": ("float32",)}
    return Implementation(apply=apply, rows=True, paths=paths, **FLOAT32 | half)


XPOS = rr.variants.xpos(64)
ROPES = {
    "half-split": rr.variants.default(64), "yarn": rr.variants.yarn(64, 8.0, 4096, pairing="interleaved"),
    "mrope": rr.variants.mrope(128, (16, 24, 24)), "last channels": rr.decoupled(20, 12),
}  # fmt: skip
WIDE = [rr.variants.default(64), rr.variants.default(64, pairing="interleaved")]
MODELS = (
    {f"Rotary, {name}": (rotary(rope), rope) for name, rope in ROPES.items()}
    | {"Rotary, queries of xPos": (rotary(XPOS), XPOS), "Rotary, keys of xPos": (rotary(XPOS, 1), XPOS.keys)}
    | {f"at once, {rope.pairing}": (at_once(rope), rope) for rope in WIDE}
    | {f"normalised, {rope.pairing}": (normalised(rope), rope) for rope in WIDE}
)  # fmt: skip
