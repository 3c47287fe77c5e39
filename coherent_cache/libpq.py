"""Short questions to PostgreSQL through psycopg's ``pq``, its wrapper of libpq.

A cursor of psycopg's takes longer to prepare a short statement, and to describe what it gives, than
the client takes to send it and to read the answer.  What is asked once or more in each request goes
this way instead, and so do the rows that go with the COMMIT.  It is used only where nothing is
special about the connection: for the rest, and to tell a SELECT's error, the driver's cursor is
there.
"""

from __future__ import annotations

import re
import select
from collections.abc import Callable, Sequence
from decimal import Decimal
from hashlib import blake2b
from itertools import count
from typing import Any

from sqlalchemy.engine import Dialect

#: Statements that one connection lets the server remember.
_MOST_PREPARED = 64

#: libpq's numbers.
_IDLE, _ACTIVE, _IN_TRANSACTION = 0, 1, 2
_PIPELINE_OFF = 0
_COMMAND_OK, _TUPLES_OK = 1, 2

#: How values of a type look as text, by its number in ``pg_type``.
_READERS: dict[int, Callable[[bytes], Any]] = {
    16: b"t".__eq__,
    20: int,
    21: int,
    23: int,
    25: bytes.decode,
    1700: lambda text: Decimal(text.decode()),
}

_PLACE = re.compile("%[s%]")


class PreparedSelects:
    """SELECTs on a connection of psycopg's in autocommit mode, prepared at their second use.

    Its owner sees to it that nobody else uses the connection.
    """

    def __init__(self, connection: Any) -> None:
        self._libpq = connection.pgconn
        self._wait = select.poll()
        self._wait.register(self._libpq.socket, select.POLLIN)
        # Statement → its name on the server; None where it was met once, or cannot be prepared.
        self._names: dict[str, bytes | None] = {}

    def execute(self, statement: str, parameters: Sequence[Any]) -> list[list[Any]] | None:
        """Return the rows; None if nothing was read, and a cursor has to do it.

        Raises the driver's errors where the connection is lost.
        """
        name = self._names.get(statement) or self._prepare(statement)
        if name is None or self._libpq.transaction_status != _IDLE:
            return None  # in a transaction a failure would be the whole transaction's
        values: list[bytes | None] = []
        for each in parameters:
            if type(each) is not int and type(each) is not str:
                return None
            values.append(str(each).encode())
        self._libpq.send_query_prepared(name, values)
        rows = _rows(_answer(self._libpq, self._wait))
        if rows is None:
            # Not known to this session of the server any more, or it holds a type that is not read
            # here.
            self._names[statement] = None
        return rows

    def _prepare(self, statement: str) -> bytes | None:
        if statement not in self._names:
            if statement.startswith("SELECT") and len(self._names) < _MOST_PREPARED:
                self._names[statement] = b""  # the next use prepares it
            return None
        if self._names[statement] is None:
            return None
        numbers = count(1)
        text = _PLACE.sub(lambda m: "%" if m[0] == "%%" else f"${next(numbers)}", statement)
        # Named by its text.  The interleaving this guards against: a pooler hands one session of
        # the server to two clients, and one executes what the other has prepared under the name.
        # (Test: test_two_clients_of_one_session.)
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        name = f"coherent_cache_{digest}".encode()
        self._libpq.send_prepare(name, text.encode())
        result = _answer(self._libpq, self._wait)
        # Not OK also where another client of a pooler's session has it there: then the cursor.
        done = result is not None and result.status == _COMMAND_OK
        self._names[statement] = name if done else None
        return self._names[statement]


def prepared_selects(dialect: Dialect, dbapi_connection: Any) -> PreparedSelects | None:
    """A short way for SELECTs on a connection that was just made; None where there is none."""
    if not hasattr(select, "poll") or _plain(dialect, dbapi_connection) is None:
        return None
    # An application that lets psycopg prepare nothing has a pooler that does not bear it.
    if getattr(dbapi_connection, "prepare_threshold", None) is None:
        return None
    return PreparedSelects(dbapi_connection)


