"""Wraps the dialect's methods that begin and end a transaction.

Each transaction of an Engine passes them, on whatever connection and however it was begun: also a
ROLLBACK that the pool does for a connection that was garbage-collected, which no event tells of;
and no event tells how a COMMIT went.  SQLAlchemy's events for the same (`begin`, `commit`,
`engine_connect`) cost each transaction of the Engine about a quarter of its time, since one
listener of them makes SQLAlchemy prepare for all (docs/performance.md).
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect
from sqlalchemy.engine.default import DefaultDialect

from .transaction import Outcome, Transaction


class Boundaries(Protocol):
    """The one who is told.  *pooled* is the pool's object for a driver's connection; only of an end
    it may be the driver's connection itself."""

    def begins(self, pooled: Any) -> None:
        """SQLAlchemy begins a transaction."""
        ...

    def open_on(self, dbapi_connection: Any) -> Transaction | None:
        """The transaction that is open on a driver's connection; one that is prepared is beyond the
        connection's reach."""
        ...

    def prepared_on(self, dbapi_connection: Any) -> Transaction | None:
        """The transaction of two phases that is open or prepared on a driver's connection."""
        ...

    def before_prepare(self, transaction: Transaction, pooled: Any) -> None:
        """The first phase comes next."""
        ...

    def before_end(
        self, transaction: Transaction, pooled: Any, outcome: Outcome, *, plain: bool
    ) -> bool:
        """COMMIT or ROLLBACK comes next; *plain* if that is the driver's ``commit()`` and nothing
        else: nobody comes in between.  Return whether the COMMIT was sent, and is not to come."""
        ...

    def after_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """The transaction has ended, in the way that *outcome* tells."""
        ...


def wrap_boundaries(dialect: Dialect, told: Boundaries) -> None:
    """Let *told* know of every beginning and end on connections of *dialect*, as long as it
    lives."""
    # Weakly: a driver's connection may know its dialect, and the ledger's own connections have to
    # go with the manager.  (Test: test_manager_takes_its_connections_along.)
    reference = weakref.ref(told)
    wrapped: Any = dialect
    wrapped.do_begin = _wrap_begin(dialect.do_begin, reference)
    wrapped.do_begin_twophase = _wrap_begin_twophase(dialect.do_begin_twophase, reference)
    wrapped.do_prepare_twophase = _wrap_prepare(dialect.do_prepare_twophase, reference)
    # Whether nobody else has a hand in the COMMIT: another who wraps it as well, or who commits in
    # his own way.
    was_plain = (
        "do_commit" not in vars(dialect) and type(dialect).do_commit is DefaultDialect.do_commit
    )

    def is_plain() -> bool:
        return was_plain and vars(dialect).get("do_commit") is commit

    commit = _wrap(dialect.do_commit, Outcome.COMMITTED, reference, is_plain)
    wrapped.do_commit = commit
    wrapped.do_rollback = _wrap(dialect.do_rollback, Outcome.ROLLED_BACK, reference, is_plain)
    wrapped.do_commit_twophase = _wrap_twophase(
        dialect.do_commit_twophase, Outcome.COMMITTED, reference
    )
    wrapped.do_rollback_twophase = _wrap_twophase(
        dialect.do_rollback_twophase, Outcome.ROLLED_BACK, reference
    )


def _wrap_begin(
    original: Callable[[Any], None], reference: weakref.ref[Boundaries]
) -> Callable[[Any], None]:
    def begin(pooled: Any) -> None:
        told = reference()
        if told is not None:
            told.begins(pooled)
        original(pooled)

    return begin


def _wrap_begin_twophase(
    original: Callable[[Connection, Any], None], reference: weakref.ref[Boundaries]
) -> Callable[[Connection, Any], None]:
    def begin(connection: Connection, xid: Any) -> None:
        told = reference()
        if told is None:
            original(connection, xid)
            return
        told.begins(connection.connection)
        transaction = told.open_on(connection.connection.dbapi_connection)
        if transaction is None:
            original(connection, xid)
            return
        # Some dialects call `do_begin`: that is the same beginning.
        transaction.beginning = True
        try:
            original(connection, xid)
        finally:
            transaction.beginning = False

    return begin


def _wrap_prepare(
    original: Callable[[Connection, Any], None], reference: weakref.ref[Boundaries]
) -> Callable[[Connection, Any], None]:
    def prepare(connection: Connection, xid: Any) -> None:
        told = reference()
        pooled = connection.connection
        transaction = None if told is None else told.open_on(pooled.dbapi_connection)
        if told is not None and transaction is not None:
            told.before_prepare(transaction, pooled)
        original(connection, xid)

    return prepare


def _wrap(
    original: Callable[[Any], None],
    outcome: Outcome,
    reference: weakref.ref[Boundaries],
    is_plain: Callable[[], bool],
) -> Callable[[Any], None]:
    def end(pooled: Any) -> None:
        dbapi_connection = getattr(pooled, "dbapi_connection", pooled)
        told = reference()
        transaction = None if told is None else told.open_on(dbapi_connection)
        if told is None or transaction is None:
            original(pooled)
            return
        ended = told.before_end(transaction, pooled, outcome, plain=is_plain())
        try:
            if not ended:
                original(pooled)
        except BaseException:
            # Whether the server had committed is unknown; the next look at the ledger tells.
            told.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)
            raise
        told.after_end(transaction, dbapi_connection, outcome)

    return end


def _wrap_twophase(
    original: Callable[..., None], outcome: Outcome, reference: weakref.ref[Boundaries]
) -> Callable[..., None]:
    def end(connection: Connection, xid: Any, is_prepared: bool = True, **kwargs: Any) -> None:
        told = reference()
        pooled = connection.connection
        dbapi_connection = pooled.dbapi_connection
        transaction = None if told is None else told.prepared_on(dbapi_connection)
        if told is not None and transaction is not None and not is_prepared:
            told.before_end(transaction, pooled, outcome, plain=False)
        finished = Outcome.UNKNOWN
        try:
            original(connection, xid, is_prepared, **kwargs)
            finished = outcome
        finally:
            if told is not None and transaction is not None and transaction.is_open:
                told.after_end(transaction, dbapi_connection, finished)

    return end
