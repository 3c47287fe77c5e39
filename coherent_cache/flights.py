"""One load at a time for each slot: concurrent misses wait for the one who loads.

Who may wait, so that nobody waits for ever:

- nobody waits for a load that, over any number of steps, waits for one of his own
  (A reads B while B reads A; a chain of loads may wait for several at once);
- one who holds a database connection does not wait for one who holds none: that one may be
  waiting for the pool, for just this connection;
- one who would block an event loop does not wait for a task of that loop.

Who does not wait computes the value himself.
"""

from __future__ import annotations

import threading

from .entry import Entry, Slot
from .load import Chain, Flight
from .points import point


class Flights:
    """The loads under way in this process."""

    def __init__(self) -> None:
        # Guards the table and every `Chain.waiting_on`.  Never held while waiting or loading.
        self._lock = threading.Lock()
        self._flights: dict[Slot, Flight] = {}

    def after_fork(self) -> None:
        """In a forked child: a load that this thread has under way lands here, and another thread
        of the parent's may have had the lock.

        (Test: test_a_fork_in_a_retriever_while_another_thread_joins_a_load.)
        """
        self._lock = threading.Lock()
        self._flights = {}

    @point(after="load: joined or led")
    def join_or_lead(
        self,
        slot: Slot,
        chain: Chain,
        *,
        wanted: int,
        label: int,
        blocks: bool = False,
        holds_connection: bool = False,
    ) -> tuple[Flight, bool]:
        """Return a flight and whether the caller leads it.

        A flight that is not the caller's is to be waited for; then call `stop_waiting`.  Only
        one whose data is at least as new as *wanted*, the label of the caller's view, is joined;
        one that the caller leads will have *label*.  *blocks*: he would wait in plain code.
        *holds_connection*: he has one also where no load has executed anything on it.
        """
        with self._lock:
            found = self._flights.get(slot)
            if (
                found is not None
                and found.label >= wanted
                and not (blocks and found.is_led_in_this_loop())
                and self._may_wait(chain, found, holds_connection or chain.holds_connection)
            ):
                chain.waiting_on.append(found)
                return found, False
            flight = Flight(chain, label)
            self._flights[slot] = flight
            return flight, True

    @point(before="load: wait over, value not taken")
    def stop_waiting(self, chain: Chain, flight: Flight) -> None:
        """The caller's wait for *flight* is over."""
        with self._lock:
            chain.waiting_on.remove(flight)

    @point(before="load: over, others wait for it")
    def land(self, slot: Slot, flight: Flight, entry: Entry | None) -> None:
        """The load ended with *entry*, or with nothing that could be shared (None)."""
        self._remove(slot, flight)
        flight.future.set_result(entry)

    def fail(self, slot: Slot, flight: Flight, error: Exception) -> None:
        """The retriever raised: those who asked get it too, and nothing is kept."""
        self._remove(slot, flight)
        flight.future.set_exception(error)

    def _remove(self, slot: Slot, flight: Flight) -> None:
        with self._lock:
            if self._flights.get(slot) is flight:
                del self._flights[slot]

    @point(before="load: another is under way, not joined")
    def _may_wait(self, chain: Chain, flight: Flight, holds_connection: bool) -> bool:
        if holds_connection and not flight.chain.holds_connection:
            return False
        # A retriever that reads two values at once, in tasks or threads, waits for both.
        # (Test: test_an_async_retriever_that_gathers.)
        steps, seen = [flight], {flight}
        while steps:
            step = steps.pop()
            if step.chain is chain:
                return False
            further = set(step.chain.waiting_on) - seen
            seen |= further
            steps += further
        return True
