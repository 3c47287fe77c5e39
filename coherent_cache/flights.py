"""One load at a time for each slot: concurrent misses wait for the one who loads.

Who may wait, so that nobody waits for ever:

- nobody waits for a load that, over any number of steps, waits for one of his own
  (A reads B while B reads A);
- one who holds a database connection does not wait for one who holds none: that one may be
  waiting for the pool, for just this connection.

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

    @point(after="load: joined or led")
    def join_or_lead(
        self, slot: Slot, chain: Chain, *, wanted: int, label: int
    ) -> tuple[Flight, bool]:
        """Return a flight and whether the caller leads it.

        A flight that is not the caller's is to be waited for; then call `stop_waiting`.  Only
        one whose data is at least as new as *wanted*, the label of the caller's view, is joined;
        one that the caller leads will have *label*.
        """
        with self._lock:
            found = self._flights.get(slot)
            if found is not None and found.label >= wanted and self._may_wait(chain, found):
                chain.waiting_on = found
                return found, False
            flight = Flight(chain, label)
            self._flights[slot] = flight
            return flight, True

    @point(before="load: wait over, value not taken")
    def stop_waiting(self, chain: Chain) -> None:
        """The caller's wait is over."""
        with self._lock:
            chain.waiting_on = None

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
    def _may_wait(self, chain: Chain, flight: Flight) -> bool:
        if chain.holds_connection and not flight.chain.holds_connection:
            return False
        step: Flight | None = flight
        while step is not None:
            if step.chain is chain:
                return False
            step = step.chain.waiting_on
        return True
