"""What statements, and what nobody announces, do to a transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from typing import Any

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.engine import Dialect

from .core import Core
from .drivers import cursor_execute, in_transaction, is_autocommit
from .probe import total_changes
from .statements import Effect, Kind
from .transaction import Outcome, Transaction
from .writing import LedgerWriter

_log = logging.getLogger("coherent_cache")


class Effects:
    """Keeps the books of transactions true to what is executed in them."""

    def __init__(self, core: Core, dialect: Dialect, writer: LedgerWriter) -> None:
        self._core = core
        self._dialect = dialect
        self._writer = writer

    def take(self, transaction: Transaction, pooled: PoolProxiedConnection, effect: Effect) -> None:
        """Take down what the statement that is about to run does to *transaction*."""
        kind, name = effect
        if kind is Kind.WRITE:
            transaction.dirty = True
            transaction.writes += 1
        elif kind is Kind.DECLARE:
            # What is read from it is as old as the transaction was then.
            # (Test: test_a_cursor_that_was_opened_before.)
            transaction.keeps_objects = transaction.dirty = True
        elif kind is Kind.FETCH:
            if not transaction.keeps_objects:
                transaction.label = -1  # WITH HOLD: of an earlier one
            transaction.dirty = True
        elif kind is Kind.SNAPSHOT:
            transaction.label = -1  # as old as the transaction that exported it
        elif kind is Kind.SAVEPOINT:
            if self._dialect.name in ("mysql", "mariadb"):
                transaction.forget_savepoint(name)  # the new one takes its place
            transaction.savepoint(name, commits=self._begin_before_savepoint(pooled))
        elif kind is Kind.RELEASE:
            if transaction.commits(name):
                self._writer.write(transaction, pooled)
                transaction.ending = partial(self._has_committed, transaction)
            else:
                transaction.release(name)
        elif kind is Kind.ROLLBACK_TO:
            transaction.rollback_to(name)
        elif kind is Kind.PREPARE:
            self._writer.write(transaction, pooled, two_phase=True)
            transaction.prepared = True
        elif kind is Kind.COMMIT and self._dialect.name != "sqlite":
            # text("COMMIT"), or DDL that commits: the last moment is now.
            self._writer.write(transaction, pooled)
            # START TRANSACTION WITH CONSISTENT SNAPSHOT opens the next one's at once.
            label = self._core.store.label
            transaction.ending = partial(self._has_committed, transaction, label=label)
        elif kind in (Kind.COMMIT, Kind.MAY_COMMIT):
            # If it does not (a syntax error, a temporary table, on SQLite a deferred constraint),
            # our rows wait in the transaction as the data do, and all else goes on as before.
            # (Test: test_a_commit_that_fails_and_is_tried_again.)
            keys = transaction.close()
            self._writer.write(transaction, pooled)
            transaction.ending = partial(self._may_have_committed, transaction, keys)
        elif kind is Kind.ROLLBACK:
            transaction.restart(Outcome.ROLLED_BACK)

    def _has_committed(self, transaction: Transaction, label: int | None = None) -> None:
        """The statement has run that commits *transaction*.

        Not before it: what another thread of the request invalidates meanwhile is made at once, and
        again now.  (Test: test_a_del_during_another_threads_commit_that_is_text.)
        """
        only_reads = transaction.only_reads
        late = transaction.restart(Outcome.UNKNOWN)
        if label is not None:
            transaction.label = label
        if late:
            self._core.invalidate_late(late, must=only_reads)

    def _may_have_committed(self, transaction: Transaction, keys: Sequence[str]) -> None:
        """The statement has run that commits *transaction*, unless it has failed."""
        only_reads = transaction.only_reads
        late = transaction.restart(Outcome.UNKNOWN)
        transaction.invalidate((*keys, *late))
        transaction.dirty = True
        if late:
            self._core.invalidate_late(late, must=only_reads)

    def _begin_before_savepoint(self, pooled: PoolProxiedConnection) -> bool:
        """SQLite's driver begins no transaction before a SAVEPOINT, and then the RELEASE of the
        savepoint commits the data, before the invalidations are written.

        Return whether that is still so: with AUTOCOMMIT the savepoint is the transaction."""
        if self._dialect.name != "sqlite":
            return False
        dbapi_connection = pooled.dbapi_connection
        if in_transaction(self._dialect, dbapi_connection):
            return False
        if is_autocommit(self._dialect, dbapi_connection):
            return True
        cursor_execute(self._dialect, lambda: dbapi_connection)("BEGIN", ())
        return False

    def notice_failure(self, transaction: Transaction, dbapi_connection: Any) -> None:
        """A statement has failed.  SQLite may have rolled back the whole transaction with it (a
        full disk, an I/O error): then nothing is committed, and nothing is to be invalidated alone.

        The keys stay pending: the application may go on and commit what it writes from now on.
        (Test: test_disk_full_ends_the_transaction.)
        """
        if self._dialect.name != "sqlite" or in_transaction(self._dialect, dbapi_connection):
            return
        changes = total_changes(dbapi_connection)
        if changes != transaction.changes_before and not is_autocommit(
            self._dialect, dbapi_connection
        ):
            keys = transaction.close()
            transaction.restart(Outcome.ROLLED_BACK)
            transaction.invalidate(keys)
            transaction.changes_before = changes

    def notice_silent_end(self, transaction: Transaction, dbapi_connection: Any) -> None:
        """The driver says that nothing is open although something was written: its own
        ``commit()`` was called, or a procedure committed.

        The data may be committed, so the invalidations are too, at once and by themselves.  They
        stay pending all the same: it may be that nothing was open yet.  A PRAGMA on SQLite, a DO
        or a temporary table on MariaDB begin no transaction; the data come after it, and the
        invalidation has to come with them.  (Test: test_statement_that_begins_no_transaction.)
        """
        if self._dialect.name == "postgresql" and not (transaction.dirty or transaction.executed):
            return  # as below, without asking
        found = in_transaction(self._dialect, dbapi_connection)
        transaction.seen_open |= bool(found)
        if found is None:
            # PyMySQL's status is as old as the last statement without rows; after one that showed
            # an open transaction it went back at its end only.
            found = not transaction.seen_open
        if found or not self._may_have_written(transaction, dbapi_connection):
            return
        if is_autocommit(self._dialect, dbapi_connection):
            return
        transaction.closed = True  # first, see `Transaction.invalidate`
        keys = transaction.pending()
        if keys and not transaction.written:
            _log.warning(
                "a transaction with %d pending invalidations was ended behind SQLAlchemy's back; "
                "they are made on their own now",
                len(keys),
            )
            self._core.invalidate_now(keys)
        transaction.restart(Outcome.UNKNOWN)
        transaction.invalidate(keys)
        transaction.changes_before = total_changes(dbapi_connection)

    def _may_have_written(self, transaction: Transaction, dbapi_connection: Any) -> bool:
        if self._dialect.name == "sqlite":
            return total_changes(dbapi_connection) != transaction.changes_before
        if self._dialect.name == "postgresql":
            # Any statement opens a transaction there, and any function may write.
            return transaction.dirty or transaction.executed
        return transaction.dirty
