"""Bad days: what ends where nobody looks, and databases that go away.

Each story ends the same: whatever happened, the next answer is the database's.
"""

from __future__ import annotations

import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, event, select, text
from sqlalchemy.exc import DBAPIError, OperationalError, TimeoutError
from sqlalchemy.pool import QueuePool

from .databases import Database, sqlite_url
from .proxy import proxied
from .workers import PageText, Worker, metadata, page, put
from .written import once_written


def in_database(worker: Worker, name: str = "Front") -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(select(page.c.text).where(page.c.name == name))


# Ends that no event announces


def test_text_commit(worker: Worker, other: Worker) -> None:
    """COMMIT as a statement (on SQLite the driver's begins with the first write)."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection, worker.cache_manager.request():
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "new"
        connection.execute(text("COMMIT"))
        assert other.read("Front") == "new"
        assert PageText(worker, "Front").text == "new"
        connection.rollback()
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == other.read("Front") == "new"


def test_text_rollback(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection, worker.cache_manager.request():
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "never"
        connection.execute(text("ROLLBACK"))
        assert PageText(worker, "Front").text == "old"
        connection.commit()
    assert worker.read("Front") == other.read("Front") == "old"


@pytest.mark.parametrize("then", ["statement", "commit", "rollback", "close"])
def test_commit_of_the_driver(
    worker: Worker, other: Worker, then: str, caplog: pytest.LogCaptureFixture
) -> None:
    """``connection.connection.commit()`` passes SQLAlchemy by.  The next thing that happens on the
    connection finds out, and the invalidation follows the data."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection, worker.cache_manager.request():
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        connection.connection.commit()
        with caplog.at_level(logging.ERROR):
            if then == "statement":
                connection.execute(select(page)).all()
                assert other.read("Front") == "new"
            elif then != "close":
                getattr(connection, then)()
                assert other.read("Front") == "new"
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_commit_of_the_driver_after_a_function_that_writes(worker: Worker, other: Worker) -> None:
    """The text of the statement does not show that anything was written."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE FUNCTION edit(t text) RETURNS int LANGUAGE sql AS "
            "$$ UPDATE page SET text = t RETURNING 1 $$"
        )
    with worker.engine.connect() as connection:
        connection.execute(text("SELECT edit('new')"))
        del PageText(worker, "Front").text
        connection.connection.commit()
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_connections_lost_before_the_commit_cost_one_error(worker: Worker, other: Worker) -> None:
    """The server ends all connections of the pool; our rows are the first statement that meets it.

    SQLAlchemy then gives up the whole pool, as after a statement of the user's: the next
    transaction gets a new connection, not the next dead one."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    number = "pg_backend_pid()" if worker.database.kind == "postgresql" else "CONNECTION_ID()"
    end = "SELECT pg_terminate_backend(:n, 10000)"
    if worker.database.kind == "mariadb":
        end = "KILL :n"
    with worker.engine.connect() as one, worker.engine.connect() as two:
        numbers = [c.scalar(text(f"SELECT {number}")) for c in (one, two)]
    with pytest.raises(DBAPIError), worker.engine.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        with other.engine.begin() as killer:
            for each in numbers:
                killer.execute(text(end), {"n": each})
    with worker.engine.begin() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    assert worker.read("Front") == other.read("Front") == "old"


BEGIN_NOTHING = {
    "sqlite-wal": ["PRAGMA foreign_keys=ON", "CREATE TEMPORARY TABLE scratch (a INTEGER)"],
    "sqlite-journal": ["PRAGMA foreign_keys=ON", "CREATE TABLE scratch (a INTEGER)"],
    "postgresql": ["CREATE TEMPORARY TABLE scratch (a INTEGER)", "DO $$ BEGIN END $$"],
    "mariadb": [
        "CREATE TEMPORARY TABLE scratch (a INTEGER)",
        "DO 1",
        "CREATE TABLE scratch (a INT)",
    ],
}


@pytest.mark.parametrize("number", [0, 1, 2])
def test_statement_that_begins_no_transaction(worker: Worker, other: Worker, number: int) -> None:
    """A transaction starts with something that writes by the look of it, but the driver says that
    no transaction is open: no reason to think that the invalidation is done with."""
    statements = BEGIN_NOTHING[worker.database.kind]
    if number >= len(statements):
        pytest.skip("no such statement")
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.begin() as connection:
        connection.execute(text(statements[number]))
        del PageText(worker, "Front").text
        connection.execute(select(page)).all()
        assert other.read("Front") == "old"  # and it keeps the old one for its next request
        put(connection, "Front", "new")
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("mariadb")
@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE page (a INT)", "CREATE OR REPLACE TEMPORARY TABLE scratch (a INT)", "ALTER x",
     "ANALYZE SELECT 1", "CREATE TABLE made (a INT)"],
)  # fmt: skip
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_mariadb_statement_that_may_commit(
    worker: Worker, other: Worker, statement: str, end: str
) -> None:
    """DDL commits, also when it fails; but not if it is not understood, and some that look like it
    do not.  Either way the request sees its own data, nobody else sees them early, and the
    invalidation goes with them."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection, worker.cache_manager.request():
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        try:
            connection.execute(text(statement))
        except DBAPIError:
            pass
        assert PageText(worker, "Front").text == "new"
        assert other.read("Front") == worker_outside(worker) == in_database(other)
        getattr(connection, end)()
        assert PageText(worker, "Front").text == in_database(other)
    assert worker.read("Front") == other.read("Front") == in_database(other)


def worker_outside(worker: Worker) -> str | None:
    """What another thread of the worker's process reads."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(worker.read, "Front").result()


