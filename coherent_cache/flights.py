"""One load at a time for each slot: concurrent misses wait for the one who loads.

Who may wait, so that nobody waits for ever:

- nobody waits for a load that, over any number of steps, waits for one of his own
  (A reads B while B reads A; a chain of loads may wait for several at once), but for one that
  another task of the same retriever has under way and that waits for none of theirs;
- one who holds a database connection does not wait for one who holds none: that one may be
  waiting for the pool, for just this connection;
- one who would block an event loop does not wait for a task of that loop.

Who does not wait computes the value himself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .entry import Entry, Slot
from .greenlets import current_owner
from .load import Chain, Flight, Load
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
        parent: Load | None,
        *,
        wanted: int,
        label: int,
        blocks: bool = False,
        holds_connection: bool = False,
        others_connect: Callable[[object], bool],
    ) -> tuple[Flight, bool]:
        """Return a flight and whether the caller leads it.

        A flight that is not the caller's is to be waited for; then call `stop_waiting`.  Only
        one whose data is at least as new as *wanted*, the label of the caller's view, is joined;
        one that the caller leads will have *label*.  *blocks*: he would wait in plain code.
        *holds_connection*: he has one also where no load has executed anything on it.
        *parent*: the load of his own that needs the value.  *others_connect*: tells whether others
        than the one it is asked about have a connection, as far as the caller's scope knows.
        """
        with self._lock:
            found = self._flights.get(slot)
            if (
                found is not None
                and found.label >= wanted
                and not (blocks and found.is_led_in_this_loop())
                and (found.chain is not chain or _may_wait_beside(found, others_connect))
                and self._may_wait(chain, found, holds_connection or chain.holds_connection)
            ):
                chain.waiting_on.append((found, parent))
                return found, False
            flight = Flight(slot, chain, parent, label)
            self._flights[slot] = flight
            return flight, True

    @point(before="load: wait over, value not taken")
    def stop_waiting(self, chain: Chain, flight: Flight, parent: Load | None) -> None:
        """The caller's wait for *flight* is over."""
        with self._lock:
            chain.waiting_on.remove((flight, parent))

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
            # A flight that another task of a retriever leads ends without this one: it is no part
            # of it, or it would be a circle, and nothing that it waits for is the caller's.
            # (Tests: test_gather_in_a_retriever_loads_twice, and those after it.)
            if step.chain is chain and step is not flight:
                return False
            waiting_on = step.chain.waiting_on
            if step.chain is chain:
                waiting_on = [each for each in waiting_on if step.includes(each[1])]
            further = {each for each, _ in waiting_on} - seen
            seen |= further
            steps += further
        return True


def _may_wait_beside(flight: Flight, others_connect: Callable[[object], bool]) -> bool:
    """Whether another task of the retriever that leads *flight* might be waited for.

    It may be waiting for the pool, and so for whoever has a connection: perhaps the caller.
    (Test: test_gather_in_a_retriever_with_a_pool_of_one.)
    """
    # The leader himself: he puts the value into the tier, and somebody's serializer reads it.
    return flight.leader != current_owner() and not others_connect(flight.leader)
