"""Workers may be disturbed: one who is killed is replaced, and what he wrote down is there."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path

import pytest

from ..databases import Database
from .crew import WorkerFailed
from .disturbers import Disturber, Scene
from .history import Log, read_logs
from .plan import Plan
from .run import run


class Killer(Disturber):
    """Kills each worker once it has done something."""

    def __init__(self, logs: Path) -> None:
        self.logs = logs
        self.killed: list[str] = []
        self._thread: threading.Thread | None = None
        self._over = threading.Event()

    def start(self, scene: Scene) -> None:
        self._thread = threading.Thread(target=self._kill, args=(scene,))
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _kill(self, scene: Scene) -> None:
        while not self._over.wait(0.05):
            for worker in scene.workers:
                written = self.logs / f"{worker.name}.0.log"
                if worker.life == 0 and written.exists() and "committed" in written.read_text():
                    scene.did("kill", worker.name)
                    worker.signal(signal.SIGKILL)
                    self.killed.append(worker.name)


@pytest.mark.on("sqlite-wal")
def test_a_worker_that_is_killed_is_replaced(database: Database, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    killer = Killer(logs)
    plan = Plan(database.kind, database.url, "DRIVER", seconds=3)
    verdict = run(plan, 2, disturbers=[killer], logs=logs)
    assert verdict.anomalies == []
    assert sorted(set(killer.killed)) == ["0.0", "1.0"]
    assert verdict.counts["kill"] == len(killer.killed)
    who = {event.who for event in read_logs(logs)}
    assert {"0.0.0", "1.0.0", "0.1.0", "1.1.0", "fault"} <= who


class Nobody(Disturber):
    """Kills without being allowed to."""

    def __init__(self) -> None:
        self.errors = ()

    def start(self, scene: Scene) -> None:
        (worker,) = scene.workers
        worker.signal(signal.SIGTERM)
        while worker.process.is_alive():
            time.sleep(0.01)

    def stop(self) -> None:
        raise ZeroDivisionError


@pytest.mark.on("sqlite-wal")
def test_what_a_disturber_meets_with_is_raised(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        run(Plan(database.kind, database.url, "DRIVER", seconds=0.1), 1, disturbers=[Nobody()])


@pytest.mark.on("sqlite-wal")
def test_a_worker_that_fails_by_itself_is_not_replaced(database: Database) -> None:
    plan = Plan(database.kind, database.url, "DRIVER", options={"max_entries": 0})
    with pytest.raises(WorkerFailed, match="max_entries is at least 1"):
        run(plan, 1)


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    log = Log("A", tmp_path / "a.log")
    log.add("request")
    log.add("del", "x")
    log.close()
    whole = (tmp_path / "a.log").read_text()
    (tmp_path / "a.log").write_text(whole[:-1])
    assert [event.what for event in read_logs(tmp_path)] == ["request"]