@pytest.mark.parametrize("reset", ["rollback", "commit", None])
def test_connection_is_garbage_collected(worker: Worker, other: Worker, reset: Any) -> None:
    """Nobody ends the transaction: the pool does when the Connection is collected, in the way it
    was told to.  With None the database's transaction goes on under the next one."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    engine = worker.database.engine(pool_reset_on_return=reset, pool_size=1, max_overflow=0)
    careless = Worker(worker.database, engine=engine)
    assert careless.read("Front") == "old"

    def forget_to_end() -> None:
        connection = engine.connect()
        put(connection, "Front", "new")
        del PageText(careless, "Front").text
        assert PageText(careless, "Front").text == "new"

    forget_to_end()
    gc.collect()
    if reset is None:
        assert other.read("Front") == "old"
        with engine.begin() as connection:
            connection.execute(select(page)).all()
    expected = "old" if reset == "rollback" else "new"
    assert other.read("Front") == careless.read("Front") == in_database(other) == expected


def test_commit_listener_that_raises(worker: Worker, other: Worker) -> None:
    """An application's listener raises: SQLAlchemy counts the transaction as ended, and tells
    nobody.  Whatever becomes of the data becomes of the invalidation."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"

    def refuse(connection: Connection) -> None:
        raise RuntimeError("refused")

    for goes_on in (False, True):
        with worker.engine.connect() as connection, worker.cache_manager.request():
            event.listen(worker.engine, "commit", refuse)
            with pytest.raises(RuntimeError, match="refused"), connection.begin():
                put(connection, "Front", "new")
                del PageText(worker, "Front").text
                assert PageText(worker, "Front").text == "new"
            event.remove(worker.engine, "commit", refuse)
            assert other.read("Front") == "old"
            if goes_on:
                with connection.begin():
                    put(connection, "Back", "new")
        expected = in_database(other)
        assert worker.read("Front") == other.read("Front") == expected


