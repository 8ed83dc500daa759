"""What a model calls for one decoded token, by every door: microseconds, most of them Python."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from rope_ref.rope import Rope
from torch_bridge import Rotary, RotaryEmbedding, rotate_qk
from torch_bridge.bench.cases import Case, close, rotated, roundings
from torch_bridge.bench.formulas import apply_rotary_pos_emb, hugging_face
from torch_bridge.bench.peers import angles_in_float32, tables_at
from torch_bridge.bench.rows import Job, LeftOut, Row, Section
from torch_bridge.bench.timing import Effort, figure, in_turn

POSITION = 200  # of the token
DTYPES = ("float32", "bfloat16")
FORMULA = "Hugging Face's formula"
NOTES = """\
Query (1, 32, 1, 128) and key (1, 8, 1, 128), half-split; RotaryEmbedding turns the query alone, interleaved. The second
column: the time over that of Hugging Face's formula for both, its tables at hand; below 1 is faster. Rotary and
Hugging Face's module make or look up tables in each call, the others are given them."""
Turn = Callable[[], Sequence[Tensor]]


class Token(NamedTuple):
    """Query and key of one token, and its tables."""

    q: Tensor
    k: Tensor
    rope: Rope
    cos: Tensor
    sin: Tensor


class Door(NamedTuple):
    """What is called; the tensors it turns, and how; the least exact type, and how far angles may be off."""

    call: Turn
    turns: Sequence[Tensor]
    pairing: str = "half-split"
    inner: str | None = None
    angle: float = 0.0


def by_call(quick: bool) -> Section:
    jobs = [Job(f"{name}, one token {dtype}", partial(measure, name, dtype))
            for dtype in (DTYPES[:1] if quick else DTYPES) for name in DOORS]  # fmt: skip
    return Section("What a model calls, one token", NOTES, jobs)


def measure(name: str, dtype: str, effort: Effort) -> Sequence[Row]:
    """A row for each call of a kind, timed in turn with the formula; raises Wrong where a rotation is."""
    q, k = Case(1, dtype, heads=(32, 8)).tensors()
    rope = Rope(q.shape[-1])
    token = Token(q, k, rope, *tables_at(rope, POSITION, 1))
    cos, sin = token.cos, token.sin
    formulas = [hugging_face(x, cos, sin, "half-split") for x in (q, k)]
    formula = Door(lambda: [turn() for turn in formulas], (q, k), inner=dtype)
    try:
        doors = {FORMULA: formula, **DOORS[name](token)}
        doors[next(reversed(doors))].call()
    except ImportError as missing:
        raise LeftOut(f"{(missing.name or name).partition('.')[0]} is not installed", name) from missing
    except Exception as failure:  # a compiler that is not there
        if name != "torch.compile":
            raise
        lines = str(failure).strip().splitlines() or [""]
        raise LeftOut(f"raises {type(failure).__name__}: {lines[0]}", name) from failure
    for what, door in doors.items():
        before = [x.detach().clone() for x in door.turns]
        for x, y in zip(before, door.call(), strict=True):
            bound = roundings(x, cos, sin, door.inner, door.angle)
            close(what, y.detach(), rotated(x, cos, sin, door.pairing), bound)
    times = in_turn({what: door.call for what, door in doors.items()}, effort)
    return [Row({"call": what, "dtype": dtype},
                {"time": figure(times[what] * 1e6, "us"), "over the formula": figure(times[what] / times[FORMULA])})
            for what in doors if what != FORMULA or name == next(iter(DOORS))]  # fmt: skip


def ours(token: Token) -> dict[str, Door]:
    q, k, rope, cos, sin = token
    own_q, own_k = q.clone(), k.clone()
    leaf_q, leaf_k = (x.clone().requires_grad_() for x in (q, k))
    module, positions = Rotary(rope), torch.tensor([POSITION])
    embedding = RotaryEmbedding(rope.head_dim)

    def recorded() -> Sequence[Tensor]:
        with torch.enable_grad():
            return rotate_qk(leaf_q, leaf_k, cos, sin, pairing="half-split")

    return {
        "rotate_qk": Door(lambda: rotate_qk(q, k, cos, sin, pairing="half-split"), (q, k)),
        "rotate_qk, in place": Door(
            lambda: rotate_qk(own_q, own_k, cos, sin, pairing="half-split", inplace=True), (own_q, own_k)
        ),
        "rotate_qk, gradients recorded": Door(recorded, (leaf_q, leaf_k)),
        "Rotary, offset": Door(lambda: module(q, k, offset=POSITION), (q, k)),
        "Rotary, positions": Door(lambda: module(q, k, positions), (q, k)),
        "RotaryEmbedding.rotate_queries_or_keys": Door(
            lambda: [embedding.rotate_queries_or_keys(q, offset=POSITION)], (q,), "interleaved"
        ),
    }  # fmt: skip


def compiled(token: Token) -> dict[str, Door]:
    q, k, _, cos, sin = token

    def turn(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> Sequence[Tensor]:
        return rotate_qk(q, k, cos, sin, pairing="half-split")

    torch.compiler.reset()
    program: Any = torch.compile(turn, dynamic=False)
    return {"rotate_qk, torch.compile": Door(lambda: program(q, k, cos, sin), (q, k))}


def theirs(token: Token) -> dict[str, Door]:
    from transformers import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

    q, k, rope, _, _ = token
    config = LlamaConfig(head_dim=rope.head_dim, rope_parameters={"rope_type": "default", "rope_theta": rope.theta})
    module, positions = LlamaRotaryEmbedding(config), torch.tensor([[POSITION]])

    def call() -> Sequence[Tensor]:
        cos, sin = module(q, positions)
        return [apply_rotary_pos_emb(x, cos[:, None], sin[:, None], "half-split") for x in (q, k)]

    inner = str(q.dtype).removeprefix("torch.")
    door = Door(call, (q, k), inner=inner, angle=angles_in_float32(rope, POSITION))
    return {"Hugging Face's module and formula": door}


DOORS: dict[str, Callable[[Token], dict[str, Door]]] = {
    "calls": ours,
    "torch.compile": compiled,
    "Hugging Face's module": theirs,
}
