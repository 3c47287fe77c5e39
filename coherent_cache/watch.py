"""Watches an Engine's transactions through SQLAlchemy's events.

Invalidations are written in the ``commit`` event: it comes before the driver's COMMIT, on the same
connection, once for the outermost transaction, after the ORM's flush.  No event tells how a
COMMIT or ROLLBACK went, nor of one that the pool does for a connection that was garbage-collected,
so the dialect's ``do_commit`` and ``do_rollback`` are wrapped.  Ends that SQLAlchemy does not
know of (``text("COMMIT")``, DDL on MariaDB) are recognised by the statement; those that nothing
shows (the driver's own ``commit()``) by the driver's state, when the transaction goes on or ends.

State hangs on the transaction, never on the pooled connection, except the number of its lane.
"""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError

from .core import Core
from .drivers import cursor_execute, in_transaction, is_autocommit, last_result
from .greenlets import current_owner
from .ledger import Execute, LaneHolder, Result
from .load import current_load
from .probe import probe, total_changes
from .scope import current_scope, views_around
from .statements import Effect, Kind, effect_of
from .transaction import Outcome, Probe, Transaction

_log = logging.getLogger("coherent_cache")

_LOCKING = {Effect(Kind.BEGIN, "IMMEDIATE"), Effect(Kind.BEGIN, "EXCLUSIVE")}


