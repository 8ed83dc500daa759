"""A command that is asked one line at a time, and whose faults become exceptions that name it (POSIX)."""

import contextlib
import os
import selectors
import shlex
import signal
import subprocess
import time
import weakref
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, NoReturn

LONGEST = 65536  # bytes in an answer
GRACE = 1.0  # seconds between the end of a command's input and its own


class Process:
    """A running command and a private folder, which both end when this object does, at the latest at exit."""

    def __init__(self, argv: list[str], time_limit: float) -> None:
        self.name, self.time_limit = shlex.join(argv), time_limit
        folder = TemporaryDirectory(prefix="rope-ref-")
        self.folder = Path(folder.name)
        try:
            with open(self.folder / "stderr", "wb") as errors:
                pipe = subprocess.PIPE
                # a session of its own, so that all that it starts can be killed with it
                self.process = subprocess.Popen(
                    argv, stdin=pipe, stdout=pipe, stderr=errors, bufsize=0, start_new_session=True
                )
        except BaseException:
            folder.cleanup()
            raise
        self.end = weakref.finalize(self, _end, self.process, folder)

    @property
    def running(self) -> bool:
        """Whether it may still be asked."""
        return self.end.alive

    def ask(self, request: str) -> str:
        """What comes after the `ok` with which it answers a request.

        Raises ValueError where it answers `error MESSAGE`. Where it dies (ChildProcessError), is silent
        for `time_limit` seconds (TimeoutError) or talks nonsense (ValueError), it is killed too.
        """
        try:
            answer = self._exchange(request)
            word, _, rest = answer.partition(" ")
            if word not in ("ok", "error"):
                raise ValueError(f"{self.name} answered {answer[:200]!r} to {request!r}; expected ok or error MESSAGE")
        except BaseException:
            self.kill()
            raise
        if word == "error":
            raise ValueError(f"{self.name}: {rest or 'an error without a message'}")
        return rest

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        _kill(self.process)
        self.end()

    def _exchange(self, request: str) -> str:
        source, sink = self.process.stdout, self.process.stdin
        assert source is not None and sink is not None
        if _ready(source, 0):
            early = os.read(source.fileno(), LONGEST)
            if not early:
                self._died(f"before it was asked {request!r}")
            raise ValueError(f"{self.name} said {early[:200]!r} before it was asked {request!r}")
        with contextlib.suppress(BrokenPipeError):  # its death is noticed below
            sink.write(f"{request}\n".encode())
        answer, deadline = b"", time.monotonic() + self.time_limit
        while not answer.endswith(b"\n"):
            if not _ready(source, deadline - time.monotonic()):
                raise TimeoutError(f"{self.name} did not answer {request!r} in {self.time_limit} seconds")
            more = os.read(source.fileno(), LONGEST)
            if not more:
                self._died(f"when asked {request!r}")
            answer += more
            if len(answer) > LONGEST or b"\n" in answer[:-1]:
                raise ValueError(f"{self.name} answered {answer[:200]!r} to {request!r}; expected one line")
        return answer.decode(errors="replace").strip()

    def _died(self, when: str) -> NoReturn:
        try:
            status = self.process.wait(GRACE)
            how = f"ended with status {status}"
            if status < 0:
                how = f"was killed by signal {-status} ({signal.strsignal(-status)})"
        except subprocess.TimeoutExpired:
            how = "closed its output"
        errors = (self.folder / "stderr").read_bytes()[-2000:].decode(errors="replace").strip()
        raise ChildProcessError(f"{self.name} {how} {when}" + (f"; it said: {errors}" if errors else ""))


def _ready(source: IO[bytes], seconds: float) -> bool:
    with selectors.DefaultSelector() as selector:
        selector.register(source, selectors.EVENT_READ)
        return bool(selector.select(max(seconds, 0)))


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # nobody is left; on macOS, none but the dead
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes], folder: "TemporaryDirectory[str]") -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE)
    _kill(process)
    process.wait()
    process.stdout.close()
    folder.cleanup()
