"""Taking values back from a snapshot, so that none of them is older than the ledger says.

The ledger vouches for them by generations (`ledger.generation`): whoever finds the same generation
of a key twice knows that nothing invalidated it in between.

**Taking back.**  1. The label of the store is read.  2. The generations of all keys of the file are
read, with one query.  3. Records whose own key and all others have the very same generation are
published under that label.  What was invalidated before step 2 has another generation.  What is
invalidated later becomes news of a look.  If that is applied after step 3 it finds the entry in the
store and drops it; if before, the store has counted it above the label and refuses the entry.  The
interleaving that this guards against: the generation is read, somebody commits, another thread
looks at the ledger, and the old value is published, never to be dropped.
(Test: test_a_commit_while_values_are_taken_back.)

**The first who asks.**  A value comes back as bytes and waits in the store under its key, where
news, other values and `evict` reach it as they reach all.  It becomes a value when somebody asks
for its slot, because only then there is one: it is taken out of the store with the label of that
moment and published again under that, so what is applied while it is decoded still counts.
(Test: test_dropped_while_it_is_decoded.)
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping

from ..core import Core
from ..entry import Entry, Slot, Waiting
from ..greenlets import Mutex, spawn
from ..sealing.serializers import Serializer
from ..shared import variant_of
from ..transaction import Transaction
from .file import SnapshotFile
from .records import Record, keys_of

_log = logging.getLogger("coherent_cache")

#: How often it is tried if the ledger cannot be asked.
_ATTEMPTS = 3


class Restorer:
    """What one process takes back, once."""

    def __init__(self, core: Core, file: SnapshotFile, serializer: Serializer) -> None:
        self._core = core
        self._store = core.store
        self._file = file
        self._serializer = serializer
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: the child has nothing in memory."""
        # Guards the taking back, and is held during its I/O.  Whoever waits for it holds no other
        # lock of ours, and none on an SQLite file.
        self._mutex = Mutex(self._core.is_async)
        self._attempts = _ATTEMPTS
        self._waiting: dict[str, Waiting] = {}
        #: How many values came back.
        self.restored = 0

    def looked(self, transactions: Iterable[Transaction]) -> None:
        """The ledger was looked at: before what is in memory is served take back what the file
        has, if that was not done.  Raises nothing."""
        around = self._to_ask_beside(transactions)
        if around is not None:
            try:
                with self._mutex.held():
                    if self._attempts:
                        self._take_back(self._file.read(), around)
            except Exception:
                self._failed()

    async def alooked(self, transactions: Iterable[Transaction]) -> None:
        """`looked` in a coroutine."""
        around = self._to_ask_beside(transactions)
        if around is not None:
            try:
                async with self._mutex.of_tasks:
                    if self._attempts:
                        records = await asyncio.to_thread(self._file.read)
                        await spawn(self._take_back, records, around)
            except Exception:
                self._failed()

    def _to_ask_beside(self, transactions: Iterable[Transaction]) -> list[Transaction] | None:
        """The transactions beside which to take back now; None if there is nothing to do, or others
        who wait for it here would wait for the caller's lock: then the next look will do.
        (Test: test_a_first_look_within_a_transaction.)"""
        if not self._attempts:
            return None
        around = list(transactions)
        return around if self._core.access.may_ask_beside(around) else None

    def _failed(self) -> None:
        self._attempts = max(0, self._attempts - 1)
        _log.info("the snapshot could not be taken back", exc_info=True)

    def _take_back(self, records: list[Record], transactions: Iterable[Transaction]) -> None:
        label = self._store.label  # before the generations, see above
        generations = self._generations(records, transactions)
        # Those that are used most come last, so that they are the last to be evicted.
        for record in reversed(records[: self._store.max_entries]):
            if record.is_current(generations):
                variant = self._waiting.setdefault(record.variant, Waiting(record.variant))
                others = frozenset(record.dependencies)
                entry = Entry(Slot(record.key, variant), record, label, others=others)
                self.restored += self._store.publish(entry.slot, entry, len(record.data))
        self._attempts = 0

    def _generations(
        self, records: list[Record], transactions: Iterable[Transaction]
    ) -> Mapping[str, str]:
        if not records:
            return {}
        return self._core.access.generations(list(keys_of(records)), transactions, whole=True)

    def take(self, slot: Slot) -> Entry | None:
        """Return the value of *slot* if it waits in the store, which has it as a value then; else
        None.  No I/O."""
        variant = variant_of(slot)
        if variant is None:
            return None
        waiting = self._store.take_waiting(slot.key, variant)
        if waiting is None:
            return None
        try:
            value = self._serializer.loads(waiting.value.data)
        except Exception:  # of a class that has changed
            _log.info("a value of %r of the snapshot is not read", slot.key, exc_info=True)
            return None
        entry = Entry(slot, value, waiting.label, others=waiting.others)
        return entry if self._store.publish(slot, entry) else None
