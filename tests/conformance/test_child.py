"""Implementations that are not Python: the C example is right, and children that fail are named with what they did."""

import gc
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rope_ref as rr
from rope_ref.conformance.adapters.child import command
from tests.c import FOLDER, compiled
from tests.oracles import angle_error, bound, rounded
from tests.strategies import DTYPES, EXAMPLES, normal, places, ropes, seeds
from tests.test_examples import blocks

ROPE = rr.Rope(head_dim=8)
LIAR = Path(__file__).with_name("lying_child.py")
NUMPY = {"bfloat16": ml_dtypes.bfloat16} | {name: name for name in DTYPES if name != "bfloat16"}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return compiled("child", tmp_path_factory.mktemp("c"))


def liar(lie, time_limit=60.0):
    return command([sys.executable, str(LIAR), *lie.split()], ROPE, time_limit=time_limit)


def call(lie, time_limit=60.0):
    return liar(lie, time_limit).apply(np.ones((1, 2, 3, 8), np.float32), np.arange(3))


def gone(pid):
    """Whether a process has ended; waits for it, since ends take their time."""
    for _ in range(600):
        try:
            os.kill(pid, 0)
            if Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] == "Z":  # dead, but not yet buried
                return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_in_c_rotates_every_variant_in_every_dtype(name, program):
    rope = EXAMPLES[name]
    c, p = command(program, rope), places(rope, 1, 2, 5)
    for dtype in DTYPES:
        x = rounded(normal(2, 2, 3, 5, rope.head_dim), dtype)
        y = c.apply(x.astype(NUMPY[dtype]), p)
        assert y.dtype == NUMPY[dtype] and y.shape == x.shape
        assert (np.abs(y.astype(np.float64) - rr.rotate(x, p, rope)) <= bound(x, p, rope, dtype)).all()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_in_c_gives_tables_and_frequencies(name, program):
    rope = EXAMPLES[name]
    c = command(program, rope)
    for shape in ((5,), (2, 5), (3, 0)):
        p = places(rope, 1, *shape)
        for given_table, table in zip(c.tables(p), rr.tables(rope, p), strict=True):
            assert given_table.shape == table.shape
            m = np.abs(rr.rotation.magnitude(rope, p))
            m = m if rope.heads is None else m[..., None]
            # the angle's own bound; a cosine and two products; and zeta^e, |e| <= 203/64, |e ln zeta| <= 4, whose base
            # and exponent are three roundings each: 3 * 3.2 + 3 * 4 + 1, on both sides together with the rest under 32
            assert (np.abs(given_table - table) <= m * (angle_error(p, rope) + 32 * 2.0**-53)).all()
    inv_freq, scale = c.frequencies()
    assert np.array_equal(inv_freq, rope.omega) and scale == rope.attention_scale


@settings(max_examples=25)
@given(ropes(), seeds, st.integers(0, 2), st.integers(0, 3), st.integers(0, 4), st.sampled_from(["int32", "float64"]))
def test_any_rope_and_shape_passes_through_files(program, rope, seed, batch, heads, seq, kind):
    p = places(rope, seed, batch, seq).astype(kind)
    x = rounded(normal(seed, batch, heads, seq, rope.head_dim), "float32")
    y = command(program, rope).apply(x.astype(np.float32), p)
    assert (np.abs(y - rr.rotate(x, p, rope)) <= bound(x, p, rope, "float32")).all()


@given(st.sampled_from(["float16", "bfloat16"]), st.integers(0, 2**16 - 256))
@settings(max_examples=25)
def test_the_example_in_c_keeps_every_half_number(program, dtype, first):
    """Channels that do not turn are read and written as they are, NaNs, infinities and subnormals included."""
    x = np.arange(first, first + 256).astype(np.uint16).view(NUMPY[dtype]).reshape(1, 1, 1, 256)
    y = command(program, rr.Rope(head_dim=256, rotary_dim=0)).apply(x, [0])
    with np.errstate(invalid="ignore"):  # NaN with the signalling bit
        assert np.array_equal(y.astype(np.float64), x.astype(np.float64), equal_nan=True)
    assert np.array_equal(np.signbit(y), np.signbit(x))


