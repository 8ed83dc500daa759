"""Compiled code on disk: nothing that is there, is missing or cannot be written changes a number."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from numba_kernels import kept

ROOT = Path(__file__).parent.parent
TURN = """
import sys
import numpy as np
import numba_kernels as nk
x, cos, sin = np.ones((4, 512, 64), sys.argv[1]), np.full((512, 32), 2.0), np.full((512, 32), 0.5)
y = nk.rotate(x, cos, sin, pairing="half-split")
assert (y[..., :32] == 1.5).all() and (y[..., 32:] == 2.5).all()
"""
ON_TORCH = """
import torch, torch_bridge
for _ in range(2):
    x, cos, sin = torch.ones(4, 512, 64), torch.full((512, 32), 2.0), torch.full((512, 32), 0.5)
    y = torch_bridge.rotate(x, cos, sin, pairing="half-split")
    assert (y[..., :32] == 1.5).all() and (y[..., 32:] == 2.5).all()
"""


def start(folder, code=TURN, kind="float32", path=ROOT, **environment):
    """A process that rotates, by several threads, with its cache in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(path), **environment}
    return subprocess.Popen([sys.executable, "-c", code, kind], env=environment, cwd=path,
                            stderr=subprocess.PIPE, text=True)  # fmt: skip


def right(process):
    error = process.communicate(timeout=300)[1]
    assert process.returncode == 0, error[-3000:]
    return "compiling" not in error  # what was logged


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    assert not right(start(folder)) and right(start(folder))
    return folder


def files(folder):
    return sorted(folder.rglob("*.nbc"))


def damages(content):
    yield from (content[:n] for n in (0, 1, 31, 32, 33, 100, len(content) // 2, len(content) - 1))
    yield b"\x00" * len(content)
    yield b"garbage" * 100
    for place in (40, len(content) // 2, len(content) - 2):
        yield content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_damaged_file_is_compiled_again(full, tmp_path):
    for number in (0, 5, 8, 12):
        folder = tmp_path / str(number)
        shutil.copytree(full, folder)
        for file in files(folder):
            file.write_bytes(list(damages(file.read_bytes()))[number])
        assert not right(start(folder)) and right(start(folder))


def test_every_damage_is_seen(full, tmp_path):
    file = tmp_path / files(full)[0].name
    content = files(full)[0].read_bytes()
    assert kept.opened(_written(file, content)) is not None
    for damaged in damages(content):
        assert kept.opened(_written(file, damaged)) is None
    assert kept.opened(_written(tmp_path / "another.nbc", content)) is None  # as an interrupted index would say
    assert kept.opened(tmp_path / "missing.nbc") is None


def _written(file, content):
    file.write_bytes(content)
    return file


def test_several_processes_compile_into_one_empty_folder(tmp_path):
    kinds = ["float32", "float64", "float16", "float32", "float64", "float16"]
    started = [start(tmp_path, kind=kind) for kind in kinds]
    for process in started:
        right(process)
    assert all(right(start(tmp_path, kind=kind)) for kind in kinds[:3])
    assert not list(tmp_path.rglob("*.part"))


def test_a_cache_serves_with_openmp_and_without(tmp_path):
    """What one calls the other may not have: on a shared home, or in an image for several machines."""
    right(start(tmp_path))
    without = "import ctypes, tests.no_openmp\nctypes.CDLL = tests.no_openmp.load\n" + TURN
    right(start(tmp_path, without))
    assert right(start(tmp_path, without)) and right(start(tmp_path))


def test_where_nothing_can_be_written_it_is_compiled_each_time(tmp_path):
    """Neither where Numba was told to, nor beside the sources, nor at home: as in a container that may not write."""
    nowhere = tmp_path / "file"
    nowhere.touch()
    refuse = f"""
import tempfile
def refuse(*arguments, **options): raise PermissionError
tempfile.TemporaryFile = refuse
{TURN}"""
    assert not right(start(nowhere / "cache", refuse, HOME=str(nowhere)))
    assert not right(start(nowhere / "cache", refuse + ON_TORCH, HOME=str(nowhere)))
    assert nowhere.read_bytes() == b""


def test_a_full_disk_is_not_an_error(tmp_path):
    full = f"""
import pathlib
def refuse(*arguments): raise OSError(28, "No space left on device")
pathlib.Path.write_bytes = refuse
{TURN}"""
    assert not right(start(tmp_path, full)) and not files(tmp_path)


def test_code_is_as_old_as_what_it_inlines(tmp_path):
    """A change to any file of SOURCES is seen in what other files compile."""
    for package in ("numba_kernels", "torch_bridge", "rope_ref"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    cache = tmp_path / "cache"
    right(start(cache, ON_TORCH, path=tmp_path))
    for name, old, new in (("team.py", "work(call, _number(), _count())", "work(call, 0, 1)"),
                           ("pair.py", "build.fadd(build.fmul(b, cos)", "build.fsub(build.fmul(b, cos)")):  # fmt: skip
        before, file = len(files(cache)), tmp_path / "numba_kernels" / name
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        process = start(cache, ON_TORCH, path=tmp_path)
        assert ("AssertionError" in process.communicate(timeout=300)[1]) == (name == "pair.py")
        assert len(files(cache)) > before


def test_all_that_is_inlined_is_named():
    compiled = {path.name for path in kept.HERE.glob("*.py") if "numba" in _imports(path) and path.name != "kept.py"}
    assert compiled | {"pair.py"} == {*kept.SOURCES, "arithmetic.py", "threads.py"}  # the last two for CUDA, and a lock


def _imports(path):
    lines = [line.split() for line in path.read_text().splitlines() if line.startswith(("import ", "from "))]
    return {words[1].split(".")[0] for words in lines}
