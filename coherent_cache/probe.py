"""Whether a transaction has written, and how long its snapshots live: asked, not guessed.

============  =====================================================================================
PostgreSQL    The server knows: a transaction that wrote or took a row lock has a number.
SQLite        The driver knows: whether a transaction is open, and how many rows it has changed.
MariaDB       Nobody tells: whatever is not plainly a SELECT counts as a write, and the snapshot is
              taken for as old as the transaction's first statement.
============  =====================================================================================
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .drivers import (
    cursor_execute,
    driver_connection,
    in_transaction,
    is_autocommit,
    is_busy,
)
from .ledger import Execute
from .libpq import ask_in_transaction
from .transaction import Probe, Transaction

_POSTGRESQL = (
    "SELECT pg_current_xact_id_if_assigned() IS NOT NULL, "
    "current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')"
)


def probe(dialect: Dialect, dbapi_connection: Any, transaction: Transaction) -> Probe:
    """Ask the driver or the server; where there is no answer, assume the worst."""
    if is_autocommit(dialect, dbapi_connection):
        # On SQLite a statement that has not ended keeps its snapshot, see `Labels.confirm_label`.
        return Probe(written=False, statement_snapshots=dialect.name != "sqlite")
    open_there = in_transaction(dialect, dbapi_connection)
    if dialect.name == "postgresql":
        if open_there is False:
            return Probe(written=transaction.dirty, statement_snapshots=True)
        if is_busy(dialect, dbapi_connection):
            # Not ours to wait for.  (Test: test_a_retriever_that_leaves_a_thread_with_a_statement.)
            return Probe(written=True, statement_snapshots=False)
        try:
            execute = cursor_execute(dialect, lambda: dbapi_connection)
            ((written, statement_snapshots),) = ask(dialect, dbapi_connection, _POSTGRESQL, execute)
        except DBAPIError:  # in a failed transaction nothing can be asked
            return Probe(written=True, statement_snapshots=False)
        return Probe(bool(written), bool(statement_snapshots))
    if dialect.name == "sqlite" and open_there is not None:
        before = transaction.changes_before  # negative: unknown
        wrote = total_changes(dbapi_connection) != before
        # Also if it is not open any more: it was ended by the driver's own means, and what was read
        # in it may be undone.  (Test: test_a_retriever_that_undoes_what_it_has_read.)
        ended = wrote and before >= 0 and not open_there
        return Probe(
            written=ended or (open_there and (transaction.dirty or wrote)),
            statement_snapshots=False,
        )
    return Probe(written=transaction.dirty, statement_snapshots=False)


def total_changes(dbapi_connection: Any) -> int:
    """How many rows SQLite says the connection has changed since it was opened."""
    return int(getattr(driver_connection(dbapi_connection), "total_changes", 0))


def ask(dialect: Dialect, dbapi_connection: Any, question: str, execute: Execute) -> Any:
    """Return the rows that *question*, a SELECT without parameters, gives in the transaction that
    is open on the connection: past the driver's cursor where that can be, else by *execute*."""
    rows = ask_in_transaction(dialect, dbapi_connection, question.encode())
    return execute(question, ()).rows if rows is None else rows
