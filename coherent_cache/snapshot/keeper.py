"""`Keeper`: when the values of a process go to its snapshot, and when they come back.

The ledger vouches for both, by generations (`ledger.generation`): whoever finds the same generation
of a key twice knows that nothing invalidated it in between.

**Saving.**  1. The entries of the store are taken down.  2. The generations of all their keys are
read, with one query.  3. The ledger is looked at.  4. What the store still holds after that is
saved, under the generations of step 2.  An entry that somebody invalidated with a commit before
step 2 is dropped by the look of step 3, which comes after that commit.  So whatever is saved was
not invalidated before its generations were read.  The interleaving that this guards against: an
entry is taken down, somebody commits, the generation is read, and the old value is saved under the
new generation, wrong for good.  (Test: test_a_commit_before_the_generations_are_read.)  The same
query tells which records of the file are still valid: another worker's values stay in it.

**Taking back.**  1. The label of the store is read.  2. The generations of all keys of the file are
read, with one query.  3. Records whose own key and all others have the very same generation are
published under that label.  What was invalidated before step 2 has another generation.  What is
invalidated later becomes news of a look.  If that is applied after step 3 it finds the entry in the
store and drops it; if before, the store has counted it above the label and refuses the entry.  The
interleaving that this guards against: the generation is read, somebody commits, another thread
looks at the ledger, and the old value is published, never to be dropped.
(Test: test_a_commit_while_values_are_taken_back.)

**The first who asks.**  A value comes back as bytes and waits in the store under its key, where news,
other values and `evict` reach it as they reach all.  It becomes a value when somebody asks for its
slot, because only then there is one: it is taken out of the store with the label of that moment and
published again under that, so what is applied while it is decoded still counts.
(Test: test_dropped_while_it_is_decoded.)

Only entries of the store are saved: what a committed reader could have computed.  Those that have no
name in other processes (`shared.variant_of`) stay here.  Serialising and decoding, which run user
code, are done under no lock of the library's but that of the file, which only savings take.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import logging
import random
import threading
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from filelock import FileLock
from sqlalchemy.exc import DBAPIError

from ..core import Core
from ..entry import Entry, Slot, Waiting
from ..errors import CacheError
from ..greenlets import Mutex, spawn
from ..shared import variant_of
from ..transaction import Transaction
from .config import Snapshot
from .file import SnapshotFile
from .records import Record

_log = logging.getLogger("coherent_cache")

#: Seconds that a saving waits for those of other workers: in the end, and else.
_PATIENCE_AT_EXIT = 10.0
_PATIENCE = 60.0
#: How often the taking back is tried if the ledger cannot be asked.
_ATTEMPTS = 3


class Keeper:
    """The snapshot of one manager."""

    def __init__(self, core: Core, snapshot: Snapshot) -> None:
        self._core = core
        self._store = core.store
        self._snapshot = snapshot
        self._serializer = snapshot.make_serializer()
        self._file = SnapshotFile(snapshot, core.tables.log.fullname)
        self.after_fork()
        _keepers.add(self)

    def after_fork(self) -> None:
        """Begin anew: the child has nothing in memory, and takes back what the file has."""
        # Guards the taking back, and is held during its I/O.  Whoever waits for it holds no other
        # lock of ours, and on SQLite no transaction.
        self._mutex = Mutex(self._core.is_async)
        self._attempts = _ATTEMPTS
        # Whether there was a look since the last saving: without one there is nothing new.
        self._looked = False
        self._due = self._next_time()
        # Guards the start of a saving beside the application's work; a leaf.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, Waiting] = {}
        #: Values that came back, that the last saving saved, and that it could not serialise.
        self.restored = 0
        self.saved = 0
        self.not_saved = 0

    # Taking back

    def looked(self, transactions: list[Transaction]) -> None:
        """The ledger was looked at: before what is in memory is served take back what the file
        has, if that was not done; begin to save if it is time.  Raises nothing."""
        if self._attempts and self._may_ask(transactions):
            try:
                with self._mutex.held():
                    if self._attempts:
                        self._take_back(self._file.read(), transactions)
            except Exception:
                self._failed()
        self._tick()

    async def alooked(self, transactions: list[Transaction]) -> None:
        """`looked` in a coroutine."""
        if self._attempts and self._may_ask(transactions):
            try:
                async with self._mutex.of_tasks:
                    if self._attempts:
                        records = await asyncio.to_thread(self._file.read)
                        await spawn(self._take_back, records, transactions)
            except Exception:
                self._failed()
        self._tick()

    def _may_ask(self, transactions: list[Transaction]) -> bool:
        """On SQLite the question might wait for the caller's own transaction: the next look will
        do."""
        return not transactions or self._core.engine.dialect.name != "sqlite"

    def _failed(self) -> None:
        self._attempts = max(0, self._attempts - 1)
        _log.info("the snapshot could not be taken back", exc_info=True)

    def _take_back(self, records: list[Record], transactions: Iterable[Transaction]) -> None:
        label = self._store.label  # before the generations, see above
        keys = {key for record in records for key in (record.key, *record.dependencies)}
        generations = self._generations(keys, transactions)
        # Those that are used most come last, so that they are the last to be evicted.
        for record in reversed(records[: self._store.max_entries]):
            if record.is_current(generations):
                variant = self._waiting.setdefault(record.variant, Waiting(record.variant))
                others = frozenset(record.dependencies)
                entry = Entry(Slot(record.key, variant), record, label, others=others)
                self.restored += self._store.publish(entry.slot, entry, len(record.data))
        self._attempts = 0

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

    # Saving

    def save(self, transactions: Iterable[Transaction], patience: float = _PATIENCE) -> int:
        """Save what is in memory; return how many values the file has: 0, and the old file,
        if nothing can be vouched for.
        Raises `OSError` and what the driver raises; the file is the old one then."""
        with self._file.lock(patience):
            old = self._file.read()
            self._looked = False
            entries, generations = self._vouched(old, transactions)
            return self._write(entries, old, generations)

    async def asave(self, transactions: Iterable[Transaction], patience: float = _PATIENCE) -> int:
        """`save` in a coroutine; files and serialising are a thread's."""
        lock = self._file.lock(patience)
        await asyncio.to_thread(_acquire, lock)
        try:
            old = await asyncio.to_thread(self._file.read)
            self._looked = False
            entries, generations = await spawn(self._vouched, old, transactions)
            return await asyncio.to_thread(self._write, entries, old, generations)
        finally:
            lock.release()

    def _vouched(
        self, old: list[Record], transactions: Iterable[Transaction]
    ) -> tuple[list[Entry], dict[str, str]]:
        """The entries that may be saved, and the generations of all keys."""
        entries = [e for e in self._store.most_used() if variant_of(e.slot) is not None]
        keys = {key for entry in entries for key in (entry.key, *(entry.others or ()))}
        keys.update(key for record in old for key in (record.key, *record.dependencies))
        generations = self._generations(keys, transactions)  # before the look, see above
        if generations:
            self._core.access.check(transactions)
        return [entry for entry in entries if self._store.holds(entry)], generations

    def _generations(
        self, keys: set[str], transactions: Iterable[Transaction]
    ) -> Mapping[str, str] | Any:
        if not keys:
            return {}
        return self._core.access.generations(list(keys), transactions, whole=True)

    def _write(
        self, entries: list[Entry], old: list[Record], generations: Mapping[str, str]
    ) -> int:
        """Replace the file by *entries* and those of its *old* records that are valid."""
        if not generations:
            return 0  # nothing in memory, or nothing that can be vouched for
        self.saved = self.not_saved = 0
        current = {record.slot: record for record in old if record.is_current(generations)}
        encoded = []
        size = 0
        for record in self._in_turn(entries, current, generations):
            data = record.encoded()
            size += len(data)
            if size > self._snapshot.max_bytes:
                break
            encoded.append(data)
        self._file.write(encoded)
        self.saved = len(encoded)
        return self.saved

    def _in_turn(
        self, entries: list[Entry], current: dict[tuple[str, str], Record], generations: Any
    ) -> Iterator[Record]:
        """This process's values and those that others saved in turn, each those first that are used
        most: if the file cannot hold all, both have half of it."""
        own = {(entry.key, variant_of(entry.slot)) for entry in entries}
        others = iter([record for slot, record in current.items() if slot not in own])
        seen: set[tuple[str, str]] = set()
        for entry in entries:
            record = self._record(entry, current, generations)
            if record is not None and record.slot not in seen:
                seen.add(record.slot)
                yield record
                yield from _at_most_one(others)
        yield from others

    def _record(
        self, entry: Entry, current: dict[tuple[str, str], Record], generations: Any
    ) -> Record | None:
        """What is saved of *entry*; None if it cannot be."""
        variant = variant_of(entry.slot)
        assert variant is not None
        known = current.get((entry.key, variant))
        if known is not None:
            return known  # of the same generation: another name for the same value
        needed = {key: generations.get(key) for key in (entry.key, *(entry.others or ()))}
        if None in needed.values():
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
            if not isinstance(data, bytes) or len(data) > self._snapshot.max_bytes // 2:
                self.not_saved += 1
                return None
        return Record(entry.key, variant, needed.pop(entry.key), needed, data)

    # When

    def save_quietly(self, patience: float = _PATIENCE_AT_EXIT) -> None:
        """Save if there may be something new; a failure is logged."""
        if self._looked:
            try:
                self.save((), patience)
            except Exception as error:
                _not_saved(error)

    async def asave_quietly(self, patience: float = _PATIENCE_AT_EXIT) -> None:
        """`save_quietly` in a coroutine."""
        if self._looked:
            try:
                await self.asave((), patience)
            except Exception as error:
                _not_saved(error)

    def save_at_exit(self) -> None:
        """The interpreter ends.  An asynchronous engine has no event loop any more; it was
        saved by `aclose`, or not."""
        if not self._core.is_async:
            self.save_quietly()

    def stop(self) -> None:
        """Wait for a saving that is under way beside the application's work."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_AT_EXIT)

    def _tick(self) -> None:
        """There was a look: begin to save if it is time."""
        self._looked = True
        if time.monotonic() < self._due:
            return
        with self._lock:
            if time.monotonic() < self._due or self._is_saving():
                return
            self._due = self._next_time()
            if self._core.is_async:
                # On the loop whose connections have the process's position in the ledger: those
                # of another loop would drop everything at their first look.
                self._task = asyncio.get_running_loop().create_task(
                    self.asave_quietly(_PATIENCE), context=contextvars.Context()
                )
                return
            self._thread = threading.Thread(
                target=self.save_quietly,
                args=(_PATIENCE,),
                name="coherent_cache snapshot",
                daemon=True,
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is about to end
                self._thread = None

    def _is_saving(self) -> bool:
        if self._task is not None and not self._task.done():
            return not self._task.get_loop().is_closed()
        return self._thread is not None and self._thread.is_alive()

    def _next_time(self) -> float:
        if self._snapshot.every is None:
            return float("inf")
        # Not the workers of a server all at once.
        return time.monotonic() + self._snapshot.every * random.uniform(0.8, 1.0)


def _at_most_one(records: Iterator[Record]) -> Iterator[Record]:
    for record in records:
        yield record
        return


def _acquire(lock: FileLock) -> None:
    lock.acquire()


def _not_saved(error: Exception) -> None:
    # Somebody's server is away, a disk is full: the old file is there.
    expected = isinstance(error, OSError | DBAPIError | CacheError)
    _log.warning(
        "the snapshot was not saved (%s: %s)", type(error).__name__, error, exc_info=not expected
    )


_keepers: weakref.WeakSet[Keeper] = weakref.WeakSet()


@atexit.register
def _at_exit() -> None:
    for keeper in list(_keepers):
        keeper.save_at_exit()
