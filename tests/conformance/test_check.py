"""Implementations that misbehave: each becomes a clear line in the report, and the other properties go on."""

import time

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import Implementation, check

ROPE = rr.variants.default(16)


def right(x, positions):
    return rr.rotate(np.asarray(x, np.float64), positions, ROPE).astype(x.dtype)


def checked(apply, rope=ROPE, **options):
    return check(apply, rope, budget="quick", **({"arrays": "numpy", "dtypes": ("float32",)} | options))


def said(report):
    return " ".join(f.explanation for f in report.findings)


def raises(x, positions):
    raise KeyError("cos_cached")


def hangs(x, positions):
    time.sleep(30)


@pytest.mark.parametrize("apply, options", [
    (raises, "raised KeyError: 'cos_cached'"),
    (lambda x, positions: None, "returned None"),
    (lambda x, positions: "cos", "returned"),
    (lambda x, positions: right(x, positions)[..., :-1], "returned shape"),
    (lambda x, positions: right(x, positions) * np.nan, "not finite"),
    (lambda x, positions: right(x, positions).astype(object), "object"),
    (lambda x, positions: (_ for _ in ()).throw(SystemExit(3)), "raised SystemExit"),
])  # fmt: skip
def test_what_comes_back_wrong_is_told(apply, options):
    report = checked(apply)
    assert not report.passed
    assert options in said(report)
    assert len(report.outcomes) > 20  # the other properties were tried all the same


def test_what_hangs_is_left_behind():
    began = time.monotonic()
    report = checked(hangs, time_limit=0.2, decode=lambda x, offset: right(x, offset + np.arange(x.shape[-2])))
    assert time.monotonic() - began < 20
    assert "did not end within 0.2 s" in said(report)
    assert any(o.adapter == "decode" and o.verdict == "passed" for o in report.outcomes)


def test_what_writes_over_its_input_is_told():
    def over(x, positions):
        x[...] = right(x, positions)
        return x

    assert [f.bug for f in checked(over, strided=False).findings] == ["INPL"]


@pytest.mark.parametrize("options, error", [
    ({"budget": "huge"}, "budget is 'huge'"),
    ({"layout": "bsdx"}, "layout is 'bsdx'"),
])  # fmt: skip
def test_wrong_usage_is_an_error(options, error):
    with pytest.raises(ValueError, match=error):
        check(right, ROPE, **options)


def test_no_way_in_is_an_error():
    with pytest.raises(ValueError, match="no adapter"):
        check(Implementation(), ROPE)


@pytest.mark.parametrize("seed", range(4))
def test_a_right_one_passes_whatever_is_drawn(seed):
    report = checked(right, dtypes=("float32", "bfloat16", "float16", "float64"), seed=seed)
    assert report.passed and not report.findings and not report.remarks


def float32_angles(x, positions):
    p = positions.astype(np.float32)[..., None] * (np.float32(10000.0) ** -(np.arange(8, dtype=np.float32) / 8))
    p = p[:, None] if p.ndim == 3 else p
    cos, sin, a, b = np.cos(p), np.sin(p), x[..., :8].astype(np.float32), x[..., 8:].astype(np.float32)
    return np.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


@pytest.mark.parametrize("seed", range(4))
def test_less_exact_angles_are_a_remark_unless_declared(seed):
    report = checked(float32_angles, seed=seed)
    assert report.passed and [f.bug for f in report.remarks if f.bug] == ["ANGDT"]
    declared = checked(float32_angles, seed=seed, angle="float32")
    assert declared.passed and not [f.bug for f in declared.remarks if f.bug]
    assert not checked(float32_angles, seed=seed, angle="exact", arithmetic="float32", table="float32").passed


def test_two_bugs_are_two_findings():
    wrong = rr.variants.yarn(16, 4.0, 64, pairing="interleaved", attention_factor=1.0)
    rope = rr.variants.yarn(16, 4.0, 64)
    report = check(
        lambda x, p: rr.rotate(np.asarray(x, np.float64), p, wrong).astype(x.dtype), rope, budget="normal",
        dtypes=("float32",),
    )  # fmt: skip
    assert {f.bug for f in report.findings} == {"LAYOUT", "YMAG"}


def test_a_known_deviation_does_not_fail_but_is_told():
    other = rr.variants.default(16, pairing="interleaved")
    report = checked(
        lambda x, p: rr.rotate(np.asarray(x, np.float64), p, other).astype(x.dtype), deviations=("LAYOUT",)
    )
    assert report.passed
    assert [(f.bug, f.severity) for f in report.findings] == [("LAYOUT", "known")]


def test_what_nothing_explains_is_unknown():
    def odd(x, positions):
        p = positions[:, None] if positions.ndim > 1 else positions
        y = right(x, positions)
        y[..., 3] += (0.01 * p**2 % 0.3).astype(x.dtype)
        return y

    report = checked(odd)
    assert {f.bug for f in report.findings} == {"UNKNOWN"}
    assert "closest" not in said(report)  # nothing comes near


def test_the_closest_is_said_where_it_leaves_less_than_half_of_the_error():
    def nearly_shifted(x, positions):
        p = positions[:, None] if positions.ndim > 1 else positions
        y = right(x, positions + 1)
        y[..., 3] += (0.01 * p**2 % 0.1).astype(x.dtype)
        return y

    assert "closest: tokens stand 1 too far" in said(checked(nearly_shifted))


def test_a_counterexample_can_be_pasted():
    other = rr.variants.default(16, theta=500.0)
    implementation = Implementation(
        apply=lambda x, p: rr.rotate(np.asarray(x, np.float64), p, other).astype(x.dtype), dtypes=("float32",)
    )
    finding = checked(implementation).findings[0]
    assert finding.bug == "THETA"
    with pytest.raises(AssertionError):
        exec(finding.counterexample, {"implementation": implementation})
    exec(finding.counterexample, {"implementation": Implementation(apply=right)})
    exec(finding.counterexample, {"implementation": right})


@pytest.mark.parametrize("rope, expected", [
    (rr.variants.llama3(64, factor=8.0), "500000, with the frequencies of llama3"),
    (rr.variants.linear(64, 8.0, theta=20000.0), "20000, with the frequencies of linear"),
    (rr.Rope(64, theta=20000.0), "20000"),
])  # fmt: skip
def test_another_theta_is_told_beside_the_one_that_was_asked_for(rope, expected):
    """Unscaled frequencies of theta 31,000, for which no law of the catalogue of wrongs accounts."""
    other = rr.variants.default(64, theta=31000.0)
    report = checked(lambda x, positions: rr.rotate(x, positions, other).astype(x.dtype), rope)
    assert report.findings[0].bug == "THETA" and said(report) == f"theta is 31000; expected {expected}"
