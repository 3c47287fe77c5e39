"""Watches an Engine's transactions where they pass its dialect and its pool.

Beginnings and ends are told by the dialect's methods (`boundaries`), statements by its events
(``do_execute``), connections by the pool.  Invalidations are written just before the dialect
commits: on the same connection, once for the outermost transaction, after the ORM's flush and
whatever listens to SQLAlchemy's ``commit`` event (`writing`).  Ends that SQLAlchemy does not know
of (``text("COMMIT")``, DDL on MariaDB) are recognised by the statement; those that nothing shows
(the driver's own ``commit()``) by the driver's state, when the transaction goes on or ends
(`effects`).

State hangs on the transaction, never on the pooled connection, except the number of its lane.
"""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from sqlalchemy import Connection, Engine, ExceptionContext, PoolProxiedConnection, event
from sqlalchemy.exc import SQLAlchemyError

from .boundaries import wrap_boundaries
from .connections import connection_on, note_connection, note_connections
from .core import Core
from .drivers import (
    begins_read_only,
    cursor_execute,
    has_failed,
    in_transaction,
    is_autocommit,
    last_result,
)
from .effects import Effects
from .greenlets import current_owner, in_greenlet, wait_in_greenlet
from .labels import Labels
from .ledger import Execute
from .load import load_under_way
from .points import point
from .probe import probe, total_changes
from .scope import current_scope, views_around
from .sqlite_file import DATABASES, identity_of, path_of
from .statements import Kind, effect_of
from .transaction import Outcome, Probe, Transaction
from .writing import LedgerWriter

#: In the info of an SQLite connection: the file that it has open.
_FILE = "coherent_cache.file"

#: Statements after which a transaction may have something to commit.
_WRITING = (Kind.WRITE, Kind.MAY_COMMIT, Kind.PREPARE)


class _Idle(NamedTuple):
    """What a connection is like between two transactions.

    A listener of SQLAlchemy's ``begin`` comes before the dialect begins, and may have read and
    written by the driver's cursor.  The interleaving this guards against: it opens the snapshot,
    another process commits, the ledger is looked at, and only then the transaction is seen, with a
    label that is newer than what it reads.  So a transaction counts from here.
    (Tests: test_case_06_snapshot_opened_by_a_begin_listener, test_a_begin_listener_that_writes.)
    """

    label: int
    last_result: Any  # what the driver had executed last
    changes: int  # SQLite: its `total_changes`


#: In use before the manager was there: anything may have been read and written.
_NOT_IDLE = _Idle(-1, object(), -1)


