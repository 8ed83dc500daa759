"""More ways into torch_bridge: transforms, gradients of gradients and of tables, and what RotaryEmbedding can be asked.

Each is a path, `f(x, positions)`, that must give what the specification says; `kept_out` first asks for what
must be refused.
"""

import io

import torch

import rope_ref as rr
from rope_ref import frequencies
from rope_ref.conformance import Implementation
from torch_bridge import RotaryEmbedding, apply_learned_rotations, apply_rotary_emb, broadcat, rotate

DTYPES = ("float32", "bfloat16", "float16", "float64")
EXACT = dict(arrays="torch", dtypes=DTYPES, angle="exact", negative=True, fractional=True, strided=True)
SCORED = EXACT | dict(dtypes=("float32", "float64"), rows=False, negative=False, fractional=False, strided=False)
FLOAT32 = EXACT | {"angle": "float32"}


def tabulated(rope):
    """tables(positions): cos and sin of the specification that broadcast to x."""

    def tables(positions):
        many = positions.ndim > (1 if rope.axes is None else 2)
        made = (torch.from_numpy(t) for t in rr.tables(rope, positions.numpy()))
        return [t[:, None] if many else t for t in made]

    return tables


def ways(rope, tables):
    """name -> path, where tables(positions) are cos and sin of torch."""
    options = {"pairing": rope.pairing, "start": rope.start}

    def mapped(x, positions):
        cos, sin = tables(positions)
        over = 0 if cos.ndim == 4 else None
        return torch.vmap(lambda *a: rotate(*a, **options), in_dims=(0, over, over))(x, cos, sin)

    def forward_mode(x, positions):
        tables_ = tables(positions)
        return torch.func.jvp(lambda t: rotate(t, *tables_, **options), (torch.ones_like(x),), (x,))[1]

    def gradient_of_gradient(x, positions):
        z, u = torch.zeros_like(x, requires_grad=True), torch.zeros_like(x, requires_grad=True)
        (g,) = torch.autograd.grad(rotate(z, *tables(positions), **options), z, u, create_graph=True)
        return torch.autograd.grad(g, u, x)[0]

    def gradient_of_tables(x, positions):
        """<u, y> is <cos, d cos> + <sin, d sin>, for u that are one on one channel of each pair of one head."""
        cos, sin = (t.requires_grad_() for t in tables(positions))
        y, x = x.clone(), x.clone().requires_grad_()
        first, second = (torch.as_tensor(c) for c in rr.pairing.channels(rope.pairing, rope.pairs, rope.start))
        for row in range(x.shape[0]):
            for head in range(x.shape[1]):
                for channels in (first, second):
                    u = torch.zeros_like(x)
                    u[row, head, :, channels] = 1
                    to_x, to_cos, to_sin = torch.autograd.grad(rotate(x, cos, sin, **options), (x, cos, sin), u)
                    both = (to_cos.double() * cos + to_sin.double() * sin).detach().broadcast_to(*x.shape[:-1], -1)
                    y[row, head][:, channels] = both[row, head].to(x.dtype)
        return y

    def gradient_of_sin(x, positions):
        """Where sin alone is learned, it has a gradient."""
        cos, sin = tables(positions)
        y = rotate(x, cos, sin.requires_grad_(), **options)
        torch.autograd.grad(y.sum(), sin)
        return y.detach()

    def negated(x, positions):
        return rotate(torch._neg_view(-x), *tables(positions), **options)

    def parameter(x, positions):
        return rotate(torch.nn.Parameter(x), *tables(positions), **options).detach()

    def kept_out(x, positions):
        refusals()
        return rotate(x, *tables(positions), **options)

    own = (mapped, forward_mode, gradient_of_gradient, gradient_of_tables, gradient_of_sin, negated, parameter,
           kept_out)  # fmt: skip
    return {function.__name__.replace("_", " "): function for function in own}


