"""What one adapter shows, every other that can be asked it shows too."""

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import Implementation, check
from rope_ref.conformance.adapters.arrays import rounded
from rope_ref.conformance.adapters.subject import Subject
from rope_ref.conformance.check import Check

ROPE = rr.variants.default(16)


def right(x, p):
    return rr.rotate(x, p, ROPE).astype(x.dtype)


def overwriting(x, p):
    x[...] = right(x.copy(), p)
    return x


def half(x, p):
    return np.concatenate([right(x[..., :512, :], p[..., :512]), x[..., 512:, :]], -2)


BUGS = {
    "inputs left alone": overwriting,
    "long positions": lambda x, p: right(x, rounded(p, "bfloat16")),
    "dtype and shape": lambda x, p: right(x, p).astype(np.float64),
    "positions": lambda x, p: right(x, p[..., :1] + np.arange(p.shape[-1])),
    "rows": lambda x, p: right(x, p[0] if p.ndim == 2 else p),
    "offsets": lambda x, p: right(x, np.minimum(p, 2047)),
    "negative positions": lambda x, p: right(x, np.maximum(p, 0)),
    "long sequences": half,
    "split": lambda x, p: right(x, p + (p.shape[-1] > 4)),
}
COUNTED = ("dtype and shape", "long positions", "long sequences", "inputs left alone")  # what needs no positions


def session(turn):
    def make():
        tokens = [0]

        def step(x):
            p = tokens[0] + np.arange(x.shape[-2])
            tokens[0] += x.shape[-2]
            return turn(x, p)

        return step

    return make


def into(turn):
    def write(x, p, out):
        out[...] = turn(x.copy(), p)

    return write


def in_place(turn):
    def write(x, p):
        x[...] = turn(x.copy(), p)

    return write


UNSEEN = ("inputs left alone", "dtype and shape")  # by what writes where it is told
WRITING = [name for name in BUGS if name not in UNSEEN]
ADAPTERS = {
    "apply": (lambda turn: {"apply": turn}, BUGS),
    "apply_qk.query": (lambda turn: {"apply_qk": lambda q, k, a, b: (turn(q, a), right(k, b))}, BUGS),
    "apply_qk.key": (lambda turn: {"apply_qk": lambda q, k, a, b: (right(q, a), turn(k, b))}, BUGS),
    "make": (lambda turn: {"make": lambda: turn}, BUGS),
    "paths.fast": (lambda turn: {"paths": {"fast": turn}}, BUGS),
    "in_place": (lambda turn: {"in_place": in_place(turn)}, WRITING),
    "into": (lambda turn: {"into": into(turn)}, WRITING),
    "decode": (lambda turn: {"decode": lambda x, n: turn(x, n + np.arange(x.shape[-2]))}, (*COUNTED, "offsets")),
    "session": (lambda turn: {"session": session(turn)}, COUNTED),
    "sequence": (lambda turn: {"sequence": lambda x: turn(x, np.arange(x.shape[-2]))}, COUNTED),
}


class One(Check):
    """A check of a single property, through one adapter."""

    only = ("", "")

    def plan(self):
        return [(adapter, prop) for adapter, prop in super().plan() if (adapter, prop.name) == self.only]


def outcome(adapter, name, turn):
    adapters, _ = ADAPTERS[adapter]
    one = Implementation(arrays="numpy", dtypes=("float32",), **adapters(turn))
    run = One(Subject(one, ROPE), "quick")
    run.only = adapter, name
    report = run.run()
    return [o.verdict for o in report.outcomes], report.findings


@pytest.mark.in_turn
@pytest.mark.parametrize("adapter, name", [(one, name) for one, (_, names) in ADAPTERS.items() for name in names])
def test_a_bug_is_seen_through_every_adapter_that_can_show_it(adapter, name):
    if name == "split" and adapter not in ("apply", "apply_qk.query", "make", "in_place", "into", "paths.fast"):
        pytest.skip("laws are tried through the first adapter alone")
    assert outcome(adapter, name, BUGS[name])[0] == ["failed"]
    assert outcome(adapter, name, right)[0] == ["passed"]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_right_one_conforms_through_every_way_in(adapter):
    one = Implementation(arrays="numpy", dtypes=("float32",), **ADAPTERS[adapter][0](right))
    report = check(one, ROPE, budget="quick")
    assert report.passed, report.findings
    held = [o for o in report.outcomes if o.verdict == "passed"]
    assert len(held) >= {"session": 9, "sequence": 9, "decode": 13}.get(adapter, 15)


def test_the_side_is_told():
    turn = BUGS["rows"]
    report = check(
        None, ROPE, budget="quick", apply_qk=lambda q, k, a, b: (right(q, a), turn(k, b)), arrays="numpy",
        dtypes=("float32",),
    )  # fmt: skip
    assert {f.adapter for f in report.findings} == {"apply_qk.key"}
    assert {f.bug for f in report.findings} == {"BATCHPOS"}


def test_xpos_turns_queries_and_keys_apart():
    rope = rr.variants.xpos(16)

    def both(q, k, a, b):
        return rr.rotate(q, a, rope).astype(q.dtype), rr.rotate(k, b, rope.keys).astype(k.dtype)

    assert check(None, rope, budget="quick", apply_qk=both, arrays="numpy", dtypes=("float32",)).passed
    alike = lambda q, k, a, b: (both(q, k, a, b)[0], rr.rotate(k, b, rope).astype(k.dtype))  # noqa: E731
    report = check(None, rope, budget="quick", apply_qk=alike, arrays="numpy", dtypes=("float32",))
    assert {(f.bug, f.adapter) for f in report.findings} >= {("XPOS", "apply_qk.key")}


def test_heads_of_each_side_are_as_declared():
    seen = set()

    def both(q, k, a, b):
        seen.add((q.shape[1], k.shape[1]))
        return right(q, a), right(k, b)

    assert check(None, ROPE, budget="quick", apply_qk=both, arrays="numpy", dtypes=("float32",), heads=(4, 2)).passed
    assert seen == {(4, 2)}


def test_a_declared_range_is_kept_from_both_ends():
    for rope in (ROPE, rr.variants.axial(16, [8, 8])):
        asked = []

        def apply(x, p, rope=rope, asked=asked):
            asked.append((p.min(), p.max()))
            return rr.rotate(x, p, rope).astype(x.dtype)

        options = {"arrays": "numpy", "dtypes": ("float32",), "min_position": 3, "max_position": 20}
        report = check(apply, rope, budget="quick", deviations=("RANGE",), **options)
        assert report.passed, report.findings
        assert min(low for low, _ in asked) == 3 and max(high for _, high in asked) < 20


def test_calls_stay_on_the_thread_that_they_are_bound_to():
    import threading

    here = threading.local()
    here.table = 1

    def apply(x, p):
        return right(x, p) * here.table

    for limit in (30.0, None):
        assert check(apply, ROPE, budget="quick", arrays="numpy", dtypes=("float32",), time_limit=limit).passed
