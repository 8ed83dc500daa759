"""`rope-ref check`: exit status, what goes where, and one clear line for wrong usage."""

import itertools
import json
import os
import subprocess
import sys
import types
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import rope_ref as rr
from rope_ref.cli import main
from rope_ref.conformance import Implementation
from rope_ref.conformance.adapters.declarations import DECLARATIONS, LISTS, declaration
from rope_ref.conformance.command import of_config

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "tests" / "rope_ref" / "configs"
MODULE = """
import numpy as np
import rope_ref as rr
from rope_ref.conformance import Implementation

print("printed when imported")
rope, other = rr.Rope(8), rr.Rope(8, pairing="interleaved")

def turning(rope):
    def apply(x, positions):
        print("printed when called")
        return rr.rotate(x, positions, rope).astype(x.dtype)
    return apply

right, wrong = turning(rope), turning(other)
one = Implementation(apply=wrong)
def make_one(): return one
def make_function(depth=2): return right
def make_three(): return 3
def raises(): raise RuntimeError("not today")

class Rotary:
    def __call__(self, x, positions, scale=1): return right(x, positions)

def dynamic(x, positions):
    n = int(np.max(positions, initial=0)) + 1
    return rr.rotate(x, positions, rr.variants.dynamic_ntk(8, 2.0, 16, n)).astype(x.dtype)

def static(x, positions):
    return rr.rotate(x, positions, rope).astype(x.dtype)

def single(x, positions):
    if x.dtype != np.float32:
        raise TypeError(f"expected float32, got {x.dtype}")
    return right(x, positions)

each = [rr.Rope(8, theta=t) for t in (10000.0, 1000000.0)]
def layered(x, positions, layer):
    return rr.rotate(x, positions, each[(layer + 1) % 6 == 0]).astype(x.dtype)

three = 3
def unfit(a, b, c, d): pass
"""
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module of its own, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    name = f"checked_{next(numbers)}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


@pytest.fixture
def ran(module, capsys):
    """Runs the command on an object of the module; gives its status, standard output and standard error."""

    def run(name, *arguments, variant=("--variant", "default", "--head-dim", "8")):
        try:
            given = [f"{module}:{name}"] if name else []
            status = main(["check", *given, *variant, "--budget", "quick", *map(str, arguments)])
        except SystemExit as stop:  # argparse
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("name", "status"),
    [
        ("right", 0), ("wrong", 1), ("one", 1), ("make_one", 1), ("make_function", 0), ("Rotary", 0),
        ("Rotary.__call__", 2), ("layered", 2),
    ],
)
def test_an_object_is_what_it_can_be_called_with(ran, name, status):
    assert ran(name)[0] == status


def test_the_verdict_comes_first_and_what_is_checked_prints_elsewhere(ran):
    status, out, err = ran("wrong")
    first, second, *_ = out.splitlines()
    assert status == 1 and first.endswith(":wrong against default(head_dim=8)")
    assert second.startswith("does not conform (LAYOUT)")
    assert "printed" not in out and "printed when imported" in err and "printed when called" in err
    assert "\x1b" not in out + err  # no colours, no bar: neither is a terminal


