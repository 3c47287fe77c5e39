"""Hard case 19: AUTOCOMMIT.

Each statement commits by itself, and so does each `del`: there is no COMMIT that it could wait
for.  And what looks like autocommit need not be: SQLAlchemy's recipe for SQLite switches the
driver to it and sends BEGIN itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.orm import Session

from ..databases import Database
from ..workers import PageText, Worker, page, put

WAYS: dict[str, Callable[[Worker], Connection]] = {
    "engine": lambda w: w.database.engine(isolation_level="AUTOCOMMIT").connect(),
    "engine's options": lambda w: w.engine.execution_options(
        isolation_level="AUTOCOMMIT"
    ).connect(),
    "connection's options": lambda w: w.engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ),
}


def autocommit_worker(worker: Worker, way: str) -> tuple[Worker, Connection]:
    """A worker and its connection in autocommit mode."""
    if way != "engine":
        return worker, WAYS[way](worker)
    made = Worker(worker.database, engine=worker.database.engine(isolation_level="AUTOCOMMIT"))
    return made, made.engine.connect()


@pytest.mark.parametrize("way", WAYS)
def test_case_19_del_commits_at_once(worker: Worker, other: Worker, way: str) -> None:
    """Whatever the connection is told in the end."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    auto, connection = autocommit_worker(worker, way)
    assert auto.read("Front") == "old"
    with connection:
        for end in ("commit", "rollback", "close"):
            with auto.cache_manager.request():
                before = PageText(auto, "Front").text
                put(connection, "Front", end)
                assert PageText(auto, "Front").text == before
                del PageText(auto, "Front").text
                assert other.read("Front") == end
                assert PageText(auto, "Front").text == end
                getattr(connection, end)()
                assert PageText(auto, "Front").text == end
            assert worker.read("Front") == other.read("Front") == auto.read("Front") == end


@pytest.mark.parametrize("way", WAYS)
def test_case_19_values_are_not_private(worker: Worker, way: str) -> None:
    """What was written is committed, so what is computed after it is for everybody."""
    auto, connection = autocommit_worker(worker, way)
    with connection:
        put(connection, "Front", "new")
        assert PageText(auto, "Front").text == "new"
        loads = auto.cache_manager.statistics.loads
        assert PageText(auto, "Front").text == "new"
        assert auto.read("Front") == "new"
        assert auto.cache_manager.statistics.loads == loads


@pytest.mark.parametrize("way", ["engine", "engine's options"])
def test_case_19_session(worker: Worker, other: Worker, way: str) -> None:
    """A Session on such an engine."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    auto, connection = autocommit_worker(worker, way)
    engine = connection.engine
    connection.close()
    with Session(engine) as session:
        session.execute(page.update().values(text="new"))
        del PageText(auto, "Front").text
        assert other.read("Front") == "new"
        session.rollback()
    assert other.read("Front") == auto.read("Front") == "new"
    with Session(engine) as session:
        session.begin()
        del PageText(auto, "Front").text  # waits: the session has no connection yet
        session.execute(page.update().values(text="newer"))
        session.commit()
    assert other.read("Front") == auto.read("Front") == "newer"


def test_case_19_beside_a_transaction(worker: Worker, other: Worker) -> None:
    """A connection in autocommit mode and a transaction, open side by side: the `del` may be meant
    for either, and neither is forgotten."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as auto:
        auto.execute(select(page)).all()
        with worker.engine.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
            assert other.read("Front") == "old"
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_19_pooled_connection_goes_back(worker: Worker, other: Worker) -> None:
    """The next user of the pooled connection is in a transaction again."""
    engine = worker.database.engine(pool_size=1, max_overflow=0)
    small = Worker(worker.database, engine=engine)
    small.write("Front", "old")
    assert other.read("Front") == "old"
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        put(connection, "Front", "new")
        del PageText(small, "Front").text
    assert small.read("Front") == other.read("Front") == "new"
    with pytest.raises(ZeroDivisionError), small.cache_manager.begin() as connection:
        put(connection, "Front", "never")
        del PageText(small, "Front").text
        assert PageText(small, "Front").text == "never"
        assert other.read("Front") == "new"
        raise ZeroDivisionError
    assert small.read("Front") == other.read("Front") == "new"


# SQLAlchemy's recipe for SQLite


def recipe(database: Database, statement: str, first: bool) -> Worker:
    """The engine of "Serializable isolation / Savepoints / Transactional DDL" in SQLAlchemy's
    documentation, with its listeners before or after ours."""
    engine: Engine = database.engine()

    def listen() -> None:
        @event.listens_for(engine, "connect")
        def connect(connection: Any, record: Any) -> None:
            connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin(connection: Connection) -> None:
            connection.exec_driver_sql(statement)

    if first:
        listen()
    made = Worker(database, engine=engine)
    if not first:
        listen()
    return made


@pytest.mark.parametrize("statement", ["BEGIN", "BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_19_recipe_for_sqlite(
    worker: Worker, other: Worker, statement: str, first: bool
) -> None:
    """The driver says autocommit, and a transaction is open."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    made = recipe(worker.database, statement, first)
    assert made.read("Front") == "old"
    blocked = statement == "BEGIN EXCLUSIVE" and worker.database.kind == "sqlite-journal"
    for end in ("rollback", "commit"):
        with made.engine.connect() as connection, made.cache_manager.request():
            put(connection, "Front", end)
            del PageText(made, "Front").text
            assert PageText(made, "Front").text == end
            savepoint = connection.begin_nested()
            put(connection, "Back", end)
            del PageText(made, "Back").text
            assert PageText(made, "Back").text == end
            savepoint.rollback()
            assert PageText(made, "Back").text is None
            if not blocked:
                assert other.read("Front") == "old"
            getattr(connection, end)()
            expected = "old" if end == "rollback" else "commit"
            assert PageText(made, "Front").text == expected
            connection.rollback()
            assert other.read("Front") == made.read("Front") == expected
    with Session(made.engine) as session:
        session.execute(page.update().values(text="by the session"))
        del PageText(made, "Front").text
        if not blocked:
            assert other.read("Front") == "commit"
        session.commit()
    assert other.read("Front") == made.read("Front") == "by the session"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_19_read_in_an_exclusive_transaction_before_it_writes(worker: Worker) -> None:
    """It has the only lock, so the check goes through it and does not wait for itself."""
    worker.write("Front", "old")
    made = recipe(worker.database, "BEGIN EXCLUSIVE", True)
    assert made.read("Front") == "old"
    made.cache_manager.evict()
    with made.engine.connect() as connection, made.cache_manager.request():
        connection.execute(select(page)).all()
        assert PageText(made, "Front").text == "old"
    with made.cache_manager.begin() as connection:
        assert PageText(made, "Front").text == "old"
        put(connection, "Front", "new")
        del PageText(made, "Front").text
        assert PageText(made, "Front").text == "new"
    assert worker.read("Front") == made.read("Front") == "new"
