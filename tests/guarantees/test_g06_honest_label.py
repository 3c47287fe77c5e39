"""G6: an entry's label is never newer than the snapshot that its data came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, select, text

from coherent_cache import cached

from ..workers import PageText, Worker, page
from .helpers import begin_with, elsewhere, settle, transaction_at

LEVELS = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"]


class Shout:
    """Derived from another cached value, with no statement of its own."""

    def __init__(self, env: Worker, name: str) -> None:
        self.env = env
        self.name = name

    @cached("name")
    def text(self) -> str:
        return f"{PageText(self.env, self.name).text}!"


@pytest.mark.parametrize("isolation", LEVELS)
def test_g06_a_transaction_opened_long_before(
    worker: Worker, other: Worker, isolation: str
) -> None:
    """
    worker   opens a transaction and reads: perhaps a snapshot for its whole life
    other    commits
    worker   looks at the ledger in another thread: the new label
    worker   computes in the old transaction; another thread must not get what that gave
    """
    if worker.database.kind == "sqlite-journal":
        pytest.skip("nobody can commit while somebody reads")
    if worker.database.kind == "mariadb" and isolation == "SERIALIZABLE":
        pytest.skip("reads take locks: nobody can commit while somebody reads")
    other.write("Front", "old")
    with transaction_at(worker, isolation) as connection:
        connection.execute(select(page)).all()
        other.write("Front", "new")
        elsewhere(lambda: worker.read("Back"))  # its check drops the key
        worker.cache_manager.evict()
        assert Shout(worker, "Front").text in ("old!", "new!")
        assert elsewhere(lambda: Shout(worker, "Front").text) == "new!"
        assert elsewhere(lambda: worker.read("Front")) == "new"
    assert Shout(worker, "Front").text == "new!"
    assert worker.read("Front") == "new"


def test_g06_several_connections_open(worker: Worker, other: Worker) -> None:
    """The retriever reads on the connection that it takes itself, not on the one that was open."""

    class Own:
        def __init__(self, env: Worker) -> None:
            self.env = env

        @cached
        def text(self) -> tuple[str | None, ...]:
            with self.env.engine.connect() as one, self.env.engine.connect() as two:
                return tuple(c.scalar(select(page.c.text)) for c in (one, two))

    if worker.database.kind == "sqlite-journal":
        pytest.skip("nobody can commit while somebody reads")
    other.write("Front", "old")
    with transaction_at(worker, "REPEATABLE READ") as connection:
        assert connection.scalar(select(page.c.text)) == "old"
        other.write("Front", "new")
        del Own(other).text
        assert elsewhere(lambda: Own(worker).text) == ("new", "new")
        assert Own(worker).text == ("new", "new")


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("isolation", [*LEVELS, "AUTOCOMMIT"])
@pytest.mark.parametrize("of", ["connection", "engine"])
def test_g06_read_at_an_isolation_level(worker: Worker, of: str, isolation: str) -> None:
    """No event tells of the statement that sets it, and it reads and writes nothing: what is read
    afterwards is everybody's."""
    worker.write("Front", "text")

    @contextmanager
    def connect() -> Iterator[Connection]:
        if of == "engine":
            with worker.engine.execution_options(isolation_level=isolation).begin() as connection:
                yield connection
        else:
            with worker.engine.connect() as connection:
                connection.execution_options(isolation_level=isolation)
                with connection.begin():
                    yield connection

    def read() -> str | None:
        with connect() as connection:
            return connection.scalar(select(page.c.text))

    for _ in range(2):
        loads = worker.cache_manager.statistics.loads
        assert worker.cache_manager.get("text", read) == "text"
    assert worker.cache_manager.statistics.loads == loads


def test_g06_a_snapshot_opened_by_a_statement(worker: Worker, other: Worker) -> None:
    """A transaction begun by a statement of its own, with its snapshot at once."""
    statements = {
        "mariadb": "START TRANSACTION WITH CONSISTENT SNAPSHOT",
        "sqlite-wal": "BEGIN",
        "sqlite-journal": "BEGIN",
        "postgresql": "SELECT 1",
    }
    other.write("Front", "old")
    engine = worker.engine
    if worker.database.kind == "postgresql":
        engine = engine.execution_options(isolation_level="REPEATABLE READ")
    with engine.connect() as connection:
        connection.execute(text(statements[worker.database.kind]))
        other.write("Front", "new")
        elsewhere(lambda: worker.read("Back"))
        worker.cache_manager.evict()
        assert worker.read("Front") in ("old", "new")
        assert elsewhere(lambda: worker.read("Front")) == "new"


@pytest.mark.on("postgresql")
def test_g06_a_snapshot_of_another_session(worker: Worker, other: Worker) -> None:
    """PostgreSQL lets a transaction read from a snapshot that another one took long ago."""
    other.write("Front", "old")
    repeatable = worker.engine.execution_options(isolation_level="REPEATABLE READ")
    with other.engine.connect().execution_options(isolation_level="REPEATABLE READ") as exporting:
        snapshot = exporting.scalar(text("SELECT pg_export_snapshot()"))
        worker.write("Front", "new")
        assert worker.read("Front") == "new"
        worker.cache_manager.evict()
        with repeatable.connect() as connection:
            connection.execute(text(f"SET TRANSACTION SNAPSHOT '{snapshot}'"))
            assert worker.read("Front") == "old"
        assert worker.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_g06_what_is_read_in_a_transaction_that_began_by_begin_is_kept(worker: Worker) -> None:
    """BEGIN opens no snapshot yet: news that come before the first read do not make it old."""
    engine = worker.database.engine()
    reading = Worker(worker.database, engine=engine)
    begin_with(engine, "BEGIN")
    worker.write("Front", "one")
    assert reading.wiki.names == {"Front"}
    worker.write("Back", "one")
    with reading.cache_manager.request(), reading.cache_manager.begin():
        assert reading.wiki.names == {"Front", "Back"}
    calls = reading.wiki.calls
    assert reading.wiki.names == {"Front", "Back"}
    assert reading.wiki.calls == calls


def test_g06_invalidated_while_it_was_computed(worker: Worker, other: Worker) -> None:
    """What was old when it was ready is not kept, except by the request that asked for it."""
    other.write("Front", "old")
    settle(other, worker)

    def others_commit_and_we_notice() -> None:
        worker.wiki.after = lambda: None
        elsewhere(lambda: other.write("Back", "new"))
        elsewhere(lambda: worker.read("Back"))

    worker.wiki.after = others_commit_and_we_notice
    if worker.database.kind == "sqlite-journal":
        # There a retriever that still reads lets nobody commit.
        worker.wiki.after = lambda: None
    with worker.cache_manager.request():
        first = worker.wiki.names
        assert worker.wiki.names == first
    if worker.database.kind != "sqlite-journal":
        assert worker.wiki.names == {"Front", "Back"}