def test_pairing_makes_it_right(ran):
    assert ran("wrong", "--pairing", "interleaved")[0] == 0


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("nothing", [], "has no 'nothing'"),
        ("three", [], "three is of type int; expected a function or an Implementation"),
        ("make_three", [], "make_three() is of type int"),
        ("unfit", [], "unfit takes (a, b, c, d); expected (x, positions)"),
        ("raises", [], "raises() raised RuntimeError: not today"),
        ("right", ["--set", "factor"], "--set is 'factor'; expected NAME=VALUE"),
        ("right", ["--set", "factr=8"], "default has no parameter 'factr'; it has head_dim, theta"),
        ("right", ["--set", "theta=-1"], "theta is -1; expected a positive number"),
        ("right", ["--set", "theta=fast"], "default: "),
        ("right", ["--set", "theta=1.0", "--set", "theta=2.0"], "gives theta twice"),
        ("right", ["--set", "head_dim=16"], "head_dim is given twice"),
        ("right", ["--layer", 0], "--layer belongs to --config"),
        ("right", ["--layout", "bhxd"], "layout is 'bhxd'"),
        ("right", ["--arrays", "lists"], "arrays is 'lists'; expected one of numpy, torch, jax"),
        ("right", ["--dtype", "float8"], "dtypes is ('float8',); expected some of float32,"),
        ("right", ["--declare", "rows=perhaps"], "rows is 'perhaps'; expected True or False"),
        ("right", ["--declare", "apply=1"], "'apply' cannot be declared"),
        ("right", ["--declare", "dtypes=float32", "--dtype", "float32"], "dtypes is declared twice"),
        ("right", ["--deviations", "absent.txt"], "absent.txt"),
        ("right", ["--json", "absent/report.json"], "absent/report.json"),
        ("right", ["--budget", "endless"], "invalid choice: 'endless'"),
        ("right", ["--command", "true"], "not allowed with"),
    ],
)
def test_wrong_usage_is_one_clear_line(ran, name, arguments, says):
    status, out, err = ran(name, *arguments)
    lines = [line for line in err.splitlines() if not line.startswith("printed")]
    assert status == 2 and not out and says in lines[-1] and lines[-1].startswith("rope-ref")
    assert len(lines) == 1 or lines[0].startswith("usage: ")


@pytest.mark.parametrize(
    ("variant", "says"),
    [
        (["--variant", "lama", "--head-dim", "8"], "argument --variant: invalid choice: 'lama' (choose from "),
        (["--variant", "llama3", "--head-dim", "8"], "llama3 needs factor; give it with --set factor=VALUE"),
        (["--variant", "default"], "default needs head_dim; give it with --head-dim N"),
        (["--variant", "default", "--head-dim", "7"], "rotary_dim is 7; expected an even number"),
        (["--config", "absent.json"], "absent.json"),
        (["--config", CONFIGS / "llama-3.2-1b.json", "--head-dim", "8"], "belong to --variant"),
        ([], "one of the arguments --variant --config is required"),
    ],
)
def test_what_is_right_must_be_said(ran, variant, says):
    status, out, err = ran("right", variant=list(map(str, variant)))
    assert status == 2 and not out and says in err.splitlines()[-1]


def test_modules_that_cannot_be_imported(ran, tmp_path, capsys):
    for name, text, says in [
        ("absent_module", None, "ModuleNotFoundError"),
        ("halts", "raise SystemExit(0)", "SystemExit"),
        ("divides", "1 / 0", "ZeroDivisionError: division by zero"),
        ("misspelt", "def f(:", "SyntaxError"),
    ]:
        if text is not None:
            (tmp_path / f"{name}.py").write_text(text)
        assert main(["check", f"{name}:f", "--variant", "default", "--head-dim", "8"]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"rope-ref: module '{name}' cannot be imported: ") and says in line
    assert main(["check", "json", "--variant", "default", "--head-dim", "8"]) == 2
    assert "'json' names no object; expected package.module:object" in capsys.readouterr().err


def test_json_alone_on_standard_output(ran):
    status, out, err = ran("wrong", "--json", "-")
    said = json.loads(out)
    assert status == 1 and said["conforms"] is False and said["specification"] == "default(head_dim=8)"
    assert said["findings"][0]["bug"] == "LAYOUT" and said["implementation"].endswith(":wrong")
    assert ran("wrong", "--json", "-")[1] == out


def test_files_are_written_beside_the_report(ran, tmp_path):
    status, out, err = ran("wrong", "--json", "report.json", "--junit", "report.xml")
    assert status == 1 and "does not conform" in out
    assert json.loads((tmp_path / "report.json").read_text())["format"] == 1
    assert ET.parse(tmp_path / "report.xml").getroot()[0].get("failures") != "0"


