"""What the stories need: threads that start in a context of their own, and places to stop at."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest
from sqlalchemy import Connection, Engine, event

from ..workers import Worker

T = TypeVar("T")

#: Nothing in these tests takes so long unless it hangs.
SECONDS = 15


def in_thread(function: Callable[[], T]) -> Future[T]:
    """Start *function* in a thread, with none of the caller's context."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def elsewhere(function: Callable[[], T]) -> T:
    """What *function* returns in another thread."""
    return in_thread(function).result(SECONDS)


class Gate:
    """A place where a thread stops until the test lets it go on."""

    def __init__(self) -> None:
        self._arrived = threading.Event()
        self._open = threading.Event()

    def __call__(self) -> None:
        """Arrive, and wait until the gate is opened; once open it stops nobody."""
        self._arrived.set()
        assert self._open.wait(SECONDS), "the gate was never opened"

    def wait(self) -> None:
        """Wait until somebody has arrived."""
        assert self._arrived.wait(SECONDS), "nobody came to the gate"

    def open(self) -> None:
        self._open.set()


class CountedLedger:
    """Counts the statements of a worker's checks and the rows that they fetch."""

    def __init__(self, worker: Worker) -> None:
        self.statements = 0
        self.rows = 0
        ledger: Any = worker.cache_manager.core.ledger
        read = ledger.read

        def counted(execute: Any, position: Any) -> Any:
            def counting(statement: str, parameters: Any) -> Any:
                result = execute(statement, parameters)
                self.statements += 1
                self.rows += len(result.rows)
                return result

            return read(counting, position)

        ledger.read = counted

    def cost(self) -> tuple[int, int]:
        """Statements and rows since the last call."""
        found = (self.statements, self.rows)
        self.statements = self.rows = 0
        return found


def begin_with(engine: Engine, statement: str) -> None:
    """SQLAlchemy's recipe for SQLite: *statement* begins each transaction of *engine*."""

    @event.listens_for(engine, "connect")
    def leave_it_to_us(dbapi_connection: Any, _: Any) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    engine.dispose()  # connections that were made without it


@contextmanager
def transaction_at(worker: Worker, isolation: str) -> Iterator[Connection]:
    """A transaction at an isolation level; on SQLite one that has begun by BEGIN."""
    with worker.engine.connect() as connection:
        if not worker.database.is_sqlite:
            connection = connection.execution_options(isolation_level=isolation)
        with connection.begin():
            if worker.database.is_sqlite:
                connection.exec_driver_sql("BEGIN")
            yield connection


def generations(worker: Worker) -> int:
    """How many rows the ledger has, asked in a transaction of its own."""
    return elsewhere(worker.cache_manager.status).rows


def settle(worker: Worker, other: Worker) -> None:
    """Wait until an invalidation drops what it names and nothing else.

    The first rows of a ledger drop everything; on PostgreSQL as long as a transaction that was
    open before them, in any database of the server, goes on.
    """
    for _ in range(100):
        worker.cache_manager.invalidate("settling")
        other.cache_manager.get("something else", lambda: 1)
        worker.cache_manager.invalidate("settling")
        before = other.cache_manager.statistics.loads
        other.cache_manager.get("something else", lambda: 1)
        if other.cache_manager.statistics.loads == before:
            return
        time.sleep(0.1)
    pytest.skip("somebody else's transaction on this server does not end")
