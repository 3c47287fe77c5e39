"""The ledger's own database connection, beside the application's pool.

Checks run on a connection of their own, in autocommit mode: inside the user's transaction a check
would see that transaction's old snapshot, and under SERIALIZABLE it would make it fail.  It is not
taken from the pool, so an application with a pool of one never waits for itself.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from sqlalchemy import Engine

from .drivers import Fetch, cut_off, driver_errors, driver_fetch, wrapped
from .ledger import Ledger, Result
from .libpq import PreparedSelects, prepared_selects
from .points import point
from .sqlite_file import DATABASES, Identity, identity_of, path_in_url, path_of
from .wal_index import WalIndex, map_wal_index

_log = logging.getLogger("coherent_cache")

#: How often it connects anew if the file is replaced just then.
_ATTEMPTS = 3

#: Connections inherited from a parent process: closing one would end the parent's session, so
#: they are kept from the garbage collector.
_inherited: list[Any] = []


def connect_beside(engine: Engine) -> Any:
    """Return a driver's connection made as *engine* makes its own, which no pool knows."""
    with driver_errors(engine.dialect):
        pooled = engine.pool.recreate().connect()
    # Only the driver's connection is kept: the pool's object knows its pool, whose listeners
    # know us, and SQLAlchemy 2.0 keeps it by a name of its own.
    dbapi_connection: Any = pooled.dbapi_connection
    pooled.detach()
    return dbapi_connection


def leave_to_parent(connection: Any) -> None:
    """In a forked child: never close *connection*."""
    _inherited.append(connection)


