"""What only the driver's own connection tells, asked without a round trip."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .ledger import Execute, Result

#: Awaits the rows of a statement.
Fetch: TypeAlias = Callable[[str, tuple[Any, ...]], Awaitable[Sequence[Sequence[Any]]]]


def driver_connection(dbapi_connection: Any) -> Any:
    """The driver's connection behind SQLAlchemy's adapter for asynchronous drivers, if any."""
    return getattr(dbapi_connection, "_connection", dbapi_connection)


def cut_off(dbapi_connection: Any) -> None:
    """Close the connection of an asynchronous driver whose event loop is closed, as far as that can
    be done without one."""
    raw = driver_connection(dbapi_connection)
    for name in ("terminate", "stop", "close"):  # asyncpg; aiosqlite; PyMySQL's kin
        method = getattr(raw, name, None)
        if method is not None and not inspect.iscoroutinefunction(method):
            # In a thread that has no loop: aiosqlite would tell the running one of its end, when
            # that may be closed as well.
            thread = threading.Thread(target=_quietly, args=(method,))
            thread.start()
            thread.join()
            return


def _quietly(function: Callable[[], object]) -> None:
    with suppress(Exception):  # that the loop is closed
        function()


def in_transaction(dialect: Dialect, dbapi_connection: Any) -> bool | None:
    """Whether the driver knows of an open transaction; None where it cannot tell."""
    raw = driver_connection(dbapi_connection)
    try:
        if dialect.name == "sqlite":
            return bool(raw.in_transaction)
        if dialect.name == "postgresql":
            if dialect.driver == "psycopg":  # shorter than by way of `info`
                return int(raw.pgconn.transaction_status) != 0  # 0 is IDLE
            if hasattr(raw, "is_in_transaction"):  # asyncpg
                return bool(raw.is_in_transaction())
            return int(raw.info.transaction_status) != 0  # psycopg2
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


def has_failed(dialect: Dialect, dbapi_connection: Any) -> bool:
    """Whether the transaction has failed and its COMMIT will be a ROLLBACK (PostgreSQL, where the
    driver knows)."""
    return _status(dialect, dbapi_connection) == 3  # INERROR


def is_busy(dialect: Dialect, dbapi_connection: Any) -> bool:
    """Whether a statement is under way on the connection, which another thread uses, so that a
    question would wait for it (PostgreSQL, where the driver knows)."""
    return _status(dialect, dbapi_connection) == 1  # ACTIVE


def _status(dialect: Dialect, dbapi_connection: Any) -> int | None:
    """libpq's transaction status."""
    if dialect.name != "postgresql":
        return None  # nobody else tells
    raw = driver_connection(dbapi_connection)
    try:
        return int((raw.pgconn if dialect.driver == "psycopg" else raw.info).transaction_status)
    except (AttributeError, TypeError, ValueError):
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


def begins_read_only(dialect: Dialect, dbapi_connection: Any) -> bool:
    """Whether the driver was told to let transactions be READ ONLY (SQLAlchemy's execution option
    ``postgresql_readonly``), which it can be only between two of them."""
    # psycopg's name for it, and that of psycopg2 and of SQLAlchemy's adapter for asyncpg.
    return dialect.name == "postgresql" and (
        getattr(dbapi_connection, "read_only", None) is True
        or getattr(dbapi_connection, "readonly", None) is True
    )


@contextmanager
def driver_errors(
    dialect: Dialect, statement: str | None = None, connection: Any = None
) -> Iterator[None]:
    """Wrap the driver's errors as SQLAlchemy wraps them."""
    try:
        yield
    except dialect.loaded_dbapi.Error as error:
        raise wrapped(dialect, error, statement, connection) from error


def wrapped(dialect: Dialect, error: Any, statement: str | None, connection: Any) -> DBAPIError:
    """Return the driver's *error* as SQLAlchemy wraps it."""
    driver = dialect.loaded_dbapi
    found: DBAPIError = DBAPIError.instance(
        statement,
        None,
        error,
        driver.Error,
        hide_parameters=True,
        connection_invalidated=dialect.is_disconnect(error, connection, None),
        dialect=dialect,
    )
    return found


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
            raise wrapped(dialect, error, statement, connection) from error

    return execute


def driver_fetch(dialect: Dialect, dbapi_connection: Any) -> Fetch | None:
    """Return the shortest way to a statement's rows on the driver's connection behind SQLAlchemy's
    adapter for asynchronous drivers; None for another driver, or one that is not known."""
    if not dialect.is_async:
        return None
    raw = driver_connection(dbapi_connection)
    if dialect.driver == "asyncpg":
        prepared: dict[str, Any] = {}

        async def prepare(statement: str, parameters: tuple[Any, ...]) -> Any:
            made = prepared[statement] = await raw.prepare(statement)
            return await made.fetch(*parameters)

        def fetch_prepared(statement: str, parameters: tuple[Any, ...]) -> Awaitable[Any]:
            made = prepared.get(statement)
            return prepare(statement, parameters) if made is None else made.fetch(*parameters)

        return fetch_prepared
    if dialect.driver == "aiosqlite":
        execute_fetchall: Fetch = raw.execute_fetchall
        return execute_fetchall
    if dialect.driver in ("aiomysql", "asyncmy"):
        cursors: list[Any] = []

        async def fetch_by_cursor(statement: str, parameters: tuple[Any, ...]) -> Any:
            if not cursors:
                made = raw.cursor()
                cursors.append(await made if hasattr(made, "__await__") else made)
            (cursor,) = cursors
            await cursor.execute(statement, parameters or None)
            return await cursor.fetchall()

        return fetch_by_cursor
    if dialect.driver in ("psycopg", "psycopg_async"):
        kept = raw.cursor()

        async def fetch_kept(statement: str, parameters: tuple[Any, ...]) -> Any:
            await kept.execute(statement, parameters or None)
            return await kept.fetchall()

        return fetch_kept
    return None