ODD = """
import numpy as np
import rope_ref as rr

def odd(x, positions):  # nothing explains it, so everything is tried
    p = positions[:, None] if positions.ndim > 1 else positions
    y = rr.rotate(np.asarray(x, np.float64), p + 1, rr.variants.default(16))
    y[..., 3] += 0.01 * p**2 % 0.3
    return y.astype(x.dtype)
"""


def test_equal_checks_give_equal_bytes_in_every_process(tmp_path):
    (tmp_path / "odd.py").write_text(ODD)
    run = [sys.executable, "-m", "rope_ref", "check", "odd:odd", "--variant", "default", "--head-dim", "16"]
    for number in "12":
        done = subprocess.run(
            [*run, "--budget", "quick", "--json", f"{number}.json"], cwd=tmp_path, capture_output=True, text=True,
            env=os.environ | {"PYTHONHASHSEED": number, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


def test_known_bugs_are_no_failure_and_bugs_that_are_gone_are_named(ran, tmp_path):
    (tmp_path / "known.txt").write_text("LAYOUT # it was trained so\nPOSDT:long positions\n")
    status, out, err = ran("wrong", "--deviations", "known.txt")
    assert status == 0 and "known: LAYOUT" in out and "listed as known and not found: POSDT:long positions" in out
    (tmp_path / "known.txt").write_text("POSDT\n")
    assert ran("wrong", "--deviations", "known.txt")[0] == 1


def test_what_is_declared_is_checked(ran):
    """A dtype that is refused is none that the implementation has, unless it says so."""
    assert ran("single")[0] == 0
    assert ran("single", "--dtype", "float32")[0] == 0
    assert ran("single", "--dtype", "float32", "--dtype", "float64")[0] == 1


@pytest.mark.in_turn
def test_a_variant_of_every_length(ran):
    variant = ["--variant", "dynamic_ntk", "--head-dim", "8", "--set", "factor=2.0"]
    variant += ["--set", "max_position_embeddings=16"]
    status, out, err = ran("dynamic", variant=variant)
    assert status == 0 and ", of every length" in out.splitlines()[0]
    assert ran("static", variant=variant)[0] == 1
    assert ran("static", "--length", 16, variant=variant)[0] == 0  # within the trained length nothing is stretched


def test_a_config_whose_layers_depend_on_the_length(tmp_path):
    given = json.loads((CONFIGS / "gemma-3-1b.json").read_text())["config"]
    stretched = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6}
    plain = {"rope_type": "default", "rope_theta": 1e4}
    given |= {"rope_parameters": {"full_attention": stretched, "sliding_attention": plain}}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({k: v for k, v in given.items() if k not in ("rope_theta", "rope_local_base_freq")}))
    rope, _ = of_config(str(path), 5, None, None)
    lengths = (1, 100_000, 1_000_000)
    assert [rope(n) for n in lengths] == [rr.from_config(path, 5, length=n) for n in lengths]
    assert rope(1) != rope(1_000_000)
    assert of_config(str(path), 0, None, None)[0] == rr.from_config(path, 0)
    with pytest.raises(ValueError, match="name one by --layer, or a --length"):
        of_config(str(path), None, None, None)
    assert of_config(str(path), None, 100_000, None)[0][5] == rope(100_000)


@pytest.fixture
def config(tmp_path):
    """Six layers, of which the last has another theta."""
    given = json.loads((CONFIGS / "gemma-3-1b.json").read_text())["config"]
    given |= {"num_hidden_layers": 6, "head_dim": 8, "layer_types": None}
    (tmp_path / "config.json").write_text(json.dumps(given))
    assert rr.from_config(tmp_path / "config.json", 5) == rr.Rope(8, theta=1e6)
    return tmp_path


def test_a_config_layer_by_layer(ran, config):
    every = ["--config", str(config)]
    status, out, err = ran("layered", variant=every)
    assert status == 0 and ", layer by layer" in out.splitlines()[0]
    assert ran("right", "--layer", 0, variant=every)[0] == 0
    status, out, err = ran("right", "--layer", 5, variant=every)
    assert status == 1 and "THETA" in out
    status, out, err = ran("right", "--layer", 6, variant=every)
    assert status == 2 and "layer is 6; expected 0 to 5" in err


