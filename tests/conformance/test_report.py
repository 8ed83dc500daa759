"""Reports in their three forms say the same, whatever somebody's code made them hold."""

import json
from collections import Counter
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import rope_ref as rr
from rope_ref.conformance import Finding, Outcome, Report, check
from rope_ref.conformance.reporting.deviations import read_deviations
from rope_ref.conformance.reporting.render import render

ROPE = rr.Rope(8)
BUGS = ("LAYOUT", "POSDT", "UNKNOWN")
# what an exception of somebody else may say: control characters and halves of surrogate pairs too
texts = st.text(st.characters(codec=None) | st.sampled_from("[/]\x00\x1b<&\ud800"), max_size=12)
names = st.sampled_from(["norm", "split", "steps"])
adapters = st.sampled_from(["apply", "decode", "steps"])
numbers = st.floats() | st.just(np.float32(0.5)) | st.integers() | st.none() | st.just(np.arange(2))
findings = st.builds(
    Finding, bug=st.sampled_from(BUGS), property=names, adapter=adapters, explanation=texts, counterexample=texts,
    severity=st.sampled_from(["bug", "known"]), error=st.floats(), bound=st.floats(),
    details=st.dictionaries(st.sampled_from(["reason", "deviation"]), texts),
)  # fmt: skip
outcomes = st.builds(
    Outcome, property=names, adapter=adapters, reason=texts, verdict=st.sampled_from(["passed", "failed", "skipped"]),
    note=texts | st.sampled_from(["may follow from POSDT", "the same: LAYOUT"]), seconds=st.floats(0, 100),
)  # fmt: skip
remarks = st.builds(Finding, st.just(""), names, adapters, texts, severity=st.just("remark"))
reports = st.builds(
    Report, findings=st.lists(findings, max_size=3).map(tuple), outcomes=st.lists(outcomes, max_size=5).map(tuple),
    remarks=st.lists(remarks, max_size=2).map(tuple),
    inferred=st.fixed_dictionaries({"reach": numbers}, optional={"arrays": st.sampled_from(["numpy", "jax"])}),
    computes=st.lists(texts, max_size=2).map(tuple), seconds=st.floats(0, 100),
)  # fmt: skip


@given(reports)
def test_json_is_json(report):
    said = report.as_json()
    text = json.dumps(said, allow_nan=False)
    assert json.loads(text) == said
    assert said["conforms"] == report.passed
    assert [f["bug"] for f in said["findings"]] == [f.bug for f in report.findings]
    assert not any("seconds" in part for part in (said, *said["findings"], *said["properties"]))


@given(reports)
def test_junit_is_xml_that_counts_what_it_holds(report):
    suites = ET.fromstring(report.as_junit().encode())  # in UTF-8, as it is written
    (suite,) = suites
    kinds = Counter(child.tag for case in suite for child in case)
    assert int(suite.get("tests")) == len(suite) == len(report.outcomes)
    assert int(suite.get("failures")) == kinds["failure"]
    assert int(suite.get("skipped")) == kinds["skipped"]
    verdicts = Counter(map(report.verdict, report.outcomes))
    assert kinds["failure"] == verdicts["failed"] and kinds["skipped"] == verdicts["known"] + verdicts["skipped"]
    for case, outcome in zip(suite, report.outcomes, strict=True):
        assert (case.get("classname"), case.get("name")) == (f"rope_ref.{outcome.adapter}", outcome.property)


@given(reports)
def test_a_report_that_passes_has_no_failure(report):
    if report.passed:
        assert "failed" not in map(report.verdict, report.outcomes)
    for outcome in report.outcomes:  # only failures are judged anew
        assert outcome.verdict == "failed" or report.verdict(outcome) == outcome.verdict


@given(reports)
def test_people_are_told_the_verdict_first(report):
    says = "conforms" if report.passed else "does not conform"
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        render(report, ROPE, console)
    assert capture.get().startswith(says) and str(report).startswith(says)
    for finding in report.findings:
        assert finding.bug in capture.get() and finding.bug in str(report)


def finding(bug="LAYOUT", property="norm", adapter="apply", severity="bug"):
    return Finding(bug, property, adapter, "turns neighbours", "assert False", severity)


