"""The store: the values of this process, shared by its threads.

It holds only values that a committed reader could have computed, and none that is older than the
newest reading of the ledger that was applied to it.  Time is counted in such readings: `label`
is the number of those that brought news.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .entry import Entry, Slot
from .ledger import News
from .points import point

#: How many recent drops are remembered, for values that are still being computed.
_REMEMBERED_DROPS = 10_000


class Store:
    """A bounded map of `Slot` to `Entry`, least recently used first out."""

    def __init__(
        self,
        max_entries: int,
        max_bytes: int | None = None,
        sizer: Callable[[Any], int] | None = None,
    ) -> None:
        # Guards everything below.  Innermost lock: no other is taken, no I/O is done and no
        # user code runs while it is held (the sizer runs before).
        self._lock = threading.Lock()
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._sizer = sizer
        self._entries: OrderedDict[Slot, tuple[Entry, int]] = OrderedDict()
        self._by_key: dict[str, set[Slot]] = {}
        self._bytes = 0
        self._label = 0
        # Key → label of the reading that dropped it.  Values labelled below the floor cannot
        # be judged any more and are not published.
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._floor = 0
        self.evictions = 0

    @property
    def label(self) -> int:
        """The newest reading of the ledger that was applied.  A value read from a snapshot that
        is opened after this was asked is at least as new."""
        return self._label

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """What the sizer said of all entries together; 0 without one."""
        return self._bytes

    def get(self, slot: Slot) -> Entry | None:
        """Return the entry, as new as the newest applied reading, or None."""
        with self._lock:
            found = self._entries.get(slot)
            if found is None:
                return None
            self._entries.move_to_end(slot)
            return found[0]

    @point(before="load: value made, not published", after="load: published, not kept")
    def publish(self, slot: Slot, entry: Entry) -> bool:
        """Keep *entry* for everybody, if it is clean and nothing it was computed from was
        dropped since its label; return whether it was kept.

        The interleaving this guards against: a retriever reads its data, another transaction
        commits and a check drops the key, the retriever ends.  Its value is older than the
        readings that are already applied and would never be dropped again.
        (Test: ``test_case_05_slow_loader``.)
        """
        if entry.owners:
            return False
        size = self._sizer(entry.value) if self._sizer else 0
        if self._max_bytes is not None and size > self._max_bytes:
            return False
        with self._lock:
            if entry.label < self._floor or any(
                self._dropped.get(key, 0) > entry.label for key in entry.keys
            ):
                return False
            self._remove(slot)
            self._entries[slot] = (entry, size)
            self._bytes += size
            for key in entry.keys:
                self._by_key.setdefault(key, set()).add(slot)
            while len(self._entries) > self._max_entries or (
                self._max_bytes is not None and self._bytes > self._max_bytes
            ):
                self._remove(next(iter(self._entries)))
                self.evictions += 1
            return True

    @point(before="check: news read, not applied", after="check: news applied, position not moved")
    def apply(self, news: News) -> None:
        """Drop what the ledger reports, and count the reading if it brought anything."""
        with self._lock:
            if not news.complete:
                self._label += 1
                self._clear()
            elif news.keys:
                self._label += 1
                for key in news.keys:
                    for slot in list(self._by_key.get(key, ())):
                        self._remove(slot)
                    self._dropped[key] = self._label
                    self._dropped.move_to_end(key)
                while len(self._dropped) > _REMEMBERED_DROPS:
                    _, self._floor = self._dropped.popitem(last=False)

    def clear(self) -> None:
        """Drop everything, also what is being computed at this moment."""
        self.apply(News(None, complete=False))

    def after_fork(self) -> None:
        """Make the lock anew in a forked child: a thread of the parent may have held it."""
        self._lock = threading.Lock()
        self._label += 1
        self.evictions = 0
        self._clear()

    def _clear(self) -> None:
        # New containers: after a fork the old ones may have been caught in the middle of a change.
        self._entries = OrderedDict()
        self._by_key = {}
        self._bytes = 0
        self._dropped = OrderedDict()
        self._floor = self._label

    @point(before="store: in the middle of a change")
    def _remove(self, slot: Slot) -> None:
        found = self._entries.pop(slot, None)
        if found is None:
            return
        entry, size = found
        self._bytes -= size
        for key in entry.keys:
            slots = self._by_key[key]
            slots.discard(slot)
            if not slots:
                del self._by_key[key]
