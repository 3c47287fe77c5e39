"""`Keeper`: when the values of a process go to its snapshot, and when they come back.

They come back at the first look at the ledger (`restoring`).  They are saved (`saving`) in the end,
when somebody asks for it, and every so often: the look at which it is time starts a thread for
that, or a task of the running loop.  A process that does nothing has nothing new to save.
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
from collections.abc import Iterable

from sqlalchemy.exc import DBAPIError

from ..core import Core
from ..entry import Entry, Slot
from ..errors import CacheError
from ..transaction import Transaction
from .config import Snapshot
from .file import SnapshotFile
from .restoring import Restorer
from .saving import Saver

_log = logging.getLogger("coherent_cache")

#: Seconds that a saving waits for those of other workers: in the end, and else.
_PATIENCE_AT_EXIT = 10.0
_PATIENCE = 60.0


class Keeper:
    """The snapshot of one manager."""

    def __init__(self, core: Core, snapshot: Snapshot) -> None:
        self._is_async = core.is_async
        self._every = snapshot.every
        serializer = snapshot.make_serializer()
        file = SnapshotFile(snapshot, core.tables.log.fullname)
        self._restorer = Restorer(core, file, serializer)
        self._saver = Saver(core, file, serializer, snapshot.max_bytes)
        self._begin()
        _keepers.add(self)

    def _begin(self) -> None:
        # Whether there was a look since the last saving: without one there is nothing new.
        self._looked = False
        self._due = self._next_time()
        # Guards the start of a saving beside the application's work; a leaf.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._task: asyncio.Task[None] | None = None

    def after_fork(self) -> None:
        """Begin anew: the child takes back what the file has, and has nothing to save yet.
        (Test: test_a_forked_child.)"""
        self._restorer.after_fork()
        self._saver.saved = self._saver.not_saved = 0
        self._begin()

    @property
    def counts(self) -> tuple[int, int, int]:
        """Values that came back; those of the file after the last saving; those that this left
        out."""
        return self._restorer.restored, self._saver.saved, self._saver.not_saved

    # From the manager's reads

    def looked(self, transactions: Iterable[Transaction]) -> None:
        """The ledger was looked at, and nothing is served yet.  Raises nothing."""
        self._restorer.looked(transactions)
        self._tick()

    async def alooked(self, transactions: Iterable[Transaction]) -> None:
        """`looked` in a coroutine."""
        await self._restorer.alooked(transactions)
        self._tick()

    def take(self, slot: Slot) -> Entry | None:
        """See `Restorer.take`."""
        return self._restorer.take(slot)

    # Saving

    def save(self, transactions: Iterable[Transaction], patience: float = _PATIENCE) -> int:
        """See `Saver.save`."""
        self._looked = False
        return self._saver.save(transactions, patience)

    async def asave(self, transactions: Iterable[Transaction], patience: float = _PATIENCE) -> int:
        """See `Saver.asave`."""
        self._looked = False
        return await self._saver.asave(transactions, patience)

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
        if not self._is_async:
            self.stop()
            self.save_quietly()

    def stop(self) -> None:
        """Wait for a saving that is under way beside the application's work."""
        with self._lock:
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(_PATIENCE_AT_EXIT)

    async def astop(self) -> None:
        """`stop` in a coroutine: a task that went on would open the ledger's connections again."""
        task = self._task
        if task is not None and not task.done() and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait((task,), timeout=_PATIENCE_AT_EXIT)

    def _tick(self) -> None:
        """There was a look: begin to save if it is time."""
        self._looked = True
        if time.monotonic() < self._due:
            return
        with self._lock:
            if time.monotonic() < self._due or self._is_saving():
                return
            self._due = self._next_time()
            if self._is_async:
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
        if self._every is None:
            return float("inf")
        # Not the workers of a server all at once.
        return time.monotonic() + self._every * random.uniform(0.8, 1.0)


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