class EngineWatch:
    """The transactions of one Engine, as far as one manager is concerned."""

    def __init__(self, core: Core, engine: Engine, *, replica: bool = False) -> None:
        self._core = core
        #: Compared by identity only.
        self.manager = core
        self.engine = engine
        self._dialect = engine.dialect
        #: Data read there may be older than the ledger that is read elsewhere.
        self.is_replica = replica
        # By id() of the driver's connection; an entry goes when its transaction ends.
        self._by_driver: dict[int, Transaction] = {}
        # By the same, what connections were like that nothing was executed on since.
        self._idle: dict[int, _Idle] = {}
        # Invalidated while the connection had no transaction yet.
        self._early: weakref.WeakKeyDictionary[PoolProxiedConnection, set[str]] = (
            weakref.WeakKeyDictionary()
        )
        self._writer = LedgerWriter(core, engine)
        self._labels = Labels(core, self._dialect, replica=replica)
        self._effects = Effects(core, self._dialect, self._writer)
        self._listen()

    def _listen(self) -> None:
        engine = self.engine
        # Weakly: SQLAlchemy's queries on PostgreSQL's catalog remember the dialect, and with it its
        # listeners would keep the engine.  (Test: test_engine_goes_with_its_manager.)
        told = weakref.ref(self)

        def on_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
            watch = told()
            if watch is not None and context is not None:
                watch._on_execute(context.root_connection, statement, context)

        def on_execute_no_params(cursor: Any, statement: str, context: Any) -> None:
            on_execute(cursor, statement, (), context)

        def on_error(context: ExceptionContext) -> None:
            watch = told()
            if watch is not None:
                watch._on_error(context)

        # First: another listener may execute the statement itself, and no further one is asked.
        event.listen(engine, "do_execute", on_execute, insert=True)
        event.listen(engine, "do_executemany", on_execute, insert=True)
        event.listen(engine, "do_execute_no_params", on_execute_no_params, insert=True)
        event.listen(engine, "handle_error", on_error)
        event.listen(engine, "connect", self._on_connect)
        event.listen(engine, "checkout", self._on_checkout, insert=True)  # see `_Idle`
        event.listen(engine, "checkin", self._on_checkin)
        event.listen(engine, "invalidate", self._on_lost)
        event.listen(engine, "close", self._on_close)
        event.listen(engine, "close_detached", self._lose)
        note_connections(engine)
        wrap_boundaries(self._dialect, self)

    # What others ask

    def transaction_of(self, connection: Connection) -> Transaction | None:
        """The open transaction of *connection*, None if it has none or commits by itself."""
        pooled = _pooled_of(connection)
        if pooled is None or not connection.in_transaction():
            return None
        transaction = self.begun_on(pooled)
        if transaction is None:
            if id(pooled.dbapi_connection) in self._idle:
                return None  # ended, and SQLAlchemy is about to say so
            # Begun before the manager was there.  What it did is unknown: assume the worst.
            transaction = self._begin(pooled)
            transaction.dirty = True
            transaction.label = -1
        return transaction

    def begun_on(self, pooled: PoolProxiedConnection) -> Transaction | None:
        """The transaction that was begun on *pooled*, also if it is prepared."""
        found = self._by_driver.get(id(pooled.dbapi_connection))
        return found if found is not None and found.is_open else None

    def carries(self, transaction: Transaction) -> bool:
        """Whether an invalidation can wait for the commit of *transaction*: not if each of its
        statements commits by itself, or if it is known to read only."""
        if transaction.prepared or self.is_replica:
            return False
        dbapi_connection = self.dbapi_connection_of(transaction)
        return (
            dbapi_connection is not None
            and not is_autocommit(self._dialect, dbapi_connection)
            and not begins_read_only(self._dialect, dbapi_connection)
        )

    def connection_of(self, transaction: Transaction) -> Connection | None:
        """SQLAlchemy's Connection of *transaction*, if that is known and it was not closed."""
        pooled = transaction.handle()
        return None if pooled is None else connection_on(pooled)

    def dbapi_connection_of(self, transaction: Transaction) -> Any:
        """The driver's connection of *transaction*, None if it was closed."""
        pooled = transaction.handle()
        return None if pooled is None else pooled.dbapi_connection

    def execute_in(self, transaction: Transaction) -> Execute:
        """A way to execute in *transaction* that no event sees."""
        return cursor_execute(self._dialect, lambda: self.dbapi_connection_of(transaction))

    def holds_lock(self, transaction: Transaction) -> bool:
        """SQLite: whether *transaction* may hold a lock on the database file."""
        # A transaction that was only begun holds none, and must not get one from us.
        if not transaction.locked and not transaction.executed:
            return False
        return bool(in_transaction(self._dialect, self.dbapi_connection_of(transaction)))

    def probe(self, transaction: Transaction) -> Probe:
        """What is known of *transaction* at this moment."""
        dbapi_connection = self.dbapi_connection_of(transaction)
        if dbapi_connection is None:
            return Probe(written=True, statement_snapshots=False)
        found = probe(self._dialect, dbapi_connection, transaction)
        return Probe(found.written, found.statement_snapshots and not self.is_replica)

    def invalidate_early(self, pooled: PoolProxiedConnection, keys: frozenset[str]) -> None:
        """Let *keys* be invalidated (also) with the next transaction of *pooled*, which has none:
        its first statement may be the write that the ``del`` was meant for."""
        self._early.setdefault(pooled, set()).update(keys)

    # Beginnings

    def begins(self, pooled: PoolProxiedConnection) -> None:
        """See `Boundaries.begins`."""
        self._begin(pooled)

    @point(after="transaction: begun, nothing executed")
    def _begin(self, pooled: PoolProxiedConnection) -> Transaction:
        dbapi_connection = pooled.dbapi_connection
        left_over = self._by_driver.get(id(dbapi_connection))
        if left_over is not None and left_over.beginning:
            left_over.beginning = False
            return left_over
        scope = current_scope()
        transaction = Transaction(self._core, scope, self, weakref.ref(pooled))
        transaction.owner = current_owner()
        file = self._core.file
        if file is not None and pooled.info.get(_FILE, file) != file:
            # What is read from a file that was replaced is as old as that.
            # (Test: test_a_connection_to_the_file_that_was_replaced.)
            transaction.is_of_the_past = True
        if left_over is not None and left_over.is_open:
            # The pool was told not to reset (reset_on_return=None): the database's transaction
            # goes on, and with it whatever was to be invalidated.
            transaction.invalidate(left_over.close())
            transaction.dirty = left_over.dirty
            transaction.locked = left_over.locked
            transaction.label = left_over.label
            left_over.end(Outcome.UNKNOWN)
        idle = self._idle.get(id(dbapi_connection), _NOT_IDLE)
        if (
            last_result(dbapi_connection) is not idle.last_result
            and in_transaction(self._dialect, dbapi_connection) is False
        ):
            # What the driver has executed meanwhile has ended: so SQLAlchemy sets an isolation
            # level.  (Test: test_g06_read_at_an_isolation_level.)
            self._note_idle(dbapi_connection)
            idle = self._idle.get(id(dbapi_connection), _NOT_IDLE)
        transaction.born, transaction.last_result, transaction.changes_before = idle
        for view in views_around(self._core):
            transaction.concerns(view)
        early = self._early.pop(pooled, None)
        if early:
            transaction.invalidate_early(early, views_around(self._core))
        scope.add(transaction)
        transaction.note_begun()
        self._by_driver[id(dbapi_connection)] = transaction
        return transaction

    # Statements

    def _on_execute(self, connection: Connection, statement: str, context: Any) -> None:
        pooled = connection.connection
        dbapi_connection = pooled.dbapi_connection
        transaction = self._by_driver.get(id(dbapi_connection))
        if transaction is None or not transaction.is_open:
            transaction = self.transaction_of(connection)
            if transaction is None:
                if id(dbapi_connection) not in self._idle:
                    return  # SQLAlchemy's own first look at the database
                # A listener of "begin", which comes before the dialect begins.
                transaction = self._begin(pooled)
                transaction.beginning = True
        if not transaction.executed:
            note_connection(connection)
        if transaction.ending is not None:
            transaction.has_run()
        effect = effect_of(statement, self._dialect.name)
        self._effects.notice_silent_end(transaction, dbapi_connection)
        begins = effect.kind is Kind.BEGIN
        label = self._labels.label_snapshot(transaction, dbapi_connection, begins=begins)
        if begins:
            transaction.locked = bool(effect.name)
            return
        transaction.executed = True
        transaction.is_resting = False
        transaction.note_user(current_owner())
        load = load_under_way()
        if load is not None:
            confirmed = self._labels.confirm_label(load, transaction, dbapi_connection, label)
            load.touch(transaction, confirmed)
        if (
            transaction.unsent
            and effect.kind is not Kind.SAVEPOINT
            and (load is None or effect.kind is not Kind.READ)
        ):
            transaction.note_missed()
        if effect.kind is not Kind.READ:
            if effect.kind in _WRITING:
                self._claim(transaction)
            elif effect.kind is Kind.COMMIT:
                self._claim_if_written(transaction)
            self._effects.take(transaction, pooled, effect)
            if transaction.ending is not None:
                _tell_when_it_has_run(context, transaction)

    def _on_error(self, context: ExceptionContext) -> None:
        connection = context.connection
        if connection is None or connection.closed or connection.invalidated:
            return
        dbapi_connection = connection.connection.dbapi_connection
        transaction = self._by_driver.get(id(dbapi_connection))
        if transaction is not None and transaction.is_open:
            transaction.has_run()
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

    # Ends (see `boundaries`)

    def open_on(self, dbapi_connection: Any) -> Transaction | None:
        """See `Boundaries.open_on`."""
        found = self._by_driver.get(id(dbapi_connection))
        return found if found is not None and found.is_open and not found.prepared else None

    def prepared_on(self, dbapi_connection: Any) -> Transaction | None:
        """See `Boundaries.prepared_on`."""
        return self._by_driver.get(id(dbapi_connection))

    def before_prepare(self, transaction: Transaction, pooled: PoolProxiedConnection) -> None:
        """See `Boundaries.before_prepare`."""
        self._lend_no_more(transaction)
        self._settle_load(transaction)
        self._claim_if_written(transaction)
        self._writer.write(transaction, pooled, two_phase=True)
        transaction.prepared = True

    def before_end(
        self, transaction: Transaction, pooled: Any, outcome: Outcome, *, plain: bool
    ) -> bool:
        """See `Boundaries.before_end`."""
        dbapi_connection = getattr(pooled, "dbapi_connection", pooled)
        if transaction.ending is not None:
            transaction.has_run()
        if outcome is Outcome.ROLLED_BACK:
            self._lend_no_more(transaction)
            self._settle_load(transaction, dbapi_connection)
            self._effects.notice_silent_end(transaction, dbapi_connection)
            # On MariaDB an XA END comes in a rollback, too, and in one that the server has undone
            # already whatever we write fails.  (Test: test_g10_a_rollback_in_two_phases.)
            transaction.written = True
            return False
        try:
            self._lend_no_more(transaction)
            if has_failed(self._dialect, dbapi_connection):
                transaction.has_failed = True
            self._settle_load(transaction, dbapi_connection)
            self._claim_if_written(transaction)
            return self._writer.write_at_the_commit(transaction, pooled, alone=plain)
        except BaseException:
            # SQLAlchemy takes the transaction for ended and sends no ROLLBACK: the data would go on
            # waiting for the connection's next COMMIT.  And ours may have been sent along.
            # (Test: test_failed_commit_leaves_nothing_behind.)
            self.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)
            self._clear(pooled)
            raise

    def _lend_no_more(self, transaction: Transaction) -> None:
        transaction.is_ending = True
        if transaction.loans is not None and in_greenlet():
            wait_in_greenlet(transaction.loans.wait(current_owner()))

    def _claim_if_written(self, transaction: Transaction) -> None:
        """A SELECT may have written, by a function or a CTE.  Asked only if it matters."""
        if current_scope().unclaimed(self._core) and self.probe(transaction).written:
            self._claim(transaction)

    def _clear(self, pooled: Any) -> None:
        try:
            self._dialect.do_rollback(pooled)
        except self._dialect.loaded_dbapi.Error:
            pass  # lost, as SQLAlchemy will notice by the error that is on its way
        except Exception:
            if isinstance(pooled, PoolProxiedConnection):
                pooled.invalidate()

    @point(before="end: returned, views not told", after="end: views told")
    def after_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """See `Boundaries.after_end`."""
        if self._by_driver.get(id(dbapi_connection)) is transaction:
            del self._by_driver[id(dbapi_connection)]
        self._note_idle(dbapi_connection)
        # Not where the connection of somebody else is collected as garbage.
        # (Test: test_a_connection_of_others_that_is_collected_here.)
        if current_scope().is_near(transaction):
            for view in views_around(self._core):
                transaction.concerns(view)
        only_reads = transaction.only_reads
        if transaction.has_failed:
            outcome = Outcome.ROLLED_BACK  # (Test: test_commit_of_a_failed_transaction.)
        late = transaction.end(outcome)
        if not late:
            return
        if outcome is not Outcome.ROLLED_BACK:
            self._core.invalidate_late(late, must=only_reads and outcome is Outcome.COMMITTED)
        elif transaction.handle() is not None:  # else it is collected, in the middle of anything
            self._core.hand_on(late)

    def _settle_load(self, transaction: Transaction, dbapi_connection: Any = None) -> None:
        """A transaction that a retriever read in ends before the retriever does: what it was
        can be asked only now."""
        load = load_under_way()
        if load is None or transaction not in load.touched:
            return
        if dbapi_connection is None:
            found = self.probe(transaction)
        else:
            found = probe(self._dialect, dbapi_connection, transaction)
        load.settle(transaction, found.written, found.statement_snapshots and not self.is_replica)
        load.ended.add(transaction)

    # The pool

    def _on_connect(self, dbapi_connection: Any, record: Any) -> None:
        self._core.access.on_connect(dbapi_connection)
        if self._dialect.name == "sqlite":
            self._note_file(dbapi_connection, record)
        if not self.is_replica:
            self._writer.claim_lane(dbapi_connection, record)

    def _note_file(self, dbapi_connection: Any, record: Any) -> None:
        databases = cursor_execute(self._dialect, lambda: dbapi_connection)(DATABASES, ()).rows
        path = path_of(databases, self._core.tables.log.schema, self.engine)
        file = identity_of(path)
        if file is not None:
            record.info[_FILE] = file

    def _on_checkout(
        self, dbapi_connection: Any, record: Any, pooled: PoolProxiedConnection
    ) -> None:
        self._note_idle(dbapi_connection)
        current_scope().add_connection(pooled, self)

    def _on_checkin(self, dbapi_connection: Any, record: Any) -> None:
        """A connection goes back to the pool.  An application that resets it in its own way may
        have ended its transaction by the driver's ``rollback()``.

        (Test: test_a_reset_of_the_applications_own.)
        """
        transaction = self._by_driver.get(id(dbapi_connection))
        if (
            transaction is not None
            and transaction.is_open
            and not transaction.prepared
            and in_transaction(self._dialect, dbapi_connection) is False
        ):
            self.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)

    def _note_idle(self, dbapi_connection: Any) -> None:
        if id(dbapi_connection) in self._by_driver:
            return
        label = self._core.store.label
        try:
            changes = total_changes(dbapi_connection) if self._dialect.name == "sqlite" else 0
        except self._dialect.loaded_dbapi.Error:  # it is closed
            self._idle.pop(id(dbapi_connection), None)
            return
        self._idle[id(dbapi_connection)] = _Idle(label, last_result(dbapi_connection), changes)

    def _on_lost(self, dbapi_connection: Any, record: Any, exception: Any) -> None:
        self._lose(dbapi_connection)

    def _on_close(self, dbapi_connection: Any, record: Any) -> None:
        self._lose(dbapi_connection)

    def _lose(self, dbapi_connection: Any) -> None:
        self._idle.pop(id(dbapi_connection), None)
        transaction = self._by_driver.pop(id(dbapi_connection), None)
        if transaction is not None and transaction.is_open:
            load = load_under_way()
            if load is not None and transaction in load.touched:
                load.settle(transaction, written=True, statement_snapshots=False)
            transaction.end(Outcome.UNKNOWN)


def _tell_when_it_has_run(context: Any, transaction: Transaction) -> None:
    """Let *transaction* know when the statement of *context* has run."""
    # What SQLAlchemy calls then; a listener would cost every statement of the engine.
    original = context.post_exec

    def post_exec() -> None:
        vars(context).pop("post_exec", None)  # no circle stays behind
        original()
        transaction.has_run()

    context.post_exec = post_exec


def _pooled_of(connection: Connection) -> PoolProxiedConnection | None:
    """The pool's object that *connection* has; None if it is closed or lost, perhaps by another
    thread at this moment.  (Tests: test_a_del_while_another_threads_connection_closes,
    test_a_healthy_transaction_beside_a_lost_connection.)"""
    if connection.closed or connection.invalidated:
        return None
    try:
        return connection.connection
    except SQLAlchemyError:
        return None
