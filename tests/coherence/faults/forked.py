"""A worker forks while its threads are busy, and the child goes on reading and writing.

Whichever thread comes by forks: between two statements of its transaction, or when the rows of the
ledger are written.  The child has that thread only, and begins anew.  (SQLite forbids to carry its
connections over a fork, https://sqlite.org/howtocorrupt.html, and keeps what it knows of its locks
in memory for all connections of a process: no library can make that right.)
"""

from __future__ import annotations

import itertools
import os
import signal
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ..history import Log
from ..workloads.client import Client
from ..workloads.environment import drive
from ..workloads.worker import Inside
from .moments import AFTER, BEFORE, WRITTEN, at_moments
from .stage import Stage
from .striking import quiet

#: How long a child works, in seconds.
_LIFE = 0.6


@contextmanager
def forking(work: Inside) -> Iterator[None]:
    """The worker forks now and then, and waits for its children at the end."""
    log = Log("fault", work.logs / "fault.log")
    children: list[int] = []
    parent = os.getpid()
    number = itertools.count()

    def fork(moment: str) -> None:
        if os.getpid() != parent:
            return  # children have none
        name = f"{work.name}+{next(number)}"
        log.add("fork", f"{name} {moment}")
        with warnings.catch_warnings():
            # Forking with threads is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid:
            children.append(pid)
            return
        try:
            _be_a_child(work, name)
        except BaseException:
            (work.logs / f"{work.name}.forked").write_text(traceback.format_exc())
            os._exit(1)
        os._exit(0)

    with at_moments(work, [BEFORE, AFTER, WRITTEN], 0.4, fork):
        yield
    log.close()
    for pid in children:
        _, status = os.waitpid(pid, 0)
        assert status == 0, (work.logs / f"{work.name}.forked").read_text()


def _be_a_child(work: Inside, name: str) -> None:
    signal.alarm(60)
    until = min(time.monotonic() + _LIFE, work.until - quiet(work.plan) / 2)
    log = Log(f"{name}.0", work.logs / f"{name}.0.log")
    drive(Client(work.plan, work.env, log).run(until))


@contextmanager
def fork(stage: Stage) -> Iterator[None]:
    stage.within(forking)
    yield
