"""Workers that stand still for a while, and go on as if no time had passed.

One that stops in its transaction keeps its locks and its snapshot; one that stops between two
requests has an old cache when it goes on; one that stops in a retriever holds old data.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from ..disturbers import Worker
from ..history import Log
from ..workloads.worker import Inside
from .moments import AFTER, BEFORE, RETURNED, WRITTEN, at_moments
from .stage import Stage
from .striking import Striking

#: How long a worker stands still at most, in seconds.
LONGEST = 0.4


class Pause(Striking):
    """Stops a random worker, and lets it go on; and those who have stopped themselves."""

    rests = False

    def strike(self) -> None:
        stopped = [worker for worker in self.scene.workers if stands_still(worker)]
        if stopped:
            worker = stopped[0]
        elif self.is_quiet:
            return
        else:
            worker = self.random.choice(self.scene.workers)
            self.scene.did("pause", worker.name)
            worker.signal(signal.SIGSTOP)
        if not self.is_quiet:  # else it would stand still for what is left of the run
            self.rest(LONGEST * self.random.uniform(0.2, 1))
        self.scene.did("continue", worker.name)
        worker.signal(signal.SIGCONT)

    def stop(self) -> None:
        super().stop()
        for worker in self.scene.workers:
            worker.signal(signal.SIGCONT)


def stands_still(worker: Worker) -> bool:
    try:
        return bool(psutil.Process(worker.pid).status() == psutil.STATUS_STOPPED)
    except psutil.NoSuchProcess:
        return False


@contextmanager
def standing_still(work: Inside) -> Iterator[None]:
    """The worker stops in a transaction, with or without the rows of the ledger written, or when
    its COMMIT has returned."""
    log = Log("fault", work.logs / "fault.log")

    def stand_still(moment: str) -> None:
        log.add("pause", f"{work.name} {moment}")
        os.kill(os.getpid(), signal.SIGSTOP)

    with at_moments(work, [BEFORE, AFTER, WRITTEN, RETURNED], 0.5, stand_still):
        yield
    log.close()


@contextmanager
def pause(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Pause(0.15))
    stage.within(standing_still)
    yield
