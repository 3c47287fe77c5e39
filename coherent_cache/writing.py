"""Writes pending invalidations into the ledger, on the connection of their transaction."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from .core import Core
from .drivers import cursor_execute, has_failed, in_transaction, wrapped
from .errors import InvalidationError
from .explain import can_write_nothing, explain, is_of_a_read_only_transaction
from .ledger import Execute, LaneHolder, Result
from .libpq import can_send, literal, send
from .points import point
from .probe import ask, probe
from .transaction import Transaction

_MAY_ONLY_READ = (
    "SELECT current_setting('transaction_read_only') = 'on' "
    "AND pg_current_xact_id_if_assigned() IS NULL"
)


class LedgerWriter:
    """Writes for the connections of one engine; the number of a connection's lane is kept with the
    pooled connection, and nothing else is."""

    def __init__(self, core: Core, engine: Engine) -> None:
        self._core = core
        self._engine = engine
        self._dialect = engine.dialect
        self._lane_info = f"coherent_cache.lane.{core.ledger.lanes_name}"

    @point(before="commit: rows not written", after="commit: rows written, not committed")
    def write(self, transaction: Transaction, pooled: Any, *, two_phase: bool = False) -> None:
        """Write what *transaction* has pending; its COMMIT, or its first phase, comes next.

        *pooled* is the pool's object for its connection, or the driver's connection itself.
        """
        keys = () if transaction.written else transaction.close()
        if not keys or has_failed(self._dialect, _driver_side(pooled)):
            return
        if self._may_only_read(transaction, _driver_side(pooled)):
            _leave_for_later(transaction)
            return
        info: dict[str, Any] = getattr(pooled, "info", {})
        lane = LaneHolder(info.get(self._lane_info), shared_until_commit=two_phase)
        try:
            self._core.write_keys(self._execute_on(_driver_side(pooled)), keys, lane)
        except (DBAPIError, InvalidationError) as error:
            if self._could_only_read(transaction, _driver_side(pooled), error):
                _leave_for_later(transaction)
                return
            if (
                isinstance(error, DBAPIError)
                and error.connection_invalidated
                and error.orig is not None
            ):
                # From the driver's own error SQLAlchemy sees that the connection is lost, and with
                # it the others of its pool, as it would from a statement of the user's.
                # (Test: test_connections_lost_before_the_commit_cost_one_error.)
                raise error.orig from None
            raise
        else:
            transaction.written = True
        finally:
            transaction.closed = transaction.written  # it may go on if they could not be written
        self._announce(transaction)
        if lane.lane is not None:
            info[self._lane_info] = lane.lane

    def write_at_the_commit(self, transaction: Transaction, pooled: Any, *, alone: bool) -> bool:
        """The COMMIT comes next; return whether it went with the rows.  *alone*: nobody comes
        between this and it, so that both can be one message."""
        if transaction.written or not transaction.close():
            return False  # nothing is to be invalidated any more
        if alone and not self._logs() and self.commit_with(transaction, pooled):
            return True
        self.write(transaction, pooled)
        return False

    @point(before="commit: rows not written")
    def commit_with(self, transaction: Transaction, pooled: Any) -> bool:
        """Write what *transaction* has pending and commit, as one message; return whether that
        could be.

        A round trip less for each writer, and the rows' locks last no longer than the server's own
        COMMIT.
        """
        ledger, dbapi_connection = self._core.ledger, _driver_side(pooled)
        if not ledger.commits_with_the_rows or not self._can_commit(dbapi_connection):
            return False
        if ledger.settles_by_rows and self._core.access.announcements is not None:
            return False
        keys = () if transaction.written else transaction.close()
        lane = LaneHolder(getattr(pooled, "info", {}).get(self._lane_info))
        quote = partial(literal, dbapi_connection)
        message = ledger.write_and_commit(keys, lane, quote) if keys else None
        if message is None or self._may_only_read(transaction, dbapi_connection):
            return False
        self._announce(transaction)
        try:
            self._send(dbapi_connection, *message)
        except self._dialect.loaded_dbapi.Error as error:
            # SQLAlchemy is about to wrap it, and to notice a connection that is lost.
            found = wrapped(self._dialect, error, None, dbapi_connection)
            if self._could_only_read(transaction, dbapi_connection, found):
                _leave_for_later(transaction)
                return False
            explained = explain(self._dialect, found, self._core.tables.log.name, keys)
            if explained is None:
                raise
            raise explained from found
        # The server says with its answer whether the transaction goes on.
        transaction.written = not in_transaction(self._dialect, dbapi_connection)
        return transaction.written

    def _may_only_read(self, transaction: Transaction, dbapi_connection: Any) -> bool:
        """PostgreSQL: whether *transaction* is READ ONLY, and has written nothing before it was.

        A `del` goes to whatever is open beside the transaction that writes.  Asked, since an error
        would be the whole transaction's; and only where it has executed nothing that plainly
        writes, so that no other pays for it.  (Test: test_a_read_only_transaction_beside.)
        """
        if (
            self._dialect.name != "postgresql"
            or (transaction.dirty and transaction.writes)
            or in_transaction(self._dialect, dbapi_connection) is False
        ):
            return False
        try:
            execute = self._execute_on(dbapi_connection)
            rows = ask(self._dialect, dbapi_connection, _MAY_ONLY_READ, execute)
        except DBAPIError:
            return False  # the rows will meet the same error, and say so
        return bool(rows[0][0])

    def _could_only_read(
        self, transaction: Transaction, dbapi_connection: Any, error: Exception
    ) -> bool:
        """SQLite, MariaDB: whether *error* says that *transaction*, which goes on, could only read.

        On SQLite that is said as well of one whose snapshot is older than what another has
        committed.  What has written, and cannot any more, must not be committed without its keys.
        (Tests: test_a_read_only_transaction_beside, test_a_transaction_beside_that_is_older.)
        """
        cause = error if isinstance(error, DBAPIError) else error.__cause__
        if self._dialect.name == "postgresql" or not isinstance(cause, DBAPIError):
            return False
        if is_of_a_read_only_transaction(self._dialect, cause):
            return True
        return (
            transaction.executed
            and can_write_nothing(self._dialect, cause)
            and not probe(self._dialect, dbapi_connection, transaction).written
        )

    def _announce(self, transaction: Transaction) -> None:
        """*transaction* is open in the database, and its COMMIT comes next."""
        announcements = self._core.access.announcements
        if announcements is not None and transaction.announcement is None:
            transaction.announcement = announcements.announce()

    def _can_commit(self, dbapi_connection: Any) -> bool:
        """Whether a message may commit, and its answer tell that."""
        if self._dialect.name == "postgresql":
            return can_send(self._dialect, dbapi_connection)
        return in_transaction(self._dialect, dbapi_connection) is True

    def _send(self, dbapi_connection: Any, statement: str, parameters: tuple[Any, ...]) -> None:
        if not parameters:
            send(dbapi_connection, statement)
            return
        cursor = dbapi_connection.cursor()
        try:
            cursor.execute(statement, parameters)
        finally:
            cursor.close()

    def _logs(self) -> bool:
        """Whether the statement is to be seen in SQLAlchemy's log (``echo``)."""
        return self._engine.logger.isEnabledFor(logging.INFO)

    def _execute_on(self, dbapi_connection: Any) -> Execute:
        """A cursor of the driver's: SQLAlchemy's way costs more than the statement itself."""
        execute = cursor_execute(self._dialect, lambda: dbapi_connection)
        if not self._logs():
            return execute

        def log_and_execute(statement: str, parameters: Any) -> Result:
            # SQLAlchemy has written "COMMIT" already, which is what comes after it.
            self._engine.logger.info("(before the COMMIT) %s", statement)
            self._engine.logger.info("[coherent_cache] %r", tuple(parameters))
            return execute(statement, parameters)

        return log_and_execute

    def claim_lane(self, dbapi_connection: Any, record: Any) -> None:
        """A connection was made: give it a lane, on databases that have them."""
        execute = cursor_execute(self._dialect, lambda: dbapi_connection)
        try:
            lane = self._core.ledger.claim_lane(execute)
            if lane is not None:
                record.info[self._lane_info] = lane
                dbapi_connection.commit()
        except DBAPIError:
            # No table yet, or no right to write: the first invalidation will say so.
            dbapi_connection.rollback()


def _leave_for_later(transaction: Transaction) -> None:
    """The keys of *transaction* are not in the ledger, and are to be invalidated by themselves when
    it has ended."""
    transaction.written = transaction.only_reads = True
    transaction.taken = ()


def _driver_side(pooled: Any) -> Any:
    return getattr(pooled, "dbapi_connection", pooled)
