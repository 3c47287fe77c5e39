"""Workers that are killed: from outside at any moment, and by themselves at an exact one.

The first is spared: somebody has to see what became of it.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from ..history import Log
from ..workloads.worker import Inside
from .moments import AFTER, BEFORE, RETURNED, SENT, WRITTEN, at_moments
from .stage import Stage
from .striking import Striking


class Kill(Striking):
    """SIGKILL for a random worker; the crew replaces it."""

    def strike(self) -> None:
        worker = self.random.choice([w for w in self.scene.workers if w.place] or [None])
        if worker is None:
            return  # it has just died
        self.scene.did("kill", worker.name)
        worker.signal(signal.SIGKILL)


@contextmanager
def dying(work: Inside) -> Iterator[None]:
    """The worker ends between two statements, or in its COMMIT."""
    if work.name.startswith("0."):
        yield
        return
    log = Log("fault", work.logs / "fault.log")

    def die(moment: str) -> None:
        log.add("die", f"{work.name} {moment}")
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()

    moments = [SENT, WRITTEN, RETURNED, AFTER, BEFORE]
    with at_moments(work, moments, 0.5, die):
        yield
    log.close()


@contextmanager
def kill(stage: Stage) -> Iterator[None]:
    stage.disturbers.append(Kill(1.5))
    stage.within(dying)
    yield
