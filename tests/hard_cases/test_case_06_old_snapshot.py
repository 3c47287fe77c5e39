"""Case 6: the old snapshot.

A transaction was opened before another process commits, and keeps its snapshot (REPEATABLE READ,
the default of MariaDB; SERIALIZABLE; a read transaction of SQLite).  A thread of its process looks
at the ledger, which now holds the commit.  A retriever computes a value from the old snapshot: old
data, while the process believes itself up to date.  Stored as new it would be wrong until the next
invalidation.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.orm import Session

from ..workers import PageText, Worker, page
from .support import (
    OrmText,
    Page,
    at_level,
    check,
    in_thread,
    loads,
    orm_read,
    orm_write,
)


def old_transaction_reads(worker: Worker, connection: Connection, other: Worker) -> str | None:
    """*connection*'s snapshot is open; then somebody commits; then a retriever reads in it."""
    other.write("Front", "new")
    check(worker)
    return PageText(worker, "Front").text


def keep_a_snapshot(worker: Worker, other: Worker, level: str, *, request: bool) -> None:
    worker.write("Front", "old")
    worker = at_level(worker, level)
    check(worker)
    around = worker.cache_manager.request() if request else nullcontext()
    with around, worker.engine.connect() as connection:
        connection.execute(select(page.c.text)).all()
        old_transaction_reads(worker, connection, other)
    assert worker.read("Front") == in_thread(lambda: worker.read("Front")) == "new"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("level", ["REPEATABLE READ", "SERIALIZABLE"])
@pytest.mark.parametrize("request_", [False, True])
def test_case_06_postgresql(worker: Worker, other: Worker, level: str, request_: bool) -> None:
    keep_a_snapshot(worker, other, level, request=request_)


@pytest.mark.on("mariadb")  # (at SERIALIZABLE the other one would wait for this one's locks)
@pytest.mark.parametrize("level", ["REPEATABLE READ", "READ COMMITTED"])
@pytest.mark.parametrize("request_", [False, True])
def test_case_06_mariadb(worker: Worker, other: Worker, level: str, request_: bool) -> None:
    keep_a_snapshot(worker, other, level, request=request_)


@pytest.mark.on("postgresql", "mariadb")
def test_case_06_the_value_is_old_and_private(worker: Worker, other: Worker) -> None:
    # What the old transaction reads is its own; others get the new value at the same time.
    worker.write("Front", "old")
    worker = at_level(worker, "REPEATABLE READ")
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        connection.execute(select(page.c.text)).all()
        assert old_transaction_reads(worker, connection, other) == "old"
        assert in_thread(lambda: worker.read("Front")) == "new"
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == "new"


