"""Writes pending invalidations into the ledger, on the connection of their transaction."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .core import Core
from .drivers import cursor_execute, wrapped
from .explain import explain
from .ledger import Execute, LaneHolder, Result
from .libpq import can_send, literal, send
from .points import point
from .transaction import Transaction


class LedgerWriter:
    """Writes for the connections of one engine; the number of a connection's lane is kept with the
    pooled connection, and nothing else is."""

    def __init__(self, core: Core, dialect: Dialect) -> None:
        self._core = core
        self._dialect = dialect
        self._lane_info = f"coherent_cache.lane.{core.ledger.lanes_name}"

    @point(before="commit: rows not written", after="commit: rows written, not committed")
    def write(
        self, transaction: Transaction, connection: Connection, *, two_phase: bool = False
    ) -> None:
        """Write what *transaction* has pending; its COMMIT, or its first phase, comes next."""
        if transaction.written:
            return
        keys = transaction.pending()
        if not keys:
            return
        pooled = connection.connection
        lane = LaneHolder(pooled.info.get(self._lane_info), shared_until_commit=two_phase)
        transaction.written = True
        try:
            self._core.write_keys(self._execute_on(connection), keys, lane)
        except BaseException as error:
            transaction.written = False
            if isinstance(error, DBAPIError) and error.connection_invalidated:
                # SQLAlchemy has to know that the connection is lost, and with it the others of
                # its pool, as it would from a statement of the user's: so let it meet one.
                # (Test: test_connections_lost_before_the_commit_cost_one_error.)
                connection.exec_driver_sql("SELECT 1")
            raise
        if lane.lane is not None:
            pooled.info[self._lane_info] = lane.lane

    def waits_for_the_commit(self, transaction: Transaction, connection: Connection) -> bool:
        """Whether `write_at_the_commit` may save a round trip.  Not where the statement is to be
        seen in SQLAlchemy's log, which is asked for before the COMMIT."""
        return (
            not transaction.written
            and bool(transaction.pending())
            and not connection.engine.logger.isEnabledFor(logging.INFO)
            and can_send(self._dialect, connection.connection.dbapi_connection)
        )

    def _execute_on(self, connection: Connection) -> Execute:
        """A cursor of the driver's: SQLAlchemy's way costs more than the statement itself, and is
        taken only where the statement is to be seen in its log (``echo``)."""
        if not connection.engine.logger.isEnabledFor(logging.INFO):
            return cursor_execute(self._dialect, lambda: connection.connection.dbapi_connection)

        def execute(statement: str, parameters: Any) -> Result:
            result = connection.exec_driver_sql(statement, tuple(parameters))
            rows = result.fetchall() if result.returns_rows else ()
            return Result(rows, result.rowcount)

        return execute

    def write_at_the_commit(
        self, transaction: Transaction, dbapi_connection: Any, *, alone: bool
    ) -> None:
        """The COMMIT comes next, and there are keys that no `commit` event let us write: they go
        with it as one message (`waits_for_the_commit`), it is the pool's
        (reset_on_return="commit"), or other listeners of the event have invalidated more
        (test_del_in_a_commit_listener).  *alone*: nobody comes between this and the COMMIT."""
        keys = sorted(transaction.late) if transaction.written else transaction.pending()
        if keys and not (alone and self._commit_with(keys, dbapi_connection)):
            execute = cursor_execute(self._dialect, lambda: dbapi_connection)
            self._core.write_keys(execute, keys, LaneHolder())
        transaction.written |= bool(keys)

    @point(before="commit: rows not written")
    def _commit_with(self, keys: list[str], dbapi_connection: Any) -> bool:
        """Write *keys* and commit, as one message; return whether that could be.

        A COMMIT that follows finds nothing to do: the driver knows from the server's answer that no
        transaction is open any more.  A round trip less for each writer, and the row's lifetime
        before the COMMIT is the server's own.
        """
        if not can_send(self._dialect, dbapi_connection):
            return False
        statements = self._core.ledger.write_and_commit(keys, partial(literal, dbapi_connection))
        if statements is None:
            return False
        try:
            send(dbapi_connection, statements)
        except self._dialect.loaded_dbapi.Error as error:
            # SQLAlchemy is about to wrap it, and to notice a connection that is lost.
            found = wrapped(self._dialect, error, None, dbapi_connection)
            explained = explain(self._dialect, found, self._core.tables.log.name, keys)
            if explained is None:
                raise
            raise explained from found
        return True

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