def ask_in_transaction(dialect: Dialect, dbapi_connection: Any, question: bytes) -> Any:
    """Return the rows that *question*, a SELECT, gives in the transaction that is open on the
    connection; None if nothing was read, and a cursor has to ask."""
    if not can_send(dialect, dbapi_connection):
        return None
    return _rows(_exchange(dbapi_connection, question))


def can_send(dialect: Dialect, dbapi_connection: Any) -> bool:
    """Whether a message of ours (`send`) may go in the transaction that is open on the connection:
    not with another driver, without a transaction, in one that has failed, or in a pipeline."""
    libpq = _plain(dialect, dbapi_connection)
    return (
        libpq is not None
        and libpq.transaction_status == _IN_TRANSACTION
        and hasattr(dbapi_connection, "lock")
        and hasattr(select, "poll")
    )


def literal(dbapi_connection: Any, text: str) -> str:
    """*text* as a literal of SQL, for `send`."""
    from psycopg.pq import Escaping  # here is psycopg

    return bytes(Escaping(dbapi_connection.pgconn).escape_literal(text.encode())).decode()


def send(dbapi_connection: Any, statements: str) -> None:
    """Execute several statements that return no rows, as one message.  What follows one that fails
    is not executed.  Raises the driver's errors."""
    result = _exchange(dbapi_connection, statements.encode())
    if result is None or result.status != _COMMAND_OK:
        from psycopg import OperationalError
        from psycopg.errors import error_from_result

        raise OperationalError("no answer") if result is None else error_from_result(result)


def _exchange(dbapi_connection: Any, message: bytes) -> Any:
    """The last result of *message*: that of the statement that failed, if one did."""
    libpq = dbapi_connection.pgconn
    with dbapi_connection.lock:
        wait = select.poll()
        wait.register(libpq.socket, select.POLLIN)
        libpq.send_query(message)
        try:
            return _answer(libpq, wait)
        except BaseException:
            # Interrupted: the connection is the application's, and an answer that is still on its
            # way would be the next statement's.  (Test: test_interrupted_while_it_asks.)
            if libpq.transaction_status == _ACTIVE:
                libpq.get_cancel().cancel()
                while libpq.get_result() is not None:
                    pass
            raise


def _plain(dialect: Dialect, dbapi_connection: Any) -> Any:
    """libpq's connection below psycopg's, if text is UTF-8 and no pipeline is open, in which
    answers come later; else None, and with another driver."""
    if dialect.driver != "psycopg" or dialect.is_async:
        return None
    try:
        libpq = dbapi_connection.pgconn
        encoding: bytes | None = libpq.parameter_status(b"client_encoding")
        is_plain = encoding == b"UTF8" and libpq.pipeline_status == _PIPELINE_OFF
    except AttributeError:
        return None
    return libpq if is_plain else None


def _answer(libpq: Any, wait: Any) -> Any:
    """The last result of what was sent."""
    while libpq.flush():  # the socket takes no more
        wait.modify(libpq.socket, select.POLLIN | select.POLLOUT)
        wait.poll()
        wait.modify(libpq.socket, select.POLLIN)
        libpq.consume_input()
    result = None
    while True:
        while libpq.is_busy():
            wait.poll()
            libpq.consume_input()
        found = libpq.get_result()
        if found is None:
            return result
        result = found


def _rows(result: Any) -> list[list[Any]] | None:
    if result is None or result.status != _TUPLES_OK:
        return None
    columns = range(result.nfields)
    try:
        readers = [_READERS[result.ftype(column)] for column in columns]
    except KeyError:
        return None
    value = result.get_value
    rows = []
    for number in range(result.ntuples):
        row = []
        for column in columns:
            found = value(number, column)
            row.append(None if found is None else readers[column](found))
        rows.append(row)
    return rows
