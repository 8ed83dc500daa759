"""Other implementations: one tensor by size, and query and key of one decoded token."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from rope_ref.rope import Rope
from torch_bridge import rotate, rotate_qk
from torch_bridge.bench.cases import START, Case, check, close, rotated, roundings
from torch_bridge.bench.peers import PEERS, Peer, tables_at
from torch_bridge.bench.rows import Job, LeftOut, Row, Section, Wrong
from torch_bridge.bench.timing import Effort, figure, in_turn, settled

TOKENS = (1, 512, 4096)
DTYPES = ("float32", "bfloat16")
POSITION = 200  # of the decoded token: beyond 256 some peers are wrong in bfloat16
BY_SIZE = """\
(1, 32, tokens, 128). The time of a peer over that of torch_bridge.rotate, same pairing: how many times slower it is.
vLLM rotates in place and is compared with torch_bridge.rotate(inplace=True) in its layout, (tokens, heads, head_dim).
Only the call is timed: tables, and arrays of their own kind, are made before."""
DECODED = """\
Query (1, 32, 1, 128) and key (1, 8, 1, 128), microseconds of a call: a peer (vLLM in place, others into new tensors)
and torch_bridge.rotate_qk with all its checks, into new tensors and in place. The last two columns: how many times
slower the peer is."""


def by_size(quick: bool) -> Section:
    tokens, dtypes = (TOKENS[:2], DTYPES[:1]) if quick else (TOKENS, DTYPES)
    jobs = [Job(f"{name}, {n} tokens {dtype}", partial(sized, name, n, dtype))
            for n in tokens for dtype in dtypes for name in PEERS]  # fmt: skip
    return Section("Other implementations", BY_SIZE, jobs)


def decoded(quick: bool) -> Section:
    dtypes = DTYPES[:1] if quick else DTYPES
    jobs = [Job(f"{name}, one decoded token {dtype}", partial(one_token, name, dtype))
            for dtype in dtypes for name in PEERS]  # fmt: skip
    return Section("One decoded token", DECODED, jobs)


def sized(name: str, tokens: int, dtype: str, effort: Effort) -> Sequence[Row]:
    pairing = PEERS[name][1]
    (x,) = Case(tokens, dtype, pairing).tensors()
    rope = Rope(x.shape[-1], pairing=pairing)
    cos, sin = tables_at(rope, START, tokens)
    peer = ready(name, [x], rope, START)
    if peer.in_place:
        packed, rows = x[0].transpose(0, 1).clone(memory_format=torch.contiguous_format), (cos[:, None], sin[:, None])
        ours: Callable[[], Tensor] = lambda: rotate(packed, *rows, pairing=pairing, inplace=True)  # noqa: E731
        check("ours, in place", ours().transpose(0, 1)[None], x, cos, sin, pairing)
    else:
        ours = lambda: rotate(x, cos, sin, pairing=pairing)  # noqa: E731
        check("ours", ours(), x, cos, sin, pairing)
    calls = {"peer": peer.call, "ours": ours}
    times = in_turn(calls, effort, settled(calls))
    labels: dict[str, str | int] = {"peer": name, "tokens": tokens, "dtype": dtype, "pairing": pairing}
    return [Row(labels, {"times slower": figure(times["peer"] / times["ours"])})]


def one_token(name: str, dtype: str, effort: Effort) -> Sequence[Row]:
    pairing = PEERS[name][1]
    q, k = xs = Case(1, dtype, pairing, heads=(32, 8)).tensors()
    own_q, own_k = (x.clone() for x in xs)
    rope = Rope(q.shape[-1], pairing=pairing)
    cos, sin = tables_at(rope, POSITION, 1)
    peer = ready(name, xs, rope, POSITION)
    calls: dict[str, Callable[[], Any]] = {
        "peer": peer.call,
        "new": lambda: rotate_qk(q, k, cos, sin, pairing=pairing),
        "in place": lambda: rotate_qk(own_q, own_k, cos, sin, pairing=pairing, inplace=True),
    }
    for way in ("new", "in place"):
        for x, y in zip(xs, calls[way](), strict=True):
            check(f"rotate_qk, {way}", y, x, cos, sin, pairing)
    times = in_turn(calls, effort, settled(calls))
    figures = {way: figure(times[way] * 1e6, "us") for way in calls}
    figures |= {f"over {way}": figure(times["peer"] / times[way]) for way in ("new", "in place")}
    return [Row({"peer": name, "dtype": dtype, "pairing": pairing}, figures)]


def ready(name: str, xs: Sequence[Tensor], rope: Rope, start: int) -> Peer:
    """The peer of a name, with its result compared with torch's own operations. Raises LeftOut where it fails."""
    try:
        peer = PEERS[name][0](xs, rope, start)
        results = peer.result(peer.call())
    except LeftOut as absent:
        raise LeftOut(absent.reason, f"{name}, {xs[0].dtype}".replace("torch.", "")) from absent
    except ImportError as missing:
        raise LeftOut(f"{(missing.name or name).partition('.')[0]} is not installed", name) from missing
    except Exception as failure:  # a compiler that is not there, a machine it was not made for
        lines = str(failure).strip().splitlines() or [""]
        raise LeftOut(f"raises {type(failure).__name__}: {lines[0]}", name) from failure
    tables = tables_at(rope, start, xs[0].shape[2])
    try:
        for x, y in zip(xs, results, strict=True):
            close("its result", y, rotated(x, *tables, rope.pairing), roundings(x, *tables, peer.inner, peer.angle))
    except Wrong as wrong:
        raise LeftOut(str(wrong)) from wrong
    return peer