class SideConnection:
    """A connection that opens itself, and says when it is not the one it was.

    Not safe for concurrent use: its owner keeps a lock.
    """

    def __init__(
        self,
        engine: Engine,
        ledger: Ledger,
        *,
        shared_memory: bool = False,
        on_file: Callable[[Identity | None], None] = lambda _: None,
    ) -> None:
        #: Whether `state` is to tell something, and may.
        self.wants_state = shared_memory
        self._wal_index: WalIndex | None = None
        #: The session in which the wal-index was looked for.
        self._looked_in = 0
        self._engine = engine
        self._ledger = ledger
        self._connection: Any = None
        self._path: str | None = None
        self._file: Identity | None = None
        # Told which file a connection that was made has open.
        self._on_file = on_file
        self._finalizer: Any = None
        # Kept: making one each time takes as long as the statement on some drivers.
        self._cursor: Any = None
        self._fetch: Fetch | None = None
        self._selects: PreparedSelects | None = None
        self._driver_error: type[Exception] = engine.dialect.loaded_dbapi.Error
        #: Counts the sessions.  What was read in an earlier one is not joined to a later one.
        self.session = 0

    @property
    def is_async(self) -> bool:
        """Whether its driver is awaited."""
        return self._engine.dialect.is_async

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known without asking it."""
        return self._connection is not None

    def execute(self, statement: str, parameters: Any) -> Result:
        """Execute one statement.  After an error the connection is given up; the next call
        opens another."""
        self.open()
        return self.run(statement, parameters)

    def run(self, statement: str, parameters: Any) -> Result:
        """`execute` where `open` was just called."""
        cursor, selects = self._cursor, self._selects
        try:
            if selects is not None:
                found = selects.execute(statement, parameters)
                if found is not None:
                    return Result(found, len(found))
            cursor.execute(statement, parameters)
            rows = cursor.fetchall() if cursor.description is not None else ()
            return Result(rows, cursor.rowcount)
        except BaseException as error:
            self._give_up(error, statement)
            raise

    def version(self) -> Any:
        """The figure of `Ledger.version` where `open` was just called; None where there is none."""
        statement = self._ledger.version
        if statement is None:
            return None
        cursor = self._cursor
        try:
            cursor.execute(statement)
            # All rows, though it is one: a statement that has not ended keeps its snapshot.
            return cursor.fetchall()[0][0]
        except BaseException as error:
            self._give_up(error, statement)
            raise

    def _give_up(self, error: BaseException, statement: str) -> None:
        """Close the connection, and raise an error of the driver's as SQLAlchemy wraps it."""
        # After whatever else, a cancelled task, a timeout: an answer may still be on its way.
        explained = None
        if isinstance(error, self._driver_error):
            explained = wrapped(self._engine.dialect, error, statement, self._connection)
        self.close()
        if explained is not None:
            raise explained from error

    def state(self) -> bytes | None:
        """What names the state of SQLite's database, read from shared memory; None where it is
        not wanted, or nothing does.  No I/O but for one look at the file's number."""
        index = self._wal_index
        if index is None or self._file != self._file_identity():
            return None
        return index.read()

    def map_state(self) -> None:
        """Make `state` work, if it can, for the connection that is open and has read."""
        if not self.wants_state or self._looked_in == self.session:
            return
        self._looked_in = self.session
        if self._path and self._connection is not None:
            self._wal_index = map_wal_index(self._path)
        if self._wal_index is None:
            self.wants_state = False
            _log.info("there is no shared memory to be trusted for this database: checks ask it")

    def can_fetch(self, session: int) -> bool:
        """Whether `fetch` would reach *session*, as far as is known without asking."""
        return (
            self._fetch is not None
            and session == self.session
            and self._file == self._file_identity()
        )

    def fetch(
        self, statement: str, parameters: tuple[Any, ...]
    ) -> Awaitable[Sequence[Sequence[Any]]]:
        """The rows of one statement, by the driver's own coroutines.  After an error, whose
        kind is the driver's own, close the connection."""
        assert self._fetch is not None
        return self._fetch(statement, parameters)

    @point(after="check: connected, nothing read")
    def open(self) -> None:
        """Connect if there is no connection, or if the database file was replaced."""
        if self._connection is not None and self._file == self._file_identity():
            return
        if self._connection is not None:
            self.close()
            _log.warning("the database file was replaced: reconnecting, everything is dropped")
            # The pool's connections still read the file that is no longer there.
            self._engine.dispose()
        for _ in range(_ATTEMPTS):
            before = identity_of(self._path or path_in_url(self._engine))
            self._connect()
            if before in (None, self._file):
                return
            # It was replaced meanwhile, and which of the two is connected to nobody says.
            # (Test: test_the_file_is_replaced_while_the_ledger_connects.)
            self.close()
        self._connect()

    def _connect(self) -> None:
        dbapi_connection = connect_beside(self._engine)
        self._connection = dbapi_connection
        if not self._engine.dialect.is_async:
            # A manager that goes takes its connections with it, at the latest at exit.  (An
            # asynchronous one cannot be closed without its event loop: `CacheManager.aclose`.)
            # (Test: test_manager_takes_its_connections_along.)
            self._finalizer = weakref.finalize(self, dbapi_connection.close)
        self.session += 1
        try:
            # A task may be cancelled at each step.
            # (Test: test_cancelled_while_the_ledgers_connection_opens.)
            self._cursor = dbapi_connection.cursor()
            self._fetch = driver_fetch(self._engine.dialect, dbapi_connection)
            if self._engine.dialect.name == "sqlite":
                databases = self.run(DATABASES, ()).rows
                self._path = path_of(databases, self._ledger.tables.log.schema, self._engine)
            self._file = self._file_identity()
            self._on_file(self._file)
            with driver_errors(self._engine.dialect):
                self._engine.dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
            self._ledger.prepare_session(self.run)
            self._selects = prepared_selects(self._engine.dialect, dbapi_connection)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        index, self._wal_index = self._wal_index, None
        if index is not None:
            index.close()  # first: what it reads is vouched for by the connection
        connection, self._connection = self._connection, None
        cursor, self._cursor = self._cursor, None
        self._fetch = self._selects = None
        if connection is None:
            return
        self._detach_finalizer()
        try:
            try:
                # First: an error that somebody holds knows the cursor, and SQLite keeps a
                # connection, and its lock on the file, until the last statement of it is gone.
                # (Test: test_del_on_a_read_only_database.)
                if cursor is not None and self._engine.dialect.name == "sqlite":
                    cursor.close()
            finally:
                # Not through the pool's object: detached from an asynchronous pool it may cut the
                # driver's connection off, or not close it at all.  Also if a task is cancelled once
                # more meanwhile.  (Test: test_a_cancel_scope_leaves_sqlite_locked.)
                self._let_go(connection)
        except self._engine.dialect.loaded_dbapi.Error:
            pass

    def _let_go(self, connection: Any) -> None:
        dialect = self._engine.dialect
        if dialect.is_async and dialect.has_terminate and dialect.driver == "asyncpg":
            # It would wait for the server's answer, also for one that will not come.
            # (Test: test_a_time_out_while_the_server_does_not_answer.)
            dialect.do_terminate(connection)
        else:
            dialect.do_close(connection)

    def cut_off(self) -> None:
        """Forget the connection of an event loop that is closed."""
        connection = self._connection
        self._connection = self._cursor = self._fetch = self._selects = None
        if connection is not None:
            cut_off(connection)

    def abandon(self) -> None:
        """Forget the connection without closing it: after a fork it is the parent's."""
        self._wal_index = None  # as it is: a thread that is no more may have its lock
        if self._connection is not None:
            self._detach_finalizer()
            leave_to_parent((self._connection, self._cursor))
            self._connection = self._cursor = self._fetch = self._selects = None

    def _detach_finalizer(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None

    def _file_identity(self) -> Identity | None:
        """That of SQLite's file, None on other databases."""
        return identity_of(self._path)
