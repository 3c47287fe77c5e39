"""Wraps the dialect's methods that end a transaction.

No event of SQLAlchemy tells how a COMMIT or ROLLBACK went, nor of one that the pool does for a
connection that was garbage-collected; all of them go through the dialect.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.engine import Dialect

from .transaction import Outcome, Transaction


class Endings(Protocol):
    """The one who is told."""

    def open_on(self, dbapi_connection: Any) -> Transaction | None:
        """The transaction that is open on a driver's connection and that it can end."""
        ...

    def open_in(self, connection: Connection) -> Transaction | None:
        """The transaction that *connection* has open."""
        ...

    def before_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """COMMIT or ROLLBACK comes next."""
        ...

    def after_end(self, transaction: Transaction, dbapi_connection: Any, outcome: Outcome) -> None:
        """The transaction has ended, in the way that *outcome* tells."""
        ...


def wrap_ends(dialect: Dialect, endings: Endings) -> Callable[[], bool]:
    """Let *endings* know of every end on connections of *dialect*, as long as it lives.

    Return a function that tells whether nobody else has a hand in its COMMIT: another who wraps it
    as well, or who commits in his own way.
    """
    was_plain = "do_commit" not in vars(dialect)
    # Weakly: a driver's connection may know its dialect, and the ledger's own connections have to
    # go with the manager.  (Test: test_manager_takes_its_connections_along.)
    told = weakref.ref(endings)
    wrapped: Any = dialect
    wrapped.do_commit = _wrap(dialect.do_commit, Outcome.COMMITTED, told)
    wrapped.do_rollback = _wrap(dialect.do_rollback, Outcome.ROLLED_BACK, told)
    wrapped.do_commit_twophase = _wrap_twophase(dialect.do_commit_twophase, Outcome.COMMITTED, told)
    wrapped.do_rollback_twophase = _wrap_twophase(
        dialect.do_rollback_twophase, Outcome.ROLLED_BACK, told
    )
    commit = wrapped.do_commit
    return lambda: was_plain and vars(dialect).get("do_commit") is commit


def _wrap(
    original: Callable[[Any], None], outcome: Outcome, told: weakref.ref[Endings]
) -> Callable[[Any], None]:
    def end(pooled: Any) -> None:
        dbapi_connection = getattr(pooled, "dbapi_connection", pooled)
        endings = told()
        transaction = None if endings is None else endings.open_on(dbapi_connection)
        if endings is None or transaction is None:
            original(pooled)
            return
        endings.before_end(transaction, dbapi_connection, outcome)
        try:
            original(pooled)
        except BaseException:
            # Whether the server had committed is unknown; the next look at the ledger tells.
            endings.after_end(transaction, dbapi_connection, Outcome.UNKNOWN)
            raise
        endings.after_end(transaction, dbapi_connection, outcome)

    return end


def _wrap_twophase(
    original: Callable[..., None], outcome: Outcome, told: weakref.ref[Endings]
) -> Callable[..., None]:
    def end(connection: Connection, *args: Any, **kwargs: Any) -> None:
        endings = told()
        transaction = None if endings is None else endings.open_in(connection)
        finished = Outcome.UNKNOWN
        try:
            original(connection, *args, **kwargs)
            finished = outcome
        finally:
            if endings is not None and transaction is not None and transaction.is_open:
                dbapi_connection = connection.connection.dbapi_connection
                endings.after_end(transaction, dbapi_connection, finished)

    return end