def test_a_config_with_another_pairing(ran, config):
    assert ran("wrong", "--layer", 0, "--pairing", "interleaved", variant=["--config", str(config)])[0] == 0


def test_a_program_is_asked_about_the_rope(ran, monkeypatch):
    asked = []

    def command(argv, rope, *, time_limit):
        asked.append((argv, rope, time_limit))
        return Implementation(apply=lambda x, positions: rr.rotate(x, positions, rope).astype(x.dtype))

    monkeypatch.setitem(sys.modules, "rope_ref.conformance.adapters.child", types.SimpleNamespace(command=command))
    status, out, err = ran(None, "--command", "./mine --fast", "--declare", "time_limit=3")
    assert status == 0 and asked == [("./mine --fast", rr.Rope(8), 3)]
    assert out.startswith("./mine --fast against default(head_dim=8)")
    variant = ["--variant", "dynamic_yarn", "--head-dim", "8", "--set", "original_max_position_embeddings=64"]
    status, out, err = ran(None, "--command", "mine", variant=variant)
    assert status == 2 and "--command takes one Rope" in err and len(asked) == 1


def test_a_fault_of_the_check_is_no_verdict(ran, monkeypatch):
    def fails(*args, **options):
        raise AssertionError("of its own")

    monkeypatch.setattr("rope_ref.conformance.command.check", fails)
    status, out, err = ran("right")
    assert status == 2 and not out and "AssertionError: of its own" in err


def test_every_declaration_can_be_made():
    functions = {name for name, value in vars(Implementation()).items() if value is None}
    adapters = {"paths", "expected"} | functions - set(DECLARATIONS)
    assert set(vars(Implementation())) == set(DECLARATIONS) | adapters
    defaults = {name: getattr(Implementation(), name) for name in DECLARATIONS}
    for name, value in defaults.items():
        if value is not None:
            assert declaration(name, value) == value
    assert all(isinstance(defaults[name] or (), tuple) for name in LISTS)


def python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env={"PATH": "", "PYTHONPATH": str(ROOT)} | environment,
    )  # fmt: skip


def test_other_commands_need_numpy_alone():
    code = """
import sys
from rope_ref.cli import main
assert main(["show", "yarn"]) == 0
print(sorted({"hypothesis", "rich", "pytest", "ml_dtypes", "torch"} & set(sys.modules)), file=sys.stderr)
"""
    assert python(code).stderr == "[]\n"


@pytest.mark.parametrize("missing", ["hypothesis", "rich"])
def test_a_missing_extra_says_how_to_install_it(missing):
    code = f"""
import sys
sys.modules[{missing!r}] = None
from rope_ref.cli import main
sys.exit(main(["check", "json:dumps", "--variant", "default", "--head-dim", "8"]))
"""
    done = python(code)
    assert done.returncode == 2
    assert done.stderr == f"rope-ref: {missing} is not installed; pip install 'rope-ref[conformance]'\n"


def test_colours_where_they_are_wanted(module):
    code = f"""
import os
os.chdir({str(Path.cwd())!r})
from rope_ref.cli import main
main(["check", "{module}:wrong", "--variant", "default", "--head-dim", "8", "--budget", "quick"])
"""
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    assert "\x1b[1;31m" in python(code, **terminal).stdout
    plain = python(code, NO_COLOR="1", **terminal).stdout
    assert "does not conform" in plain and "\x1b[3" not in plain and "38;" not in plain  # bold at most


def test_a_reader_who_leaves_early_does_not_change_the_verdict(module):
    code = f"""
import os, sys
os.chdir({str(Path.cwd())!r})
reading, writing = os.pipe()
os.close(reading)
os.dup2(writing, 1)
from rope_ref.cli import main
sys.exit(main(["check", "{module}:NAME", "--variant", "default", "--head-dim", "8", "--budget", "quick"]))
"""
    assert python(code.replace("NAME", "right")).returncode == 0
    assert python(code.replace("NAME", "wrong")).returncode == 1
