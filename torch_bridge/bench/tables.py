"""What other tables cost, and rows of tables that are gathered: the same tensor, against tables (tokens, pairs)."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import numba_kernels as nk
from rope_ref.rotation import tables
from rope_ref.variants import xpos
from torch_bridge.bench.cases import DTYPES, START, Case, array, close, rotated, roundings
from torch_bridge.bench.rows import Job, Row, Section
from torch_bridge.bench.timing import Effort, figure, in_turn

TOKENS = (512, 4096)
BATCH = 2
NOTES = """\
Times into a given buffer over those with tables (tokens, pairs) for all heads, the same x: 1.00 is no cost.
Positions with several axes, and every variant, only put other numbers in the same tables: xPos of the keys stands for
them all. One row for all tokens is what could be saved at most if cos and sin were computed instead of read."""


def by_tables(quick: bool) -> Section:
    tokens, dtypes = (TOKENS[:1], DTYPES[:1]) if quick else (TOKENS, DTYPES[:2])
    cases = [Case(n, dtype) for n in tokens for dtype in dtypes]
    jobs = [Job(f"tables, {case.tokens} tokens {case.dtype}", partial(measure, case)) for case in cases]
    return Section("Tables", NOTES, jobs)


def measure(case: Case, effort: Effort) -> Sequence[Row]:
    """The rows of one size, all calls in turn; raises Wrong where a rotation is."""
    (x,), (cos, sin) = case.tensors(), case.tables()
    heads, rows = x.shape[1], torch.arange(case.tokens).flip(0)
    places = START + np.arange(case.tokens)
    magnitude = [torch.from_numpy(t) for t in tables(xpos(case.head_dim).keys, places, np.float32)]
    split = x.view(BATCH, heads, -1, case.head_dim)
    own, short = zip(*((t.view(BATCH, 1, -1, t.shape[-1]), t[: case.tokens // BATCH]) for t in (cos, sin)), strict=True)
    ways: dict[str, tuple[Tensor, Sequence[Tensor], Tensor | None]] = {
        "plain": (x, (cos, sin), None),
        "gathered rows": (x, (cos, sin), rows),
        "for each head": (x, [t.expand(heads, -1, -1).contiguous() for t in (cos, sin)], None),
        "xPos, keys": (x, magnitude, None),
        "one row for all tokens": (x, [t[1:2] for t in (cos, sin)], None),
        f"plain, batch of {BATCH}": (split, short, None),
        "for each row of a batch": (split, own, None),
    }
    out = torch.empty_like(x)
    calls = {}
    for name, (t, (c, s), positions) in ways.items():
        options: dict[str, Any] = {"out": array(out.view(t.shape)), "pairing": case.pairing}
        options |= {} if positions is None else {"positions": positions.numpy()}
        calls[name] = partial(nk.rotate, array(t), c.numpy(), s.numpy(), **options)
        calls[name]()
        c, s = (c, s) if positions is None else (c[positions], s[positions])
        close(name, out.view(t.shape), rotated(t, c, s, case.pairing), roundings(t, c, s))
    times = in_turn(calls, effort)
    plain = {"for each row of a batch": f"plain, batch of {BATCH}"}
    return [Row({"tables": name, "tokens": case.tokens, "dtype": case.dtype},
                {"over plain": figure(times[name] / times[plain.get(name, "plain")])})
            for name in ways if not name.startswith("plain")]  # fmt: skip