def test_failed_commit_leaves_nothing_behind(worker: Worker, other: Worker) -> None:
    """The ledger cannot be written, so the COMMIT fails: then the data are gone, and not taken
    along by the next transaction of the connection."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"

    def refuse(*_: Any) -> None:
        raise RuntimeError("refused")

    manager: Any = worker.cache_manager
    with worker.engine.connect() as connection:
        manager.core.write_keys = manager.core.ledger.write_and_commit = refuse
        with pytest.raises(RuntimeError, match="refused"), connection.begin():
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
        del manager.core.write_keys, manager.core.ledger.write_and_commit
        with connection.begin():
            put(connection, "Back", "new")
    assert in_database(other, "Back") == "new"
    assert worker.read("Front") == other.read("Front") == in_database(other) == "old"


# What is left when a manager goes


def test_engine_goes_with_its_manager(worker: Worker) -> None:
    """What was made for an engine that is dropped, tables included, holds it no longer."""
    passing = Worker(worker.database)
    passing.cache_manager.create_table()
    passing.cache_manager.verify_table()
    passing.write("Front", "new")
    assert passing.read("Front") == "new"
    engine = weakref.ref(passing.engine)
    passing.drop_engine()
    del passing
    gc.collect()
    assert engine() is None


def test_manager_takes_its_connections_along(worker: Worker) -> None:
    """An application that makes managers and drops them does not run out of connections."""
    passing = Worker(worker.database)
    assert passing.read("Front") is None
    del PageText(passing, "Front").text
    manager = weakref.ref(passing.cache_manager)
    side = weakref.ref(passing.cache_manager.core.access._connections.reader._side)
    driver: Any = passing.cache_manager.core.access._connections.reader._side._connection
    passing.drop_engine()
    del passing
    gc.collect()
    assert manager() is None
    assert side() is None
    with pytest.raises(worker.engine.dialect.loaded_dbapi.Error):
        driver.cursor().execute("SELECT 1")


# The database goes away and comes back


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("moment", ["check", "load", "transaction", "ledger written", "idle"])
def test_database_gone_and_back(worker: Worker, moment: str) -> None:
    """The error is the driver's.  When the server is back the answers are right, without a
    restart, and never an old value in between."""
    with proxied(worker.database.url) as (url, proxy):
        far = Worker(Database(worker.database.kind, url))
        worker.write("Front", "old")
        assert far.read("Front") == far.read("Front") == "old"
        names = far.wiki.names
        if moment == "check":
            proxy.cut()
            with pytest.raises(DBAPIError):
                far.read("Front")
        elif moment == "load":
            del far.wiki.names
            far.wiki.before = proxy.cut
            with pytest.raises(DBAPIError):
                far.wiki.names  # noqa: B018
            far.wiki.before = lambda: None
        elif moment == "idle":
            proxy.cut()
        else:
            if moment == "ledger written":
                once_written(far.engine, lambda _: proxy.cut())
            with pytest.raises(DBAPIError), far.cache_manager.begin() as connection:
                put(connection, "Front", "never")
                del PageText(far, "Front").text
                assert PageText(far, "Front").text == "never"
                if moment == "transaction":
                    proxy.cut()
        for _ in range(2):  # while it is away
            with pytest.raises(DBAPIError):
                far.read("Front")
        assert worker.read("Front") == in_database(worker) == "old"
        worker.write("Front", "new")
        proxy.mend()
        for _ in range(3):
            # A pool may hold connections that are dead: one error each, as without the library.
            try:
                put_nothing(far)
            except DBAPIError:
                continue
        assert far.read("Front") == "new"
        assert far.wiki.names == names == {"Front"}
        far.write("Front", "newest")
        assert far.read("Front") == worker.read("Front") == "newest"
        far.cache_manager.close()
        far.database.dispose()


def put_nothing(worker: Worker) -> None:
    with worker.engine.connect() as connection:
        connection.execute(select(page)).all()


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_disk_full(worker: Worker, other: Worker) -> None:
    """The rows of the ledger do not fit: the transaction fails as it would for the data."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    with worker.engine.connect() as connection, worker.cache_manager.request():
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.rollback()
        with pytest.raises(OperationalError, match="full"), connection.begin():
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
            for number in range(1000):
                worker.cache_manager.invalidate(f"{number}" + "x" * 1000)
        assert PageText(worker, "Front").text == "old"
        connection.rollback()
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        connection.rollback()
    assert worker.read("Front") == other.read("Front") == in_database(other) == "old"
    worker.write("Front", "new")
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
@pytest.mark.parametrize("goes_on", [False, True])
def test_disk_full_ends_the_transaction(worker: Worker, other: Worker, goes_on: bool) -> None:
    """SQLite rolls back by itself what does not fit: nothing is invalidated for that alone, and an
    application that goes on all the same commits with what it has named."""
    worker.write("Front", "old")
    rows = worker.cache_manager.status().rows
    with worker.engine.connect() as connection, worker.cache_manager.request():
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
        connection.rollback()
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        with pytest.raises(OperationalError, match="full"):
            for number in range(1000):
                put(connection, f"{number}", "x" * 1000)
        driver: Any = connection.connection.dbapi_connection
        if driver.in_transaction:
            pytest.skip("this SQLite keeps the transaction")
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
        if goes_on:
            assert other.read("Front") == "old"
            put(connection, "Front", "newer")
            connection.commit()
        else:
            connection.rollback()
    if goes_on:
        assert worker.read("Front") == other.read("Front") == "newer"
    else:
        assert worker.cache_manager.status().rows == rows
        assert worker.read("Front") == other.read("Front") == "old"


def test_pool_exhausted(worker: Worker) -> None:
    """The pool's error reaches the reader whose retriever needs a connection; nothing is kept of
    it, and what is in memory needs none."""
    worker.write("Front", "text")
    engine = worker.database.engine(
        poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=0.05
    )
    small = Worker(worker.database, engine=engine)
    assert small.read("Front") == "text"
    with ThreadPoolExecutor(1) as pool, engine.connect() as connection:
        connection.execute(select(page)).all()
        assert pool.submit(small.read, "Front").result() == "text"
        with pytest.raises(TimeoutError):
            pool.submit(lambda: small.wiki.names).result()
    assert small.wiki.names == {"Front"}


def test_retriever_that_raises(worker: Worker) -> None:
    """The exception as it is, nothing cached, and the transaction as the user left it."""
    worker.write("Front", "old")

    def fail() -> None:
        raise ZeroDivisionError("in the retriever")

    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        worker.wiki.after = fail
        for _ in range(2):
            with pytest.raises(ZeroDivisionError, match="in the retriever"):
                worker.wiki.names  # noqa: B018
        worker.wiki.after = lambda: None
        del PageText(worker, "Front").text
        assert worker.wiki.names == {"Front"}
    assert worker.read("Front") == in_database(worker) == "new"


# Several databases


def test_managers_do_not_meet(worker: Worker, tmp_path: Any) -> None:
    """Two managers on two databases, the same classes and the same keys."""
    second = Worker(Database("sqlite-wal", sqlite_url(tmp_path, "second.db")))
    second.cache_manager.create_table()
    metadata.create_all(second.engine)
    worker.write("Front", "first's")
    second.write("Front", "second's")
    assert (worker.read("Front"), second.read("Front")) == ("first's", "second's")
    loads = second.cache_manager.statistics.loads
    with worker.cache_manager.begin() as connection, second.cache_manager.request():
        put(connection, "Front", "first's new")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "first's new"
        assert PageText(second, "Front").text == "second's"
        with second.cache_manager.begin() as seconds:
            assert seconds is not connection
    assert (worker.read("Front"), second.read("Front")) == ("first's new", "second's")
    assert second.cache_manager.statistics.loads == loads
    second.database.dispose()