@pytest.mark.on("sqlite-wal")
def test_case_06_read_transaction_of_sqlite(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    with worker.engine.connect() as connection:
        connection.execute(text("BEGIN"))
        connection.execute(select(page.c.text)).all()
        assert old_transaction_reads(worker, connection, other) == "old"
        assert in_thread(lambda: worker.read("Front")) == "new"
    assert worker.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_06_read_committed_may_be_shared(worker: Worker, other: Worker) -> None:
    # The transaction is old, but each of its statements sees what is new.
    worker.write("Front", "old")
    with worker.engine.connect() as connection:
        connection.execute(select(page.c.text)).all()
        assert old_transaction_reads(worker, connection, other) == "new"
        before = loads(worker)
        assert in_thread(lambda: worker.read("Front")) == "new"
        assert loads(worker) == before


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("old_one_first", [True, False])
def test_case_06_two_connections_in_one_load(
    worker: Worker, other: Worker, old_one_first: bool
) -> None:
    # One of the connections that a retriever reads on has an old snapshot: that one counts.
    worker.write("Front", "old")
    worker = at_level(worker, None if worker.database.is_sqlite else "REPEATABLE READ")
    statement = select(page.c.text).where(page.c.name == "Front")

    def retriever() -> list[Any]:
        with worker.engine.connect() as fresh:
            connections = [old, fresh] if old_one_first else [fresh, old]
            return sorted(connection.scalar(statement) for connection in connections)

    manager = worker.cache_manager
    with worker.engine.connect() as old:
        if worker.database.is_sqlite:
            old.execute(text("BEGIN"))
        old.execute(statement).all()
        with other.cache_manager.begin() as connection:
            connection.execute(page.update().values(text="new"))
            other.cache_manager.invalidate("both")
        check(worker)
        assert manager.get("both", retriever) == ["new", "old"]
        assert in_thread(lambda: manager.get("both", lambda: "loaded")) == "loaded"


@pytest.mark.on("postgresql", "mariadb")
def test_case_06_computed_from_an_old_value(worker: Worker, other: Worker) -> None:
    # A value that a request read early is in its view; one computed from it now is as old.
    worker.write("Front", "old")
    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == "old"
        other.write("Front", "new")
        check(worker)

        def shouted() -> str:
            return str(PageText(worker, "Front").text).upper()

        assert worker.cache_manager.get("shouted", shouted) == "OLD"
    assert worker.cache_manager.get("shouted", shouted) == "NEW"


@pytest.mark.on("postgresql", "mariadb")
def test_case_06_snapshot_opened_by_the_drivers_cursor(worker: Worker, other: Worker) -> None:
    # No event tells of the statement that opened the snapshot, but the driver's transaction is
    # open before the first statement that is seen.
    worker.write("Front", "old")
    worker = at_level(worker, "REPEATABLE READ")
    with worker.engine.begin() as connection:
        cursor = connection.connection.cursor()
        cursor.execute("SELECT text FROM page")
        cursor.fetchall()
        cursor.close()
        assert old_transaction_reads(worker, connection, other) == "old"
    assert worker.read("Front") == "new"


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
@pytest.mark.parametrize("how", ["the driver's cursor", "a BEGIN and the cursor", "a statement"])
@pytest.mark.parametrize("comes", ["before the manager", "after it", "at the second"])
def test_case_06_snapshot_opened_by_a_begin_listener(
    worker: Worker, other: Worker, how: str, comes: str
) -> None:
    """SQLAlchemy tells an application's listener before its dialect begins: what is committed
    between the two is not in the transaction's snapshot."""
    worker.write("Front", "old")
    engine = worker.database.engine()
    if engine.dialect.name != "sqlite":
        engine = worker.database.engine(isolation_level="REPEATABLE READ")
    armed = False

    def look(connection: Connection) -> None:
        nonlocal armed
        if not armed:
            return
        armed = False
        cursor = connection.connection.cursor()
        if how == "a BEGIN and the cursor":
            connection.execute(text("BEGIN"))
        elif engine.dialect.name == "sqlite":
            cursor.execute("BEGIN")
        if how == "a statement":
            connection.execute(select(page.c.text)).all()
        else:
            cursor.execute("SELECT text FROM page")
            cursor.fetchall()
        cursor.close()
        other.write("Front", "new")
        check(late)

    if comes == "before the manager":
        event.listen(engine, "begin", look)
    late = Worker(worker.database, engine=engine)
    check(late)
    if comes != "before the manager":
        event.listen(engine, "begin", look)
    with engine.connect() as connection:
        if comes == "at the second":
            connection.execute(text("SELECT 1"))
            connection.commit()
        armed = True
        with connection.begin():
            assert PageText(late, "Front").text == "old"
    assert not armed
    assert late.read("Front") == in_thread(lambda: late.read("Front")) == "new"


@pytest.mark.parametrize("how", ["the driver's cursor", "a statement"])
@pytest.mark.on("postgresql", "mariadb", "sqlite-wal", "sqlite-journal")
def test_case_06_written_by_a_begin_listener(worker: Worker, how: str) -> None:
    """What it wrote is the transaction's, and what is computed from it too."""
    worker.write("Front", "old")

    armed = True

    def write(connection: Connection) -> None:
        nonlocal armed
        if not armed:
            return
        armed = False
        if how == "a statement":
            connection.execute(text("UPDATE page SET text = 'never'"))
        else:
            cursor = connection.connection.cursor()
            cursor.execute("UPDATE page SET text = 'never'")
            cursor.close()

    with worker.engine.connect() as connection:
        event.listen(worker.engine, "begin", write)
        with worker.cache_manager.request():
            connection.begin()
            assert PageText(worker, "Front").text == "never"
            connection.rollback()
    assert worker.read("Front") == in_thread(lambda: worker.read("Front")) == "old"


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("in_request", [False, True])
def test_case_06_start_with_consistent_snapshot(
    worker: Worker, other: Worker, in_request: bool
) -> None:
    worker.write("Front", "old")
    with worker.engine.begin() as connection:
        connection.execute(text("START TRANSACTION WITH CONSISTENT SNAPSHOT"))
        if in_request:
            with worker.cache_manager.request():
                assert old_transaction_reads(worker, connection, other) == "old"
        else:
            assert old_transaction_reads(worker, connection, other) == "old"
    assert worker.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_06_imported_snapshot(worker: Worker, other: Worker) -> None:
    # A transaction that begins after the commit takes over a snapshot from before it.
    worker.write("Front", "old")
    exporter = at_level(worker, "REPEATABLE READ").engine.connect()
    snapshot = exporter.scalar(text("SELECT pg_export_snapshot()"))
    other.write("Front", "new")
    check(worker)
    worker = at_level(worker, "REPEATABLE READ")
    check(worker)
    with worker.engine.begin() as connection:
        connection.execute(text(f"SET TRANSACTION SNAPSHOT '{snapshot}'"))
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == "new"
    exporter.close()


# The ORM: an object that a session holds is a snapshot of its own


@pytest.fixture
def orm(worker: Worker) -> Worker:
    orm_write(worker, "old")
    return worker


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_06_object_loaded_before_at_read_committed(orm: Worker, other: Worker) -> None:
    worker = orm if orm.database.is_sqlite else at_level(orm, "READ COMMITTED")
    with Session(worker.engine) as session:
        held = session.get_one(Page, "Front")
        orm_write(other, "new")
        check(worker)
        assert OrmText(worker, session).text == held.text == "old"
        assert in_thread(lambda: orm_read(worker)) == "new"
    assert orm_read(worker) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_06_object_refreshed_by_no_select(orm: Worker, other: Worker) -> None:
    # A SELECT that finds an object the session holds leaves it as it is.
    worker = orm if orm.database.is_sqlite else at_level(orm, "READ COMMITTED")
    key = "texts"

    def texts() -> list[str]:
        return [each.text for each in session.scalars(select(Page))]

    with Session(worker.engine) as session:
        held = session.get_one(Page, "Front")
        with other.cache_manager.begin() as connection:
            connection.execute(page.update().values(text="new"))
            other.cache_manager.invalidate(key)
        check(worker)
        assert worker.cache_manager.get(key, texts) == [held.text] == ["old"]
    with Session(worker.engine) as session:
        assert worker.cache_manager.get(key, texts) == ["new"]


def test_case_06_object_of_an_earlier_transaction(orm: Worker, other: Worker) -> None:
    # With expire_on_commit=False objects outlive the transaction that loaded them.
    with Session(orm.engine, expire_on_commit=False) as session:
        held = session.get_one(Page, "Front")
        session.commit()
        orm_write(other, "new")
        check(orm)
        assert OrmText(orm, session).text == held.text == "old"
    assert orm_read(orm) == "new"


# Replicas


@pytest.fixture
def replica(worker: Worker) -> Engine:
    """An engine to the application's copy of the database (here it does not lag behind, which
    nobody can rely on)."""
    return worker.database.engine()


def front(engine: Engine) -> Any:
    with engine.connect() as connection:
        return connection.scalar(select(page.c.text).where(page.c.name == "Front"))


def test_case_06_replica_is_never_shared(worker: Worker, replica: Engine) -> None:
    with_replica = Worker(worker.database, replicas=[replica])
    worker.write("Front", "lags behind")
    manager = with_replica.cache_manager
    assert manager.get("front", lambda: front(replica)) == "lags behind"
    assert manager.get("front", lambda: front(worker.engine) + ", or not") == "lags behind, or not"
    # Nor what is computed from it.
    assert manager.get("second", lambda: manager.get("third", lambda: front(replica)))
    assert manager.get("second", lambda: "anew") == "anew"


def test_case_06_replica_keeps_its_value_for_the_request(
    worker: Worker, other: Worker, replica: Engine
) -> None:
    manager = Worker(worker.database, replicas=[replica]).cache_manager
    worker.write("Front", "one")
    with manager.request():
        assert manager.get("front", lambda: front(replica)) == "one"
        other.write("Front", "two")
        assert manager.get("front", lambda: front(replica)) == "one"
    assert manager.get("front", lambda: front(replica)) == "two"


def test_case_06_replica_and_threads(worker: Worker, replica: Engine) -> None:
    # Nobody waits for a load from the replica and takes its value for new.
    manager = Worker(worker.database, replicas=[replica]).cache_manager
    worker.write("Front", "lags behind")

    def retriever() -> Any:
        found = front(replica)
        return [found, in_thread(lambda: manager.get("other", lambda: "anew"))]

    assert manager.get("front", retriever) == ["lags behind", "anew"]
    assert manager.get("front", lambda: "anew") == "anew"
