"""What programs that are not Python read: descriptions of Ropes, and headers of safetensors files."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given

from rope_ref.conformance.adapters.tensors import load, save
from rope_ref.conformance.description import describe, described, text
from tests.strategies import EXAMPLES, ropes


@given(ropes())
def test_a_description_makes_its_rope_again(rope):
    again = described(describe(rope))
    assert np.array_equal(again.omega, rope.omega) and again.keys.xpos == rope.keys.xpos
    assert text(describe(again)) == text(describe(rope))


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_description_has_each_number_twice(name):
    d = describe(EXAMPLES[name])
    assert [float.fromhex(w) for w in d["inv_freq_hex"]] == d["inv_freq"]
    assert np.array_equal(described(d).omega, EXAMPLES[name].omega)
    for key in ("attention_scale", "theta"):
        assert d[key] is d[f"{key}_hex"] is None or float.fromhex(d[f"{key}_hex"]) == d[key]


def test_headers_are_what_a_small_reader_relies_on(tmp_path):
    save(tmp_path / "a", {"x": np.zeros((1, 2), ml_dtypes.bfloat16), "positions": np.arange(3)})
    whole = (tmp_path / "a").read_bytes()
    header = whole[8 : 8 + int.from_bytes(whole[:8], "little")].rstrip(b" ")
    assert b'"x":{"dtype":"BF16","shape":[1,2],"data_offsets":[24,28]}' in header
    assert b'"positions":{"dtype":"I64","shape":[3],"data_offsets":[0,24]}' in header and b" " not in header


def test_other_dtypes_are_refused(tmp_path):
    save(tmp_path / "a", {"x": np.zeros(3, np.int16)})
    with pytest.raises(ValueError, match="x in a has dtype I16"):
        load(tmp_path / "a")
