"""Hard case 11: a worker is killed between any two steps of its transaction.

A worker writes a page and invalidates it.  Somebody pulls the plug: after the data, after the
`del`, when the rows of the ledger are written, when COMMIT is on its way; or the server ends the
connection at one of these points.  Whatever came of it, data and invalidation had one fate, so a
worker that survives gives the answer the database gives.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from coherent_cache import OneHost

from ..children import fork, kill_self
from ..clusters import postgresql_cluster, postgresql_programs
from ..databases import REQUIRED, Database
from ..schedules.gates import gates
from ..workers import PageText, Worker, metadata, page, put
from ..written import once_written


def in_database(worker: Worker, name: str = "Front") -> str | None:
    with worker.engine.connect() as connection:
        return connection.scalar(select(page.c.text).where(page.c.name == name))


def wait_for_transactions_on(worker: Worker, name: str = "Front") -> None:
    """Wait until the server has done away with whoever wrote the page: its row is free."""
    if worker.database.is_sqlite:
        return  # the system took the locks with the process
    with worker.engine.begin() as connection:
        connection.execute(select(page).where(page.c.name == name).with_for_update())


def server_id(connection: Any) -> int:
    """The server's number of the session."""
    dialect = connection.dialect.name
    question = "SELECT pg_backend_pid()" if dialect == "postgresql" else "SELECT CONNECTION_ID()"
    return int(connection.exec_driver_sql(question).scalar_one())


def end_session(worker: Worker, number: int) -> None:
    """The server ends a session, and has done so when this returns."""
    engine = worker.database.engine()
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if worker.database.kind == "postgresql":
            ended = connection.scalar(text(f"SELECT pg_terminate_backend({number}, 10000)"))
            assert ended
        else:
            connection.exec_driver_sql(f"KILL {number}")


POINTS = ["after-data", "after-del", "ledger-written", "commit-sent", "after-commit"]


def die_at(point: str, database: Database) -> None:
    """A worker process that is killed at *point* of its transaction."""
    victim = Worker(database)

    def send_commit(pooled: Any) -> None:
        raw = pooled.dbapi_connection
        if database.kind == "postgresql":
            raw.pgconn.send_query(b"COMMIT")
            raw.pgconn.flush()
        elif database.kind == "mariadb":
            raw._execute_command(3, "COMMIT")
        else:
            raw.commit()
        kill_self()

    if point == "ledger-written":
        once_written(victim.engine, lambda _: kill_self())
    if point == "commit-sent":
        once_written(victim.engine, send_commit)
    with victim.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        if point == "after-data":
            kill_self()
        del PageText(victim, "Front").text
        if point == "after-del":
            kill_self()
    kill_self()


@pytest.mark.parametrize("point", POINTS)
def test_case_11_killed(worker: Worker, point: str) -> None:
    worker.write("Front", "old")
    assert worker.read("Front") == "old"
    worker.engine.dispose()
    database = worker.database
    fork(lambda: die_at(point, database)).wait_for_kill()
    wait_for_transactions_on(worker)
    expected = in_database(worker)
    if point in ("after-data", "after-del", "ledger-written"):
        assert expected == "old"
    if point == "after-commit":
        assert expected == "new"
    assert worker.read("Front") == expected
    worker.write("Front", "newest")
    assert worker.read("Front") == "newest"


@pytest.mark.parametrize("point", ["after-data", "after-del", "ledger-written"])
@pytest.mark.on("postgresql", "mariadb")
def test_case_11_connection_ended_by_the_server(worker: Worker, other: Worker, point: str) -> None:
    """The process lives on, and gets the driver's error."""
    worker.write("Front", "old")
    assert worker.read("Front") == other.read("Front") == "old"
    number = 0

    def cut(*_: Any) -> None:
        end_session(worker, number)

    if point == "ledger-written":
        once_written(worker.engine, cut)
    with worker.cache_manager.request():
        with pytest.raises(DBAPIError), worker.cache_manager.begin() as connection:
            number = server_id(connection)
            put(connection, "Front", "new")
            if point == "after-data":
                cut()
            del PageText(worker, "Front").text
            if point == "after-del":
                cut()
        assert PageText(worker, "Front").text == "old"
    assert worker.read("Front") == other.read("Front") == in_database(worker) == "old"
    worker.write("Front", "newest")
    assert worker.read("Front") == other.read("Front") == "newest"


