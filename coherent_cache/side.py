"""The ledger's own database connection, beside the application's pool.

Checks run on a connection of their own, in autocommit mode: inside the user's transaction a check
would see that transaction's old snapshot, and under SERIALIZABLE it would make it fail.  It is not
taken from the pool, so an application with a pool of one never waits for itself.
"""

from __future__ import annotations

import logging
import os
import weakref
from typing import Any

from sqlalchemy import Engine

from .drivers import cursor_execute, driver_errors
from .ledger import Ledger, Result
from .points import point

_log = logging.getLogger("coherent_cache")

#: Connections inherited from a parent process: closing one would end the parent's session, so
#: they are kept from the garbage collector.
_inherited: list[Any] = []


class SideConnection:
    """A connection that opens itself, and says when it is not the one it was.

    Not safe for concurrent use: its owner keeps a lock.
    """

    def __init__(self, engine: Engine, ledger: Ledger) -> None:
        self._engine = engine
        self._ledger = ledger
        self._connection: Any = None
        self._path: str | None = None
        self._file: tuple[int, int] | None = None
        self._finalizer: Any = None
        self._raw_execute = cursor_execute(engine.dialect, lambda: self._connection)
        #: Counts the sessions.  What was read in an earlier one is not joined to a later one.
        self.session = 0

    @property
    def is_open(self) -> bool:
        """Whether there is a connection, as far as is known without asking it."""
        return self._connection is not None

    def execute(self, statement: str, parameters: Any) -> Result:
        """Execute one statement.  After an error the connection is given up; the next call
        opens another."""
        self.open()
        try:
            return self._raw_execute(statement, parameters)
        except BaseException:
            # Also a cancelled task or a timeout: an answer may still be on its way.
            self.close()
            raise

    @point(after="check: connected, nothing read")
    def open(self) -> None:
        """Connect if there is no connection, or if the database file was replaced."""
        if self._connection is not None and self._file == self._file_identity():
            return
        if self._connection is not None:
            self.close()
            # The pool's connections still read the file that is no longer there.
            _log.warning("the database file was replaced: reconnecting, everything is dropped")
            self._engine.dispose()
        with driver_errors(self._engine.dialect):
            pooled = self._engine.pool.recreate().connect()
        # Only the driver's connection is kept: the pool's object knows its pool, whose listeners
        # know us, and SQLAlchemy 2.0 keeps it by a name of its own.
        dbapi_connection: Any = pooled.dbapi_connection
        pooled.detach()
        del pooled
        self._connection = dbapi_connection
        if not self._engine.dialect.is_async:
            # A manager that goes takes its connections with it, at the latest at exit.  (An
            # asynchronous one cannot be closed without its event loop: `CacheManager.aclose`.)
            # (Test: test_manager_takes_its_connections_along.)
            self._finalizer = weakref.finalize(self, dbapi_connection.close)
        self.session += 1
        try:
            if self._engine.dialect.name == "sqlite":
                # Asked, not taken from the URL, which may be a URI of SQLite's own.
                databases = self._raw_execute("PRAGMA database_list", ()).rows
                self._path = next((row[2] for row in databases if row[1] == "main"), None)
            self._file = self._file_identity()
            with driver_errors(self._engine.dialect):
                self._engine.dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
            self._ledger.prepare_session(self._raw_execute)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._detach_finalizer()
        try:
            # Not through the pool's object: detached from an asynchronous pool it may cut the
            # driver's connection off, or not close it at all.
            self._engine.dialect.do_close(connection)
        except self._engine.dialect.loaded_dbapi.Error:
            pass

    def abandon(self) -> None:
        """Forget the connection without closing it: after a fork it is the parent's."""
        if self._connection is not None:
            self._detach_finalizer()
            _inherited.append(self._connection)
            self._connection = None

    def _detach_finalizer(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None

    def _file_identity(self) -> tuple[int, int] | None:
        """Device and number of SQLite's file, None on other databases."""
        if not self._path:
            return None
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return (found.st_dev, found.st_ino)
