"""How the manager reaches the ledger: on which connection checks and lone invalidations run."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .drivers import cursor_execute
from .errors import SynchronousUseError
from .explain import explain
from .greenlets import Mutex, in_greenlet
from .ledger import Execute, LaneHolder, Ledger
from .points import point
from .reader import MemoryReader, Reader
from .side import SideConnection
from .store import Store
from .transaction import Transaction

_T = TypeVar("_T")


class _Connections:
    """The ledger's own connections: one to read, one (opened when needed) to write.

    An asynchronous driver's connections belong to their event loop, so there is a pair a loop.
    """

    def __init__(self, engine: Engine, ledger: Ledger, store: Store) -> None:
        self._ledger = ledger
        self.reader = Reader(ledger, store, SideConnection(engine, ledger))
        self._writer = SideConnection(engine, ledger)
        # Guards the writer; taken before no other lock of ours, held during its I/O.
        self._mutex = Mutex()
        self._lane = LaneHolder()
        self._lane_session = 0

    def run(self, function: Callable[[Execute], _T]) -> _T:
        """Run *function* on the autocommit connection for writing."""
        with self._mutex.held():
            fresh = not self._writer.is_open
            try:
                self._writer.execute("SELECT 1", ())
            except DBAPIError as error:
                if fresh or not error.connection_invalidated:
                    raise
            return function(self._writer.execute)

    def write(self, begin: str, keys: list[str]) -> None:
        """Invalidate *keys* in a transaction of their own."""

        def transaction(execute: Execute) -> None:
            if self._lane_session != self._writer.session:
                self._lane = LaneHolder(self._ledger.claim_lane(execute))
                self._lane_session = self._writer.session
            execute(begin, ())
            try:
                self._ledger.write(execute, keys, self._lane)
                execute("COMMIT", ())
            except BaseException:
                self._writer.close()  # and with it the transaction
                raise

        self.run(transaction)

    def close(self) -> None:
        self.reader.close()
        with self._mutex.held():
            self._writer.close()

    def abandon(self) -> None:
        self.reader.abandon()
        self._writer.abandon()


class LedgerAccess:
    """The ledger, reached from wherever the caller is."""

    def __init__(self, engine: Engine, ledger: Ledger, store: Store, *, is_async: bool) -> None:
        self._engine = engine
        self._ledger = ledger
        self._store = store
        self._is_async = is_async
        self._memory = _is_in_memory(engine)
        self._memory_of_thread = threading.local()
        self._memory_shared: Any = None
        self._start()

    def _start(self) -> None:
        self._memory_reader = MemoryReader(self._ledger, self._store)
        self._connections = _Connections(self._engine, self._ledger, self._store)
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def is_memory(self) -> bool:
        """Whether the database is a connection, so that there can be no second one."""
        return self._memory

    @point(before="look: about to begin", after="look: done, view not told")
    def check(self, transactions: Iterable[Transaction]) -> None:
        """Bring the store up to date with every commit that returned before this call.

        *transactions* are those open around the caller.
        """
        self.require_greenlet()
        try:
            if self._memory:
                connection = self._memory_connection(transactions)
                execute = cursor_execute(self._engine.dialect, lambda: connection)
                self._memory_reader.check(connection, execute)
                return
            reader = self._current().reader
            if self._engine.dialect.name == "sqlite":
                for transaction in transactions:
                    # With a rollback journal a second connection might have to wait for the
                    # lock of this one, or for a writer that waits for it: that is for ourselves.
                    # And as long as it has a lock nobody can commit, so it sees all there is.
                    # With a WAL neither is so: there its snapshot may be an old one.
                    # (Tests: test_check_beside_own_*, test_g01_a_temporary_table_locks_nothing.)
                    if not transaction.watch.holds_lock(transaction):
                        continue
                    execute = transaction.watch.execute_in(transaction)
                    if execute("PRAGMA journal_mode", ()).rows[0][0] != "wal":
                        reader.check_within(execute, keep=not transaction.pending())
                        return
            reader.check()
        except DBAPIError as error:
            self._raise(error)

    @point(after="lone invalidation: committed, views not told")
    def write(self, keys: list[str]) -> None:
        """Invalidate *keys* at once, in a transaction of their own."""
        self.require_greenlet()
        begin = "BEGIN IMMEDIATE" if self._engine.dialect.name == "sqlite" else "BEGIN"
        try:
            if self._memory:
                with self._engine.begin() as connection:
                    self._ledger.write(
                        cursor_execute(
                            self._engine.dialect,
                            lambda: connection.connection.dbapi_connection,
                        ),
                        keys,
                        LaneHolder(),
                    )
            else:
                self._current().write(begin, keys)
        except DBAPIError as error:
            self._raise(error, keys)

    def run(self, function: Callable[[Execute], _T]) -> _T:
        """Run *function* with a way to execute statements that commit by themselves."""
        self.require_greenlet()
        try:
            if not self._memory:
                return self._current().run(function)
            connection = self._memory_connection(())
            result = function(cursor_execute(self._engine.dialect, lambda: connection))
            connection.commit()
            return result
        except DBAPIError as error:
            self._raise(error)
            raise

    def on_connect(self, dbapi_connection: Any) -> None:
        """The pool made a connection."""
        if self._memory:
            self._memory_of_thread.connection = dbapi_connection
            self._memory_shared = dbapi_connection

    def close(self) -> None:
        """Close the ledger's own connections; they open again when needed."""
        self._current().close()

    def after_fork(self) -> None:
        """Leave the parent's connections alone; open others when needed."""
        for connections in (self._connections, *self._by_loop.values()):
            connections.abandon()
        self._start()

    @property
    def check_seconds(self) -> float:
        """How long all checks together took."""
        readers = [c.reader.seconds for c in (self._connections, *self._by_loop.values())]
        return sum(readers) + self._memory_reader.seconds

    def _current(self) -> _Connections:
        if not self._is_async:
            return self._connections
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            found = self._by_loop[loop] = _Connections(self._engine, self._ledger, self._store)
        return found

    def _memory_connection(self, transactions: Iterable[Transaction]) -> Any:
        for transaction in transactions:
            connection = transaction.watch.connection_of(transaction)
            if connection is not None:
                return connection.connection.dbapi_connection
        # Not through the pool: handing it back would roll back what another thread or task
        # does on the same connection.
        found = getattr(self._memory_of_thread, "connection", None)
        if found is None and isinstance(self._engine.pool, StaticPool):
            found = self._memory_shared
        if found is None:
            with self._engine.connect() as connection:
                found = connection.connection.dbapi_connection
        return found

    def require_greenlet(self) -> None:
        """Raise `SynchronousUseError` where an asynchronous engine cannot be used."""
        if self._is_async and not in_greenlet():
            raise SynchronousUseError(
                "the manager's engine is asynchronous and this needs to ask the database: make "
                "the retriever 'async def' and await the attribute, use 'await "
                "manager.ainvalidate(...)', or run synchronous code by AsyncSession.run_sync()"
            )

    def _raise(self, error: DBAPIError, keys: list[str] | None = None) -> None:
        explained = explain(self._engine.dialect, error, self._ledger.tables.log.name, keys or ())
        if explained is not None:
            raise explained from error
        raise error


def _is_in_memory(engine: Engine) -> bool:
    if engine.dialect.name != "sqlite":
        return False
    database = engine.url.database or ""
    return (
        database in ("", ":memory:")
        or ":memory:" in database
        or "mode=memory" in database
        or engine.url.query.get("mode") == "memory"
        or isinstance(engine.pool, StaticPool | SingletonThreadPool)
    )
