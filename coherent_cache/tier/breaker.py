"""A circuit breaker: while a server does not answer, nobody waits for it.

Why not a library (decision "A circuit breaker of our own"): pybreaker holds its lock while it
calls, and reads the wall clock; circuitbreaker and purgatory have no lock and let every thread
probe.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

_log = logging.getLogger("coherent_cache")

FAILURES = 3  # in a row
FIRST_PAUSE = 1.0  # seconds; doubles with each probe that fails
LONGEST_PAUSE = 30.0  # seconds


class Permit(NamedTuple):
    """Leave for one call; it is given back by `Breaker.succeeded`, `failed` or `abandoned`."""

    era: int
    started: float
    probe: bool


class Breaker:
    """Says whether to call, and is told how it went.

    Closed, it lets every call through.  It opens after *failures* calls in a row that failed, or
    after one that failed and took *timeout* seconds or longer: waiting is what it is there to
    spare.  Open, it lets nobody through for a pause of *first_pause* seconds, then one call, the
    probe, while the others still go on without.  If the probe succeeds it closes; if it fails the
    pause doubles, up to *longest_pause* seconds.

    Opening and closing are each told by one line of the log, whatever the number of threads.
    No method does I/O but for the log, which is written outside the lock.
    """

    def __init__(
        self,
        name: str,
        *,
        timeout: float,
        failures: int = FAILURES,
        first_pause: float = FIRST_PAUSE,
        longest_pause: float = LONGEST_PAUSE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._timeout = timeout
        self._limit = failures
        self._first_pause = first_pause
        self._longest_pause = longest_pause
        self._clock = clock
        # Guards all below.  A leaf: nothing else is locked, called or waited for under it.
        self._lock = threading.Lock()
        self._era = 0  # counts the openings and closings
        self._failed = 0  # in a row
        self._pause = 0.0  # of this opening; 0 while closed
        self._until = 0.0  # when the next probe may start
        self._probing = False
        self._opened = 0

    @property
    def opened(self) -> int:
        """How often it has opened."""
        return self._opened

    @property
    def is_open(self) -> bool:
        """Whether calls are held back (but for a probe)."""
        return self._pause > 0

    def admit(self) -> Permit | None:
        """Return a permit for one call, or None: go on without."""
        now = self._clock()
        with self._lock:
            if not self._pause:
                return Permit(self._era, now, False)
            # Two threads that come when the pause is over: the second one finds a probe under way
            # (test_one_thread_probes).
            if self._probing or now < self._until:
                return None
            self._probing = True
            return Permit(self._era, now, True)

    def succeeded(self, permit: Permit) -> None:
        """The call was answered."""
        with self._lock:
            # A call that began before the opening and ends after it says nothing of now
            # (test_late_answers_count_for_nothing).
            if permit.era != self._era:
                return
            self._failed = 0
            if not permit.probe:
                return
            self._era += 1
            self._pause = 0.0
            self._probing = False
        _log.warning("%s answers again and is used", self.name)

    def failed(self, permit: Permit, error: object) -> None:
        """The call was not answered; *error* goes into the log if this opens the breaker."""
        now = self._clock()
        with self._lock:
            if permit.era != self._era:
                return
            if permit.probe:
                self._probing = False
                self._pause = min(self._pause * 2, self._longest_pause)
                self._until = now + self._pause
                return
            self._failed += 1
            if self._failed < self._limit and now - permit.started < self._timeout:
                return
            self._era += 1
            self._failed = 0
            self._opened += 1
            self._pause = self._first_pause
            self._until = now + self._pause
        _log.warning("%s does not answer and is left out until it does: %r", self.name, error)

    def abandoned(self, permit: Permit) -> None:
        """The call ended by something that says nothing of the server (KeyboardInterrupt)."""
        with self._lock:
            if permit.probe and permit.era == self._era:
                self._probing = False

    def after_fork(self) -> None:
        """In a child: the lock may be held, and a probe be made, by a thread that is not here."""
        self._lock = threading.Lock()
        self._probing = False
