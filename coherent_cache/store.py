"""The store: the values of this process, shared by its threads.

It holds only values that a committed reader could have computed, and none that is older than the
newest reading of the ledger that was applied to it.  Time is counted in such readings: `label`
is the number of those that brought news.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from .entry import Entry, Slot, Waiting
from .errors import CacheError
from .eviction import MAX_USES, Eviction
from .ledger import News
from .points import point

_T = TypeVar("_T")

#: How many recent drops are remembered, for values that are still being computed.
_REMEMBERED_DROPS = 10_000


class Store:
    """A bounded map of `Slot` to `Entry`; what is seldom read goes first (`eviction`)."""

    def __init__(
        self,
        max_entries: int,
        max_bytes: int | None = None,
        sizer: Callable[[Any], int] | None = None,
    ) -> None:
        # Guards everything below.  Innermost lock: no other is taken, no I/O is done and no
        # user code runs while it is held (the sizer runs before), but for what comes in between
        # anywhere, a signal's handler or the destructor of an object.  That finds that its own
        # thread has the lock, and leaves what is in the middle of a change alone.
        # (Tests: test_a_signal_handler_that_evicts, test_in_the_middle_of_a_change.)
        self._lock: Any = threading.RLock()
        # What is to be dropped, None for everything: asked for by it, and done after the change.
        self._to_drop: list[Slot | None] = []
        # Whether a change has begun and not ended, so that an exception has broken it off if
        # nobody has the lock.  (Test: test_a_change_that_is_broken_off.)
        self._changing = False
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._sizer = sizer
        self._label = 0
        self.evictions = 0
        #: The first of a key's variants; the others follow it.
        self.entries: dict[str, Entry] = {}
        self._clear()

    @property
    def label(self) -> int:
        """The newest reading of the ledger that was applied.  A value read from a snapshot that
        is opened after this was asked is at least as new."""
        return self._label

    def __len__(self) -> int:
        return self._count

    @property
    def max_entries(self) -> int:
        """How many entries it holds at most."""
        return self._max_entries

    @property
    def size_bytes(self) -> int:
        """What the sizer said of all entries together; 0 without one."""
        return self._bytes

    def get(self, slot: Slot) -> Entry | None:
        """Return the entry, as new as the newest reading that was applied before the call, or
        None.

        Without the lock: each step is one operation on a dictionary or an object, an entry that
        is dropped meanwhile was as new as the caller may ask for, and a count of uses that is
        lost is only a count.
        """
        found = self.entries.get(slot.key)
        while found is not None:
            if found.variant is slot.variant:
                if found.uses < MAX_USES:
                    found.uses += 1
                return found
            found = found.next
        return None

    def holds(self, entry: Entry) -> bool:
        """Whether *entry* is here: nothing that was applied has invalidated it, nor is it evicted.
        Without the lock, see `get`."""
        return any(found is entry for found in self._variants(entry.key))

    def place(self, slot: Slot, entry: Entry) -> None:
        """Let `Slot.entry` of *slot*, which an attribute keeps, be *entry*, which `get` has found
        for it: the next read of it needs no look-up.

        The interleaving this guards against: the entry is dropped meanwhile.  Whoever drops it
        lets it leave its queue first and then looks for its place; here it is the other way round,
        so one of the two clears the slot.  Until then it is in no queue, and nobody takes it.
        (Tests: test_dropped_while_it_is_placed, test_a_slot_that_was_not_told.)
        """
        entry.place = slot
        slot.entry = entry
        if not entry.queue:
            entry.place = slot.entry = None

    @point(before="load: value made, not published", after="load: published, not kept")
    def publish(self, slot: Slot, entry: Entry, size: int | None = None) -> bool:
        """Keep *entry* for everybody, if it is clean and nothing it was computed from was
        dropped since its label; return whether it was kept.  *size* in bytes stands for what the
        sizer would say.

        The interleaving this guards against: a retriever reads its data, another transaction
        commits and a check drops the key, the retriever ends.  Its value is older than the
        readings that are already applied and would never be dropped again.
        (Test: ``test_case_05_slow_loader``.)
        """
        if entry.owners:
            return False
        entry.size = 0
        if self._sizer is not None:
            entry.size = self._sizer(entry.value) if size is None else size
        if self._max_bytes is not None and entry.size > self._max_bytes:
            return False
        if self._lock._is_owned():
            return False
        return self._change(self._put, entry)

    def _put(self, entry: Entry) -> bool:
        if entry.label < self._floor or any(
            self._dropped.get(key, 0) > entry.label for key in entry.keys
        ):
            return False
        self._replace(entry)
        while self._count > self._max_entries or (
            self._max_bytes is not None and self._bytes > self._max_bytes
        ):
            self._unlink(self._eviction.choose())
            self.evictions += 1
        return True

    @point(before="check: news read, not applied", after="check: news applied, position not moved")
    def apply(self, news: News) -> None:
        """Drop what the ledger reports, and count the reading if it brought anything."""
        if news.complete and not news.keys:
            return
        if self._lock._is_owned():
            # Later would be too late for the caller, and the same news can be read again.
            raise CacheError(
                "the ledger has news, but this signal handler or destructor has interrupted the "
                "cache in the middle of a change: read cached values elsewhere"
            )
        self._change(self._drop, news.keys if news.complete else None)

    def _drop(self, keys: frozenset[str] | None) -> None:
        self._label += 1
        if keys is None:
            self._clear()
            return
        for key in keys:
            for entry in [*self._variants(key), *self._dependents.get(key, ())]:
                self._remove(entry)
            self._dropped[key] = self._label
            self._dropped.move_to_end(key)
        while len(self._dropped) > _REMEMBERED_DROPS:
            _, self._floor = self._dropped.popitem(last=False)

    def evict(self, slot: Slot) -> None:
        """Drop what *slot* holds, if it holds something.  Nothing became invalid: a value that is
        being computed meanwhile may take its place."""
        self._ask_to_drop(slot)

    def clear(self) -> None:
        """Drop everything, also what is being computed at this moment."""
        self._ask_to_drop(None)

    def _ask_to_drop(self, slot: Slot | None) -> None:
        self._to_drop.append(slot)
        if not self._lock._is_owned():
            self._change(self._drop_asked)

    def _drop_asked(self) -> None:
        while self._to_drop:
            slot = self._to_drop.pop(0)
            if slot is None:
                self._drop(None)
                continue
            for entry in [*self._variants(slot.key)]:
                if entry.variant is slot.variant or isinstance(entry.variant, Waiting):
                    self._remove(entry)

    def _change(self, change: Callable[..., _T], *arguments: Any) -> _T:
        """Return what *change* does under the lock, which this thread does not have yet."""
        with self._lock:
            if self._changing:
                # The last one was broken off: readers would find what it left, and no
                # invalidation.
                self._drop(None)
            self._changing = True
            result = change(*arguments)
            self._changing = False
        # What has interrupted it, in whatever line above.
        if self._to_drop:
            self._change(self._drop_asked)
        return result

    def take_waiting(self, key: str, shared_as: str) -> Entry | None:
        """Take out the value as bytes that waits for the variant of *key* that is *shared_as* that
        text, or return None.

        It gets the label of this moment: nothing that was applied has invalidated it.  What is
        applied from now on has to be able to: it is published under that label.
        (Test: test_dropped_while_it_is_decoded.)
        """
        # Without the lock first, since most have nothing waiting.
        if key not in self.entries:
            return None
        if self._lock._is_owned():
            return None
        return self._change(self._take, key, shared_as)

    def _take(self, key: str, shared_as: str) -> Entry | None:
        for entry in self._variants(key):
            if isinstance(entry.variant, Waiting) and entry.variant.shared_as == shared_as:
                self._remove(entry)
                entry.label = self._label
                return entry
        return None

    def most_used(self) -> list[Entry]:
        """All entries, those that are used most first.  Without the lock, see `get`; one that comes
        or goes meanwhile may be missing."""
        found: list[Entry] = []
        for key in list(self.entries):
            found.extend(self._variants(key))
        found.sort(key=_use, reverse=True)
        return found

    def after_fork(self) -> None:
        """Make the lock anew in a forked child: a thread of the parent may have held it."""
        self._lock = threading.RLock()
        self._to_drop = []
        self._changing = False
        self._label += 1
        self.evictions = 0
        self._clear()

    def _clear(self) -> None:
        # What is in a queue is in this map, also in the middle of a change.
        for key in self.entries:
            for entry in self._variants(key):
                entry.queue = 0
                _displace(entry)
        # New containers: after a fork the old ones may have been caught in the middle of a change.
        self.entries = {}
        #: Entries by the keys they were computed from besides their own.
        self._dependents: dict[str, set[Entry]] = {}
        self._eviction = Eviction()
        self._count = 0
        self._bytes = 0
        # Key → label of the reading that dropped it.  Values labelled below the floor cannot
        # be judged any more and are not published.
        self._dropped: OrderedDict[str, int] = OrderedDict()
        self._floor = self._label

    def _variants(self, key: str) -> Iterator[Entry]:
        entry = self.entries.get(key)
        while entry is not None:
            yield entry
            entry = entry.next

    def _replace(self, entry: Entry) -> None:
        """Put *entry* in, and what the slot held out."""
        for old in self._variants(entry.key):
            if old.variant is entry.variant:
                self._remove(old)
                break
        entry.next = self.entries.get(entry.key)
        self.entries[entry.key] = entry
        for key in entry.others or ():
            self._dependents.setdefault(key, set()).add(entry)
        self._count += 1
        self._bytes += entry.size
        self._eviction.add(entry)

    @point(before="store: in the middle of a change")
    def _remove(self, entry: Entry) -> None:
        # One that depends on two keys of the same news is gone already at the second.
        if entry.queue:
            self._eviction.remove(entry)
            self._unlink(entry)

    def _unlink(self, entry: Entry) -> None:
        """Take *entry*, which has left its queue, out of the maps."""
        _displace(entry)
        before: Entry | None = None
        for each in self._variants(entry.key):
            if each is entry:
                break
            before = each
        if before is not None:
            before.next = entry.next
        elif entry.next is not None:
            self.entries[entry.key] = entry.next
        else:
            del self.entries[entry.key]
        for key in entry.others or ():
            dependents = self._dependents[key]
            dependents.discard(entry)
            if not dependents:
                del self._dependents[key]
        self._count -= 1
        self._bytes -= entry.size


def _displace(entry: Entry) -> None:
    """*entry* is no longer what its slot has: nobody else keeps it and its value alive."""
    place = entry.place
    if place is not None:
        entry.place = None
        if place.entry is entry:
            place.entry = None


def _use(entry: Entry) -> tuple[bool, int, int]:
    """The larger, the more *entry* is used."""
    return not isinstance(entry.variant, Waiting), entry.uses, entry.queue