@pytest.mark.parametrize(
    ("found", "note", "verdict"),
    [
        ([finding()], "LAYOUT", "failed"),
        ([finding(severity="known")], "LAYOUT", "known"),
        ([finding(severity="known"), finding("POSDT")], "LAYOUT; POSDT", "failed"),
        ([finding(property="split")], "may follow from LAYOUT", "failed"),
        ([finding(property="split", severity="known")], "may follow from LAYOUT", "known"),
        ([finding(adapter="decode", severity="known")], "the same: LAYOUT", "known"),
        ([finding(adapter="decode")], "", "skipped"),
        ([], "raised TypeError: no", "skipped"),
    ],
)
def test_a_failure_is_judged_by_what_is_behind_it(found, note, verdict):
    outcome = Outcome("norm", "apply", "lengths stay", "failed", note)
    assert Report(tuple(found), (), (outcome,), {}).verdict(outcome) == verdict


def test_what_was_refused_and_not_promised_is_no_failure_beside_a_bug():
    outcome = Outcome("norm", "apply", "lengths stay", "failed", "raised TypeError")
    remark = Finding("", "norm", "apply", "not taken: raised TypeError", severity="remark")
    assert Report((finding(property="split"),), (remark,), (outcome,), {}).verdict(outcome) == "skipped"


def test_entries_that_nothing_was_found_of():
    report = Report((finding(severity="known"),), (), (), {})
    assert report.stale(["LAYOUT", "LAYOUT:norm", "LAYOUT:split", "POSDT"]) == ("LAYOUT:split", "POSDT")


@given(st.lists(st.tuples(st.sampled_from(BUGS), st.sampled_from(["", ":long positions", " : norm"]))))
def test_a_file_of_deviations(tmp_path_factory, entries):
    path = tmp_path_factory.mktemp("known") / "known.txt"
    path.write_text("# all of them\n\n" + "".join(f"  {bug}{of}  # why\n" for bug, of in entries))
    assert read_deviations(path) == tuple(bug + of.replace(" : ", ":") for bug, of in entries)
    path.write_text("LAYOUT\nlayout\n")
    with pytest.raises(ValueError, match="line 2 is 'layout'; expected CLASS"):
        read_deviations(path)


def rotated(rope):
    return lambda x, positions: rr.rotate(x, positions, rope).astype(x.dtype)


def test_equal_checks_give_equal_bytes_and_seeds_do_not_change_the_verdict():
    wrong = rr.Rope(8, pairing="interleaved")
    one, two = (check(rotated(wrong), ROPE, budget="quick") for _ in range(2))
    assert json.dumps(one.as_json()) == json.dumps(two.as_json())
    assert not one.passed and one.as_json()["findings"][0]["bug"] == "LAYOUT"
    assert not check(rotated(wrong), ROPE, budget="quick", seed=1).passed


def test_a_passing_report_fits_one_screen():
    console = Console(width=80, force_terminal=False)
    with console.capture() as capture:
        render(check(rotated(ROPE), ROPE, budget="quick"), ROPE, console)
    lines = capture.get().splitlines()
    assert lines[0].startswith("conforms") and len(lines) <= 24 and max(map(len, lines)) <= 80


def test_what_it_computes_beside_what_is_right():
    """Something that no wrong of the catalogue explains is read off and shown beside the specification."""
    report = Report((finding("UNKNOWN"),), (), (), {}, ("pairs: none", "magnitude: 1"))
    console = Console(width=120, force_terminal=False)
    with console.capture() as capture:
        render(report, ROPE, console)
    rows = {line.split("  ")[0].strip(): line.split() for line in capture.get().splitlines() if line.strip()}
    assert rows["pairs"][1:] == ["none", "(i,", "i", "+", "4):", "half-split"]
    assert rows["magnitude"][1:] == ["1", "1"]


@pytest.mark.parametrize("wrong", [rr.Rope(8), rr.Rope(8, theta=500.0), rr.Rope(8, attention_scale=2.0)], ids=repr)
def test_junit_has_failures_where_something_is_wrong(wrong):
    report = check(rotated(wrong), ROPE, budget="quick")
    assert report.passed == (wrong == ROPE) == ('failures="0"' in report.as_junit())
