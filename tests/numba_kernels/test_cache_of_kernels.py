"""Compiled code on disk: what is damaged, missing, not ours or cannot be written is compiled again, and logged."""

import os
import runpy
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from numba_kernels import cache

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners and modes as on Unix")
TURN = """
import sys
import numpy as np
import numba_kernels as nk
x, cos, sin = np.ones((4, 64), sys.argv[1]), np.full((4, 32), 2.0), np.full((4, 32), 0.5)
y = nk.rotate(x, cos, sin, pairing="half-split")
assert (y[..., :32] == 1.5).all() and (y[..., 32:] == 2.5).all()
"""
WAIT = "import numba_kernels; print(end='ready', flush=True); input()\n"


def start(folder, code=TURN, kind="float32", path=ROOT, **environment):
    """A process that rotates, with its cache in a folder."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder), "PYTHONPATH": str(path), **environment}
    return subprocess.Popen([sys.executable, "-c", code, kind], env=environment, cwd=path, text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip


def logged(process):
    """What a process said, whose numbers were right: nothing, or one line on what it compiled."""
    printed, error = process.communicate(timeout=300)
    assert process.returncode == 0, error[-3000:]
    assert error == "" or error.count("\n") == 1 and error.startswith("compiled the kernel float"), error
    return error


KEPT, NOT_KEPT = "once on this machine", "cannot be kept: "


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    assert KEPT in logged(start(folder)) and not logged(start(folder))
    return folder


@pytest.fixture
def copy(full, tmp_path):
    return shutil.copytree(full, tmp_path / "cache")


def files(folder, kind="nb[ci]"):
    return sorted(folder.rglob(f"*.{kind}"))


DAMAGES = {
    "empty": lambda content: b"",
    "one byte": lambda content: content[:1],
    "a few": lambda content: content[:33],
    "half": lambda content: content[: len(content) // 2],
    "all but the last": lambda content: content[:-1],
    "zeros": lambda content: b"\x00" * len(content),
    "garbage": lambda content: b"garbage" * 100,
}


@pytest.mark.in_turn
@pytest.mark.parametrize("kind", ["nbi", "nbc"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_again(copy, kind, damage):
    """The index of a function's forms, and the code of one."""
    damaged = files(copy, kind)
    assert damaged
    for file in damaged:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    assert NOT_KEPT in logged(start(copy))


def test_a_missing_file_is_compiled_again_and_kept(copy):
    files(copy, "nbc")[0].unlink()
    assert KEPT in logged(start(copy)) and not logged(start(copy))


def test_a_full_disk_costs_a_compilation(tmp_path):
    """Where Numba writes: into a file of another name, which it then renames."""
    process = start(tmp_path, """
import builtins, errno, os
whole = builtins.open
class Full:
    def __init__(self, file): self.file = file
    def __enter__(self): return self
    def __exit__(self, *error): self.file.close()
    def write(self, content): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
def full(path, mode="r", *rest, **words):
    file = whole(path, mode, *rest, **words)
    return Full(file) if mode == "wb" else file
builtins.open = full
""" + TURN)
    assert f"{NOT_KEPT}OSError: [Errno 28]" in logged(process) and not files(tmp_path)
    assert KEPT in logged(start(tmp_path))


def test_what_a_signal_raises_meanwhile_is_not_taken_for_a_fault_of_the_cache(tmp_path):
    """As a timeout does: it arrives, at once, and the next rotation compiles."""
    logged(start(tmp_path, """
import logging, signal
logging.disable()
class Stop(Exception): pass
def stop(*_): raise Stop
signal.signal(signal.SIGALRM, stop)
import numba_kernels as nk, numpy as np
from numba_kernels import cache
single = [np.ones(n, np.float32) for n in (2, 1, 1)]
nk.rotate(*single, pairing="half-split")  # Numba has registered all it knows before the first signal comes
lower = cache.njit
def slow(*arguments, **options):
    signal.setitimer(signal.ITIMER_REAL, 0.2 if arguments else 0)  # where it has a signature it compiles
    return lower(*arguments, **options)
cache.njit = slow
try:
    nk.rotate(np.ones(2), np.ones(1), np.ones(1), pairing="half-split")
except Stop: pass
else: raise AssertionError
cache.njit = lower
""" + TURN))


