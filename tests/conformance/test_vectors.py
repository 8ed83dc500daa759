"""Golden vectors: they say what the specification says, are what their schema says, and suffice for a program in C."""

import copy
import json
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.conformance import samples, vectors
from rope_ref.conformance.adapters.tensors import load, save
from tests.c import compiled
from tests.conformance.schema import faults

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "vectors.schema.json").read_text())
# what no vector can show, because it takes more than one call, a model, or another adapter than x and positions
ELSEWHERE = {"CACHE", "KVROT", "GRAD", "INPL", "GEOM", "LIFE", "SHARD"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vectors")
    vectors.write(folder)
    return folder


@pytest.fixture(scope="module")
def all_vectors(folder):
    return list(vectors.read(folder))


def beyond(v, y, bound="bound"):
    """Whether a number of y is not right."""
    return not (np.abs(y.astype(v.x.dtype).astype(np.float64) - v.expected) <= getattr(v, bound)).all()


def test_every_variant_of_the_catalogue_is_there(all_vectors):
    assert {v.variant for v in all_vectors} == set(rr.CATALOGUE)
    assert {v.dtype for v in all_vectors} == {"float32", "float16", "bfloat16"}


def test_what_is_read_is_what_the_specification_says(all_vectors):
    for v in all_vectors:
        made = samples.rope(v.variant)
        assert v.rope.omega.tobytes() == made.omega.tobytes() and v.rope.attention_scale == made.attention_scale
        x = v.x.astype(np.float64)
        assert np.array_equal(v.expected, rr.rotate(x, v.positions, made))
        still = np.ones(made.head_dim, bool)
        still[made.start : made.start + 2 * made.pairs] = False
        assert (v.bound[..., still] == 0).all() and (v.bound[..., ~still] > 0).all()
        assert (v.bound <= v.bound_float32).all()


def test_a_right_output_is_within_its_bound(all_vectors):
    """Tables rounded to float32, arithmetic in float32, one rounding on store."""
    for v in all_vectors:
        cos, sin = rr.tables(v.rope, v.positions, np.float32)
        i, j = rr.pairing.channels(v.rope.pairing, v.rope.pairs, v.rope.start)
        x = v.x.astype(np.float32)
        if v.rope.heads is None:
            cos, sin = cos[:, None], sin[:, None]
        y = x.copy()
        y[..., i], y[..., j] = x[..., i] * cos - x[..., j] * sin, x[..., i] * sin + x[..., j] * cos
        assert not beyond(v, y), v.name


def test_float32_angles_are_within_theirs(all_vectors):
    """Frequencies and angles in float32, in the order of operations of published code."""
    strict = 0
    for v in all_vectors:
        given = dict(samples.ARGUMENTS[v.variant])
        if "generator" in given:
            given["generator"] = np.random.default_rng(given["generator"])
        y = rr.rotate(v.x.astype(np.float64), v.positions, rr.CATALOGUE[v.variant](**given, angle_dtype="float32"))
        assert not beyond(v, y, "bound_float32"), v.name
        strict += beyond(v, y)
    assert strict > len(all_vectors) / 4  # so the two bounds tell the policies apart


def test_each_vector_tells_what_it_exposes(all_vectors):
    shown = {v.name: set(v.exposes) for v in all_vectors}
    for v in all_vectors:
        assert ("POSDT" in v.exposes) == (v.name.split("-")[1] in ("beyond", "far", "measured", "rescaled")), v.name
        assert {"LAYOUT", "NOOP", "FORMULA"} <= set(v.exposes)
        assert ("YMAG" in v.exposes) == (v.rope.attention_scale != 1)
        assert ("AXIAL" in v.exposes or "MROPE" in v.exposes) == (v.rope.axes is not None)
    assert "BATCHPOS" not in shown["default-first-float32"] and "BATCHPOS" in shown["default-apart-float16"]
    assert "ROTDIM" in shown["partial-first-float32"] and "ROTDIM" not in shown["default-far-float32"]
    assert "XPOS" in shown["xpos-first-float32"] and "RANGE" in shown["default-negative-float32"]
    assert "LLAMA3" in shown["llama3-far-float32"] and "YBAND" in shown["yarn-far-float32"]
    assert not ELSEWHERE & set.union(*shown.values())


def test_positions_at_zero_expose_next_to_nothing():
    kind = samples.Kind("zero", "0", "float32", lambda generator, shape: np.zeros(shape, np.int64))
    assert set(vectors.vector("default", kind).exposes) == {"FORMULA", "OFFSET", "POSIGN"}


def test_the_index_is_what_its_schema_says(folder):
    index = json.loads((folder / "index.json").read_text())
    assert faults(index, SCHEMA) == []
    assert {entry["file"] for entry in index["vectors"]} == {f.name for f in folder.glob("*.safetensors")}
    assert {entry["variant"] for entry in index["vectors"]} == set(index["ropes"])
    try:
        import jsonschema
    except ImportError:
        return
    jsonschema.validate(index, SCHEMA)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda index: index.update(version=2), "index.version is not 1"),
        (lambda index: index.update(author="me"), "index has author"),
        (lambda index: index["ropes"]["yarn"].pop("pairs"), "index.ropes.yarn has no pairs"),
        (lambda index: index["ropes"]["yarn"].update(pairing="split"), "index.ropes.yarn.pairing is none of"),
        (lambda index: index["ropes"]["yarn"]["inv_freq"].append("1"), r"inv_freq\[64\] is no number"),
        (lambda index: index["ropes"]["yarn"].update(theta_hex="1.0"), "theta_hex is not like"),
        (lambda index: index["vectors"][3].update(file="../x.safetensors"), r"vectors\[3\].file is not like"),
        (lambda index: index["vectors"][3].update(dtype="int8"), r"vectors\[3\].dtype is none of"),
    ],
)
def test_the_schema_refuses(change, words, folder):
    index = json.loads((folder / "index.json").read_text())
    changed = copy.deepcopy(index)
    change(changed)
    (fault,) = faults(changed, SCHEMA)
    assert re.search(words, fault)