@pytest.mark.parametrize("flag, where", [("-DWRONG_PAIRING", 3), ("-DHALF_POSITIONS", 257)])
def test_broken_c_differs(flag, where, tmp_path):
    c = command(compiled("child", tmp_path, flag), ROPE)
    x, p = rounded(normal(0, 1, 1, 1, 8), "float32"), [where]
    assert (np.abs(c.apply(x.astype(np.float32), p) - rr.rotate(x, p, ROPE)) > bound(x, p, ROPE, "float32")).any()


@pytest.mark.parametrize(
    "lie, error, words",
    [
        ("refuses", ValueError, "no such rope"),
        ("offers nothing", ValueError, "offers ''; expected some of rotate"),
        ("offers more", ValueError, "offers 'rotate dance'"),
        ("babbles", ValueError, "answered 'hi' to 'hello 1 .*rope.json'; expected ok or error MESSAGE"),
        ("leaves", ChildProcessError, "ended with status 0"),
        ("dies", ChildProcessError, "ended with status 3 when asked 'rotate .*'; it said: out of luck"),
        ("crashes", ChildProcessError, "was killed by signal 9 .Killed. when asked 'rotate"),
        ("errs", ValueError, "errs: I cannot"),
        ("errs quietly", ValueError, "without a message"),
        ("nonsense", ValueError, "answered 'okay' to 'rotate"),
        ("twice", ValueError, r"answered b'ok\\nok\\n' to .*; expected one line"),
        ("talks early", ValueError, "by the way"),
        ("writes nothing", ValueError, "answered ok to rotate but wrote no good file"),
        ("cut short", ValueError, "out.safetensors is no safetensors file"),
        ("garbage", ValueError, "out.safetensors is no safetensors file"),
        ("name", ValueError, r"wrote z \(float32\); expected y of floats"),
        ("integers", ValueError, r"wrote y \(int64\); expected y of floats"),
        ("shape", ValueError, r"wrote y of shape \(1, 2, 2, 8\); expected \(1, 2, 3, 8\)"),
        ("dtype", ValueError, "wrote y as float64; expected float32"),
        ("bfloat16", ValueError, "wrote y as bfloat16; expected float32"),
        ("nan", ValueError, r"wrote NaN in y, in 1 of 48 places, first at \(0, 0, 0, 5\)"),
    ],
)
def test_a_lie_is_named_with_its_command(lie, error, words):
    with pytest.raises(error, match=words) as caught:
        call(lie)
    assert "lying_child.py" in str(caught.value)


def test_tables_and_frequencies_of_other_shapes_are_refused():
    child = liar("truthful")
    with pytest.raises(ValueError, match=r"wrote cos of shape \(1, 1, 2, 7\); expected \(1, 1, 3, 4\) or"):
        child.tables(np.arange(3))
    with pytest.raises(ValueError, match=r"wrote inv_freq of shape \(3,\); expected \(1, 4, 1\)"):
        child.frequencies()


@pytest.mark.parametrize("lie", ["hangs", "mumbles"])
def test_a_child_that_is_silent_is_out_of_time(lie):
    with pytest.raises(TimeoutError, match="lying_child.py .* did not answer .* in 0.5 seconds"):
        call(lie, time_limit=0.5)


def test_all_that_a_silent_child_started_ends_with_it(tmp_path):
    note = tmp_path / "note"
    script = f"sleep 1000 & echo $! > {note}.part; mv {note}.part {note}; wait"
    with pytest.raises(TimeoutError):
        command(["sh", "-c", script], ROPE, time_limit=2.0)
    assert gone(int(note.read_text()))


def test_a_child_that_died_is_started_again(program):
    child = command(program, ROPE)
    x = np.ones((1, 1, 2, 8), np.float32)
    y = child.apply(x, [0, 1])
    child.apply.__self__.process.process.kill()
    with pytest.raises(ChildProcessError, match="was killed by signal 9 .Killed. (before|when)"):
        child.apply(x, [0, 1])
    assert np.array_equal(child.apply(x, [0, 1]), y)


