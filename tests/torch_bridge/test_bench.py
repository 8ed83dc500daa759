"""The benchmark: what it times is right, what it says is complete. How long anything takes is not tested."""

import json
import math
import platform
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.llama import modeling_llama

import numba_kernels as nk
from numba_kernels.machine import caches
from rope_ref.cli import main
from rope_ref.pairing import PAIRINGS
from torch_bridge.bench import (
    against,
    by_hand,
    calls,
    hand,
    kernels,
    machine,
    norm,
    peers,
    pools,
    scaling,
    start,
    tables,
)
from torch_bridge.bench.cases import DTYPES, Case, check, check_memory
from torch_bridge.bench.command import SECTIONS
from torch_bridge.bench.formulas import apply_rotary_pos_emb, complex_view, hugging_face, widened
from torch_bridge.bench.rows import LeftOut, Wrong
from torch_bridge.bench.timing import Effort, figure, in_turn, medians

CASES = st.builds(
    Case,
    tokens=st.integers(2, 9), dtype=st.sampled_from(DTYPES), pairing=st.sampled_from(("half-split", "interleaved")),
    heads=st.sampled_from(((3,), (4, 2))), head_dim=st.just(16), rotary_dim=st.sampled_from((16, 4)),
    layout=st.sampled_from(("head-major", "transposed", "token-major", "packed")), fused=st.booleans(),
)  # fmt: skip
FIGURES = {
    "size": {"in place", "given", "fresh", "bandwidth", "bandwidth of mul_", "eager"},
    "shape": {"in place", "given", "fresh", "bandwidth", "bandwidth of mul_", "eager"},
    "tables": {"over plain"},
    "decode": {"peer", "new", "in place", "over new", "over in place"},
    "calls": {"time", "over the formula"},
    "training": {"eager"},
    "together": {"one", "separate", "over one"},
    "norm": {"over rotation", "apart over one pass"},
    "peers": {"times slower"},
    "hand": {"in place", "given", "kernel in place", "kernel given"},
    "threads": {"rotate", "mul_"},
    "alternating": {"alone", "after mul_", "after a rotation"},
    "growth": {"rotate", "mul_", "ratio"},
}


@pytest.fixture
def small(monkeypatch):
    """Few tokens, no compiler and no processes: seconds are not looked at."""
    for module, name, value in (
        (kernels, "TOKENS", (1, 8, 16)), (kernels, "VARIED_TOKENS", (8,)), (tables, "TOKENS", (8,)),
        (against, "TOKENS", (1, 8)), (calls, "TOKENS", (8,)), (scaling, "THREAD_TOKENS", 8),
        (scaling, "GROWTH_TOKENS", (8, 16, 32)), (torch, "compile", lambda call, dynamic: call),
        (norm, "TOKENS", (8,)), (hand, "TOKENS", (1, 8)), (pools, "TOKENS", (8,)),
        (start, "run", lambda program, **environment: 0.5),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, value)


@pytest.fixture
def bench(tmp_path, capsys):
    """Run the command in a folder; its status, what it printed, and its JSON where it wrote one."""

    def run(*arguments):
        file, chart = tmp_path / "out.json", tmp_path / "out.png"
        status = main(["bench", "--json", str(file), "--png", str(chart), *arguments])
        found = json.loads(file.read_text()) if file.exists() else None
        return SimpleNamespace(status=status, found=found, chart=chart, **capsys.readouterr()._asdict())

    return run


# --- times


@given(st.lists(st.floats(1e-6, 1e3), min_size=1, max_size=30), st.floats(1e-3, 1e3))
def test_a_figure_is_a_median_and_a_spread_that_has_no_unit(values, factor):
    one, other = figure(np.array(values), "s"), figure(np.array(values) * factor, "ms")
    assert min(values) <= one.median <= max(values) and one.spread >= 0 and one.runs == len(values)
    # a product, an interpolation of three operations and a quotient, of numbers 1e9 apart at most
    assert math.isclose(other.median, factor * one.median, rel_tol=8 * 2.0**-53)
    assert math.isclose(other.spread, one.spread, rel_tol=1e-12, abs_tol=1e-4)


@given(st.integers(1, 12), st.integers(1, 4))
def test_calls_are_taken_in_turn_and_the_other_way_round_every_second_time(rounds, many):
    names, told, done = [f"call {i}" for i in range(many)], [], []
    clocked = {name: lambda name=name: done.append(name) for name in names}
    times = in_turn(clocked, Effort(rounds, math.inf), told.append)
    assert list(times) == names and all(len(t) == rounds and (t > 0).all() for t in times.values())
    assert told == names + [name for number in range(rounds + 1) for name in names[:: -1 if number % 2 else 1]]
    assert set(done) == set(names)


def test_rounds_end_when_time_is_up_but_not_before_there_are_a_few():
    assert len(in_turn({"call": lambda: None}, Effort(100, 0.0))["call"]) == 5
    assert set(medians({"call": lambda: None}, rounds=3)) == {"call"}