def test_writing_again_gives_the_same_bytes_whatever_else_is_written(folder, tmp_path):
    vectors.write(tmp_path, ["yarn"])
    files = sorted(tmp_path.glob("*.safetensors"))
    assert len(files) == 5
    for file in files:
        assert file.read_bytes() == (folder / file.name).read_bytes()
    vectors.write(tmp_path, ["yarn"], seed=1)
    assert all(file.read_bytes() != (folder / file.name).read_bytes() for file in files)


def test_an_unknown_variant_is_refused(tmp_path):
    with pytest.raises(ValueError, match="the variant is 'rope'; expected one of default, "):
        vectors.write(tmp_path, ["rope"])


def spoil(folder, **changes):
    file = folder / "default-first-float32.safetensors"
    save(file, load(file) | changes)


@pytest.mark.parametrize(
    "spoiled, words",
    [
        (lambda f: (f / "default-first-float32.safetensors").write_bytes(b"pickle"), "is no safetensors file"),
        (lambda f: spoil(f, more=np.zeros(1)), "holds .*more.*; expected x, positions"),
        (lambda f: spoil(f, x=np.zeros((2, 3, 4, 64))), "has x of float64"),
        (lambda f: spoil(f, positions=np.zeros((2, 4), np.int64)), r"has positions of shape \(2, 4\)"),
        (lambda f: spoil(f, bound=np.zeros((1, 3, 4, 64))), r"has bound of float64 \(1, 3, 4, 64\)"),
        (lambda f: edit(f, '"file": "default-first', '"file": "../default-first'), "file is '../default-first"),
        (lambda f: edit(f, '"version": 1', '"version": 2'), "version 2; expected 1"),
    ],
)
def test_a_folder_that_is_not_what_its_index_says_is_refused(spoiled, words, tmp_path):
    vectors.write(tmp_path, ["default"])
    spoiled(tmp_path)
    with pytest.raises(ValueError, match=words):
        list(vectors.read(tmp_path))


def edit(folder, old, new):
    index = folder / "index.json"
    assert old in index.read_text()
    index.write_text(index.read_text().replace(old, new))


def checked(program, folder):
    return subprocess.run([program, str(folder)], capture_output=True, text=True)


def test_a_program_in_c_reads_them_and_is_right(folder, all_vectors, tmp_path):
    result = checked(compiled("check_vectors", tmp_path), folder)
    assert result.returncode == 0, result.stdout
    assert f"{len(all_vectors)} vectors, 0 wrong" in result.stdout


@pytest.mark.parametrize("flag, bug", [("-DWRONG_PAIRING", "LAYOUT"), ("-DHALF_POSITIONS", "POSDT")])
def test_a_broken_program_in_c_fails_where_the_vectors_say(flag, bug, folder, all_vectors, tmp_path):
    result = checked(compiled("check_vectors", tmp_path, flag), folder)
    assert result.returncode == 1
    wrong = {line.split()[1].removesuffix(".safetensors") for line in result.stdout.splitlines() if "wrong:" in line}
    assert {v.name for v in all_vectors if bug in v.exposes} <= wrong


def test_a_program_in_c_says_what_it_cannot_read(folder, tmp_path):
    program = compiled("check_vectors", tmp_path)
    assert checked(program, tmp_path / "nowhere").returncode == 2
    vectors.write(tmp_path, ["default"])
    (tmp_path / "default-first-float32.safetensors").write_bytes(b"short")
    assert "not a safetensors file" in checked(program, tmp_path).stdout