def functions(rope):
    """apply_rotary_emb and apply_learned_rotations, given exact angles."""
    start, inv_freq = rope.start, torch.from_numpy(frequencies.geometric(2 * rope.pairs, rope.theta))

    def angles(x, positions):
        each = positions.double()[..., None] * inv_freq
        return (each[:, None] if positions.ndim == 2 else each).repeat_interleave(2, -1)

    def apply(x, positions):
        return apply_rotary_emb(angles(x, positions), x, start)

    def by_channel(x, positions):
        return apply_rotary_emb(angles(x, positions).requires_grad_(), x, start).detach()

    def by_channel_scaled(x, positions):
        apart = apply_rotary_emb(angles(x, positions).requires_grad_(), x / 2, start, scale=2.0).detach()
        return around(apart, x)

    def scaled(x, positions):
        return around(apply_rotary_emb(angles(x, positions), x / 2, start, scale=2.0), x)

    def scaled_by_tensor(x, positions):
        freqs = angles(x, positions)
        return around(apply_rotary_emb(freqs, x / 2, start, scale=torch.full_like(freqs, 2.0)), x)

    def around(y, x):
        stop = start + 2 * len(inv_freq)
        return torch.cat((2 * y[..., :start], y[..., start:stop], 2 * y[..., stop:]), -1)

    def tokens_first(x, positions):
        freqs = angles(x, positions)
        freqs = freqs.transpose(1, 2) if freqs.ndim == 4 else freqs[:, None]
        return apply_rotary_emb(freqs, x.transpose(1, 2), start, seq_dim=1, freqs_seq_dim=-3).transpose(1, 2)

    def last_rows(x, positions):
        freqs = angles(x, positions)
        more = torch.cat((torch.full_like(freqs[..., :2, :], 0.7), freqs), -2)
        return apply_rotary_emb(more, x, start, freqs_seq_dim=None if more.ndim == 2 else -2)

    def last_rows_of_three(x, positions):
        """(batch heads, seq, head_dim), for which the axis need not be named."""
        freqs = angles(x, positions).broadcast_to(*x.shape[:-1], -1).flatten(0, 1)
        more = torch.cat((torch.full_like(freqs[..., :1, :], 0.7), freqs), -2)
        return apply_rotary_emb(more, x.flatten(0, 1), start).unflatten(0, x.shape[:2])

    def learned(x, positions):
        return apply_learned_rotations(angles(x, positions)[..., ::2], x, start)

    def learned_by_ranges(x, positions):
        each = positions.double()[..., None]
        return apply_learned_rotations(each[:, None] if positions.ndim == 2 else each, x, start, freq_ranges=inv_freq)

    own = (by_channel, by_channel_scaled, scaled, scaled_by_tensor, tokens_first, last_rows, last_rows_of_three,
           learned, learned_by_ranges)  # fmt: skip
    return Implementation(
        apply=apply, rows=True, paths={f.__name__.replace("_", " "): f for f in own}, **EXACT
    )  # fmt: skip


def in_runs(turn, axis=-2):
    """apply(x, positions) of turn(x, offset): one call for every run of tokens one behind the other."""

    def apply(x, positions):
        cuts = (torch.nonzero(positions.diff() != 1).flatten() + 1).tolist()
        bounds = [0, *cuts, len(positions)]
        return torch.cat([
            turn(x.narrow(axis, a, b - a), positions[a].item()) for a, b in zip(bounds, bounds[1:], strict=False)
        ], axis)  # fmt: skip

    return apply


def embedding(layout="bhsd", angle="exact", more=False, **options):
    """RotaryEmbedding with these words, through offsets; its tables kept from call to call."""

    def turn():
        held = RotaryEmbedding(**options)
        return lambda x, offset: held.rotate_queries_or_keys(x, offset=offset).detach()

    axis = -2 if layout == "bhsd" else -3
    return Implementation(
        apply=in_runs(turn(), axis), decode=turn(), layout=layout, rows=False,
        make=(lambda: in_runs(turn(), axis)) if more else None, paths=stored(options) if more else {},
        **EXACT | {"angle": angle},
    )  # fmt: skip


def stored(options):
    """The same after a half-precision checkpoint and after a round trip to a file; its axis and its scale named."""
    held = RotaryEmbedding(**options)
    held.load_state_dict({name: value.bfloat16() for name, value in held.state_dict().items()})
    file = io.BytesIO()
    torch.save(RotaryEmbedding(**options), file)
    file.seek(0)
    loaded = torch.load(file, weights_only=False)

    def there_and_back(x, offset):
        """After frequencies that were others for a call."""
        with torch.no_grad():
            loaded.freqs.mul_(2)
            loaded.rotate_queries_or_keys(x, offset=offset)
            loaded.freqs.div_(2)
        return loaded.rotate_queries_or_keys(x, offset=offset)

    return {
        "there and back": in_runs(there_and_back),
        "half checkpoint": in_runs(lambda x, offset: held.rotate_queries_or_keys(x, offset=offset)),
        "loaded": in_runs(lambda x, offset: loaded.rotate_queries_or_keys(x, 2, offset)),
        "scaled": in_runs(lambda x, offset: loaded.rotate_queries_or_keys(2 * x, None, offset, 0.5)),
    }


class Cache:
    """Keys, and the scores of a query that is the last of them."""

    def __init__(self, **options):
        self.module, self.keys = RotaryEmbedding(**options), []

    def append(self, keys):
        self.keys.append(keys)

    def scores(self, q):
        q, k = self.module.rotate_queries_with_cached_keys(q, torch.cat(self.keys, -2))
        return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5


def cached(**options):
    return Implementation(cache=lambda: Cache(**options), **SCORED)


