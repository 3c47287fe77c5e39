"""The short way past psycopg's cursors: it says what they say, or nothing."""

from __future__ import annotations

import select
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import ProgrammingError

from coherent_cache.libpq import ask_in_transaction, prepared_selects
from coherent_cache.probe import probe
from coherent_cache.side import SideConnection
from tests.workers import Worker

pytestmark = pytest.mark.on("postgresql")

_ALL = (
    "SELECT NULL, true, 1::smallint, %s::integer, 9223372036854775807, %s::text, "
    "SUM(4611686018427387904::bigint), '100%%' FROM generate_series(1, 3)"
)


@pytest.fixture
def side(worker: Worker) -> Iterator[SideConnection]:
    found = SideConnection(worker.engine, worker.cache_manager.core.ledger)
    found.open()
    yield found
    found.close()


def test_what_a_cursor_says(side: SideConnection) -> None:
    selects = side._selects
    assert selects is not None
    for word in ("", "a%s'\\\N{SNOWMAN}"):
        rows = [side.execute(_ALL, (7, word)).rows for _ in range(3)]
        side._selects = None
        by_cursor = [tuple(row) for row in side.execute(_ALL, (7, word)).rows]
        side._selects = selects
        assert [[tuple(row) for row in each] for each in rows] == [by_cursor] * 3
    assert selects.execute(_ALL, (7, word)) is not None, "the cursor did it all the time"


def test_what_is_not_read_here_is_left_to_the_cursor(side: SideConnection) -> None:
    for _ in range(3):
        ((found,),) = side.execute("SELECT ARRAY[1, 2]", ()).rows
        assert found == [1, 2]


def test_an_error_is_told_by_the_cursor(side: SideConnection) -> None:
    for _ in range(3):
        with pytest.raises(ProgrammingError, match="nowhere"):
            side.execute("SELECT 1 FROM nowhere", ())
    side.execute("CREATE TEMPORARY TABLE here (n integer)", ())
    for _ in range(3):
        assert side.execute("SELECT n FROM here", ()).rows == []
    side.execute("DROP TABLE here", ())
    with pytest.raises(ProgrammingError, match="here"):
        side.execute("SELECT n FROM here", ())
    assert side.execute("SELECT 1", ()).rows[0][0] == 1


def test_two_clients_of_one_session(side: SideConnection, worker: Worker) -> None:
    """A pooler gives one client the session in which another has prepared something else."""
    other = SideConnection(worker.engine, worker.cache_manager.core.ledger)
    other.open()
    one, two = side._selects, other._selects
    assert one is not None
    assert two is not None
    for _ in range(2):
        one.execute("SELECT 1", ())
        two.execute("SELECT 2", ())
    assert one.execute("SELECT 1", ()) == [[1]]
    one._libpq = two._libpq
    one._wait = two._wait
    assert one.execute("SELECT 1", ()) is None
    other.close()


def test_nothing_is_prepared_where_the_application_forbids_it(worker: Worker) -> None:
    for arguments, found in (
        ({}, True),
        ({"prepare_threshold": None}, False),
        ({"client_encoding": "LATIN1"}, False),
    ):
        engine = worker.database.engine(connect_args=arguments)
        with engine.connect() as connection:
            selects = prepared_selects(engine.dialect, connection.connection.dbapi_connection)
            assert (selects is not None) is found


def test_not_in_a_transaction(side: SideConnection) -> None:
    """There a failure would be the whole transaction's."""
    selects = side._selects
    assert selects is not None
    for _ in range(3):
        side.execute("SELECT 1", ())
    side.execute("BEGIN", ())
    assert selects.execute("SELECT 1", ()) is None
    side.execute("ROLLBACK", ())
    assert selects.execute("SELECT 1", ()) == [[1]]


def test_an_interrupted_answer_is_not_the_next_ones(
    side: SideConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        side.execute("SELECT 1", ())
    assert side._selects is not None
    monkeypatch.setattr(side._selects, "_wait", _Interrupted())
    with pytest.raises(KeyboardInterrupt):
        side.execute("SELECT 1", ())
    for _ in range(3):
        assert side.execute("SELECT 2", ()).rows[0][0] == 2


class _Interrupted:
    def poll(self) -> None:
        raise KeyboardInterrupt


def _driver(connection: Connection) -> Any:
    return connection.connection.dbapi_connection


def test_interrupted_while_it_asks(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection is the application's: it goes on with it."""
    with worker.engine.connect() as connection:
        connection.execute(text("SELECT 1"))
        with monkeypatch.context() as patched:
            patched.setattr(select, "poll", lambda: _Registered())
            with pytest.raises(KeyboardInterrupt):
                ask_in_transaction(
                    worker.engine.dialect, _driver(connection), b"SELECT pg_sleep(0.2)::text"
                )
        connection.rollback()
        assert connection.scalar(text("SELECT 3")) == 3


class _Registered(_Interrupted):
    def register(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize("level", ["READ COMMITTED", "REPEATABLE READ"])
def test_the_question_after_a_load(worker: Worker, level: str) -> None:
    manager = worker.cache_manager
    with worker.engine.connect().execution_options(isolation_level=level) as connection:
        connection.execute(text("SELECT 1"))
        transaction = manager.core.transaction_of(connection)
        assert transaction is not None
        dialect, driver = worker.engine.dialect, _driver(connection)
        assert ask_in_transaction(dialect, driver, b"SELECT 1, true") == [[1, True]]
        assert probe(dialect, driver, transaction) == (False, level == "READ COMMITTED")
        connection.execute(text("SELECT pg_current_xact_id()"))
        assert probe(dialect, driver, transaction) == (True, level == "READ COMMITTED")
        with pytest.raises(ProgrammingError):
            connection.execute(text("SELECT 1 FROM nowhere"))
        assert ask_in_transaction(dialect, driver, b"SELECT 1") is None
        assert probe(dialect, driver, transaction) == (True, False)
