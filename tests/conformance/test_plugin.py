"""The kit in pytest: each property is a test, which ends as the property did."""

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import ml_dtypes  # noqa: F401 - this and the next cannot be loaded twice, as runs within this one else would
import pytest

import rope_ref.conformance.plugin  # noqa: F401

pytest_plugins = ["pytester"]

ROOT = Path(__file__).parents[2]
HEAD = """
import rope_ref as rr
from rope_ref.conformance import conforms

rope, other = rr.Rope(8), rr.Rope(8, pairing="interleaved")
calls = []

def right(x, positions):
    calls.append(1)
    return rr.rotate(x, positions, rope).astype(x.dtype)

def wrong(x, positions):
    return rr.rotate(x, positions, other).astype(x.dtype)

"""


@pytest.fixture
def run(pytester):
    def run(text, *arguments, known=None, plugin=("-p", "pytest_rope_ref")):
        pytester.makepyfile(HEAD + text)
        if known is not None:
            pytester.maketxtfile(known=known)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *plugin, *arguments)

    return run


def test_every_property_is_a_test(run):
    result = run("test_rope = conforms(right, rope)\ndef test_other(): assert 1", "-v", "-rs")
    counts = result.parseoutcomes()
    assert counts["passed"] > 15 and "failed" not in counts and "errors" not in counts
    result.stdout.fnmatch_lines(["*::test_rope?apply: long positions? PASSED*", "*::test_other PASSED*"])
    result.stdout.fnmatch_lines(["*SKIPPED*no max_position is declared*"])


def test_a_bug_fails_with_its_name_and_its_counterexample(run):
    result = run("test_rope = conforms(wrong, rope)", "-v")
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*::test_rope?apply: agreement? FAILED*", "LAYOUT: pairs are *", "*Rope(*"])
    result.stdout.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*plugin.py*")


def test_one_property_alone(run):
    result = run("test_rope = conforms(right, rope)", "-k", "long and sequences", "-v")
    assert result.parseoutcomes()["passed"] == 1


def test_names_are_known_before_anything_is_called(run):
    assert run("def test_calls(): assert not calls\ntest_rope = conforms(right, rope)").ret == 0  # in this order
    result = run("test_rope = conforms(right, rope)", "--collect-only", "-q")
    result.stdout.fnmatch_lines(["*::test_rope?apply: agreement?"])


def test_the_check_runs_once(run):
    text = """
test_rope = conforms(right, rope)
def test_calls():
    many = len(calls)
    right.__globals__["test_rope"].rope_ref_conformance.report
    assert len(calls) == many > 0
"""
    assert run(text).ret == 0


@pytest.mark.parametrize("known", ["LAYOUT  # as it was trained", "# why\nLAYOUT:agreement\n"])
def test_known_bugs_are_expected_failures(run, known):
    result = run("test_rope = conforms(wrong, rope, deviations='known.txt')", "-v", known=known)
    counts = result.parseoutcomes()
    assert result.ret == 0 and counts["xfailed"] == 2 and "failed" not in counts
    result.stdout.fnmatch_lines(["*::test_rope?apply: agreement? XFAIL*", "*::test_rope?known: LAYOUT* XFAIL*"])


def test_a_list_that_is_not_there_is_one_line(run):
    result = run("test_rope = conforms(right, rope, deviations='absent.txt')")
    result.stdout.fnmatch_lines(["*cannot be checked: *No such file or directory: *absent.txt*"])
    assert "Traceback" not in result.stdout.str() and len(result.stdout.lines) < 15


@pytest.mark.parametrize("known", ["LAYOUT", "LAYOUT:agreement"])
def test_a_bug_that_is_gone_must_leave_the_list(run, known):
    result = run("test_rope = conforms(right, rope, deviations='known.txt')", known=known)
    assert result.ret == 1 and result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines([f"{known} is listed as known and is not found*"])


def test_deviations_are_looked_for_beside_the_test(pytester):
    folder = pytester.mkdir("tests")
    (folder / "test_it.py").write_text(HEAD + "test_rope = conforms(wrong, rope, deviations='known.txt')")
    (folder / "known.txt").write_text("LAYOUT")
    assert pytester.runpytest_inprocess("-p", "pytest_rope_ref", "-p", "no:cacheprovider").ret == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conforms(right, rope, deviations='absent.txt')", "*absent.txt*"),
        ("conforms(right, rope, layout='xyz')", "*layout is 'xyz'*"),
        ("conforms(right, rope, nonsense=1)", "*nonsense*"),
    ],
)
def test_wrong_usage_is_an_error_when_tests_are_collected(run, text, said):
    result = run(f"test_rope = {text}")
    assert result.ret == 2
    result.stdout.fnmatch_lines([said])


def test_without_the_plugin_nothing_passes_unseen(run):
    result = run("test_rope = conforms(wrong, rope)", plugin=("-p", "no:pytest_rope_ref"))
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*rope_ref_property*"])


def test_the_plugin_is_registered_and_imports_nothing():
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["pytest11"]
    for name in entries.values():
        assert hasattr(importlib.import_module(name), "pytest_generate_tests")
        code = f"import sys; before = set(sys.modules); import {name}; print(sorted(set(sys.modules) - before))"
        out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        new = {module.partition(".")[0] for module in eval(out)}
        assert name in new and new <= {name, *sys.stdlib_module_names}
