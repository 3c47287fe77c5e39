"""What only the driver's own connection tells, asked without a round trip."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .ledger import Execute, Result


def driver_connection(dbapi_connection: Any) -> Any:
    """The driver's connection behind SQLAlchemy's adapter for asynchronous drivers, if any."""
    return getattr(dbapi_connection, "_connection", dbapi_connection)


def in_transaction(dialect: Dialect, dbapi_connection: Any) -> bool | None:
    """Whether the driver knows of an open transaction; None where it cannot tell."""
    raw = driver_connection(dbapi_connection)
    try:
        if dialect.name == "sqlite":
            return bool(raw.in_transaction)
        if dialect.name == "postgresql":
            if hasattr(raw, "is_in_transaction"):  # asyncpg
                return bool(raw.is_in_transaction())
            return int(raw.info.transaction_status) != 0  # psycopg, psycopg2; 0 is IDLE
        if raw.server_status & 1:  # PyMySQL and its kin: SERVER_STATUS_IN_TRANS
            return True
        # They do not take the status down from a result that has rows (SELECT … FOR UPDATE,
        # INSERT … RETURNING): then a transaction may have begun that they do not know of.
        result = last_result(raw)
        return None if result is not None and result.server_status is None else False
    except (AttributeError, TypeError, ValueError):
        return None
    except dialect.loaded_dbapi.Error:  # a closed connection
        return None


def last_result(dbapi_connection: Any) -> Any:
    """What PyMySQL and its kin executed last; None where the driver does not tell."""
    return getattr(driver_connection(dbapi_connection), "_result", None)


def is_autocommit(dialect: Dialect, dbapi_connection: Any) -> bool:
    """Whether each statement commits by itself on this connection, at this moment.

    A transaction begun by a statement of its own (SQLAlchemy's recipe for SQLite does so) counts
    as one although the driver is in its autocommit mode.
    """
    try:
        autocommit = dialect.detect_autocommit_setting(dbapi_connection)
    except (NotImplementedError, AttributeError):
        return False
    return bool(autocommit) and not in_transaction(dialect, dbapi_connection)


@contextmanager
def driver_errors(
    dialect: Dialect, statement: str | None = None, connection: Any = None
) -> Iterator[None]:
    """Wrap the driver's errors as SQLAlchemy wraps them."""
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        raise _wrapped(dialect, error, statement, connection) from error


def _wrapped(
    dialect: Dialect, error: Exception, statement: str | None, connection: Any
) -> BaseException:
    return DBAPIError.instance(
        statement,
        None,
        error,
        dialect.loaded_dbapi.Error,
        hide_parameters=True,
        connection_invalidated=dialect.is_disconnect(error, connection, None),  # type: ignore[arg-type]
        dialect=dialect,
    )


def cursor_execute(dialect: Dialect, connect: Callable[[], Any]) -> Execute:
    """Return a way to execute on the DBAPI connection that *connect* returns, with the driver's
    errors wrapped as SQLAlchemy wraps them."""

    def execute(statement: str, parameters: Sequence[Any]) -> Result:
        connection = connect()
        # Without `driver_errors`: a generator costs more than the statement on SQLite.
        try:
            cursor = connection.cursor()
            try:
                cursor.execute(statement, tuple(parameters))
                rows = cursor.fetchall() if cursor.description is not None else ()
                return Result(rows, cursor.rowcount)
            finally:
                cursor.close()
        except dialect.loaded_dbapi.Error as error:
            raise _wrapped(dialect, error, statement, connection) from error

    return execute