def test_where_nothing_can_be_written_it_is_compiled_each_time(tmp_path):
    """Neither where Numba was told to, nor beside the sources, nor at home: as in a container that may not write."""
    nowhere = tmp_path / "file"
    nowhere.touch()
    refuse = """
import tempfile
def refuse(*arguments, **options): raise PermissionError
tempfile.TemporaryFile = refuse
"""
    for _ in range(2):
        assert NOT_KEPT in logged(start(nowhere / "cache", refuse + TURN, HOME=str(nowhere)))
    assert nowhere.read_bytes() == b"" and list(tmp_path.iterdir()) == [nowhere]


class Planted:
    """What runs where it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


def plant(folder, proof):
    """Files of the right names that prove that they were read."""
    import pickle

    for file in files(folder):
        file.write_bytes(pickle.dumps(Planted(proof)))


def test_what_was_planted_would_run(copy, tmp_path):
    """Else the tests below could not fail."""
    plant(copy, tmp_path / "proof")
    logged(start(copy))
    assert (tmp_path / "proof").exists()


@pytest.mark.parametrize("what", ["folder", "files"])
@pytest.mark.parametrize("mode", [0o777, 0o757])
def test_what_others_may_write_to_is_not_read(copy, tmp_path, what, mode):
    plant(copy, tmp_path / "proof")
    for path in files(copy) if what == "files" else {file.parent for file in files(copy)}:
        path.chmod(mode)
    said = logged(start(copy))
    assert f"{NOT_KEPT}PermissionError" in said and f"has mode {stat.filemode(mode)[1:]}"[-9:] in said
    assert not (tmp_path / "proof").exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("what", ["folder", "files"])
def test_what_another_group_may_write_to_is_not_read(copy, tmp_path, what):
    plant(copy, tmp_path / "proof")
    for path in files(copy) if what == "files" else {file.parent for file in files(copy)}:
        os.chown(path, -1, 65534)
        path.chmod(0o770)
    assert f"{NOT_KEPT}PermissionError" in logged(start(copy)) and not (tmp_path / "proof").exists()


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root may give files away")
@pytest.mark.parametrize("what", ["folder", "files"])
def test_what_another_user_owns_is_not_read(copy, tmp_path, what):
    plant(copy, tmp_path / "proof")
    for path in files(copy) if what == "files" else {file.parent for file in files(copy)}:
        os.chown(path, 65534, 65534)
    assert f"{NOT_KEPT}PermissionError" in (said := logged(start(copy))) and "belongs to user 65534" in said
    assert not (tmp_path / "proof").exists()


def test_several_processes_fill_one_empty_folder(tmp_path):
    kinds = ["float32", "float64", "float32", "float64"]
    for process in [start(tmp_path, kind=kind) for kind in kinds]:
        logged(process)
    assert not any(logged(start(tmp_path, kind=kind)) for kind in kinds[:2])


@pytest.fixture
def package(tmp_path):
    """A copy of the sources, to be changed."""
    for name in ("numba_kernels", "rope_ref"):
        shutil.copytree(ROOT / name, tmp_path / "sources" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "sources"


def change(package, old, new):
    file = package / "numba_kernels" / "cpu.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_sources_that_change_under_a_process_that_runs(package, tmp_path):
    """As pip does below a server: what that compiles later is of the sources it imported, and so is its name."""
    change(package, "narrow(a), narrow(b)", "narrow(a + EXTRA), narrow(b)")
    change(package, "\nEVERY =", "\nEXTRA = 0\nEVERY =")  # a global, of which Numba takes no notice
    kept = tmp_path / "cache"
    old = start(kept, WAIT + TURN, path=package)
    assert old.stdout.read(5) == "ready"
    change(package, "EXTRA = 0", "EXTRA = 1")
    old.stdin.write("\n")
    old.stdin.flush()
    assert KEPT in logged(old)
    new = start(kept, TURN.replace("1.5", "2.5"), path=package)
    assert KEPT in logged(new)
    assert not logged(start(kept, TURN.replace("1.5", "2.5"), path=package))


def test_any_change_of_a_source_is_another_name(package, monkeypatch):
    monkeypatch.delattr(os, "register_at_fork")
    digest = lambda: runpy.run_path(str(package / "numba_kernels" / "cache.py"))["DIGEST"]  # noqa: E731
    found = {cache.DIGEST, digest()}
    assert len(found) == 1
    sources = sorted((package / "numba_kernels").glob("*.py"))
    for file in sources:
        file.write_text(file.read_text() + "\n")
        found.add(digest())
    assert len(found) == 1 + len(sources)
