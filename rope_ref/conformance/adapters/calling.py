"""Calling other people's code: with a time limit, and with an error turned into a sentence."""

import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any


class Failed(Exception):
    """A call that raised, hung, or gave back what no rotation gives back; the message says which."""


class Caller:
    """Runs functions in a thread of its own, so that one that hangs can be left behind; without a limit, in this one.

    What fails in a thread of its own and not in this one, before anything was answered there, is bound to this
    thread, as lazy arrays, streams and connections are: then calls stay in this one.
    """

    def __init__(self, time_limit: float | None) -> None:
        self.time_limit = time_limit
        self.hung: set[object] = set()
        self.apart = bool(time_limit)
        self.answered = False
        if self.apart:
            self._start()

    def _start(self) -> None:
        self.work: queue.Queue[Any] = queue.Queue()
        self.done: queue.Queue[Any] = queue.Queue()
        threading.Thread(target=_serve, args=(self.work, self.done), daemon=True).start()

    def __call__(self, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args). Raises Failed where it raises, or takes longer than the limit; then never calls it again."""
        if not self.apart:
            return self._here(function, *args)
        if function in self.hung:
            raise Failed(f"did not end within {self.time_limit:g} s in an earlier call; it is not called again")
        self.work.put((function, args))
        try:
            result, error = self.done.get(timeout=self.time_limit)
        except queue.Empty:
            self.hung.add(function)
            self._start()
            raise Failed(f"did not end within {self.time_limit:g} s") from None
        if error is not None:
            if not self.answered:
                with contextlib.suppress(Failed):
                    result = self._here(function, *args)
                    self.apart = False
                    return result
            raise Failed(message(error)) from error
        self.answered = True
        return result

    def _here(self, function: Callable[..., Any], *args: Any) -> Any:
        try:
            return function(*args)
        except (Exception, SystemExit) as error:
            raise Failed(message(error)) from error


def message(error: BaseException) -> str:
    """An error of somebody else's code, in a sentence."""
    text, kind = " ".join(str(error).split()), type(error)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    return f"raised {name}: {text[:300]}"


def _serve(work: "queue.Queue[Any]", done: "queue.Queue[Any]") -> None:
    while True:
        function, args = work.get()
        try:
            done.put((function(*args), None))
        except BaseException as error:  # noqa: BLE001 - also what would end the interpreter: it is somebody else's code
            done.put((None, error))