class EngineWatch:
    """The transactions of one Engine, as far as one manager is concerned."""

    def __init__(self, core: Core, engine: Engine, *, replica: bool = False) -> None:
        self._core = core
        self.engine = engine
        self._dialect = engine.dialect
        #: Data read there may be older than the ledger that is read elsewhere.
        self._replica = replica
        self._by_connection: weakref.WeakKeyDictionary[Connection, Transaction] = (
            weakref.WeakKeyDictionary()
        )
        #: SQLite: what begins now on these was begun by BEGIN IMMEDIATE or EXCLUSIVE.
        self._locking: weakref.WeakSet[Connection] = weakref.WeakSet()
        # By id() of the driver's connection; an entry goes when its transaction ends.
        self._by_driver: dict[int, Transaction] = {}
        # Invalidated while the connection had no transaction yet.
        self._early: weakref.WeakKeyDictionary[Connection, set[str]] = weakref.WeakKeyDictionary()
        self._lane_info = f"coherent_cache.lane.{core.ledger.lanes_name}"
        self._listen()

    def _listen(self) -> None:
        engine = self.engine
        event.listen(engine, "engine_connect", self._on_engine_connect)
        event.listen(engine, "begin", self._on_begin)
        event.listen(engine, "begin_twophase", self._on_begin_twophase)
        event.listen(engine, "commit", self._on_commit)
        event.listen(engine, "prepare_twophase", self._on_prepare_twophase)
        event.listen(engine, "commit_twophase", self._on_commit_twophase)
        event.listen(engine, "before_cursor_execute", self._on_execute)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "invalidate", self._on_lost)
        event.listen(engine, "close", self._on_close)
        dialect: Any = self._dialect
        dialect.do_commit = self._wrap_end(dialect.do_commit, Outcome.COMMITTED)
        dialect.do_rollback = self._wrap_end(dialect.do_rollback, Outcome.ROLLED_BACK)
        dialect.do_commit_twophase = self._wrap_twophase(
            dialect.do_commit_twophase, Outcome.COMMITTED
        )
        dialect.do_rollback_twophase = self._wrap_twophase(
            dialect.do_rollback_twophase, Outcome.ROLLED_BACK
        )

    # What others ask

    def transaction_of(self, connection: Connection) -> Transaction | None:
        """The open transaction of *connection*, None if it has none or commits by itself."""
        if connection.closed or not connection.in_transaction():
            return None
        transaction = self._by_connection.get(connection)
        if transaction is None or not transaction.is_open:
            # Begun before the manager was there.  What it did is unknown: assume the worst.
            transaction = self._begin(connection)
            transaction.dirty = True
            transaction.label = -1
        return transaction

    def carries(self, transaction: Transaction) -> bool:
        """Whether an invalidation can wait for the commit of *transaction*: not if each of its
        statements commits by itself."""
        if transaction.prepared or self._replica:
            return False
        connection = self.connection_of(transaction)
        return connection is not None and not is_autocommit(
            self._dialect, connection.connection.dbapi_connection
        )

    def connection_of(self, transaction: Transaction) -> Connection | None:
        """SQLAlchemy's Connection of *transaction*, unless it was closed."""
        connection: Connection | None = transaction.handle()
        if connection is None or connection.closed or connection.invalidated:
            return None
        return connection

    def execute_in(self, transaction: Transaction) -> Execute:
        """A way to execute in *transaction* that no event sees."""
        return cursor_execute(self._dialect, lambda: self._dbapi_connection(transaction))

    def holds_lock(self, transaction: Transaction) -> bool:
        """SQLite: whether *transaction* may hold a lock on the database file."""
        # A transaction that was only begun holds none, and must not get one from us.
        if not transaction.locked and transaction.label is None:
            return False
        return bool(in_transaction(self._dialect, self._dbapi_connection(transaction)))

    def probe(self, transaction: Transaction) -> Probe:
        """What is known of *transaction* at this moment."""
        dbapi_connection = self._dbapi_connection(transaction)
        if dbapi_connection is None:
            return Probe(written=True, statement_snapshots=False)
        found = probe(self._dialect, dbapi_connection, transaction)
        return Probe(found.written, found.statement_snapshots and not self._replica)

    def _dbapi_connection(self, transaction: Transaction) -> Any:
        connection = self.connection_of(transaction)
        return None if connection is None else connection.connection.dbapi_connection

    def invalidate_early(self, connection: Connection, keys: frozenset[str]) -> None:
        """Let *keys* be invalidated (also) with the next transaction of *connection*, which has
        none: its first statement may be the write that the ``del`` was meant for."""
        self._early.setdefault(connection, set()).update(keys)

    # Beginnings

    def _on_engine_connect(self, connection: Connection) -> None:
        current_scope().add_connection(connection)

    def _on_begin(self, connection: Connection) -> None:
        self._begin(connection)

    def _on_begin_twophase(self, connection: Connection, xid: Any) -> None:
        self._begin(connection)

    def _begin(self, connection: Connection) -> Transaction:
        scope = current_scope()
        transaction = Transaction(self._core, scope, self, weakref.ref(connection))
        transaction.owner = current_owner()
        dbapi_connection = connection.connection.dbapi_connection
        left_over = self._by_driver.get(id(dbapi_connection))
        if left_over is not None and left_over.is_open:
            # The pool was told not to reset (reset_on_return=None): the database's transaction
            # goes on, and with it whatever was to be invalidated.
            transaction.invalidate(left_over.pending())
            transaction.dirty = left_over.dirty
            transaction.locked = left_over.locked
            transaction.label = left_over.label
            left_over.end(Outcome.UNKNOWN)
        if self._dialect.name == "sqlite":
            transaction.changes_before = total_changes(dbapi_connection)
        transaction.born = self._core.store.label
        transaction.last_result = last_result(dbapi_connection)
        for view in views_around(self._core):
            transaction.concerns(view)
        if connection in self._locking:
            self._locking.discard(connection)
            transaction.locked = True
        early = self._early.pop(connection, None)
        if early:
            transaction.invalidate(early)
        scope.add(transaction)
        self._by_connection[connection] = transaction
        self._by_driver[id(dbapi_connection)] = transaction
        return transaction

    # Statements

    def _on_execute(
        self,
        connection: Connection,
        cursor: Any,
        statement: str,
        parameters: Any,
        context: Any,
        executemany: bool,
    ) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is None or not transaction.is_open:
            transaction = self.transaction_of(connection)
            if transaction is None:
                # Somebody else's listener of "begin", which came before ours.
                if effect_of(statement, self._dialect.name) in _LOCKING:
                    self._locking.add(connection)
                return
        if transaction.written and not transaction.prepared:
            return  # our own rows, or another listener's work just before COMMIT
        dbapi_connection = connection.connection.dbapi_connection
        effect = effect_of(statement, self._dialect.name)
        self._notice_silent_end(transaction, dbapi_connection)
        if effect.kind is Kind.BEGIN:  # a snapshot is opened by what comes next
            transaction.locked = bool(effect.name)
            transaction.begin_seen = True
            return
        label = self._label_snapshot(transaction, dbapi_connection)
        load = current_load.get()
        if load is not None:
            load.touch(transaction, label)
        if effect.kind is not Kind.READ:
            self._take_effect(transaction, connection, effect)

    def _label_snapshot(self, transaction: Transaction, dbapi_connection: Any) -> int:
        """The label of the snapshot that the next statement reads from.

        Taken before the statement: a commit that comes in between makes the data newer than
        the label, which costs a reload; the other way round it would be wrong for good.
        """
        if self._replica:
            return -1  # older than anything: kept for the request, never shared
        if transaction.label is None and self._has_begun(transaction, dbapi_connection):
            # The interleaving this guards against: the driver's own cursor opens the snapshot,
            # another process commits, the ledger is looked at, and only now a statement is seen.
            # (Test: test_case_06_snapshot_opened_by_the_drivers_cursor.)
            transaction.label = transaction.born
            # Where the database does not tell, that cursor may have written as well.
            transaction.dirty |= self._dialect.name not in ("postgresql", "sqlite")
        elif transaction.label is None:
            if self._core.ledger.early_check:
                # The snapshot lives as long as the transaction; looking at the ledger first
                # lets the values read from it be published.
                self._core.check_early()
            transaction.label = self._core.store.label
        elif (
            self._dialect.name == "sqlite"
            and not transaction.keeps_objects
            and not in_transaction(self._dialect, dbapi_connection)
        ):
            return self._core.store.label  # no BEGIN yet: each SELECT has its own snapshot
        return transaction.label

    def _has_begun(self, transaction: Transaction, dbapi_connection: Any) -> bool:
        """Whether something was executed in *transaction* that no event told of."""
        if self._dialect.name in ("postgresql", "sqlite"):
            return not transaction.begin_seen and bool(
                in_transaction(self._dialect, dbapi_connection)
            )
        return last_result(dbapi_connection) is not transaction.last_result

    def _take_effect(
        self, transaction: Transaction, connection: Connection, effect: Effect
    ) -> None:
        kind, name = effect
        if kind is Kind.WRITE:
            transaction.dirty = True
            transaction.writes += 1
        elif kind is Kind.SNAPSHOT:
            transaction.label = -1  # as old as the transaction that exported it
        elif kind is Kind.SAVEPOINT:
            transaction.savepoint(name, commits=self._begin_before_savepoint(connection))
        elif kind is Kind.RELEASE:
            if transaction.commits(name):
                self._write_pending(transaction, connection)
                transaction.restart(Outcome.UNKNOWN)
            transaction.release(name)
        elif kind is Kind.ROLLBACK_TO:
            transaction.rollback_to(name)
        elif kind is Kind.PREPARE:
            self._write_pending(transaction, connection, two_phase=True)
            transaction.prepared = True
        elif kind is Kind.COMMIT:
            # text("COMMIT"), or DDL that commits: the last moment is now.
            self._write_pending(transaction, connection)
            transaction.restart(Outcome.UNKNOWN)
            # START TRANSACTION WITH CONSISTENT SNAPSHOT has opened the next one's at once.
            transaction.label = self._core.store.label
        elif kind is Kind.MAY_COMMIT:
            # If it does not (a syntax error, a temporary table), our rows wait in the transaction
            # as the data do, and everything else goes on as before.
            keys = transaction.pending()
            self._write_pending(transaction, connection)
            transaction.restart(Outcome.UNKNOWN)
            transaction.invalidate(keys)
            transaction.dirty = True
        elif kind is Kind.ROLLBACK:
            transaction.restart(Outcome.ROLLED_BACK)

    def _begin_before_savepoint(self, connection: Connection) -> bool:
        """SQLite's driver begins no transaction before a SAVEPOINT, and then the RELEASE of the
        savepoint commits the data, before the invalidations are written.

        Return whether that is still so: with AUTOCOMMIT the savepoint is the transaction."""
        if self._dialect.name != "sqlite":
            return False
        dbapi_connection = connection.connection.dbapi_connection
        if in_transaction(self._dialect, dbapi_connection):
            return False
        if is_autocommit(self._dialect, dbapi_connection):
            return True
        cursor_execute(self._dialect, lambda: dbapi_connection)("BEGIN", ())
        return False

    def _notice_silent_end(self, transaction: Transaction, dbapi_connection: Any) -> None:
        """The driver says that nothing is open although something was written: its own
        ``commit()`` was called, or a procedure committed.

        The data may be committed, so the invalidations are too, at once and by themselves.  They
        stay pending all the same: it may be that nothing was open yet.  A PRAGMA on SQLite, a DO
        or a temporary table on MariaDB begin no transaction; the data come after it, and the
        invalidation has to come with them.  (Test: test_statement_that_begins_no_transaction.)
        """
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
            return transaction.dirty or transaction.label is not None
        return transaction.dirty

    # Writing the ledger

    def _on_commit(self, connection: Connection) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is not None and transaction.is_open:
            self._settle_load(transaction)
            try:
                self._write_pending(transaction, connection)
            except BaseException:
                # SQLAlchemy takes the transaction for ended and sends no ROLLBACK: the data would
                # go on waiting for the connection's next COMMIT.
                # (Test: test_failed_commit_leaves_nothing_behind.)
                self._roll_back(connection)
                raise

    def _roll_back(self, connection: Connection) -> None:
        try:
            self._dialect.do_rollback(connection.connection)
        except Exception:
            connection.invalidate()

    def _on_prepare_twophase(self, connection: Connection, xid: Any) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is not None and transaction.is_open:
            self._settle_load(transaction)
            self._write_pending(transaction, connection, two_phase=True)
            transaction.prepared = True

    def _on_commit_twophase(self, connection: Connection, xid: Any, is_prepared: bool) -> None:
        if not is_prepared:
            self._on_commit(connection)

    def _write_pending(
        self, transaction: Transaction, connection: Connection, *, two_phase: bool = False
    ) -> None:
        if transaction.written:
            return
        keys = transaction.pending()
        if not keys:
            return
        info = connection.connection.info
        lane = LaneHolder(info.get(self._lane_info), shared_until_commit=two_phase)
        transaction.written = True

        def execute(statement: str, parameters: Any) -> Result:
            result = connection.exec_driver_sql(statement, tuple(parameters))
            rows = result.fetchall() if result.returns_rows else ()
            return Result(rows, result.rowcount)

        try:
            self._core.write_keys(execute, keys, lane)
        except BaseException:
            transaction.written = False
            raise
        if lane.lane is not None:
            info[self._lane_info] = lane.lane

    # Ends

    def _wrap_end(self, original: Callable[[Any], None], outcome: Outcome) -> Callable[[Any], None]:
        """Wrap the dialect's ``do_commit`` or ``do_rollback``."""

        def end(pooled: Any) -> None:
            dbapi_connection = getattr(pooled, "dbapi_connection", pooled)
            transaction = self._by_driver.get(id(dbapi_connection))
            if transaction is None or not transaction.is_open or transaction.prepared:
                original(pooled)
                return
            self._settle_load(transaction, dbapi_connection)
            if outcome is Outcome.COMMITTED:
                self._write_leftovers(transaction, dbapi_connection)
            else:
                self._notice_silent_end(transaction, dbapi_connection)
            try:
                original(pooled)
            except BaseException:
                # Whether the server had committed is unknown; the next look at the ledger tells.
                self._finish(transaction, dbapi_connection, Outcome.UNKNOWN)
                raise
            self._finish(transaction, dbapi_connection, outcome)

        return end

    def _wrap_twophase(
        self, original: Callable[..., None], outcome: Outcome
    ) -> Callable[..., None]:
        """Wrap the dialect's ``do_commit_twophase`` or ``do_rollback_twophase``."""

        def end(connection: Connection, *args: Any, **kwargs: Any) -> None:
            transaction = self._by_connection.get(connection)
            finished = Outcome.UNKNOWN
            try:
                original(connection, *args, **kwargs)
                finished = outcome
            finally:
                if transaction is not None and transaction.is_open:
                    dbapi_connection = connection.connection.dbapi_connection
                    self._finish(transaction, dbapi_connection, finished)

        return end

    def _write_leftovers(self, transaction: Transaction, dbapi_connection: Any) -> None:
        """A COMMIT with no ``commit`` event before it: the pool's (reset_on_return="commit")."""
        keys = transaction.pending()
        if keys and not transaction.written:
            execute = cursor_execute(self._dialect, lambda: dbapi_connection)
            self._core.write_keys(execute, keys, LaneHolder())
            transaction.written = True

    def _settle_load(self, transaction: Transaction, dbapi_connection: Any = None) -> None:
        """A transaction that a retriever read in ends before the retriever does: what it was
        can be asked only now."""
        load = current_load.get()
        if load is None or transaction not in load.touched:
            return
        if dbapi_connection is None:
            found = self.probe(transaction)
        else:
            found = probe(self._dialect, dbapi_connection, transaction)
        load.settle(transaction, found.written, found.statement_snapshots and not self._replica)
        load.ended.add(transaction)

    def _finish(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        if self._by_driver.get(id(dbapi_connection)) is transaction:
            del self._by_driver[id(dbapi_connection)]
        for view in views_around(self._core):
            transaction.concerns(view)
        transaction.end(outcome)

    # The pool

    def _on_connect(self, dbapi_connection: Any, record: Any) -> None:
        execute = cursor_execute(self._dialect, lambda: dbapi_connection)
        self._core.access.on_connect(dbapi_connection)
        if self._replica or not self._core.ledger.has_lanes:
            return
        # Within a transaction at SERIALIZABLE looking for a lane would lock all there are, and wait
        # for one that another transaction is about to commit, or has prepared.
        # (Test: test_case_07_prepared_transaction_holds_up_nobody.)
        self._dialect.set_isolation_level(dbapi_connection, "AUTOCOMMIT")
        try:
            lane = self._core.ledger.claim_lane(execute)
            if lane is not None:
                record.info[self._lane_info] = lane
        except DBAPIError:
            pass  # no table yet, or no right to write: the first invalidation will say so
        finally:
            self._dialect.reset_isolation_level(dbapi_connection)

    def _on_lost(self, dbapi_connection: Any, record: Any, exception: Any) -> None:
        self._lose(dbapi_connection)

    def _on_close(self, dbapi_connection: Any, record: Any) -> None:
        self._lose(dbapi_connection)

    def _lose(self, dbapi_connection: Any) -> None:
        transaction = self._by_driver.pop(id(dbapi_connection), None)
        if transaction is not None and transaction.is_open:
            load = current_load.get()
            if load is not None and transaction in load.touched:
                load.settle(transaction, written=True, statement_snapshots=False)
            transaction.end(Outcome.UNKNOWN)
