"""Saving values to a snapshot, so that the ledger can vouch for them later.

**Saving.**  1. The entries of the store are taken down.  2. The generations of all their keys are
read, with one query.  3. The ledger is looked at.  4. What the store still holds after that is
saved, under the generations of step 2.  An entry that somebody invalidated with a commit before
step 2 is dropped by the look of step 3, which comes after that commit.  So whatever is saved was
not invalidated before its generations were read.  The interleaving that this guards against: an
entry is taken down, somebody commits, the generation is read, and the old value is saved under the
new generation, wrong for good.  (Test: test_a_commit_before_the_generations_are_read.)  The same
query tells which records of the file are still valid: another worker's values stay in it.

**Others who save.**  The file is read, and values are serialised, without a lock.  Then the file's
lock is taken; if the file was replaced meanwhile it is read again, and so are the generations of
all that is to be written.  So no saving undoes another's, and none is delayed by a slow serializer.

Only entries of the store are saved: what a committed reader could have computed.  Those that have
no name in other processes (`shared.variant_of`) stay here.  User code (serialising, decoding) runs
under no lock of the library's.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Iterable, Iterator, Mapping

from ..core import Core
from ..entry import Entry, Waiting
from ..greenlets import spawn
from ..shared import variant_of
from ..tier.serializers import Serializer
from ..transaction import Transaction
from .file import SnapshotFile
from .records import Record, keys_of

_log = logging.getLogger("coherent_cache")


class Saver:
    """Saves what one process has in memory."""

    def __init__(
        self, core: Core, file: SnapshotFile, serializer: Serializer, max_bytes: int
    ) -> None:
        self._core = core
        self._store = core.store
        self._file = file
        self._serializer = serializer
        self._max_bytes = max_bytes
        #: The values of the file after the last saving, and those it could not serialise.
        self.saved = 0
        self.not_saved = 0

    def save(self, transactions: Iterable[Transaction], patience: float) -> int:
        """Save what is in memory; return how many values the file has: 0, and the old file,
        if nothing can be vouched for.  Raises `OSError` and what the driver raises; the file is the
        old one then."""
        stamp, old = self._file.stamp(), self._file.read()
        entries, generations = self._vouched(old, transactions)
        own = self._records(entries, old, generations)
        with self._file.lock(patience):
            if self._file.stamp() != stamp:  # others have saved meanwhile
                old = self._file.read()
                generations = self._generations(keys_of([*own, *old]), transactions)
            return self._write(own, old, generations)

    async def asave(self, transactions: Iterable[Transaction], patience: float) -> int:
        """`save` in a coroutine; files and serialising are a thread's."""
        stamp = self._file.stamp()
        old = await asyncio.to_thread(self._file.read)
        entries, generations = await spawn(self._vouched, old, transactions)
        own = await asyncio.to_thread(self._records, entries, old, generations)
        lock = self._file.lock(patience)
        await asyncio.to_thread(lock.acquire)
        try:
            if self._file.stamp() != stamp:
                old = await asyncio.to_thread(self._file.read)
                keys = keys_of([*own, *old])
                generations = await spawn(self._generations, keys, transactions)
            return await asyncio.to_thread(self._write, own, old, generations)
        finally:
            lock.release()

    def _vouched(
        self, old: list[Record], transactions: Iterable[Transaction]
    ) -> tuple[list[Entry], Mapping[str, str]]:
        """The entries that may be saved, and the generations of all keys."""
        entries = [e for e in self._store.most_used() if variant_of(e.slot) is not None]
        keys = {key for entry in entries for key in (entry.key, *(entry.others or ()))}
        # Before the look, see above.
        generations = self._generations(keys | keys_of(old), transactions)
        if not generations:
            return [], {}
        self._core.access.check(transactions)
        return [entry for entry in entries if self._store.holds(entry)], generations

    def _generations(
        self, keys: set[str], transactions: Iterable[Transaction]
    ) -> Mapping[str, str]:
        if not keys:
            return {}
        return self._core.access.generations(list(keys), transactions, whole=True)

    def _records(
        self, entries: list[Entry], old: list[Record], generations: Mapping[str, str]
    ) -> list[Record]:
        """What is saved of *entries*, those first that are used most."""
        self.not_saved = 0
        # Of the same generation: the same value, and no work.
        known = {record.slot: record for record in old if record.is_current(generations)}
        found: dict[tuple[str, str], Record] = {}
        size = 0
        for entry in entries:
            slot = entry.key, variant_of(entry.slot) or ""
            if slot not in found:
                record = known.get(slot) or self._record(entry, slot[1], generations)
                if record is not None:
                    size += len(record.data)
                    if size > self._max_bytes:
                        break
                    found[slot] = record
        return list(found.values())

    def _record(self, entry: Entry, variant: str, generations: Mapping[str, str]) -> Record | None:
        """What is saved of *entry*; None if it cannot be."""
        if not entry.keys <= generations.keys():
            return None
        if isinstance(entry.variant, Waiting):
            data = entry.value.data
        else:
            try:
                data = self._serializer.dumps(entry.value)
            except Exception as error:  # NotSerializable, TooLarge, or what user code raises
                self.not_saved += 1
                _log.debug("a value of %r is not saved: %s", entry.key, error)
                return None
            if not isinstance(data, bytes) or len(data) > self._max_bytes // 2:
                self.not_saved += 1
                return None
        others = {key: generations[key] for key in entry.others or ()}
        return Record(entry.key, variant, generations[entry.key], others, data)

    def _write(self, own: list[Record], old: list[Record], generations: Mapping[str, str]) -> int:
        """Replace the file by what is valid of *own* and of *old*.

        Each in turn: if the file cannot hold all, this process has half of it, and the others."""
        if not generations:
            return 0
        mine = {record.slot for record in own}
        theirs = [record for record in old if record.slot not in mine]
        encoded = []
        size = 0
        for record in _in_turn(own, theirs):
            if record.is_current(generations):
                data = record.encoded()
                size += len(data)
                if size > self._max_bytes:
                    break
                encoded.append(data)
        self._file.write(encoded)
        self.saved = len(encoded)
        return self.saved


def _in_turn(*lists: list[Record]) -> Iterator[Record]:
    for several in itertools.zip_longest(*lists):
        yield from (record for record in several if record is not None)
