"""The ledger prunes itself: what this process writes pays for what goes.

On PostgreSQL and MariaDB a thread of its own deletes the oldest rows, in small batches and on a
connection of its own; it is started after so many rows were written and ends when nothing is left
to do.  One process of a host prunes at a time; those of several hosts do no harm to each other.

On SQLite every write conflicts with every other: a transaction that has read and goes on to write
fails at once if anybody committed in between.  A thread that prunes would add that error to the
application's transactions.  So rows go in a transaction that writes rows anyway.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time

from filelock import FileLock, Timeout
from sqlalchemy import Engine

from .greenlets import spawn
from .ledger import Execute, Ledger
from .side import SideConnection
from .tables import lock_path

_log = logging.getLogger("coherent_cache")

#: Rows that go at once.
_BATCH = 1_000
#: Rows written on SQLite after which some go, so that no transaction deletes many.
_AT_ONCE = 50
#: Seconds that `Pruner.stop` waits for a batch to end.
_STOP_SECONDS = 10.0


class Pruner:
    """Prunes after each *every* rows that this process wrote, all but about the newest *keep*."""

    def __init__(self, engine: Engine, ledger: Ledger, *, keep: int, every: int | None) -> None:
        self._engine = engine
        self._ledger = ledger
        self._keep = keep
        self._every = every
        # Seldom: each time is the end of all generations (`Ledger.prune`), and what is in a tier
        # has to be computed anew.
        self._least = max(every or 1, keep // 2)
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: the parent's thread is not there."""
        # Guards the count and the thread.  Held for a few instructions.
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        # Not from 0: of many processes that write a few rows each and end, some have to prune.
        self._rows = random.randrange(self._every) if self._every else 0

    def wrote(self, rows: int) -> None:
        """This process has committed *rows*; start to prune if it is time."""
        if self._every is None or self._engine.dialect.name == "sqlite":
            return
        if not self._is_time(rows, self._every):
            return
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            self._stopping.clear()
            self._thread = threading.Thread(
                target=self._run, name="coherent_cache pruning", daemon=True
            )
            try:
                self._thread.start()
            except RuntimeError:  # the interpreter is about to end
                self._thread = None

    def prune_within(self, execute: Execute, rows: int) -> None:
        """SQLite: the transaction that *execute* works in has just written *rows*."""
        if self._every is None or self._engine.dialect.name != "sqlite":
            return
        count = self._is_time(rows, min(self._every, _AT_ONCE))
        if count:
            # More than was written, so that a table that is too long gets shorter.
            self._ledger.prune_within(execute, self._keep, 2 * count, self._least)

    def stop(self) -> None:
        """End what is under way after its batch, and wait for that."""
        with self._lock:
            thread = self._thread
            self._stopping.set()
        if thread is not None and thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)

    def _is_time(self, rows: int, every: int) -> int:
        """The rows written since the last time, if they are *every* or more; else 0."""
        with self._lock:
            self._rows += rows
            if self._rows < every:
                return 0
            count, self._rows = self._rows, 0
            return count

    def _run(self) -> None:
        try:
            with FileLock(lock_path(self._engine, self._ledger.tables, "prune"), timeout=0):
                if self._engine.dialect.is_async:
                    asyncio.run(self._arun())
                else:
                    self._prune()
        except Timeout:
            pass  # another process of this host does it
        except Exception:
            # Nobody's request: a server that is away, or two hosts that pruned the same rows.
            _log.info("pruning the ledger failed and is tried again later", exc_info=True)

    async def _arun(self) -> None:
        await spawn(self._prune)

    def _prune(self) -> None:
        side = SideConnection(self._engine, self._ledger)
        try:
            start = time.perf_counter()
            for _ in self._ledger.prune(side.execute, self._keep, _BATCH, least=self._least):
                # Half of the time is for others.
                if self._stopping.wait(min(time.perf_counter() - start, 1.0)):
                    return
                start = time.perf_counter()
        finally:
            side.close()