# --- whether a result is right


@given(CASES)
def test_what_is_timed_agrees_with_torchs_own_operations(case):
    case = case._replace(fused=case.fused and case.layout != "head-major")
    row = kernels.measure(case, {"row": 1}, Effort(1, 0.0))[0]
    assert set(row.figures) == FIGURES["size"] and all(f.median > 0 for f in row.figures.values())


@given(CASES, st.sampled_from(("another pairing", "the opposite angle", "the next position", "not at all", "shape")))
def test_a_wrong_rotation_is_seen(case, how):
    case = case._replace(rotary_dim=16)  # of one pair the two pairings are the same
    (x, *_), (cos, sin), pairing = case.tensors(), case.tables(), case.pairing
    other = {"half-split": "interleaved", "interleaved": "half-split"}[pairing]
    right = hugging_face(x.float(), cos, sin, pairing)()
    check("right", right.to(x.dtype), x, cos, sin, pairing)
    wrong = {
        "another pairing": lambda: hugging_face(x.float(), cos, sin, other)(),
        "the opposite angle": lambda: hugging_face(x.float(), cos, -sin, pairing)(),
        "the next position": lambda: hugging_face(x.float(), cos.roll(1, 0), sin.roll(1, 0), pairing)(),
        "not at all": lambda: x.float(),
        "shape": lambda: right[..., :-1],
    }[how]()
    with pytest.raises(Wrong, match="wrong"):
        check("wrong", wrong.to(x.dtype), x, cos, sin, pairing)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_formula_is_that_of_transformers(dtype):
    q, k = Case(5, dtype, heads=(4, 2)).tensors()
    cos, sin = (widened(t, "half-split").to(q.dtype) for t in Case(5, dtype).tables())
    theirs = modeling_llama.apply_rotary_pos_emb(q, k, cos[None], sin[None])
    for x, y in zip((q, k), theirs, strict=True):
        assert torch.equal(apply_rotary_pos_emb(x, cos, sin, "half-split"), y)


@pytest.mark.parametrize("dtype", DTYPES)
def test_complex_numbers_turn_neighbours(dtype):
    case = Case(5, dtype, "interleaved")
    (x,), (cos, sin) = case.tensors(), case.tables()
    check("complex numbers", complex_view(x, cos, sin)(), x, cos, sin, "interleaved")


# --- the command


@pytest.mark.in_turn
def test_every_table_is_complete(small, bench):
    done = bench("--quick", "--rounds", "2")
    assert done.status == 0
    rows = {name: section["rows"] for name, section in done.found["sections"].items()}
    assert list(rows) == list(SECTIONS)
    absent = {name for name in peers.PEERS if name in done.found["left out"]}
    here = len(peers.PEERS) - len(absent)
    expected = {"size": 3, "shape": len(kernels.VARIATIONS), "tables": 5, "decode": here, "training": 2,
                "together": 1, "peers": 2 * here, "growth": 3, "start": 2, "calls": 9, "norm": 2,
                "alternating": 1, "hand": 0 if by_hand.NAME in done.found["left out"] else 2}  # fmt: skip
    expected["threads"] = len(rows["threads"])  # as many as the machine has
    assert {name: len(found) for name, found in rows.items()} == expected
    for name, found in rows.items():
        for row in found:
            assert name not in FIGURES or set(row["figures"]) == FIGURES[name]
            for one in row["figures"].values():
                assert math.isfinite(one["median"]) and one["median"] > 0 and one["spread"] >= 0
                assert one["runs"] == 2 or name == "start"
    assert done.chart.read_bytes().startswith(b"\x89PNG")
    for section in done.found["sections"].values():
        assert not section["rows"] or section["title"] in done.out


def test_the_machine_is_described(small, bench):
    found = bench("--only", "together", "--rounds", "1").found
    assert list(found["sections"]) == ["together"]
    assert found["machine"]["cores"] >= 1 and found["machine"]["versions"]["torch"] == torch.__version__
    assert found["machine"]["caches"] == caches()


