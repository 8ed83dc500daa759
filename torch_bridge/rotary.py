"""`Rotary`: the rotary embedding of a model of one's own, from a Rope."""

import torch
from torch import Tensor, nn

from rope_ref.rope import Rope
from torch_bridge import kernel
from torch_bridge.functions import tables, wide
from torch_bridge.kernel import KINDS, at_hand, needs_gradient
from torch_bridge.rotation import rotate, turned
from torch_bridge.tables import shared

LAYOUTS = ("bhsd", "bshd", "thd")  # b batch, h heads, s seq, t tokens of all sequences end to end, d head_dim
Pair = tuple[Tensor, Tensor]


class Rotary(nn.Module):
    """Rotates queries and keys as `rope_ref.rotate` does by the Rope, keys by its `.keys`.

    It has no parameters and no buffers: what it computes follows from the Rope alone, whatever it was cast
    to, copied from, or built on, the meta device included.

    >>> rotary = Rotary(Rope(head_dim=64, theta=500000.0))
    >>> q, k = torch.randn(1, 32, 10, 64), torch.randn(1, 8, 10, 64)
    >>> q, k = rotary(q, k, offset=5)        # ten tokens after five that are in a cache
    >>> q.shape, k.shape
    (torch.Size([1, 32, 10, 64]), torch.Size([1, 8, 10, 64]))
    """

    def __init__(self, rope: Rope) -> None:
        super().__init__()
        if not isinstance(rope, Rope):
            raise TypeError(f"rope is a {type(rope).__name__}; expected a Rope")
        self.rope = rope
        self._queries = shared(rope)
        self._keys = self._queries if rope.xpos is None else shared(rope.keys)

    def extra_repr(self) -> str:
        return repr(self.rope)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        positions: Tensor | None = None,
        *,
        layout: str = "bhsd",
        offset: int | Tensor = 0,
        cu_seqlens: Tensor | None = None,
    ) -> Pair:
        """q and k, turned; they may differ in heads.

        layout      the axes of q and k: "bhsd" (batch, heads, seq, head_dim), "bshd", or "thd" for sequences that
                    are packed end to end
        positions   (seq,) or (batch, seq), for "thd" (tokens,); with a last axis where the Rope has several.
                    By default 0, 1, 2, ..., which starts anew with each sequence where cu_seqlens is given
        offset      added to positions: how many tokens are in the cache; a number, or one for each row (batch,)
                    or packed sequence (sequences,)
        cu_seqlens  for "thd": cumulative lengths (sequences + 1,), from 0

        Raises ValueError for what does not fit together, TypeError for q or k that are not floating point.
        """
        numbers = (q, k) if positions is None else (q, k, positions)
        kept = type(offset) is int and cu_seqlens is None and at_hand(*numbers) and not numbers[-1].requires_grad
        key = (layout, q.shape, k.shape, q.dtype, k.dtype, offset) if kept else None
        made = self._queries.last(key, positions) if kept else None
        if made is None and kept:
            with torch.inference_mode(False):  # else they could not serve training later
                made = self._made(q, k, positions, layout, offset, cu_seqlens)
                self._queries.keep(key, positions, made)
        of_q, of_k = made or self._made(q, k, positions, layout, offset, cu_seqlens)
        pairing, start = self.rope.pairing, self.rope.start
        if of_q is of_k:
            tensors, (cos, sin) = (("q", q), ("k", k)), of_q
            if kept and q.dtype in KINDS and not needs_gradient(q, k):
                q, k = kernel.turned(tensors, cos, sin, pairing, start)
            else:
                q, k = turned(tensors, cos, sin, pairing, start, False)
            return q, k
        return rotate(q, *of_q, pairing=pairing, start=start), rotate(k, *of_k, pairing=pairing, start=start)

    def _made(
        self, q: Tensor, k: Tensor, positions: Tensor | None, layout: str, offset: int | Tensor,
        cu_seqlens: Tensor | None,
    ) -> tuple[Pair, Pair]:  # fmt: skip
        """The tables of q and of k, the same ones where they turn alike, once it is sure that all fits."""
        check(layout, q=q, k=k)
        if q.device != k.device or q.dtype != k.dtype:
            both = f"{q.dtype} on {q.device} and {k.dtype} on {k.device}"
            raise ValueError(f"q and k are {both}; expected one dtype and one device")
        seq = seq_of(layout)
        if q.shape[seq] != k.shape[seq] or (layout != "thd" and q.shape[0] != k.shape[0]):
            shapes = f"{tuple(q.shape)} and {tuple(k.shape)}"
            raise ValueError(f"q and k have shapes {shapes} as {layout}; expected to differ in heads alone")
        places = self._positions(q, positions, layout, offset, cu_seqlens)
        for x in (q, k):
            check_heads(x, self.rope, layout)
        of_q = placed(self._queries(places, q.dtype), self.rope, layout)
        return of_q, of_q if self._keys is self._queries else placed(self._keys(places, k.dtype), self.rope, layout)

    def rotate_cached_keys(
        self,
        keys: Tensor,
        positions: Tensor,
        *,
        distance: int | Tensor = 0,
        rope: Rope | None = None,
        layout: str = "bhsd",
    ) -> Tensor:
        """Keys that stand rotated in a cache, as they would be `distance` further on, or by another Rope, or both.

        keys       as this module rotated them at `positions`, in any layout of `forward`
        distance   how far they move, negative after tokens before them were evicted; shaped like positions
        rope       the Rope that queries will have from now on, as when dynamic NTK or LongRoPE rescales

        Both rotations are one, by the difference of their angles, so keys are rounded once. Raises ValueError for
        a Rope that turns other channels.

        >>> rotary, x = Rotary(Rope(head_dim=2)), torch.randn(1, 1, 3, 2, dtype=torch.float64)
        >>> there, here = (rotary(x, x, offset=n)[1] for n in (9, 4))
        >>> torch.allclose(rotary.rotate_cached_keys(there, torch.arange(9, 12), distance=-5), here)
        True
        """
        check(layout, keys=keys)
        old = self._keys
        new = old if rope is None else shared(rope.keys)
        if shape(new.rope) != shape(old.rope):
            raise ValueError(f"rope turns channels {shape(new.rope)}; expected {shape(old.rope)}, as {self.rope!r}")
        before = self._positions(keys, positions, layout, 0, None)
        after = before + distance
        angle = new.angles(after) - old.angles(before)
        by = tables(angle, keys.dtype, new.magnitude(after) / old.magnitude(before))
        check_heads(keys, self.rope, layout)
        return rotate(keys, *placed(by, self.rope, layout), pairing=self.rope.pairing, start=self.rope.start)

    def _positions(
        self, x: Tensor, positions: Tensor | None, layout: str, offset: int | Tensor, cu_seqlens: Tensor | None
    ) -> Tensor:
        """Positions of the tokens of x, one for each of (seq,) or (batch, seq), axes included."""
        rope, length = self.rope, x.shape[seq_of(layout)]
        if cu_seqlens is not None and (layout != "thd" or positions is not None):
            raise ValueError(f"cu_seqlens is given with layout {layout!r}; expected 'thd', and no positions beside it")
        if cu_seqlens is not None and (cu_seqlens.ndim != 1 or cu_seqlens.is_floating_point()):
            raise ValueError(f"cu_seqlens has shape {tuple(cu_seqlens.shape)}; expected whole numbers (sequences + 1,)")
        if cu_seqlens is not None and at_hand(cu_seqlens):
            check_lengths(cu_seqlens, length)
        offset = number("offset", offset, x.device) if isinstance(offset, Tensor) else offset
        if isinstance(offset, Tensor) and offset.ndim:
            rows = x.shape[0] if layout != "thd" else len(cu_seqlens) - 1 if cu_seqlens is not None else None
            if offset.shape != (rows,):
                raise ValueError(f"offset has shape {tuple(offset.shape)}; expected one for each of {rows} sequences")
            if offset.device != x.device:
                raise ValueError(f"offset is on {offset.device}; expected {x.device}, where what it moves is")
        if positions is None and rope.axes is not None:
            raise ValueError(f"positions are not given; expected them, since the Rope has {rope.axes} axes")
        if positions is None:
            positions = torch.arange(length, device=x.device)
        if positions.device != x.device:
            raise ValueError(f"positions are on {positions.device}; expected {x.device}, where what they turn is")
        positions = number("positions", positions, x.device)
        if isinstance(offset, float):  # torch would add it in its default dtype
            positions = positions.to(wide(x.device))
        leading = positions.shape if rope.axes is None else positions.shape[:-1]
        batches = (1, x.shape[0]) if layout != "thd" else ()
        if leading != (length,) and not (len(leading) == 2 and leading[0] in batches and leading[1] == length):
            batched = "" if layout == "thd" else f" or ({x.shape[0]}, {length})"
            last = "" if rope.axes is None else f", and then {rope.axes} axes"
            raise ValueError(f"positions have shape {tuple(positions.shape)}; expected ({length},){batched}{last}")
        if cu_seqlens is not None:
            sequence = torch.bucketize(positions, cu_seqlens[1:-1].to(positions.device), right=True)
            positions = positions - cu_seqlens.to(positions.device)[sequence]
            return positions + (offset[sequence] if isinstance(offset, Tensor) and offset.ndim else offset)
        if isinstance(offset, Tensor) and offset.ndim:
            offset = offset.reshape(-1, *(1,) * (1 if rope.axes is None else 2))
        return positions + offset


