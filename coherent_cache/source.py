"""For applications that keep their connections and transactions themselves.

Where SQLAlchemy's events see nothing (Trac binds raw DBAPI connections to threads), the
application tells what they would have told, by the small protocol `ConnectionSource` and one call,
`CacheManager.transaction_ended`.  What it cannot tell is assumed to be the worst: that the
transaction has written, that its snapshot is old, and that it may have been committed.

Since nobody announces the last moment before COMMIT, invalidations are written at the ``del``,
on the application's connection: they commit and roll back with whatever it does.
"""

from __future__ import annotations

from typing import Any, Protocol

from sqlalchemy import Connection

from .core import Core
from .drivers import cursor_execute, in_transaction
from .greenlets import current_owner
from .ledger import Execute, LaneHolder
from .load import Load
from .probe import probe
from .scope import current_scope, views_around
from .transaction import Outcome, Probe, Transaction


class ConnectionSource(Protocol):
    """What the application tells of its connections."""

    def current(self) -> Any | None:
        """The DBAPI connection whose transaction is open in this context, None if none is.

        Asked at each read that the view cannot answer, and at each ``del``; it must not do I/O.
        """
        ...

    def has_written(self, connection: Any) -> bool | None:
        """Whether the open transaction of *connection* has written; None if that is unknown."""
        ...


class SourceWatch:
    """The transactions of a `ConnectionSource`."""

    is_replica = False

    def __init__(self, core: Core, source: ConnectionSource) -> None:
        self._core = core
        self._source = source
        self._dialect = core.engine.dialect
        # By id() of the DBAPI connection, which the transaction keeps alive.
        self._transactions: dict[int, Transaction] = {}

    def notice(self) -> Transaction | None:
        """The transaction open in this context, registered so that everybody finds it."""
        connection = self._source.current()
        if connection is None:
            return None
        found = self._transactions.get(id(connection))
        if (
            found is not None
            and found.label is not None
            and in_transaction(self._dialect, connection) is False
        ):
            # It was ended without a word, and perhaps committed.
            self._end(found, Outcome.UNKNOWN)
            found = None
        if found is None:
            found = Transaction(self._core, current_scope(), self, connection)
            found.owner = current_owner()
            found.dirty = self._source.has_written(connection) is not False
            found.changes_before = -1  # what was changed before is unknown
            found.executed = True
            if in_transaction(self._dialect, connection) is not False:
                found.label = -1  # when its snapshot was opened is unknown
            for view in views_around(self._core):
                found.concerns(view)
            current_scope().add(found)
            self._transactions[id(connection)] = found
        found.note_user(current_owner())
        return found

    def touch(self, load: Load) -> None:
        """A retriever begins or ends: it may read in the transaction that is open."""
        transaction = self.notice()
        if transaction is not None:
            if transaction.label is None:
                transaction.label = self._core.store.label
            load.touch(transaction, transaction.label)

    def ended(self, connection: Any, committed: bool | None) -> None:
        """The application says that a transaction ended."""
        found = self._transactions.get(id(connection))
        if found is not None:
            outcomes = {
                True: Outcome.COMMITTED,
                False: Outcome.ROLLED_BACK,
                None: Outcome.UNKNOWN,
            }
            self._end(found, outcomes[committed])

    def write(self, transaction: Transaction, keys: list[str]) -> None:
        """Write *keys* into the ledger now, in the application's transaction."""
        self._core.write_keys(self.execute_in(transaction), keys, LaneHolder())
        transaction.dirty = True

    def _end(self, transaction: Transaction, outcome: Outcome) -> None:
        self._transactions.pop(id(transaction.handle), None)
        for view in views_around(self._core):
            transaction.concerns(view)
        transaction.end(outcome)

    # What is asked of every watch

    def carries(self, transaction: Transaction) -> bool:
        """See `EngineWatch.carries`."""
        return True

    def connection_of(self, transaction: Transaction) -> Connection | None:
        """None: there is no SQLAlchemy Connection."""
        return None

    def dbapi_connection_of(self, transaction: Transaction) -> Any:
        """None: it is not one of the engine's."""
        return None

    def execute_in(self, transaction: Transaction) -> Execute:
        """See `EngineWatch.execute_in`."""
        return cursor_execute(self._dialect, lambda: transaction.handle)

    def holds_lock(self, transaction: Transaction) -> bool:
        """See `EngineWatch.holds_lock`."""
        return bool(in_transaction(self._dialect, transaction.handle))

    def probe(self, transaction: Transaction) -> Probe:
        """See `EngineWatch.probe`."""
        told = self._source.has_written(transaction.handle)
        transaction.dirty = told is not False
        found = probe(self._dialect, transaction.handle, transaction)
        return found if told is None else Probe(told, found.statement_snapshots)
