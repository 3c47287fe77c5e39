"""The worker processes of a run: started together, looked after, replaced when they die."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from ..databases import Database
from .disturbers import Disturber, Scene, Worker
from .history import Log
from .plan import Plan
from .workloads.worker import work

#: How long a worker may take to begin, and to end when its time is over, in seconds.
_GRACE = 60.0


class WorkerFailed(Exception):  # noqa: N818
    """A worker ended by itself in a way that nobody explains."""


class Crew:
    """The workers of one run."""

    def __init__(self, plan: Plan, processes: int, logs: Path) -> None:
        self._plan = plan
        self._logs = logs
        self._context = multiprocessing.get_context("spawn")
        # Without a lock, which one who is killed could leave locked: each writes its own place.
        self._done = self._context.RawArray("L", processes)
        self._workers: list[Worker] = []
        self._places = range(processes)
        self.deaths = 0

    def run(
        self, database: Database, disturbers: Sequence[Disturber], progress: Callable[[str], None]
    ) -> None:
        """Let them work; return when all have come to their end."""
        try:
            for place in self._places:
                self._start(place, 0)
            for worker in self._workers:
                if not self._is_ready(worker):
                    raise WorkerFailed(f"a worker did not begin: {self._last_words(worker)}")
            begun = time.monotonic()
            until = begun + self._plan.seconds
            for worker in self._workers:
                worker.pipe.send(until)
            log = Log("fault", self._logs / "fault.log")
            scene = Scene(self._plan, database, log, lambda: list(self._workers))
            started: list[Disturber] = []
            try:
                for disturber in disturbers:
                    started.append(disturber)
                    disturber.start(scene)
                while time.monotonic() < until and self._workers:
                    self._look_after(until, may_die=bool(disturbers))
                    passed = time.monotonic() - begun
                    deaths = f", {self.deaths} died" if self.deaths else ""
                    progress(f"{passed:.0f} s, {sum(self._done)} requests{deaths}")
            finally:
                for disturber in reversed(started):
                    disturber.stop()
                log.close()
            while self._workers:
                self._look_after(0, may_die=bool(disturbers))
                if time.monotonic() > until + _GRACE:
                    raise WorkerFailed("a worker did not come to an end")
        finally:
            for worker in self._workers:
                worker.process.kill()
                worker.process.join()

    def _start(self, place: int, life: int) -> Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work,
            args=(self._plan, place, life, self._logs, theirs, self._done),
            daemon=True,
        )
        process.start()
        theirs.close()
        worker = Worker(place, life, process, ours)
        self._workers = [*self._workers, worker]
        return worker

    def _is_ready(self, worker: Worker) -> bool:
        try:
            return worker.pipe.poll(_GRACE) and worker.pipe.recv() == "ready"
        except EOFError:
            worker.process.join()
            return False

    def _look_after(self, until: float, *, may_die: bool) -> None:
        """Wait a little; bury who has died, and replace him if there is time left."""
        wait([worker.process.sentinel for worker in self._workers], 0.2)
        for worker in list(self._workers):
            code = worker.process.exitcode
            if code is None:
                continue
            self._workers = [other for other in self._workers if other is not worker]
            if code == 0:
                continue
            if code > 0 or not may_die:
                raise WorkerFailed(f"{worker.name} ended with {code}: {self._last_words(worker)}")
            self.deaths += 1
            if time.monotonic() < until:
                self._start(worker.place, worker.life + 1).pipe.send(until)

    def _last_words(self, worker: Worker) -> str:
        path = self._logs / f"{worker.name}.error"
        return path.read_text() if path.exists() else "without a word"