def test_an_old_answer_does_not_pass_for_a_new_one():
    child = liar("writes once")
    x = np.ones((1, 2, 3, 8), np.float32)
    child.apply(x, np.arange(3))
    with pytest.raises(ValueError, match="answered ok to rotate but wrote no good file"):
        child.apply(x, np.arange(3))


def test_an_error_does_not_end_the_child(program):
    child = command(program, ROPE)
    before = child.apply.__self__.process.process.pid
    with pytest.raises(TypeError, match="positions have dtype"):
        child.apply(np.ones((1, 1, 1, 8), np.float32), ["here"])
    child.apply(np.ones((1, 1, 1, 8), np.float32), [0])
    assert child.apply.__self__.process.process.pid == before


def test_what_is_not_in_a_number_may_come_out_as_none(program):
    x = np.full((1, 1, 1, 8), np.nan, np.float32)
    assert np.isnan(command(program, ROPE).apply(x, [1])).all()


@pytest.mark.parametrize(
    "x, positions, error, words",
    [
        (np.ones((1, 1, 2, 8), np.int64), [0, 1], TypeError, "x has dtype int64"),
        (np.ones((2, 8), np.float32), [0, 1], ValueError, r"x has shape \(2, 8\); expected \(batch, heads, seq, 8\)"),
        (np.ones((1, 1, 2, 8), np.float32), [0, 1, 2], ValueError, r"positions have shape \(3,\)"),
    ],
)
def test_bad_calls_say_what_is_wrong(x, positions, error, words, program):
    with pytest.raises(error, match=words):
        command(program, ROPE).apply(x, positions)


def test_a_child_speaks_of_one_rope(program):
    with pytest.raises(TypeError, match="expected a Rope"):
        command(program, [ROPE, ROPE])


def test_a_command_that_is_not_there():
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        command("no-such-program --flag", ROPE)


def test_a_temporary_folder_with_white_space_is_refused(program, tmp_path, monkeypatch):
    (tmp_path / "my files").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "my files"))
    with pytest.raises(ValueError, match="my files/.*; expected a TMPDIR without white space"):
        command(program, ROPE)


def test_the_child_ends_with_its_implementation(program):
    child = command(program, ROPE)
    process = child.apply.__self__.process
    pid, folder = process.process.pid, process.folder
    del child, process
    gc.collect()
    assert gone(pid) and not folder.exists()


def test_the_child_ends_with_the_interpreter(program):
    code = (
        "import sys, rope_ref as rr\n"
        "from rope_ref.conformance.adapters.child import command\n"
        "child = command(sys.argv[1], rr.Rope(8))\n"
        "process = child.apply.__self__.process\n"
        "print(process.process.pid, process.folder)\n"
    )
    said = subprocess.run([sys.executable, "-c", code, program], capture_output=True, text=True, check=True).stdout
    pid, folder = said.split()
    assert gone(int(pid)) and not Path(folder).exists()


def test_the_examples_of_the_readme_run(tmp_path, monkeypatch):
    os.rename(compiled("child", tmp_path), tmp_path / "child")
    monkeypatch.chdir(tmp_path)
    names = {}
    for block in blocks((FOLDER / "README.md").read_text()):
        exec(compile(block, "README.md", "exec"), names)
    result = subprocess.run([compiled("check_vectors", tmp_path), "golden"], capture_output=True, text=True)
    assert result.returncode == 0 and "vectors, 0 wrong; the worst error is" in result.stdout
    assert result.stdout.split(";")[0] in (FOLDER / "README.md").read_text()


def test_make_builds_both(tmp_path):
    compiled("child", tmp_path)  # skips where there is no compiler
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    for file in FOLDER.iterdir():
        if file.suffix in (".c", ".h", "") and file.is_file():
            shutil.copy(file, tmp_path / file.name)
    subprocess.run(["make", "clean", "all"], cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "child").exists() and (tmp_path / "check_vectors").exists()
