"""What every command of `rope-ref` has in common: usage, one line for what is wrong, exit status, completion."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rope_ref import cli
from rope_ref.catalogue import CATALOGUE
from rope_ref.cli import main, parser
from rope_ref.conformance.command import specification
from rope_ref.usage import STATUS

ROOT = Path(__file__).parents[2]
COMMANDS = ["explain", "diff", "show", "check", "vectors", "completion", "bench", "generate"]
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "examples").rglob("*.md"),
         *(ROOT / "examples").glob("*.py"), *ROOT.glob("[a-z]*/*.py")})  # fmt: skip


def lines(text):
    """The commands in a text: lines that begin with one, continued by a backslash, without what is said beside them."""
    joined = re.sub(r"\\+\n\s*", "", text)
    found = re.findall(r"^ *(?:eval \"\$\()?(rope-ref .*)", joined, re.MULTILINE)
    return [re.split(r"\s{2,}|\s+[|>]\s|\)\"", line)[0] for line in found]


def ended(arguments):
    """The exit status, whoever ends it."""
    try:
        return main(arguments)
    except SystemExit as stop:
        return stop.code


def help_of(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_every_command_has_examples_that_are_usage(command, capsys):
    said = help_of(command, capsys)
    examples = said[said.index("examples:") :]
    assert STATUS in said and len(lines(examples)) >= 2 and max(map(len, examples.splitlines())) <= 120
    for line in lines(examples):
        if "COMMAND" not in line:
            assert callable(parser().parse_args(shlex.split(line)[1:]).run)


def test_all_commands_are_listed_and_none_is_loaded_before_it_is_asked_for(capsys):
    listed = re.findall(r"^    ([a-z]+)\b", help_of([], capsys), re.MULTILINE)
    assert listed == COMMANDS
    code = "import sys; from rope_ref import cli; cli.main(['show', 'yarn']); print({'torch', 'rich'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("\nset()\n")


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_of_the_pages_are_usage(path):
    for line in lines(path.read_text()):
        if re.match("rope-ref [a-z-]", line) and "..." not in line and "--help" not in line:
            assert callable(parser().parse_args(shlex.split(line)[1:]).run), line


def test_version(capsys):
    assert ended(["--version"]) == 0
    assert re.fullmatch(r"rope-ref (\d+\.\d+\.\d+\S*|not installed)\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["expain"], "invalid choice: 'expain'"),
        (["explain"], "the following arguments are required: CONFIG"),
        (["explain", "nowhere.json"], "nowhere.json: No such file or directory"),
        (["explain", "list.json"], "config is a list; expected a dict"),
        (["explain", "config.json", "--layer", "99"], "layer is 99; expected 0 to 1"),
        (["explain", "config.json", "--layer", "one"], "argument --layer: invalid int value: 'one'"),
        (["explain", "config.json", "--plot", "a.spiral"], "Format 'spiral' is not supported"),
        (["explain", "config.json", "--len", "5"], "unrecognized arguments: --len 5"),
        (["show", "lama"], "argument VARIANT: invalid choice: 'lama'"),
        (["check", "json:dumps"], "one of the arguments --variant --config is required"),
        (["vectors", "config.json"], "config.json: File exists"),
        (["generate", "nowhere"], "folder is 'nowhere'; expected one that holds a config.json"),
        (["completion", "csh"], "invalid choice: 'csh'"),
    ],
)
def test_what_is_wrong_is_one_line(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    config = {"model_type": "llama", "head_dim": 8, "num_hidden_layers": 2}
    Path("config.json").write_text(json.dumps(config))
    Path("list.json").write_text("[]")
    assert ended(arguments) == 2
    told = capsys.readouterr()
    assert not told.out and told.err.startswith("rope-ref") and told.err.count("\n") == 1 and says in told.err


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        (OSError("line\n  and line"), 2, "rope-ref: line and line\n"),
        (ValueError(), 2, "rope-ref: ValueError\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_one_line(error, status, says, monkeypatch, capsys):
    def fails(given):
        raise error

    monkeypatch.setattr(cli, "run_show", fails)
    assert main(["show", "yarn"]) == status and capsys.readouterr().err == says


def test_a_fault_is_neither_a_verdict_nor_hidden(monkeypatch, capsys):
    monkeypatch.setattr(cli, "run_show", lambda given: {}["absent"])
    assert main(["show", "yarn"]) == 2
    assert "KeyError: 'absent'" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.stem)
def test_the_command_of_an_adapter_names_its_rope(path):
    for line in lines(path.read_text()):
        given = parser().parse_args(shlex.split(line)[1:])
        try:
            module = importlib.import_module(given.object.partition(":")[0])
        except (ImportError, OSError) as error:
            pytest.skip(f"its library is not installed: {error}")
        assert specification(given)[0] == module.rope


# Completion

BASH = """
source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
$(complete -p rope-ref | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def script(capsys):
    pytest.importorskip("shtab", reason="the extra completion is not installed")

    def write(shell):
        assert main(["completion", shell]) == 0
        return capsys.readouterr().out

    return write


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("", set(COMMANDS)),
        ("ex", {"explain"}),
        ("show ya", {"yarn"}),
        ("show ", set(CATALOGUE)),
        ("check m:f --variant lla", {"llama3", "llama4_vision"}),
        ("check m:f --va", {"--variant"}),
        ("check m:f --budget ", {"quick", "normal", "deep"}),
        ("check m:f --config con", {"config.json"}),
        ("explain ", {"config.json", "folder"}),
        ("explain config.json --angle-dtype ", {"float32", "float64"}),
        ("vectors ", {"folder"}),
        ("generate --dtype b", {"bfloat16"}),
        ("completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_bash_completes(script, words, expected, tmp_path):
    (tmp_path / "script").write_text(script("bash"))
    folder = tmp_path / "here"
    (folder / "folder").mkdir(parents=True)
    (folder / "config.json").touch()
    command = ["bash", "--norc", "-c", BASH, "bash", tmp_path / "script", "rope-ref", *words.split(" ")]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert set(done.stdout.split()) == expected and not done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_read_their_script(script, shell, tmp_path):
    text = script(shell)
    assert "llama3" in text and "--head-dim" in text.replace("-l head-dim", "--head-dim")
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [("shtab", "completion bash", "completion"), ("transformers", "generate --help", "models"),
     ("rich", "bench --help", "bench")],
)  # fmt: skip
def test_what_is_to_be_installed_is_said(module, command, extra):
    code = f"import sys; sys.modules[{module!r}] = None\nfrom rope_ref.cli import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run([sys.executable, "-c", code, *command.split()], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == f"rope-ref: {module} is not installed; pip install 'rope-ref[{extra}]'\n"
