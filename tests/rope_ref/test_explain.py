"""The command line: what it prints is what `from_config` computes, and what it refuses it names."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import rope_ref as rr
from rope_ref.cli import main
from rope_ref.exactness import UNIT
from rope_ref.explain import as_json, explain, grouped
from rope_ref.spectrum import bands, decay, limits, spans, speeds

CONFIGS = Path(__file__).parent / "configs"


@pytest.fixture
def config(tmp_path):
    def write(name, **changes):
        path = tmp_path / "config.json"
        path.write_text(json.dumps(json.loads((CONFIGS / f"{name}.json").read_text())["config"] | changes))
        return path

    return write


def explained(capsys, *arguments):
    assert main(["explain", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_llama_3_2(capsys, config):
    text = explained(capsys, config("llama-3.2-1b"))
    assert "Layers 0-15" in text and "llama3" in text and "w' = (1 - t) w / s + t w" in text
    assert "32 half-split pairs" in text and "theta      500000" in text
    # pair i turns 8192 theta^(-i/32) / (2 pi) times in the trained length: 4 times or more up to i = 14, once to 17
    rows = {line.split()[0]: line.split()[1] for line in text.splitlines() if line.startswith(("unch", "blend", "str"))}
    turns = 8192 * 500000.0 ** (-np.arange(32) / 32) / (2 * np.pi)
    assert rows == {"unchanged": spans(np.flatnonzero(turns >= 4)), "stretched": spans(np.flatnonzero(turns < 1)),
                    "blended": spans(np.flatnonzero((turns >= 1) & (turns < 4)))}  # fmt: skip


def test_layers_that_differ_and_layers_that_do_not_turn(capsys, config):
    text = explained(capsys, config("gemma-3-1b"))
    assert "sliding_attention" in text and "theta      10000\n" in text and "theta      1e+06" in text
    assert "Layers 5, 11, 17, 23\n" in text
    assert "sliding" not in explained(capsys, config("gemma-3-1b"), "--layer", 5)
    assert "No rotation." in explained(capsys, config("smollm3-3b"))


def test_lengths_choose_the_list(capsys, config):
    path = config("phi-3-vision-128k")
    short, long = explained(capsys, path), explained(capsys, path, "--length", 100_000)
    assert short != long and "longrope" in long


def test_pairs_that_none_turns_or_that_turn_faster(capsys, config):
    parameters = {"rope_type": "proportional", "rope_theta": 1e4, "partial_rotary_factor": 0.01}
    path = config("llama-2-7b", rope_parameters=parameters)
    assert "No rotation." in explained(capsys, path)
    factors = {"short_factor": [0.5] * 24 + [1.0] * 24, "long_factor": [1.0] * 24 + [2.0] * 24}
    scaling = {"rope_type": "longrope", "factor": 2.0} | factors
    path = config("phi-3-vision-128k", rope_scaling=scaling)
    text = explained(capsys, path)
    assert "shortened       0-23" in text and "unchanged      24-47" in text


@pytest.mark.parametrize("rope", [rr.variants.default(8, inv_freq=(0.0,) * 4), rr.variants.partial(8, 0.0)])
def test_ropes_that_do_not_turn(rope):
    rows = bands(rope, 10000.0).splitlines()[1:]
    assert rows == ["still            0-3   never turns"][: rope.pairs]
    assert limits(rope).count(f"{2**53:,}") == 4  # whole positions end there, and nothing else does


def test_axes_and_a_folder(capsys, config):
    text = explained(capsys, config("qwen3-vl-8b").parent)
    assert "axes       3: t 24 pairs, h 20 pairs, w 20 pairs" in text
    ids = [line.split()[1:] for line in text.splitlines() if line.startswith(("  t  ", "  h  ", "  w  "))]
    two_of_text, image = [[0, 1]] * 3, [[2, 2, 2, 2], [2, 2, 3, 3], [2, 3, 2, 3]]
    video = [[5, 6, 7], [5, 5, 5], [5, 5, 5]]  # after one of text at 4, behind the largest id of the image
    expected = [a + b + [4] + c for a, b, c in zip(two_of_text, image, video, strict=True)]
    assert [list(map(int, row)) for row in ids] == expected


TOWER = {"depth": 32, "hidden_size": 1280, "num_heads": 16}


def test_the_tower_that_reads_images_is_explained_beside_the_text(capsys, config):
    path = config("qwen2.5-vl-7b", vision_config=TOWER)
    text = explained(capsys, path)
    assert "Layers 0-27\n" in text and "Vision tower, layers 0-31\n" in text and "0 to 79 of 80" in text
    assert explained(capsys, path, "--part", "vision") == text[text.index("Vision tower") :]
    assert "Vision" not in explained(capsys, path, "--part", "text")
    assert "Vision" not in explained(capsys, config("llama-2-7b"))


def test_both_lists_of_longrope_are_said(capsys, config):
    path = config("phi-4-mini")
    given = json.loads(path.read_text())["rope_scaling"]
    text = explained(capsys, path)
    assert "up to 4,096 tokens" in text and text.index("up to 4,096") < text.index("long       beyond")
    for name in ("short_factor", "long_factor"):
        assert all(f"{value:.4g}" in text for value in given[name])


def test_json_has_what_the_text_says(capsys, config, tmp_path):
    path, file = config("gemma-3-1b"), tmp_path / "out.json"
    said = explained(capsys, path, "--json", file)
    read = json.loads(file.read_text())
    assert json.loads(explained(capsys, path, "--json", "-")) == read and said == explained(capsys, path)
    each = {i: one for one in read["text"] for i in one["layers"]}
    for i, one in each.items():
        rope = rr.from_config(path, i)
        assert np.array_equal(one["inv_freq"], rope.omega) and one["head_dim"] == rope.head_dim == 256
        assert f"by 0.01 radians from position {one['off_by']['0.01']:,} on" in said
    assert sorted(each) == list(range(26)) and {one["theta"] for one in read["text"]} == {1e4, 1e6}
    still = as_json(grouped({"model_type": "llama4", "text_config": {"num_hidden_layers": 4}}, layer=3))[0]
    assert still["channels"] == still["bands"] == [] and still["inv_freq"] == []


def test_a_config_is_explained_as_it_is_served(capsys, config):
    path = config("qwen3-8b")
    yarn = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    served = explained(capsys, path, "--overrides", json.dumps({"rope_parameters": yarn}))
    assert "yarn: " in served and "theta = 1,000,000" in served and "yarn: " not in explained(capsys, path)
    assert main(["diff", str(path), str(path), "--overrides", json.dumps({"rope_scaling": yarn})]) == 1
    assert "rope_type: default against yarn" in capsys.readouterr().out
    for wrong in ("{", "[]"):
        with pytest.raises(SystemExit):
            main(["explain", str(path), "--overrides", wrong])
    assert main(["explain", str(config("llama-2-7b", model_type="mine")), "--like", "llama"]) == 0
    assert "interleaved" in explained(capsys, config("llama-2-7b"), "--pairing", "interleaved")


@pytest.mark.parametrize("name", sorted(p.stem for p in CONFIGS.glob("*.json")))
def test_every_published_config_is_explained(capsys, config, name):
    path = config(name)
    text, ropes = explained(capsys, path), [one.rope for one in grouped(path)]
    assert text.count("half-split") + text.count("interleaved pairs") == sum(rope.pairs > 0 for rope in ropes)


@pytest.mark.parametrize("angle_dtype", ["float32", "float64"])
def test_angles_up_to_the_limit_are_within_one_rounding(angle_dtype, capsys, config):
    text = explained(capsys, config("llama-2-7b"), "--angle-dtype", angle_dtype)
    exact = rr.Rope(128)
    for line in text.splitlines():
        if line.strip().startswith(("float32  ", "bfloat16  ", "float16  ")):
            table, limit = line.split()
            p = int(limit.replace(",", ""))
            off = abs(rr.angles(rr.Rope(128, angle_dtype=angle_dtype), p) - rr.angles(exact, p))
            assert (off <= UNIT[table]).all()


def test_decay_is_the_score_of_a_rotated_pair():
    rope = rr.variants.yarn(16, 4.0, 64)
    x = np.concatenate([np.ones(8), np.zeros(8)])
    scores = [rr.rotate(x[None], [d], rope)[0] @ rr.rotate(x[None], [0], rope)[0] / 8 for d in (0, 5, 40)]
    np.testing.assert_allclose(decay(rope, np.array([0.0, 5, 40])), scores, rtol=0, atol=2.0**-48)
    assert speeds(rr.variants.mrope(16, (2, 3, 3))).shape == (8,)


def test_a_picture(capsys, config, tmp_path):
    for name in ("llama-3.2-1b", "gemma-3-1b", "smollm3-3b"):
        file = tmp_path / f"{name}.png"
        explained(capsys, config(name), "--plot", file)
        assert file.read_bytes().startswith(b"\x89PNG")


def test_show_prints_the_function(capsys):
    assert main(["show", "yarn"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("@variant\ndef yarn(")
    assert "w' = w/s ramp + w (1 - ramp)" in said and "0.1 mscale ln s + 1" in said  # frequencies and magnitude


def test_every_symbol_has_its_value(capsys, config):
    here = next(line for line in explained(capsys, config("llama-3.1-8b")).splitlines() if line.startswith("here:"))
    assert here == "here: theta = 500,000, r = 128, L = 8,192, s = 8, low = 1, high = 4"


def test_angles_of_float32_are_said_first(capsys, config):
    text = explained(capsys, config("llama-3.1-8b"))
    first, exact = (text.index(f"Angles in {dtype}") for dtype in ("float32", "float64"))
    assert first < exact and "by 0.01 radians from position 83,887 on" in text
    rope = rr.Rope(128, theta=500000.0)
    for off in (0.01, 0.1):  # as far as one rounding of the frequency and one of the product go
        p = int(np.ceil(off / 2.0**-23))
        assert 2 * UNIT["float32"] * p * speeds(rope).max() >= off > 2 * UNIT["float32"] * (p - 1) * speeds(rope).max()


@pytest.mark.parametrize(
    "changes, words",
    [
        (dict(rope_scaling={"rope_type": "spiral", "factor": 2.0}), "rope_type is 'spiral'"),
        (dict(rope_theta=-1.0), "rope_theta is -1.0"),
        (dict(model_type="nobody"), "model_type is 'nobody'"),
    ],
)
def test_what_is_not_understood_is_named(capsys, config, changes, words):
    assert main(["explain", str(config("llama-3.2-1b", **changes))]) == 2
    assert words in capsys.readouterr().err


def test_other_wrong_usage(capsys, config, tmp_path):
    assert main(["explain", str(tmp_path / "absent.json")]) == 2
    assert main(["explain", str(config("llama-3.2-1b")), "--layer", "16"]) == 2
    assert "layer is 16; expected 0 to 15" in capsys.readouterr().err
    (tmp_path / "config.json").write_text("{")
    assert main(["explain", str(tmp_path)]) == 2
    assert f"config is {str(tmp_path / 'config.json')!r}, which is not JSON" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["explain"])
    assert ended.value.code == 2


def test_a_reader_that_leaves_early_is_no_error(config, tmp_path):
    picture = tmp_path / "picture.png"
    command = [sys.executable, "-u", "-m", "rope_ref", "explain", str(config("llama-2-7b")), "--plot", str(picture)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()  # long before Python has started
        assert run.stderr.read() == b""
    assert run.returncode == 0 and picture.exists()


def test_the_module_runs_and_imports_numpy_alone():
    others = "'numba', 'torch', 'hypothesis', 'matplotlib'"
    code = f"import sys, rope_ref.cli; print([m for m in ({others}) if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"
    done = subprocess.run([sys.executable, "-m", "rope_ref", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "explain" in done.stdout


def test_what_the_same_parameters_do_to_scores_is_said():
    yarn = {"type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096}
    deepseek = {"model_type": "deepseek_v3", "num_hidden_layers": 1,
                "rope_scaling": yarn | {"mscale": 1.0, "mscale_all_dim": 1.0}}  # fmt: skip
    said = explain(grouped(deepseek))
    assert "magnitude  1\n" in said and "scores     times 1.87385: yarn_softmax, by mscale_all_dim = 1\n" in said
    mistral = {"model_type": "ministral3", "num_hidden_layers": 1,
               "rope_parameters": yarn | {"rope_theta": 1e6, "llama_4_scaling_beta": 0.1}}  # fmt: skip
    assert "scores     times 1 + 0.1 ln(1 + floor(p / 4,096)): query_temperature" in explain(grouped(mistral))