def queries_and_keys(**options):
    """xPos of a whole sequence at once, which is moved from its middle to the specification's centre."""
    held = RotaryEmbedding(**options)

    def scores(q, k, q_positions, k_positions):
        first = int(min(q_positions.min(), k_positions.min()))
        count = int(max(q_positions.max(), k_positions.max())) - first + 1
        whole = [torch.zeros(*x.shape[:2], count, x.shape[-1], dtype=x.dtype) for x in (q, k)]
        for x, given, places in zip(whole, (q, k), (q_positions, k_positions), strict=True):
            x[:, :, places - first] = given
        q, k = held.rotate_queries_and_keys(*whole)
        q, k = q[:, :, q_positions - first], k[:, :, k_positions - first]
        return q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5

    return Implementation(scores=scores, **SCORED)


def magnitudes(**options):
    """xPos by get_scale, one position at a time, since it puts the centre in the middle of what it is given."""
    held = RotaryEmbedding(**options)

    def apply(x, positions):
        angles = positions.double()[:, None] * held._omega(held.device)
        scale = torch.cat([held.get_scale(p[None]) for p in positions])
        return apply_rotary_emb(angles.repeat_interleave(2, -1), x, scale=scale)

    return Implementation(apply=apply, rows=False, **EXACT | {"dtypes": ("bfloat16", "float16"), "fractional": False})


def axial(side, reach):
    """Angles of a grid, of which positions pick places."""
    held = RotaryEmbedding(dim=32)
    grid = held.get_axial_freqs(side, side)

    def apply(x, positions):
        return apply_rotary_emb(grid[positions[:, 0], positions[:, 1]], x)

    def by_offsets(x, positions):
        if len(positions) > 9:
            return apply(x, positions)
        places = [held.get_axial_freqs(1, 1, offsets=p).flatten(0, -2) for p in positions]
        return apply_rotary_emb(torch.cat(places), x)

    def by_blocks(x, positions):
        rows = held(torch.arange(side))
        both = broadcat((rows[:, None], rows[None]))
        return apply_rotary_emb(both[positions[:, 0], positions[:, 1]], x)

    return Implementation(
        apply=apply, paths={"offsets": by_offsets, "blocks": by_blocks}, rows=False, max_position=reach,
        **FLOAT32 | {"negative": False, "fractional": False},
    )  # fmt: skip


def refuses(error, function, *given, **options):
    try:
        function(*given, **options)
    except error:
        return
    raise AssertionError(f"not refused: {error.__name__}, {function}, {options}")


def refusals():
    """What cannot be rotated is refused; what just can is not."""
    x, cos = torch.ones(2, 3, 8), torch.ones(3, 4)
    half = {"pairing": "half-split"}
    refuses(TypeError, rotate, x.int(), cos, cos, **half)
    for given in ((x[0, 0, 0], cos, cos), (x, cos[0, 0], cos[0, 0]), (x, cos, cos[:, :2]), (x, cos[:2], cos[:2]),
                  (x[0, 0], cos, cos), (x, torch.ones(3, 5), torch.ones(3, 5))):  # fmt: skip
        refuses(ValueError, rotate, *given, **half)
    for options in (half | {"start": -1}, half | {"start": 1}, {"pairing": "half"}):
        refuses(ValueError, rotate, x, cos, cos, **options)
    none = torch.ones(3, 0)
    assert rotate(x, none, none, **half).equal(x)
    assert torch.vmap(lambda t: rotate(t, none, none, **half))(x).equal(x)
    whole = RotaryEmbedding
    for error, options in (
        (TypeError, {"dim": 8.0}), (ValueError, {"dim": 0}), (ValueError, {"dim": 7}), (ValueError, {"dim": 1}),
        (ValueError, {"interpolate_factor": 0.5}), (ValueError, {"xpos_scale_base": 0}),
        (TypeError, {"custom_freqs": torch.ones(4, dtype=torch.complex64)}),
        (TypeError, {"custom_freqs": [1.0]}), (ValueError, {"custom_freqs": torch.ones(2, 2)}),
        (ValueError, {"freqs_for": "words"}),
    ):  # fmt: skip
        refuses(error, whole, **{"dim": 8} | options)
    assert len(whole(2).freqs) == 1
    plain, xpos = whole(8), whole(8, use_xpos=True)
    refuses(TypeError, plain.rotate_queries_or_keys, x.int())
    refuses(ValueError, plain.rotate_queries_or_keys, x, 3)
    refuses(ValueError, plain.rotate_queries_or_keys, x, -4)
    refuses(ValueError, xpos.rotate_queries_or_keys, x)
    refuses(ValueError, plain.rotate_queries_and_keys, x, x)
    refuses(ValueError, plain.get_scale, torch.arange(3))
    refuses(ValueError, plain.rotate_queries_with_cached_keys, x, x[:, :2])
    refuses(ValueError, plain.get_axial_freqs, 2, 3, offsets=(1,))
    freqs = torch.ones(3, 8)
    refuses(ValueError, apply_rotary_emb, freqs, x, -1)
    refuses(ValueError, apply_rotary_emb, freqs, x, 1)
    refuses(ValueError, apply_rotary_emb, freqs[:, :7], x)
    refuses(ValueError, apply_rotary_emb, torch.ones(5, 3, 8), x)
    refuses(TypeError, apply_rotary_emb, freqs, x.int())