def number(name: str, given: Tensor, device: torch.device) -> Tensor:
    """Positions or distances in a dtype that holds their sums. Raises ValueError where they are no such numbers."""
    if given.is_complex() or given.dtype == torch.bool:
        raise ValueError(f"{name} have dtype {given.dtype}; expected real numbers")
    wider = given.to(wide(device) if given.is_floating_point() else torch.int64)
    if given.dtype == torch.uint64 and at_hand(given) and (wider < 0).any():
        raise ValueError(f"{name} reach 2^63 and more; expected less")
    return wider


def check_lengths(cu_seqlens: Tensor, tokens: int) -> None:
    """Raise ValueError unless they rise from 0 to the number of tokens."""
    ends: list[int] = cu_seqlens.tolist()
    if not ends or ends[0] != 0:
        raise ValueError(f"cu_seqlens begin with {ends[0] if ends else 'nothing'}; expected 0")
    if ends != sorted(ends):
        raise ValueError(f"cu_seqlens are {ends}; expected no number below the one before it")
    if ends[-1] != tokens:
        raise ValueError(f"cu_seqlens end at {ends[-1]}; expected the {tokens} tokens of q and k")


def check_heads(x: Tensor, rope: Rope, layout: str) -> None:
    heads = x.shape[layout.index("h")]
    if x.shape[-1] != rope.head_dim or (rope.heads is not None and rope.heads != heads):
        expected = f"{rope.head_dim} channels" + ("" if rope.heads is None else f" and {rope.heads} heads")
        raise ValueError(f"q or k has shape {tuple(x.shape)} as {layout}; expected {expected}")


def placed(pair: Pair, rope: Rope, layout: str) -> Pair:
    """Tables ((batch,) (heads,) seq, pairs) with their axes where a tensor of this layout has them."""
    cos, sin = (t if rope.heads is not None else t.unsqueeze(-3) for t in pair)
    return (cos, sin) if layout == "bhsd" else (cos.transpose(-2, -3), sin.transpose(-2, -3))


def check(layout: str, **tensors: Tensor) -> None:
    """Raise ValueError for an unknown layout or another number of axes than it has."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout is {layout!r}; expected one of {', '.join(map(repr, LAYOUTS))}")
    for name, x in tensors.items():
        if x.ndim != len(layout):
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {len(layout)} axes, as {layout!r}")


def seq_of(layout: str) -> int:
    """The axis along which positions run."""
    return layout.index("t" if layout == "thd" else "s")


def shape(rope: Rope) -> tuple[object, ...]:
    """Which channels a Rope turns."""
    return rope.head_dim, rope.start, rope.pairs, rope.pairing, rope.axes, rope.heads
