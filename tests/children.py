"""Child processes made by fork, for the tests that need a real second process."""

from __future__ import annotations

import os
import pickle
import signal
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Child:
    """A forked process; its function's answer comes through a pipe."""

    pid: int
    reader: int

    def join(self) -> Any:
        """Wait for the end and return what the function returned; raise what it raised."""
        with os.fdopen(self.reader, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(self.pid, 0)
        assert answer, "the child died before it answered"
        value, error = pickle.loads(answer)
        if error is not None:
            raise AssertionError(f"in the child:\n{error}")
        return value

    def wait_for_kill(self) -> None:
        """Wait for the end, which has to be a SIGKILL."""
        with os.fdopen(self.reader, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(self.pid, 0)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        assert killed, f"the child was not killed: {pickle.loads(answer) if answer else status}"


def fork(function: Callable[[], Any], *, clean_exit: bool = False) -> Child:
    """Run *function* in a forked child.

    With *clean_exit* the child drops what it inherited before it goes, as an interpreter that
    exits does; else it goes at once (``os._exit``).
    """
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # Forking with threads is what these tests are about.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid:
        os.close(writer)
        return Child(pid, reader)
    os.close(reader)
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(25)
    answer: tuple[Any, str | None] = (None, "no answer")
    try:
        answer = (function(), None)
        if clean_exit:
            import gc

            function = None  # type: ignore[assignment]
            gc.collect()
    except BaseException:
        answer = (None, traceback.format_exc())
    finally:
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(pickle.dumps(answer))
        os._exit(0)


def kill_self() -> None:
    """The process ends here, with no word to anybody."""
    os.kill(os.getpid(), signal.SIGKILL)
    signal.pause()