class AnswerLost:
    """An engine whose connection is gone when COMMIT is to be answered."""

    def __init__(self, database: Database) -> None:
        self.engine = database.engine()
        self.loses: str | None = None
        dialect: Any = self.engine.dialect
        self._original = dialect.do_commit
        dialect.do_commit = self._do_commit

    def _do_commit(self, pooled: Any) -> None:
        if self.loses is None:
            self._original(pooled)
            return
        raw = pooled.dbapi_connection
        if self.loses == "after the server committed":
            raw.commit()
        else:
            raw.rollback()
        raise ConnectionAbortedError(self.loses)


@pytest.mark.parametrize("lost", ["after the server committed", "before the server committed"])
def test_case_11_answer_to_commit_is_lost(worker: Worker, lost: str) -> None:
    """The error is the same whether the server had committed or not, so nothing is taken for
    granted: the request reads what is so."""
    network = AnswerLost(worker.database)
    victim = Worker(worker.database, engine=network.engine)
    victim.write("Front", "old")
    assert worker.read("Front") == "old"
    with victim.cache_manager.request():
        assert PageText(victim, "Front").text == "old"
        network.loses = lost
        with pytest.raises(ConnectionAbortedError), victim.cache_manager.begin() as connection:
            put(connection, "Front", "new")
            del PageText(victim, "Front").text
            assert PageText(victim, "Front").text == "new"
        network.loses = None
        expected = "new" if lost.startswith("after") else "old"
        assert PageText(victim, "Front").text == expected
    assert victim.read("Front") == worker.read("Front") == in_database(worker) == expected


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_ledger_connection_ended_by_the_server(worker: Worker, other: Worker) -> None:
    """The ledger's own connection dies while it is idle; what was committed meanwhile is seen,
    although the new connection knows nothing of what the old one had read."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    for turn in range(3):
        reader = other.cache_manager.core.access._connections.reader._side
        assert reader.is_open
        number = server_id_of_side(other, reader)
        worker.write("Front", f"new {turn}")
        end_session(worker, number)
        assert other.read("Front") == f"new {turn}"


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_lone_del_after_its_connection_was_ended(worker: Worker, other: Worker) -> None:
    """A `del` outside of transactions uses a connection of the ledger too."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    del PageText(worker, "Front").text
    with worker.engine.begin() as connection:
        put(connection, "Front", "new")
    number = server_id_of_side(worker, worker.cache_manager.core.access._connections._writer)
    end_session(other, number)
    del PageText(worker, "Front").text
    assert other.read("Front") == worker.read("Front") == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_idle_pooled_connection_ended_by_the_server(worker: Worker, other: Worker) -> None:
    """The pool hands out a dead connection: one error, or none with ``pool_pre_ping``; in neither
    case an old value."""
    assert other.read("Front") is None
    engine = worker.database.engine(pool_pre_ping=True)
    pinging = Worker(worker.database, engine=engine)
    with engine.connect() as connection:
        number = server_id(connection)
    end_session(worker, number)
    pinging.write("Front", "new")
    assert other.read("Front") == "new"
    with other.engine.connect() as connection:
        number = server_id(connection)
    end_session(worker, number)
    with pytest.raises(DBAPIError):
        other.write("Front", "newer")
    assert pinging.read("Front") == other.read("Front") == "new"
    other.write("Front", "newer")
    assert pinging.read("Front") == other.read("Front") == "newer"


