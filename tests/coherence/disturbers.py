"""Those who interfere with a run: what they are given, and what they owe.

A disturber is started when all workers are at work and stopped when their time is over.  In
between it may do to them, to their connections and to their database what happens in real life: a
worker that dies is replaced, and the errors it explains are counted.  What is not forgiven is a
wrong answer.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Protocol

from ..databases import Database
from .history import Log
from .plan import FAULTS, Plan


class Worker:
    """A worker process that was started for a place among the workers."""

    def __init__(self, place: int, life: int, process: BaseProcess, pipe: Connection) -> None:
        self.place = place
        #: How many had this place before.
        self.life = life
        self.process = process
        self.pipe = pipe

    @property
    def name(self) -> str:
        return f"{self.place}.{self.life}"

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it still lives."""
        if self.process.is_alive():
            self.process._popen._send_signal(number)  # type: ignore[attr-defined]


class Scene:
    """What a disturber finds."""

    def __init__(
        self, plan: Plan, database: Database, log: Log, workers: Callable[[], Sequence[Worker]]
    ) -> None:
        self.plan = plan
        self.database = database
        self._log = log
        self._workers = workers
        self._lock = threading.Lock()

    @property
    def workers(self) -> Sequence[Worker]:
        """The workers of this moment; each may have ended when it is looked at."""
        return self._workers()

    def did(self, what: str, detail: str = "") -> None:
        """Write down, before it is done, what is done: it is counted by its first word (``kill``,
        ``cut``, …) and told in the story of an anomaly."""
        with self._lock:
            self._log.add(what, detail)


class Disturber(Protocol):
    """Somebody who interferes with a run."""

    #: Names of the classes of errors that it explains.
    errors: Sequence[str] = FAULTS

    def start(self, scene: Scene) -> None:
        """All workers are at work.  Has to return; what goes on goes on in a thread."""
        ...

    def stop(self) -> None:
        """The time is over: end, and leave everything such that the workers can come to their end
        (those that were stopped go on, the database is there).  Raises what went wrong."""
        ...
