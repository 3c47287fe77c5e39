"""A disturber that strikes now and then."""

from __future__ import annotations

import abc
import random
import threading
import time

from ..disturbers import Scene
from ..plan import FAULTS, Plan

#: For how long, at the end of a run, nothing happens any more, in seconds at most: what went wrong
#: before has to be right by then.
QUIET = 1.0


def quiet(plan: Plan) -> float:
    """How long the quiet time at the end of the run is, in seconds."""
    return min(QUIET, plan.seconds / 3)


class Striking(abc.ABC):
    """Strikes at random moments, *every* so many seconds on average, until the quiet time at the
    end of the run."""

    errors = FAULTS
    #: Whether there is a quiet time.
    rests = True

    def __init__(self, every: float) -> None:
        self._every = every
        self._over = threading.Event()
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, scene: Scene) -> None:
        self.scene = scene
        self.random = random.Random(f"{scene.plan.seed} {type(self).__name__}")
        self._end = time.monotonic() + scene.plan.seconds - quiet(scene.plan)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
        if self._error is not None:
            raise self._error

    def rest(self, seconds: float) -> bool:
        """Let time pass; return whether the run goes on."""
        return not self._over.wait(seconds)

    @abc.abstractmethod
    def strike(self) -> None:
        """Do harm, and undo what has to be undone for the workers to come to their end."""

    @property
    def is_quiet(self) -> bool:
        """Whether the quiet time has begun."""
        return time.monotonic() > self._end

    def _run(self) -> None:
        try:
            while self.rest(self._every * self.random.uniform(0.5, 1.5)):
                if self.is_quiet and self.rests:
                    return
                self.strike()
        except BaseException as error:
            self._error = error