def server_id_of_side(worker: Worker, side: Any) -> int:
    postgresql = worker.database.kind == "postgresql"
    question = "SELECT pg_backend_pid()" if postgresql else "SELECT CONNECTION_ID()"
    return int(side.execute(question, ()).rows[0][0])


@pytest.fixture(scope="module")
def prepared_postgresql() -> Iterator[Any]:
    """A server with ``max_prepared_transactions``; PostgreSQL's default is none."""
    programs = postgresql_programs()
    if programs is None:
        if REQUIRED:
            pytest.fail("initdb is required and was not found")
        pytest.skip("no initdb: two-phase commit is not tested on PostgreSQL")
    with postgresql_cluster(programs, max_prepared_transactions="10") as url:
        yield url


@pytest.fixture
def two_phase(database: Database, request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A worker on a server with two-phase commit."""
    if database.kind == "postgresql":
        database = Database("postgresql", request.getfixturevalue("prepared_postgresql"))
    made = Worker(database)
    metadata.drop_all(made.engine)
    made.cache_manager.metadata.drop_all(made.engine)
    made.cache_manager.create_table()
    metadata.create_all(made.engine)
    yield made
    # The list of prepared transactions is the server's: those of others are left alone.
    for xid in prepared:
        with second_phase(made) as connection:
            connection.rollback_prepared(xid, recover=True)
    prepared.clear()
    made.cache_manager.close()
    if database.kind == "postgresql":
        database.dispose()


#: Left in the server by the test that runs.
prepared: list[Any] = []


def prepare(worker: Worker, text: str) -> Any:
    """Write and invalidate the page in a transaction that is prepared, and lose the connection;
    return its number."""
    connection = worker.engine.connect()
    transaction = connection.begin_twophase()
    put(connection, "Front", text)
    del PageText(worker, "Front").text
    transaction.prepare()
    xid = transaction.xid
    prepared.append(xid)
    connection.invalidate()
    connection.close()
    return xid


def second_phase(worker: Worker) -> Connection:
    """A connection to end what others prepared: MariaDB does so in autocommit mode only."""
    connection = worker.engine.connect()
    if worker.database.kind == "mariadb":
        connection = connection.execution_options(isolation_level="AUTOCOMMIT")
    return connection


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit_prepared", "rollback_prepared"])
def test_case_11_prepared_here_and_ended_by_another(two_phase: Worker, end: str) -> None:
    """The second phase comes from another session, of another process, after any number of other
    commits and checks."""
    ender, reader = Worker(two_phase.database), Worker(two_phase.database)
    two_phase.write("Front", "old")
    assert reader.read("Front") == ender.read("Front") == two_phase.read("Front") == "old"
    xid = prepare(two_phase, "new")
    assert reader.read("Front") == "old"
    for turn in range(3):  # nobody is held up by what is prepared
        two_phase.write("Back", f"{turn}")
        ender.write("Side", f"{turn}")
        assert reader.read("Back") == reader.read("Side") == f"{turn}"
        assert reader.read("Front") == "old"
    with second_phase(ender) as connection:
        getattr(connection, end)(xid, recover=True)
    prepared.remove(xid)
    expected = "new" if end == "commit_prepared" else "old"
    for worker in (two_phase, ender, reader):
        assert worker.read("Front") == expected
        worker.cache_manager.close()


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_prepared_announced_and_ended_by_another(two_phase: Worker, tmp_path: Path) -> None:
    """Whoever ends it need not announce it: until then checks ask."""
    one_host = OneHost(tmp_path / "announcements", clock=lambda: 0.0)
    writer = Worker(two_phase.database, freshness=one_host)
    reader = Worker(two_phase.database, freshness=one_host)
    announcements = reader.cache_manager.core.access.announcements
    assert announcements is not None
    two_phase.write("Front", "old")
    assert reader.read("Front") == "old"
    xid = prepare(writer, "new")
    for _ in range(4):
        announcements._settle_at = 0.0
        assert reader.read("Front") == "old"
        assert announcements.state() is None
    with second_phase(two_phase) as connection:
        connection.commit_prepared(xid, recover=True)
    prepared.remove(xid)
    end = time.monotonic() + 30
    while announcements.state() is None and time.monotonic() < end:
        announcements._settle_at = 0.0
        assert reader.read("Front") == "new"
    assert announcements.state() is not None
    for worker in (reader, writer):
        worker.cache_manager.close()


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_prepared_after_its_slot_was_left(two_phase: Worker, tmp_path: Path) -> None:
    """It was open when that was asked for, and is not any more, and has not ended."""
    writer = Worker(two_phase.database, freshness=OneHost(tmp_path / "announcements"))
    asking = Worker(two_phase.database)
    announcements = writer.cache_manager.core.access.announcements
    assert announcements is not None
    access, ledger = asking.cache_manager.core.access, asking.cache_manager.core.ledger

    def settle() -> bool:
        """Whether what was left is settled."""
        announcements.settle(lambda known: access.run(lambda run: ledger.unsettled(run, known)))
        return not announcements._left

    def left(_: str) -> None:
        announcements._announce_in(announcements._slots).end(known=False)
        assert not settle()

    two_phase.write("Front", "old")
    with writer.engine.connect() as connection:
        transaction = connection.begin_twophase()
        put(connection, "Front", "new")
        del PageText(writer, "Front").text
        with gates(["commit: announced, not sent"], left):
            transaction.prepare()
        prepared.append(transaction.xid)
        assert [settle() for _ in range(3)] == [False] * 3
        transaction.commit()
        prepared.remove(transaction.xid)
    end = time.monotonic() + 30
    while not settle():  # somebody else may have something open
        assert time.monotonic() < end
    for worker in (asking, writer):
        worker.cache_manager.close()


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_two_phase_in_one_session(two_phase: Worker) -> None:
    """Both phases by the one who wrote: committed with and without a prepare, and rolled back."""
    reader = Worker(two_phase.database)
    two_phase.write("Front", "0")
    assert reader.read("Front") == two_phase.read("Front") == "0"
    for number, ends in enumerate([["prepare", "commit"], ["commit"]], 1):
        with two_phase.engine.connect() as connection, two_phase.cache_manager.request():
            transaction = connection.begin_twophase()
            put(connection, "Front", str(number))
            del PageText(two_phase, "Front").text
            assert PageText(two_phase, "Front").text == str(number)
            assert reader.read("Front") == str(number - 1)
            for end in ends:
                getattr(transaction, end)()
            assert PageText(two_phase, "Front").text == str(number)
        assert reader.read("Front") == two_phase.read("Front") == str(number)
    for ends in (["prepare", "rollback"], ["rollback"]):
        with two_phase.engine.connect() as connection, two_phase.cache_manager.request():
            transaction = connection.begin_twophase()
            put(connection, "Front", "never")
            del PageText(two_phase, "Front").text
            assert PageText(two_phase, "Front").text == "never"
            for end in ends:
                getattr(transaction, end)()
            assert PageText(two_phase, "Front").text == "2"
        assert reader.read("Front") == two_phase.read("Front") == "2"
    reader.cache_manager.close()


@pytest.mark.on("postgresql", "mariadb")
def test_case_11_two_phase_session_of_the_orm(two_phase: Worker) -> None:
    """``Session(twophase=True)`` prepares and commits by itself."""
    reader = Worker(two_phase.database)
    two_phase.write("Front", "old")
    assert reader.read("Front") == "old"
    with Session(two_phase.engine, twophase=True) as session:
        session.execute(page.update().values(text="new"))
        del PageText(two_phase, "Front").text
        session.prepare()
        assert reader.read("Front") == "old"
        session.commit()
    assert reader.read("Front") == two_phase.read("Front") == "new"
    reader.cache_manager.close()
