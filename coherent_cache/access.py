"""How the manager reaches the ledger: on which connection checks and lone invalidations run."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import SingletonThreadPool, StaticPool

from .announcements import Announcements, announcements_at
from .drivers import cursor_execute
from .errors import CacheError, ConfigurationError, SynchronousUseError
from .explain import explain
from .freshness import Freshness, LastLook, OneHost, Strict
from .greenlets import (
    Mutex,
    closed_loops,
    current_owner,
    in_greenlet,
    spawn,
    wait_in_greenlet,
)
from .ledger import Execute, LaneHolder, Ledger, all_generations, generations
from .listener import listener_for
from .points import point
from .pruning import Pruner
from .reader import MemoryReader, Reader
from .side import SideConnection
from .sqlite_file import Identity
from .store import Store
from .transaction import Transaction

_T = TypeVar("_T")

_log = logging.getLogger("coherent_cache")

#: What to do where an asynchronous engine cannot be used.
_ADVICE = (
    "make the retriever 'async def' and await the attribute, use 'await "
    "manager.ainvalidate(...)', or run synchronous code by AsyncSession.run_sync()"
)


class _Connections:
    """The ledger's own connections: one to read, one (opened when needed) to write.

    An asynchronous driver's connections belong to their event loop, so there is a pair a loop.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        store: Store,
        pruner: Pruner,
        *,
        shared_memory: bool,
        announcements: Announcements | None,
        on_file: Callable[[Identity | None], None],
    ) -> None:
        self._ledger = ledger
        self._pruner = pruner
        self._announcements = announcements
        side = SideConnection(engine, ledger, shared_memory=shared_memory, on_file=on_file)
        state = side.state if announcements is None else announcements.state
        self.reader = Reader(ledger, store, side, state)
        self._writer = SideConnection(engine, ledger, on_file=on_file)
        # Guards the writer; taken before no other lock of ours, held during its I/O.
        self._mutex = Mutex(engine.dialect.is_async)
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
            announcement = None
            try:
                self._ledger.write(execute, keys, self._lane)
                self._pruner.prune_within(execute, len(keys))
                if self._announcements is not None:
                    announcement = self._announcements.announce()
                execute("COMMIT", ())
            except BaseException:
                self._writer.close()  # and with it the transaction
                if announcement is not None:
                    announcement.end(known=False)
                raise
            if announcement is not None:
                announcement.end(known=True)

        self.run(transaction)

    def close(self) -> None:
        self.reader.close()
        with self._mutex.held():
            self._writer.close()

    def close_if_idle(self) -> None:
        self.reader.close_if_idle()
        self._mutex.run_if_free(self._writer.close)

    def succeed(self, before: _Connections) -> None:
        """Take the place of *before*, whose event loop is closed."""
        self.reader.succeed(before.reader)
        before._writer.cut_off()

    def abandon(self) -> None:
        self.reader.abandon()
        self._writer.abandon()


