"""Which entry goes when the store is full: S3-FIFO.

Three queues, as in J. Yang, Y. Zhang, Z. Qiu, Y. Yue, R. Vinayak: *FIFO queues are all you need for
cache eviction* (SOSP 2023).  An entry begins in the *small* one, a tenth of the store.  Most are
read once; those leave by it soon, so that a scan does not flush what is used all the time.  What
was read again meanwhile goes over to the *main* one, and goes round there as long as it is read.
A *ghost* remembers what left the small one; what comes back after that begins in the main one.

A read only counts up a figure of its entry, so it needs no lock and moves nothing.  That is why
this is not the policy of a library: those that keep a scan out take a lock at each read or bring
compiled code, and none is bounded by bytes.  (docs/decisions.md, "Eviction".)
"""

from __future__ import annotations

from array import array
from collections import deque

from .entry import Entry

_SMALL, _MAIN = 1, 2

#: The small queue holds one entry in so many.
_SHARE = 10

#: How many reads are remembered of an entry, so how often it may go round unread.
MAX_USES = 3


class Eviction:
    """The order in which entries leave.  Guarded by the store's lock."""

    def __init__(self) -> None:
        self._small: deque[Entry] = deque()
        self._main: deque[Entry] = deque()
        # Entries that were removed stay in their queue until they come to its end: that many
        # are really there.
        self._live = {_SMALL: 0, _MAIN: 0}
        # Hashes, each at the place that it names: one that is overwritten is forgotten.
        self._ghost = array("q")

    def add(self, entry: Entry) -> None:
        """*entry* is in the store now."""
        entry.uses = 0
        self._push(entry, _MAIN if self._is_ghost(entry) else _SMALL)

    def remove(self, entry: Entry) -> None:
        """*entry* is no longer in the store: it was invalidated, or is replaced.

        One that was in use comes back to the main queue when it is computed anew.
        """
        if entry.queue == _MAIN or entry.uses:
            self._remember(entry)
        self._live[entry.queue] -= 1
        entry.queue = 0
        self._sweep()

    def choose(self) -> Entry:
        """Return the entry that has to go, removed from its queue.  There has to be one."""
        while True:
            live = self._live
            if live[_SMALL] and live[_SMALL] * _SHARE >= live[_SMALL] + live[_MAIN]:
                entry = self._pop(self._small, _SMALL)
                if entry.uses:
                    entry.uses = 0
                    self._push(entry, _MAIN)
                    continue
                self._remember(entry)
                return entry
            entry = self._pop(self._main, _MAIN)
            if not entry.uses:
                return entry
            entry.uses -= 1
            self._push(entry, _MAIN)

    def _push(self, entry: Entry, queue: int) -> None:
        entry.queue = queue
        self._live[queue] += 1
        (self._small if queue == _SMALL else self._main).append(entry)

    def _pop(self, waiting: deque[Entry], queue: int) -> Entry:
        while True:
            entry = waiting.popleft()
            if entry.queue == queue:
                entry.queue = 0
                self._live[queue] -= 1
                return entry

    def _sweep(self) -> None:
        """Entries that were removed and wait for their turn are not more than the living."""
        for queue, waiting in ((_SMALL, self._small), (_MAIN, self._main)):
            if len(waiting) > 2 * self._live[queue] + 64:
                living = [entry for entry in waiting if entry.queue == queue]
                waiting.clear()
                waiting.extend(living)

    def _is_ghost(self, entry: Entry) -> bool:
        if not self._ghost:
            return False
        fingerprint = hash((entry.key, entry.variant))
        return self._ghost[fingerprint % len(self._ghost)] == fingerprint

    def _remember(self, entry: Entry) -> None:
        count = self._live[_SMALL] + self._live[_MAIN]
        if len(self._ghost) < count:
            # Doubled, and empty: how large the store is shows only as it fills.
            self._ghost = array("q", bytes(8 * max(1024, 2 * count)))
        fingerprint = hash((entry.key, entry.variant))
        self._ghost[fingerprint % len(self._ghost)] = fingerprint
