"""Watches an Engine's transactions through SQLAlchemy's events.

Invalidations are written in the ``commit`` event: it comes before the driver's COMMIT, on the same
connection, once for the outermost transaction, after the ORM's flush (`writing`).  How a COMMIT or
ROLLBACK went is learned from the dialect (`ends`).  Ends that SQLAlchemy does not know of
(``text("COMMIT")``, DDL on MariaDB) are recognised by the statement; those that nothing shows (the
driver's own ``commit()``) by the driver's state, when the transaction goes on or ends (`effects`).

State hangs on the transaction, never on the pooled connection, except the number of its lane.
"""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Connection, Engine, ExceptionContext, event

from .core import Core
from .drivers import cursor_execute, in_transaction, is_autocommit, last_result
from .effects import Effects
from .ends import wrap_ends
from .greenlets import current_owner
from .ledger import Execute
from .load import current_load
from .points import point
from .probe import probe, total_changes
from .scope import current_scope, views_around
from .statements import Effect, Kind, effect_of
from .transaction import Outcome, Probe, Transaction
from .writing import LedgerWriter

#: Statements after which a transaction may have something to commit.
_WRITING = (Kind.WRITE, Kind.MAY_COMMIT, Kind.PREPARE)


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
        # The BEGIN that an application's listener sent before ours was told of the transaction.
        self._begun_by: weakref.WeakKeyDictionary[Connection, Effect] = weakref.WeakKeyDictionary()
        # By id() of the driver's connection; an entry goes when its transaction ends.
        self._by_driver: dict[int, Transaction] = {}
        # Invalidated while the connection had no transaction yet.
        self._early: weakref.WeakKeyDictionary[Connection, set[str]] = weakref.WeakKeyDictionary()
        self._writer = LedgerWriter(core, self._dialect)
        self._effects = Effects(core, self._dialect, self._writer, replica=replica)
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
        # Weakly: this listener is the dialect's, which SQLAlchemy's queries on PostgreSQL's catalog
        # remember, and it would keep the engine.  (Test: test_engine_goes_with_its_manager.)
        told = weakref.ref(self)

        def on_error(context: ExceptionContext) -> None:
            watch = told()
            if watch is not None:
                watch._on_error(context)

        event.listen(engine, "handle_error", on_error)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "invalidate", self._on_lost)
        event.listen(engine, "close", self._on_close)
        self._ends_alone = wrap_ends(self._dialect, self)

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

    @point(after="transaction: begun, nothing executed")
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
        begun_by = self._begun_by.pop(connection, None)
        if begun_by is not None:
            transaction.locked = bool(begun_by.name)
            transaction.begin_seen = True
        early = self._early.pop(connection, None)
        if early:
            transaction.invalidate_early(early, views_around(self._core))
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
                effect = effect_of(statement, self._dialect.name)
                if effect.kind is Kind.BEGIN:
                    self._begun_by[connection] = effect
                return
        if transaction.written and not transaction.prepared:
            return  # our own rows, or another listener's work just before COMMIT
        dbapi_connection = connection.connection.dbapi_connection
        effect = effect_of(statement, self._dialect.name)
        self._effects.notice_silent_end(transaction, dbapi_connection)
        if effect.kind is Kind.BEGIN:  # a snapshot is opened by what comes next
            transaction.locked = bool(effect.name)
            transaction.begin_seen = True
            return
        transaction.executed = True
        label = self._effects.label_snapshot(transaction, dbapi_connection)
        load = current_load.get()
        if load is not None:
            load.touch(transaction, label)
        if effect.kind is not Kind.READ:
            if effect.kind in _WRITING:
                self._claim(transaction)
            self._effects.take(transaction, connection, effect)

    def _on_error(self, context: ExceptionContext) -> None:
        if context.connection is not None:
            self._notice_failure(context.connection)

    def _notice_failure(self, connection: Connection) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is not None and transaction.is_open:
            dbapi_connection = self._dbapi_connection(transaction)
            if dbapi_connection is not None:
                self._effects.notice_failure(transaction, dbapi_connection)

    def _claim(self, transaction: Transaction) -> None:
        """*transaction* writes: that may be the write which a ``del`` before it was meant for.

        ``del obj.attr; session.execute(...); session.commit()`` in a request: at the ``del`` the
        session had not begun anything since it was made, so there was nothing to find.
        (Tests: test_session_that_was_never_used_*.)
        """
        keys = current_scope().unclaimed(self._core)
        if keys:
            keys -= frozenset(transaction.pending())
        if keys and self.carries(transaction):
            transaction.invalidate_early(keys, views_around(self._core))

    # Writing the ledger

    def _on_commit(self, connection: Connection, *, two_phase: bool = False) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is not None and transaction.is_open:
            self._settle_load(transaction)
            self._claim_if_written(transaction)
            if (
                # Of two managers on one engine none may commit in its turn: the keys of the other
                # would come after.  (Test: test_two_managers_commit_as_one.)
                self._ends_alone()
                and not two_phase
                and self._writer.waits_for_the_commit(transaction, connection)
            ):
                return  # `before_end` comes next, unless a listener fails
            try:
                self._writer.write(transaction, connection)
            except BaseException:
                # SQLAlchemy takes the transaction for ended and sends no ROLLBACK: the data would
                # go on waiting for the connection's next COMMIT.
                # (Test: test_failed_commit_leaves_nothing_behind.)
                self._notice_failure(connection)
                self._roll_back(connection)
                raise

    def _claim_if_written(self, transaction: Transaction) -> None:
        """A SELECT may have written, by a function or a CTE.  Asked only if it matters."""
        if current_scope().unclaimed(self._core) and self.probe(transaction).written:
            self._claim(transaction)

    def _roll_back(self, connection: Connection) -> None:
        try:
            self._dialect.do_rollback(connection.connection)
        except Exception:
            connection.invalidate()

    def _clear(self, connection: Connection | None, dbapi_connection: Any) -> None:
        try:
            self._dialect.do_rollback(dbapi_connection)
        except self._dialect.loaded_dbapi.Error:
            pass  # lost, as SQLAlchemy will notice by the error that is on its way
        except Exception:
            if connection is not None:
                connection.invalidate()

    def _on_prepare_twophase(self, connection: Connection, xid: Any) -> None:
        transaction = self._by_connection.get(connection)
        if transaction is not None and transaction.is_open:
            self._settle_load(transaction)
            self._writer.write(transaction, connection, two_phase=True)
            transaction.prepared = True

    def _on_commit_twophase(self, connection: Connection, xid: Any, is_prepared: bool) -> None:
        if not is_prepared:
            self._on_commit(connection, two_phase=True)

    # Ends (see `wrap_ends`)

    def open_on(self, dbapi_connection: Any) -> Transaction | None:
        """See `Endings.open_on`."""
        found = self._by_driver.get(id(dbapi_connection))
        return found if found is not None and found.is_open and not found.prepared else None

    def open_in(self, connection: Connection) -> Transaction | None:
        """See `Endings.open_in`."""
        return self._by_connection.get(connection)

    def before_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """See `Endings.before_end`."""
        self._settle_load(transaction, dbapi_connection)
        if outcome is Outcome.COMMITTED:
            try:
                self._writer.write_at_the_commit(
                    transaction, dbapi_connection, alone=self._ends_alone()
                )
            except BaseException:
                # As in `_on_commit`; and the COMMIT may have been sent along.
                connection = self.connection_of(transaction)
                self.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)
                self._clear(connection, dbapi_connection)
                raise
        else:
            self._effects.notice_silent_end(transaction, dbapi_connection)

    @point(before="end: returned, views not told", after="end: views told")
    def after_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """See `Endings.after_end`."""
        if self._by_driver.get(id(dbapi_connection)) is transaction:
            del self._by_driver[id(dbapi_connection)]
        for view in views_around(self._core):
            transaction.concerns(view)
        transaction.end(outcome)

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

    # The pool

    def _on_connect(self, dbapi_connection: Any, record: Any) -> None:
        self._core.access.on_connect(dbapi_connection)
        if not self._replica:
            self._writer.claim_lane(dbapi_connection, record)

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