class LedgerAccess:
    """The ledger, reached from wherever the caller is."""

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        store: Store,
        *,
        is_async: bool,
        freshness: Freshness,
        pruner: Pruner,
        on_file: Callable[[Identity | None], None],
    ) -> None:
        self.pruner = pruner
        self._on_file = on_file
        #: Tells when a check can be left out; told when this process commits.
        self.last_look = LastLook(freshness)
        self._shared_memory = isinstance(freshness, Strict) and freshness.shared_memory
        #: Where commits are announced to the other processes of the host.
        self.announcements = _announcements(engine, ledger, freshness)
        self._engine = engine
        self._ledger = ledger
        self._store = store
        self._is_async = is_async
        self._marked = False
        self._told = False
        self._memory = _is_in_memory(engine)
        self._is_sqlite = engine.dialect.name == "sqlite"
        self._memory_of_thread = threading.local()
        self._memory_shared: Any = None
        self._listener = listener_for(engine, ledger.tables, freshness, lambda: self.check(()))
        self._start()

    def _start(self) -> None:
        self._memory_reader = MemoryReader(self._ledger, self._store, is_async=self._is_async)
        self._connections = self._make_connections()
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Connections] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def is_memory(self) -> bool:
        """Whether the database is a connection, so that there can be no second one."""
        return self._memory

    def shows_what_is_known(self, execute: Execute) -> bool:
        """SQLite: whether what *execute* reads is at least as new as the news that were applied."""
        if self._memory:
            return True  # there is no other connection
        # Each event loop has a reader of its own, and the store has the news of all.
        readers = self._all_connections() if self._is_async else (self._connections,)
        known = [each.reader.position for each in readers if each.reader.position is not None]
        return not known or self._ledger.shows(execute, max(known))

    def is_current(self) -> bool:
        """Whether a check would bring nothing that the mode asks for.  No I/O to speak of."""
        if self.announcements is not None:
            if not self.last_look.will_do():
                return False
        elif not self._shared_memory:
            return self.last_look.will_do()
        if self._is_async and not _in_event_loop():
            return False  # the check says what is wrong
        return not self._memory and self._current().reader.is_current()

    @point(before="look: about to begin", after="look: done, view not told")
    def check(self, transactions: Iterable[Transaction]) -> None:
        """Bring the store up to date with every commit that returned before this call.

        *transactions* are those open around the caller.
        """
        self.require_greenlet()
        begun = self.last_look.begin()
        self._check(transactions)
        self.last_look.end(begun)
        if self.announcements is not None and self.announcements.wants_settling():
            self._settle(self.announcements)
        if self._listener is not None:
            self._listener.start()  # from now on it does this

    def _check(self, transactions: Iterable[Transaction]) -> None:
        try:
            if self._memory:
                connection = self._memory_connection(transactions)
                execute = cursor_execute(self._engine.dialect, lambda: connection)
                self._memory_reader.check(connection, execute)
                return
            reader = self._current().reader
            if self._is_sqlite:
                for transaction in transactions:
                    # With a rollback journal a second connection might have to wait for the
                    # lock of this one, or for a writer that waits for it: that is for ourselves.
                    # And as long as it has a lock nobody can commit, so it sees all there is.
                    # With a WAL neither is so: there its snapshot may be an old one.
                    # (Tests: test_check_beside_own_*, test_g01_a_temporary_table_locks_nothing.)
                    # It has one as well where a SELECT has not ended, which nobody tells.
                    # (Test: test_a_check_beside_a_select_that_has_not_ended.)
                    own = transaction.executed and transaction.is_used_by(current_owner())
                    if not own and not transaction.watch.holds_lock(transaction):
                        continue
                    execute = transaction.watch.execute_in(transaction)
                    if execute("PRAGMA journal_mode", ()).rows[0][0] != "wal":
                        reader.check_within(execute, keep=not transaction.pending())
                        return
            if self._is_async:
                wait_in_greenlet(reader.acheck())
            else:
                reader.check()
        except DBAPIError as error:
            self._raise(error)

    async def acheck(self, transactions: Iterable[Transaction]) -> None:
        """`check` from a coroutine, on an asynchronous engine."""
        begun = self.last_look.begin()
        if self._memory or (self._is_sqlite and any(transactions)):
            await spawn(self._check, transactions)
        else:
            try:
                await self._current().reader.acheck()
            except DBAPIError as error:
                self._raise(error)
        self.last_look.end(begun)
        if self.announcements is not None and self.announcements.wants_settling():
            await spawn(self._settle, self.announcements)

    def _settle(self, announcements: Announcements) -> None:
        try:
            announcements.settle(
                lambda known: self.run(lambda execute: self._ledger.unsettled(execute, known))
            )
        except (DBAPIError, CacheError) as error:
            # It is not the request's to fail; until it works checks ask.
            if not self._told:
                self._told = True
                _log.warning("what became of a lost COMMIT cannot be asked for: %s", error)

    @point(after="lone invalidation: committed, views not told")
    def write(self, keys: list[str]) -> None:
        """Invalidate *keys* at once, in a transaction of their own."""
        self.require_greenlet()
        begin = "BEGIN IMMEDIATE" if self._is_sqlite else "BEGIN"
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

    def may_ask_beside(self, transactions: Iterable[Transaction]) -> bool:
        """Whether a question beside *transactions* cannot have to wait for them: on SQLite, with a
        rollback journal, it would wait for ourselves if one of them has a lock on the file."""
        return not self._is_sqlite or not any(
            transaction.watch.holds_lock(transaction) for transaction in transactions
        )

    def generations(
        self, keys: Sequence[str], transactions: Iterable[Transaction], *, whole: bool = False
    ) -> dict[str, str]:
        """Return the generations of *keys* at a moment during this call, by one query; with *whole*
        one that reads the whole ledger, for many keys.  What cannot be told is left out.

        *transactions* are those open around the caller.
        """
        self.require_greenlet()
        if self._memory:
            return {}  # nobody else has this database
        if not self.may_ask_beside(transactions):
            return {}
        ask = all_generations if whole else generations
        reader = self._current().reader
        try:
            found = reader.ask(lambda execute: ask(self._ledger, execute, keys))
            if not found and not self._marked:
                self._marked = True
                self._mark()
                found = reader.ask(lambda execute: ask(self._ledger, execute, keys))
            return found
        except DBAPIError as error:
            self._raise(error)
            raise

    def _mark(self) -> None:
        try:
            self._current().run(self._ledger.mark_first)
        except DBAPIError as error:
            _log.warning(
                "the ledger has no mark and none can be written (%s): no tier and no snapshot is "
                "used until the ledger is pruned by a process that may write it",
                error.orig,
            )

    def committed(self, rows: int) -> None:
        """This process has committed *rows* invalidations, or may have."""
        self.last_look.outdate()
        if not self._memory:
            self.pruner.wrote(rows)
        if self._listener is not None:
            self._listener.committed()

    def on_connect(self, dbapi_connection: Any) -> None:
        """The pool made a connection."""
        if self._memory:
            self._memory_of_thread.connection = dbapi_connection
            self._memory_shared = dbapi_connection

    def close(self) -> None:
        """Close the ledger's own connections; they open again when needed."""
        if self._listener is not None:
            self._listener.stop()  # first: its look would open and vouch again
        self.last_look.forget()
        self.pruner.stop()
        self._current().close()

    def before_fork(self) -> None:
        """Close the ledger's connections, unless they are in use."""
        if not self._memory:
            self._connections.close_if_idle()

    def after_fork(self) -> None:
        """Leave the parent's connections alone; open others when needed."""
        for connections in self._all_connections():
            connections.abandon()
        self.last_look.forget()
        if self._listener is not None:
            self._listener.after_fork()
        self.pruner.after_fork()
        self._start()

    @property
    def checks(self) -> int:
        """How many checks were made."""
        return sum(reader.checks for reader in self._readers())

    @property
    def check_seconds(self) -> float:
        """How long all checks together took."""
        return sum(reader.seconds for reader in self._readers())

    def _readers(self) -> list[Reader | MemoryReader]:
        return [*(c.reader for c in self._all_connections()), self._memory_reader]

    def _all_connections(self) -> list[_Connections]:
        # Another thread may begin a loop meanwhile: the references are a copy.
        loops = [loop for reference in self._by_loop.keyrefs() if (loop := reference()) is not None]
        found = [self._by_loop.get(loop) for loop in loops]
        return [self._connections, *(each for each in found if each is not None)]

    def _current(self) -> _Connections:
        if not self._is_async:
            return self._connections
        loop = asyncio.get_running_loop()
        found = self._by_loop.get(loop)
        if found is None:
            found = self._make_connections()
            # Each of them may refer to its loop, by a lock that somebody waited for or a connection
            # that nobody closed, and neither would ever be collected.
            # (Tests: test_event_loops_are_let_go, test_event_loops_that_nobody_takes_leave_of.)
            for closed in closed_loops(self._by_loop):
                before = self._by_loop.pop(closed, None)
                if before is not None:  # no other thread has taken its place
                    found.succeed(before)
                    break
            self._by_loop[loop] = found
        return found

    def _make_connections(self) -> _Connections:
        return _Connections(
            self._engine,
            self._ledger,
            self._store,
            self.pruner,
            shared_memory=self._shared_memory,
            announcements=self.announcements,
            on_file=self._on_file,
        )

    def _memory_connection(self, transactions: Iterable[Transaction]) -> Any:
        for transaction in transactions:
            found = transaction.watch.dbapi_connection_of(transaction)
            if found is not None:
                return found
        # Not through the pool: handing it back would roll back what another thread or task
        # does on the same connection.
        found = getattr(self._memory_of_thread, "connection", None)
        if found is None and isinstance(self._engine.pool, StaticPool):
            found = self._memory_shared
        if found is None:
            with self._engine.connect() as connection:
                found = connection.connection.dbapi_connection
        return found

    def require_greenlet(self, advice: str = _ADVICE) -> None:
        """Raise `SynchronousUseError` where an asynchronous engine cannot be used."""
        if self._is_async and not in_greenlet():
            raise SynchronousUseError(
                f"the manager's engine is asynchronous and this needs to ask the database: {advice}"
            )

    def _raise(self, error: DBAPIError, keys: list[str] | None = None) -> None:
        explained = explain(self._engine.dialect, error, self._ledger.tables.log.name, keys or ())
        if explained is not None:
            raise explained from error
        raise error


def _announcements(engine: Engine, ledger: Ledger, freshness: Freshness) -> Announcements | None:
    if not isinstance(freshness, OneHost):
        return None
    if not ledger.settles:
        raise ConfigurationError(
            f"OneHost(path) needs PostgreSQL, MariaDB or MySQL, not {ledger.dialect.name}: use "
            f"Strict(shared_memory=True), which asks nothing of SQLite in WAL mode"
        )
    name = f"{engine.url.database} {ledger.tables.log.fullname}"
    return announcements_at(os.fspath(freshness.path), name)


def _in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


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
