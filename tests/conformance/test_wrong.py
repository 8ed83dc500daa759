"""Real bugs, written anew from their descriptions: each is found and named, and goes unmentioned once it is mended."""

import pytest

from rope_ref.conformance import check
from tests.conformance.wrong.__main__ import told
from tests.conformance.wrong.case import load

CASES = load()

# What the kit calls them instead, and why that is not wrong either
CALLED = {
    "huggingface/pytorch-image-models#2549": "BATCHPOS",  # tables of each sample, of one image or of one text alike
    "unslothai/unsloth#3803": "BATCHPOS",  # all rows stand where one of them does
}


@pytest.mark.in_turn
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_real_bug_is_found_and_named(case):
    found, named, said, _ = told(case)
    assert found
    assert named or CALLED.get(case.link) in {finding.bug for finding in said}, said


@pytest.mark.in_turn
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_its_mended_form_conforms(case):
    implementation, rope = case.make(False)
    report = check(implementation, rope, budget="quick", seed=1)
    assert report.passed, report.findings


def test_there_are_as_many_as_the_docs_say():
    assert len(CASES) == len({case.link for case in CASES}) == 107
