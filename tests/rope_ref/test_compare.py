"""`rr.compare` and `rope-ref diff`: whether two descriptions turn alike, and if not, what says so."""

import json

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.cli import main
from rope_ref.exactness import UNIT

V = rr.variants
LLAMA = {"model_type": "llama", "head_dim": 64, "num_hidden_layers": 4, "rope_theta": 500000.0}
SCALED = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}  # fmt: skip
# a change to a config: what must be said
CHANGES = {
    "base": ({"rope_theta": 10000.0}, "theta: 500000.0 against 10000.0"),
    "scaling left out": ({"rope_scaling": SCALED}, "rope_type: default against llama3"),
    "width": ({"head_dim": 128}, "head_dim: 64 against 128"),
    "layers": ({"num_hidden_layers": 6}, "layers 4-5:"),
    "pairing": ({"model_type": "cohere"}, "pairing: half-split against interleaved"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_said(name):
    change, said = CHANGES[name]
    found = rr.compare(LLAMA, LLAMA | change)
    assert not found.alike and said in str(found)


@pytest.mark.parametrize("key, value", [("factor", 16.0), ("low_freq_factor", 0.5), ("high_freq_factor", 8.0),
                                        ("original_max_position_embeddings", 4096)])  # fmt: skip
def test_a_parameter_is_named(key, value):
    one, two = LLAMA | {"rope_scaling": SCALED}, LLAMA | {"rope_scaling": SCALED | {key: value}}
    assert rr.compare(one, one).alike
    found = rr.compare(one, two)
    assert dict(found.differences[0].values) == {key: (one["rope_scaling"][key], value)}


def test_only_the_layers_that_differ():
    config = {"model_type": "gemma3_text", "num_hidden_layers": 12, "rope_theta": 1e6}
    found = rr.compare(config, config | {"rope_local_base_freq": 20000.0})
    assert [d.layers for d in found.differences] == [(0, 1, 2, 3, 4, 6, 7, 8, 9, 10)]


def test_angles_are_as_far_apart_as_they_are():
    one, two = V.default(64), V.default(64, 10001.0)
    apart = rr.compare(one, two).differences[0].apart
    for p, angle in zip((1024, 8192, 32768, 131072), apart, strict=True):
        off = np.abs(rr.angles(one, np.array([p])) - rr.angles(two, np.array([p]))).max()
        assert angle == pytest.approx(off, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_kernel_tells_them_apart_from_there_on(dtype):
    one, two = V.default(64), V.default(64, 10001.0)
    position = rr.compare(one, two).differences[0].tells[dtype]
    there, before = (np.abs(rr.angles(one, p) - rr.angles(two, p)).max() for p in ([position], [position - 1]))
    assert there >= 2 * UNIT[dtype] > before


def test_the_permutation_makes_them_equal():
    one, two = V.default(16, pairing="interleaved"), V.default(16)
    order = list(rr.compare(one, two).differences[0].permutation)
    x, p = np.random.default_rng(0).standard_normal((5, 16)), np.arange(5)
    np.testing.assert_allclose(rr.rotate(x, p, one)[:, order], rr.rotate(x[:, order], p, two), atol=1e-12)


def test_only_the_magnitude():
    found = rr.compare(V.yarn(64, 8.0, 4096), V.yarn(64, 8.0, 4096, attention_factor=1.0))
    assert "only the magnitude differs, by 1.20794: scores by 1.45913" in str(found)


def test_the_command(tmp_path, capsys):
    paths = [tmp_path / f"{n}.json" for n in range(3)]
    for path, change in zip(paths, ({}, {"rope_theta": 1e4}, {"model_type": "?"}), strict=True):
        path.write_text(json.dumps(LLAMA | change))
    one, two, three = map(str, paths)
    assert main(["diff", one, one]) == 0 and capsys.readouterr().out == "they turn alike\n"
    assert main(["diff", one, two]) == 1 and "theta: 500000.0 against 10000.0" in capsys.readouterr().out
    assert main(["diff", one, three]) == 2 and "model_type is '?'" in capsys.readouterr().err
    assert main(["diff", one, two, "--json", "-"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["alike"] is False and told["differences"][0]["values"] == {"theta": [500000.0, 10000.0]}