def test_implementations_that_are_not_there_are_named(small, bench, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlx.core", None)
    done = bench("--quick", "--only", "peers", "--only", "decode", "--rounds", "1")
    assert done.found["left out"]["mlx"] == "mlx is not installed"
    assert "left out: mlx: mlx is not installed" in done.out
    assert not any(r["labels"]["peer"] == "mlx" for s in done.found["sections"].values() for r in s["rows"])


def test_an_implementation_that_is_wrong_is_left_out_with_its_error(small, bench, monkeypatch):
    still = lambda xs, rope, begin: peers.Peer(lambda: xs, peers.as_it_is, "float32")  # noqa: E731
    monkeypatch.setattr(against, "PEERS", {"still": (still, "half-split")})
    done = bench("--quick", "--only", "decode", "--rounds", "1")
    assert "its result is off by" in done.found["left out"]["still, one decoded token float32"]


@pytest.mark.parametrize("module, only", [
    (kernels, "size"), (against, "peers"), (calls, "together"), (pools, "alternating"),
])  # fmt: skip
def test_nothing_is_timed_or_written_where_ours_is_wrong(small, bench, monkeypatch, module, only):
    monkeypatch.setattr(module, "rotate", lambda x, *tables, **options: x.clone())
    done = bench("--quick", "--only", only)
    assert done.status == 1 and done.found is None and "is off by" in done.err


@pytest.mark.parametrize("found, reason", [
    (None, "no C compiler is installed, none of cc, gcc, clang"),
    ("/nowhere/cc", "cc fails: [Errno 2] No such file or directory: '/nowhere/cc'"),
    (sys.executable, f"{Path(sys.executable).name} fails: "),
])  # fmt: skip
def test_c_by_hand_is_left_out_where_it_cannot_be_compiled(small, bench, monkeypatch, found, reason):
    monkeypatch.setattr("shutil.which", lambda name: found)
    done = bench("--quick", "--only", "hand", "--rounds", "1")
    assert done.status == 0 and done.found["sections"]["hand"]["rows"] == []
    assert done.found["left out"][by_hand.NAME].startswith(reason)


def test_c_by_hand_is_not_timed_where_it_is_wrong(small, bench, monkeypatch):
    monkeypatch.setattr(hand, "ways", lambda *arguments: {"nothing": lambda: None})
    done = bench("--quick", "--only", "hand", "--rounds", "1")
    assert done.status == 1 and "C in place, nothing is not bit for bit the rotation of numba_kernels" in done.err


@pytest.mark.parametrize("processor", ["native", "haswell", "x86-64"])
@pytest.mark.parametrize("pairing", PAIRINGS)
@pytest.mark.parametrize("head_dim", [32, 64, 96, 128, 256])
def test_c_by_hand_gives_our_bits(monkeypatch, processor, pairing, head_dim):
    vectors = torch.backends.cpu.get_cpu_capability()
    if processor != "native" and (platform.machine() != "x86_64" or processor == "haswell" and "AVX" not in vectors):
        pytest.skip(f"not made for {platform.machine()}, {vectors}")
    case = Case(37, pairing=pairing, heads=(5,), head_dim=head_dim, rotary_dim=head_dim)
    (x,), (cos, sin) = case.tensors(), case.tables()
    wanted = nk.rotate(x.numpy(), cos.numpy(), sin.numpy(), pairing=pairing)
    try:
        made = by_hand.library(by_hand.compiler(), processor)
        monkeypatch.setattr(by_hand, "library", lambda path: made)
        found = [(call, source, target) for source, target in ((x, torch.empty_like(x)), (x, x))
                 for call in by_hand.ways(source, target, cos, sin, pairing).values()]  # fmt: skip
    except LeftOut as absent:
        pytest.skip(absent.reason)
    assert len(found) >= 2 * 2 * 2  # blocks and prefetch, into a buffer and in place
    before = x.clone()
    for call, source, target in found:
        target.zero_()
        source.copy_(before)
        call()
        assert np.array_equal(target.numpy().view(np.int32), wanted.view(np.int32))


@pytest.mark.parametrize("arguments, message", [
    (("--rounds", "0"), "rounds is 0; expected at least 1"),
    (("--only", "speed"), "only is 'speed'; expected one of size, shape"),
    (("--json", "nowhere/out.json"), "json is 'nowhere/out.json'; expected a file in a folder that is there"),
])  # fmt: skip
def test_wrong_usage_is_refused_before_anything_is_measured(bench, arguments, message):
    done = bench(*arguments)
    assert done.status == 2 and message in done.err


def test_help_names_every_table(capsys):
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    assert ", ".join(SECTIONS) in " ".join(capsys.readouterr().out.split())


# --- what surrounds it


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_program_that_measures_the_first_call(dtype, capsys):
    exec(start.FIRST.format(dtype=dtype, pairing="interleaved"), {})
    assert float(capsys.readouterr().out) > 0


def test_a_process_that_fails_says_why():
    assert start.run("print('compiling'); print(0.5)") == 0.5
    with pytest.raises(Wrong, match="no such thing"):
        start.run("raise KeyError('no such thing')")


def test_what_does_not_fit_in_memory_is_left_out(monkeypatch):
    monkeypatch.setattr("torch_bridge.bench.cases.memory", lambda name: 2**20)
    check_memory(2**20)
    with pytest.raises(LeftOut, match="needs 1.0 GiB of memory, and 0.0 are free"):
        check_memory(2**30)


def test_what_the_machine_does_not_say_is_none(tmp_path):
    (tmp_path / "file").write_text("model name\t: a name: with a colon\n")
    assert machine.line_of(str(tmp_path / "file"), "model name") == "a name: with a colon"
    assert machine.line_of(str(tmp_path / "file"), "vendor") is machine.line_of(str(tmp_path / "none"), "x") is None
