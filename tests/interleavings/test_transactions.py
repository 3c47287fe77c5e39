"""Which transactions a `del` belongs to, and what ends while it looks."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from coherent_cache import cached
from coherent_cache.errors import InvalidationError
from coherent_cache.scope import Scope
from coherent_cache.transaction import Outcome, Transaction, _Level

from ..databases import Database
from ..hard_cases.support import Page
from ..schedules.schedule import Schedule
from ..workers import PageText, Worker, page, put


def _write_unseen(database: Database, text: str) -> None:
    with database.engine().begin() as connection:
        put(connection, "Front", text)


def elsewhere(other: Worker) -> str | None:
    """Read in another process: a thread with an empty context."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(other.read, "Front").result(30)


def _invalidate(worker: Worker) -> None:
    del PageText(worker, "Front").text


# 1: phantom


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize(
    ("end", "in_request"),
    # A rollback in a request takes what the request's other threads invalidate meanwhile along.
    [("commit", True), ("commit", False), ("rollback", False)],
)
def test_phantom_transaction(
    worker: Worker, other: Worker, schedule: Schedule, end: str, in_request: bool
) -> None:
    """Del of something committed elsewhere while another thread's session is just ending."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request() if in_request else contextlib.nullcontext():
        session = Session(worker.engine)
        session.execute(select(page)).all()
        contexts = [contextvars.copy_context() for _ in range(2)]
        _write_unseen(worker.database, "new")
        schedule(
            """
            committer  reaches  end: views told
            deleter    ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(getattr(session, end)),
        )
        session.close()
    assert elsewhere(other) == "new"


# 2: lost connection, del before the rollback


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("way", ["del", "given", "read", "connection"])
def test_del_after_a_lost_connection(worker: Worker, other: Worker, way: str) -> None:
    """It raises nothing; what it belongs to is the transaction that is lost."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    manager = worker.cache_manager
    with manager.request():
        session = Session(worker.engine)
        session.add(Page(name="x", text="", version=0))
        session.flush()
        connection = session.connection()
        with other.engine.connect() as killer:
            if worker.database.kind == "postgresql":
                pid = session.scalar(text("SELECT pg_backend_pid()"))
                killer.execute(text(f"SELECT pg_terminate_backend({pid})"))
            else:
                pid = session.scalar(text("SELECT CONNECTION_ID()"))
                killer.execute(text(f"KILL {pid}"))
        with pytest.raises(DBAPIError):
            session.execute(select(page)).all()
        _write_unseen(worker.database, "new")
        if way == "del":
            del PageText(worker, "Front").text
        elif way == "given":
            manager.invalidate(PageText(worker, "Front"), "text", session=session)
        elif way == "connection":
            manager.invalidate(PageText(worker, "Front"), "text", connection=connection)
        else:
            assert worker.wiki.names == {"Front"}
        session.rollback()
        session.close()


# 3: a session that has read from a replica


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("in_request", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_session_that_has_read_from_a_replica(
    database: Database, worker: Worker, other: Worker, in_request: bool, given: bool
) -> None:
    replica = database.engine()
    mine = Worker(database, replicas=[replica])

    other.write("Front", "old")
    _write_what_was_read_elsewhere(replica, mine, other, in_request=in_request, given=given)


def _write_what_was_read_elsewhere(
    reads: Any, mine: Worker, other: Worker, *, in_request: bool, given: bool
) -> None:
    """A session reads an object by the engine *reads*, and writes it by that of *mine*."""

    class Routing(Session):
        def get_bind(self, mapper: Any = None, *, clause: Any = None, **kwargs: Any) -> Any:
            if self._flushing or (clause is not None and clause.is_dml):
                return mine.engine
            return reads

    assert elsewhere(other) == "old"
    with mine.cache_manager.request() if in_request else contextlib.nullcontext():  # noqa: SIM117
        with Routing() as session:
            found = session.get(Page, "Front")
            found.text = "new"
            if given:
                mine.cache_manager.invalidate(PageText(mine, "Front"), "text", session=session)
            else:
                del PageText(mine, "Front").text
            assert elsewhere(other) == "old"
            session.commit()
    assert elsewhere(other) == "new"


# 4: a transaction that begins while the del looks around, another carries the key and rolls back


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
def test_one_that_begins_while_the_del_looks_around(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        beside = worker.engine.connect()
        beside.execute(select(page)).all()
        writer = worker.engine.connect()
        contexts = [contextvars.copy_context() for _ in range(2)]

        def write() -> None:
            writer.execute(page.update().values(text="new"))

        schedule(
            """
            deleter  reaches  del: transactions found, nothing pending
            writer   ends
            deleter  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            writer=lambda: contexts[1].run(write),
        )
        beside.rollback()
        writer.commit()
        writer.close()
        beside.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_one_that_begins_and_commits_around_a_lone_del(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """Nothing is open at the del; the writer begins, writes, and is about to COMMIT."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        writer = worker.engine.connect()
        contexts = [contextvars.copy_context() for _ in range(2)]

        def write() -> None:
            writer.execute(page.update().values(text="new"))
            worker.cache_manager.invalidate("another", connection=writer)
            writer.commit()

        schedule(
            """
            deleter  reaches  del: transactions found, nothing pending
            writer   reaches  commit: rows not written
            deleter  ends
            reader   ends
            writer   ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            writer=lambda: contexts[1].run(write),
            reader=lambda: other.read("Front"),
        )
        writer.close()
    assert elsewhere(other) == "new"


# 5: savepoints and a del of another thread


class _Manager:
    def __init__(self) -> None:
        self.access = self

    def stir(self) -> None:
        pass

    def committed(self, count: int) -> None:
        pass


def test_release_while_another_thread_dels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exactly between the copying of what is pending and the removal of the savepoint."""
    watch: Any = None
    transaction = Transaction(_Manager(), Scope(request=True), watch, None)
    transaction.savepoint("a")
    told = []

    def another_thread(self: _Level, keys: frozenset[str]) -> None:
        told.append(transaction.invalidate({"late"}))

    monkeypatch.setattr(_Level, "forget", another_thread)  # called between the two
    transaction.release("a")
    assert told == [True]
    assert transaction.close() == ["late"]


@pytest.mark.on("sqlite-wal", "sqlite-journal", "postgresql", "mariadb")
@pytest.mark.parametrize("what", ["begin_nested", "release"])
def test_a_del_while_another_thread_begins_or_ends_a_savepoint(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The deleter has taken the innermost level, and is interrupted by the other thread."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    core = worker.cache_manager.core
    with worker.cache_manager.request():
        connection = worker.engine.connect()
        connection.execute(page.update().values(text="new"))
        nested = connection.begin_nested() if what == "release" else None
        context = contextvars.copy_context()
        main = threading.get_ident()
        at, go = threading.Event(), threading.Event()
        stir = core.stir

        def stop() -> None:  # between the putting down of the keys and the question
            if threading.get_ident() != main and not at.is_set():
                at.set()
                assert go.wait(10)
            stir()

        monkeypatch.setattr(core, "stir", stop)
        with ThreadPoolExecutor(1) as pool:
            deleter = pool.submit(context.run, _invalidate, worker)
            assert at.wait(10)
            if nested is None:
                connection.begin_nested()
            else:
                nested.commit()
            go.set()
            deleter.result(30)  # the one who writes waits for his helper, and then commits
        reader = elsewhere(other) if worker.database.kind != "sqlite-journal" else None
        connection.commit()
        connection.close()
    assert reader in ("old", None)
    assert elsewhere(other) == "new"


# 6: late keys and the outcome UNKNOWN


def test_late_keys_of_an_unknown_outcome() -> None:
    watch: Any = None
    transaction = Transaction(_Manager(), Scope(request=True), watch, None)
    transaction.invalidate({"a"})
    transaction.close()
    assert not transaction.invalidate({"late"})
    assert transaction.end(Outcome.UNKNOWN) == ["late"]


@pytest.mark.on("postgresql", "mariadb")
def test_a_del_during_a_commit_whose_answer_is_lost(
    worker: Worker, other: Worker, schedule: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    # The answer to the COMMIT is lost: the dialect's own method, below ours.
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(page.update().values(text="new"))
        worker.cache_manager.invalidate("another", session=session)
        raw = session.connection().connection
        commit = raw.dbapi_connection.commit

        def lost() -> None:
            commit()
            raise worker.engine.dialect.loaded_dbapi.OperationalError(2013, "lost (a test)")

        from coherent_cache.writing import LedgerWriter

        monkeypatch.setattr(LedgerWriter, "commit_with", lambda *_: False)
        try:
            raw.dbapi_connection.commit = lost
        except AttributeError:
            pytest.skip("driver")
        contexts = [contextvars.copy_context() for _ in range(2)]

        def do() -> None:
            with contextlib.suppress(DBAPIError):
                session.commit()

        schedule(
            """
            committer  reaches  commit: rows written, not committed
            deleter    ends
            reader     ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(do),
            reader=lambda: other.read("Front"),
        )
        session.close()
    assert elsewhere(other) == "new"


# 7: two phases


@pytest.mark.on("mariadb")  # PostgreSQL here has max_prepared_transactions = 0
@pytest.mark.parametrize("in_request", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_a_del_between_the_phases(
    worker: Worker, other: Worker, in_request: bool, given: bool
) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request() if in_request else contextlib.nullcontext():  # noqa: SIM117
        with worker.engine.connect() as connection:
            transaction = connection.begin_twophase()
            connection.execute(page.update().values(text="new"))
            transaction.prepare()
            if given:
                worker.cache_manager.invalidate(
                    PageText(worker, "Front"), "text", connection=connection
                )
            else:
                del PageText(worker, "Front").text
            assert elsewhere(other) == "old"
            transaction.commit()
    assert elsewhere(other) == "new"


# 8: text("COMMIT")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("in_request", [True, False])
def test_a_del_after_a_commit_that_is_text(worker: Worker, other: Worker, in_request: bool) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request() if in_request else contextlib.nullcontext():  # noqa: SIM117
        with worker.engine.connect() as connection:
            put(connection, "Front", "new")
            connection.execute(text("COMMIT"))
            del PageText(worker, "Front").text
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("where", ["commit: rows written, not committed", "it is not sent"])
def test_a_del_during_another_threads_commit_that_is_text(
    worker: Worker, other: Worker, schedule: Schedule, where: str
) -> None:
    @event.listens_for(worker.engine, "do_execute")
    def do_execute(cursor: Any, statement: str, parameters: Any, context: Any) -> None:
        if statement == "COMMIT":
            schedule.at("it is not sent")

    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        connection = worker.engine.connect()
        connection.execute(page.update().values(text="new"))
        worker.cache_manager.invalidate("another", connection=connection)
        contexts = [contextvars.copy_context() for _ in range(2)]

        def commit() -> None:
            connection.execute(text("COMMIT"))

        schedule(
            f"""
            committer  reaches  {where}
            deleter    ends
            reader     ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(commit),
            reader=lambda: other.read("Front"),
        )
        connection.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("mariadb")
def test_a_del_during_another_threads_ddl(
    worker: Worker, other: Worker, schedule: Schedule
) -> None:
    """A statement before which MariaDB commits, unless it fails."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        connection = worker.engine.connect()
        connection.execute(page.update().values(text="new"))
        worker.cache_manager.invalidate("another", connection=connection)
        contexts = [contextvars.copy_context() for _ in range(2)]

        def create() -> None:
            connection.execute(text("CREATE TABLE created (id INT)"))

        schedule(
            """
            committer  reaches  commit: rows written, not committed
            deleter    ends
            reader     ends
            committer  ends
            """,
            deleter=lambda: contexts[0].run(_invalidate, worker),
            committer=lambda: contexts[1].run(create),
            reader=lambda: other.read("Front"),
        )
        assert elsewhere(other) == "new"
        connection.close()


# 9: a transaction that has failed, and is "committed"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("way", ["commit", "text"])
@pytest.mark.parametrize("dels", [False, True])
def test_commit_of_a_failed_transaction(worker: Worker, way: str, dels: bool) -> None:
    worker.write("Front", "old")
    manager = worker.cache_manager
    with manager.request(), worker.engine.connect() as connection:
        put(connection, "Front", "new")
        if dels:
            del PageText(worker, "Front").text
        assert manager.get("k", lambda: connection.scalar(select(page.c.text))) == "new"
        with pytest.raises(DBAPIError):
            connection.execute(text("SELECT 1/0"))
        if way == "commit":
            connection.commit()
        else:
            connection.execute(text("COMMIT"))
        assert manager.get("k", lambda: connection.scalar(select(page.c.text))) == "old"
    assert worker.read("Front") == "old"


# 10: a read-only transaction beside


@pytest.mark.on("postgresql", "mariadb")
def test_a_read_only_transaction_beside(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        reading = worker.engine.connect()
        if worker.database.kind == "postgresql":
            reading = reading.execution_options(postgresql_readonly=True)
        else:
            reading.execute(text("SET TRANSACTION READ ONLY"))
        reading.execute(select(page)).all()
        if worker.database.kind == "mariadb":
            reading.execute(text("START TRANSACTION READ ONLY"))
        with worker.engine.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
        assert reading.execute(select(page)).all()
        reading.commit()
        reading.close()
    assert elsewhere(other) == "new"


READ_ONLY = {
    "postgresql": "SET TRANSACTION READ ONLY",
    "mariadb": "START TRANSACTION READ ONLY",
    "sqlite-wal": "PRAGMA query_only=ON",
}


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit", "text", "log"])
def test_del_in_a_read_only_transaction_alone(worker: Worker, other: Worker, end: str) -> None:
    """What it was meant for was committed elsewhere: it is made when the transaction has ended."""
    kind = worker.database.kind
    reader = Worker(worker.database, engine=worker.database.engine(pool_size=1, echo=end == "log"))
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with reader.engine.connect() as connection:
        connection.exec_driver_sql(READ_ONLY[kind])
        connection.execute(select(page)).all()
        _write_unseen(worker.database, "new")
        del PageText(reader, "Front").text
        assert elsewhere(other) == "old"
        if end == "text":
            connection.execute(text("COMMIT"))
        else:
            connection.commit()
        if kind == "sqlite-wal":
            connection.exec_driver_sql("PRAGMA query_only=OFF")
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal")
def test_del_in_a_savepoint_that_is_a_read_only_transaction(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.connect() as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        savepoint = connection.begin_nested()
        connection.exec_driver_sql(READ_ONLY["sqlite-wal"])
        connection.execute(select(page)).all()
        _write_unseen(worker.database, "new")
        del PageText(worker, "Front").text
        assert elsewhere(other) == "old"
        savepoint.commit()
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        assert elsewhere(other) == "new"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("end", ["commit", "rollback"])
@pytest.mark.parametrize("way", ["connection", "session", "waiting"])
def test_del_in_a_transaction_that_is_known_to_read(
    worker: Worker, other: Worker, way: str, end: str
) -> None:
    """SQLAlchemy's execution option: the driver knows, so nothing waits for such a transaction."""
    engine = worker.engine.execution_options(postgresql_readonly=True)
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    holder: Any = engine.connect() if way == "connection" else Session(engine)
    if way != "waiting":
        holder.execute(select(page)).all()
    else:
        holder.begin()
    _write_unseen(worker.database, "new")
    del PageText(worker, "Front").text
    if way == "waiting":
        holder.execute(select(page)).all()
        holder.commit() if end == "commit" else holder.rollback()
    assert elsewhere(other) == "new"
    holder.commit() if end == "commit" else holder.rollback()
    holder.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql")
def test_a_transaction_that_reads_only_from_now_on(worker: Worker, other: Worker) -> None:
    """What it has written before is not committed without its keys."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION write_it() RETURNS int LANGUAGE sql AS "
                "$$ UPDATE page SET text = 'new'; SELECT 1 $$"
            )
        )
    with worker.engine.connect() as connection:
        connection.execute(text("SELECT write_it()")).all()
        connection.execute(text("SET TRANSACTION READ ONLY"))
        del PageText(worker, "Front").text
        with pytest.raises(InvalidationError, match="read-only"):
            connection.commit()
    assert worker.read("Front") == elsewhere(other) == "old"


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("writes_first", [True, False])
def test_a_transaction_beside_that_is_older(
    worker: Worker, other: Worker, writes_first: bool
) -> None:
    """On SQLite nothing can be written any more on a snapshot that is not the newest."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        reading = worker.engine.connect()
        reading.exec_driver_sql("BEGIN")
        reading.execute(select(page)).all()
        if writes_first:
            _write_unseen(worker.database, "newer")
        with worker.engine.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
        reading.commit()
        reading.close()
    assert elsewhere(other) == "new"


# 12: session waiting, begins meanwhile


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("taken", ["between", "before"])
def test_session_begins_on_a_connection_while_the_del_waits(
    worker: Worker, other: Worker, taken: str
) -> None:
    """SessionWatch.invalidate: the set is got, `after_begin` takes it, the keys are put in it."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    sessions = worker.cache_manager._sessions
    (key,) = PageText.text.keys_of(PageText(worker, "Front"))
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.begin()

        def keys() -> Any:
            session.execute(page.update().values(text="new"))  # the other thread
            yield key

        given: Any = keys() if taken == "between" else list(keys())
        assert sessions.invalidate(session, given)
        session.commit()
        session.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_a_healthy_transaction_beside_a_lost_connection(worker: Worker, other: Worker) -> None:
    """The request's session has lost its connection and was not rolled back yet; a transaction of
    another connection writes, invalidates and commits."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(select(page)).all()
        session.connection().invalidate()  # as a lost connection is
        try:
            with worker.engine.begin() as connection:
                put(connection, "Front", "new")
                del PageText(worker, "Front").text
        finally:
            session.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql", "mariadb")
def test_a_read_beside_a_lost_connection(worker: Worker, other: Worker) -> None:
    """A cached value that is computed on a connection of its own."""
    worker.write("Front", "old")
    engine = worker.engine
    manager = worker.cache_manager

    def retriever() -> str | None:
        with engine.connect() as connection:
            return connection.scalar(select(page.c.text))

    with manager.request():
        session = Session(engine)
        found = session.get(Page, "Front")
        session.connection().invalidate()
        try:
            assert manager.get("a key", retriever) == "old"
        finally:
            session.close()
        del found


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("way", ["session", "engine", "manager"])
def test_session_that_was_never_used_beside_an_open_one(
    worker: Worker, other: Worker, way: str
) -> None:
    """guarantees.md: "In a request the next transaction that writes carries the key as well"."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        reading = Session(worker.engine)
        reading.execute(select(page)).all()
        del PageText(worker, "Front").text
        if way == "session":
            with Session(worker.engine) as session:
                session.execute(page.update().values(text="new"))
                session.commit()
        else:
            block = worker.engine if way == "engine" else worker.cache_manager
            with block.begin() as connection:
                connection.execute(page.update().values(text="new"))
        reading.close()  # as the framework does at the end of the request
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit", "text"])
def test_session_that_was_never_used_after_one_that_has_read(
    worker: Worker, other: Worker, end: str
) -> None:
    """The one that carried the key has only read, and ends before the other begins."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        with worker.engine.connect() as reading:
            reading.execute(select(page)).all()
            del PageText(worker, "Front").text
            reading.commit() if end == "commit" else reading.execute(text("COMMIT"))
        assert elsewhere(other) == "old"
        with Session(worker.engine) as session:
            session.execute(page.update().values(text="new"))
            session.commit()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql")
def test_unclaimed_and_a_function_that_writes_and_a_commit_that_is_text(
    worker: Worker, other: Worker
) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.begin() as connection:
        connection.execute(
            text(
                "CREATE FUNCTION write_it() RETURNS int LANGUAGE sql AS "
                "$$ UPDATE page SET text = 'new'; SELECT 1 $$"
            )
        )
    with worker.cache_manager.request():
        del PageText(worker, "Front").text
        assert elsewhere(other) == "old"
        with worker.engine.connect() as connection:
            connection.execute(text("SELECT write_it()")).all()
            connection.execute(text("COMMIT"))
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_the_views_are_told_too_late(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A nested request of another thread: the outer one's transaction ends after the del found it
    near, before it let it know its view."""
    from coherent_cache import invalidation

    worker.write("Front", "old")
    manager = worker.cache_manager
    assert worker.read("Front") == "old"
    assert manager.get("in the store", lambda: 1) == 1
    with manager.request():
        session = Session(worker.engine)
        session.execute(page.update().values(text="new"))
        context = contextvars.copy_context()
        at, go = threading.Event(), threading.Event()
        real = invalidation.views_around
        main = threading.get_ident()

        def stop(core: Any) -> Any:
            if threading.get_ident() != main:
                at.set()
                assert go.wait(10)
            return real(core)

        def deleter() -> str | None:
            with manager.request():
                assert manager.get("in the store", lambda: 1) == 1  # has looked
                monkeypatch.setattr(invalidation, "views_around", stop)
                del PageText(worker, "Front").text
                return PageText(worker, "Front").text

        with ThreadPoolExecutor(1) as pool:
            found = pool.submit(context.run, deleter)
            assert at.wait(10)
            session.commit()
            go.set()
            assert found.result(30) == "new"


@pytest.mark.thorough
@pytest.mark.on("sqlite-wal", "postgresql")
def test_stress_of_real_dels(worker: Worker) -> None:
    worker.write("Front", "old")
    errors: list[BaseException] = []
    with worker.cache_manager.request():
        keep = worker.engine.connect()
        keep.execute(select(page)).all()  # carries the keys
        session = Session(worker.engine)
        contexts = [contextvars.copy_context() for _ in range(2)]
        end = time.monotonic() + 15

        def use() -> None:
            try:
                while time.monotonic() < end and not errors:
                    session.execute(select(page)).all()
                    session.rollback()
            except BaseException as error:
                errors.append(error)

        def dels() -> None:
            try:
                while time.monotonic() < end and not errors:
                    worker.cache_manager.invalidate("k")
            except BaseException as error:
                errors.append(error)

        threads = [
            threading.Thread(target=contexts[0].run, args=(use,)),
            threading.Thread(target=contexts[1].run, args=(dels,)),
        ]
        before = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.setswitchinterval(before)
        session.close()
        keep.close()
    if errors:
        raise errors[0]


@pytest.mark.on("sqlite-wal", "postgresql")
def test_a_del_while_another_threads_connection_closes(worker: Worker, other: Worker) -> None:
    """Between the question whether it is closed and the one for the pool's connection."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        session = Session(worker.engine)
        session.execute(select(page)).all()
        connection = session.connection()
        context = contextvars.copy_context()
        _write_unseen(worker.database, "new")
        main = threading.get_ident()
        at, go = threading.Event(), threading.Event()
        real = type(connection).in_transaction

        class Stopping(type(connection)):  # type: ignore[misc]
            def in_transaction(self) -> bool:
                found = real(self)
                if threading.get_ident() != main and not at.is_set():
                    at.set()
                    assert go.wait(10)
                return found

        connection.__class__ = Stopping
        with ThreadPoolExecutor(1) as pool:
            deleter = pool.submit(context.run, _invalidate, worker)
            assert at.wait(10)
            session.commit()
            go.set()
            deleter.result(30)
        session.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("in_request", [True, False])
@pytest.mark.parametrize("given", [True, False])
def test_session_that_reads_in_autocommit(
    worker: Worker, other: Worker, in_request: bool, given: bool
) -> None:
    """SQLAlchemy's recipe: one session reads by an engine in autocommit mode, and writes by
    another that shares its pool."""
    reading = worker.engine.execution_options(isolation_level="AUTOCOMMIT")

    worker.write("Front", "old")
    _write_what_was_read_elsewhere(reading, worker, other, in_request=in_request, given=given)


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("in_request", [True, False])
@pytest.mark.parametrize("end", ["commit", "rollback", "close"])
def test_session_in_autocommit_that_had_no_connection(
    worker: Worker, other: Worker, in_request: bool, end: str
) -> None:
    engine = worker.engine.execution_options(isolation_level="AUTOCOMMIT")
    assert other.wiki.names == frozenset()
    with worker.cache_manager.request() if in_request else contextlib.nullcontext():
        session = Session(engine)
        session.add(Page(name="a", text="", version=0))
        del worker.wiki.names
        session.flush()  # which commits
        getattr(session, end)()
        session.close()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: other.wiki.names).result() == {"a"}


@pytest.mark.on("postgresql", "mariadb")
def test_after_a_rollback_that_is_text(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.connect() as connection:
        connection.execute(select(page)).all()
        connection.execute(text("ROLLBACK"))
        _write_unseen(worker.database, "new")
        del PageText(worker, "Front").text
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_savepoint_of_a_session_that_is_not_sent_yet(
    worker: Worker, other: Worker, end: str
) -> None:
    """Case 4: a `del` inside a savepoint that rolls back invalidates nothing."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    loads = other.cache_manager.statistics.loads
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.execute(select(page)).all()
        nested = session.begin_nested()
        session.add(Page(name="x", text="", version=0))
        del PageText(worker, "Front").text
        getattr(nested, end)()
        session.commit()
    assert elsewhere(other) == "old"
    assert other.cache_manager.statistics.loads == loads + (end == "commit")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("dels", [False, True])
def test_a_value_of_a_savepoint_that_is_not_sent_yet(
    worker: Worker, flushes: bool, dels: bool
) -> None:
    """A value computed from what was changed in `begin_nested`, which is rolled back."""
    worker.write("Front", "old")
    manager = worker.cache_manager
    with manager.request(), Session(worker.engine) as session:
        found = session.get(Page, "Front")
        nested = session.begin_nested()
        found.text = "new"
        if dels:
            manager.invalidate("k")
        if flushes:
            session.flush()
        assert manager.get("k", lambda: found.text) == "new"
        nested.rollback()
        assert found.text == "old"
        assert manager.get("k", lambda: found.text) == "old"
        session.commit()
        assert manager.get("k", lambda: found.text) == "old"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("dels", [False, True])
def test_a_value_of_a_session_that_had_nothing_flushed(worker: Worker, dels: bool) -> None:
    manager = worker.cache_manager
    with manager.request(), Session(worker.engine) as session:
        session.begin()
        session.add(Page(name="a", text="", version=0))
        if dels:
            manager.invalidate("k")
        assert manager.get("k", lambda: len(session.new)) == 1
        session.rollback()
        assert manager.get("k", lambda: len(session.new)) == 0


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("way", ["connection", "session", "new session", "objects"])
def test_a_write_beside_a_savepoint_that_is_not_sent_yet(
    worker: Worker, other: Worker, when: str, way: str
) -> None:
    """Not by the session that has begun it: the database takes it for no part of it."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        put(connection, "Other", "")  # else a key is left for the next that writes
        session, second = Session(connection), Session(connection)
        session.execute(select(page)).all()
        if way == "session":
            second.execute(select(page)).all()
        found = second.get(Page, "Front") if way == "objects" else None
        nested = session.begin_nested()

        def write() -> None:
            (connection if way == "connection" else second).execute(
                page.update().values(text="new")
            )

        if when == "before" and way != "objects":
            write()
        if found is not None:  # what is flushed later
            found.text = "new"
        del PageText(worker, "Front").text
        if when == "after" and way != "objects":
            write()
        nested.rollback()
        session.commit()
        second.commit()
        connection.commit()
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_savepoint_in_one_that_is_not_sent_yet(worker: Worker, other: Worker, end: str) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    loads = other.cache_manager.statistics.loads
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.execute(select(page)).all()
        outer = session.begin_nested()
        inner = session.begin_nested()
        del PageText(worker, "Front").text
        inner.commit()
        getattr(outer, end)()
        session.commit()
    assert elsewhere(other) == "old"
    assert other.cache_manager.statistics.loads == loads + (end == "commit")


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("has_begun", [False, True])
@pytest.mark.parametrize("end", ["rollback", "close", "inner rollback", "commit"])
def test_a_value_of_savepoints_that_are_not_sent_yet(
    worker: Worker, has_begun: bool, end: str
) -> None:
    """Also of what was computed from it, and of what the view has memorised."""

    class Pages:
        env = worker

        @cached
        def count(self) -> int:
            return len(session.new)

        @cached
        def tenfold(self) -> int:
            return self.count * 10

    pages = Pages()
    with worker.cache_manager.request(), Session(worker.engine) as session:
        session.begin()
        if has_begun:
            session.execute(select(page)).all()
        outer = session.begin_nested()
        inner = session.begin_nested()
        session.add(Page(name="a", text="", version=0))
        for _ in range(3):
            assert (pages.tenfold, pages.count) == (10, 1)
        if end == "inner rollback":
            inner.rollback()
            assert (pages.tenfold, pages.count) == (0, 0)
            outer.commit()
        else:
            inner.commit()
            assert (pages.tenfold, pages.count) == (10, 1)
            getattr(session, end)()
        expected = 1 if end == "commit" else 0
        assert (pages.tenfold, pages.count) == (10 * expected, expected)


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("nested", [False, True])
def test_a_value_of_objects_that_could_not_be_flushed(worker: Worker, nested: bool) -> None:
    worker.write("Front", "old")
    manager = worker.cache_manager
    with manager.request(), Session(worker.engine) as session:
        session.begin()
        if nested:
            session.begin_nested()
        session.add(Page(name="Front", text="", version=0))
        assert manager.get("k", lambda: len(session.new)) == 1
        with pytest.raises(DBAPIError):
            session.flush()
        assert manager.get("k", lambda: len(session.new)) == 0


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("has_begun", [False, True])
def test_a_value_of_a_session_within_a_transaction(worker: Worker, has_begun: bool) -> None:
    """The session's COMMIT is none; what it has flushed is rolled back by the Connection."""
    manager = worker.cache_manager
    with manager.request(), worker.engine.connect() as connection:
        connection.begin()
        session = Session(connection)
        if has_begun:
            session.execute(select(page)).all()
        session.add(Page(name="a", text="", version=0))

        def read() -> Any:
            return manager.get("k", lambda: bool(session.new or session.identity_map))

        assert read()
        session.commit()
        assert read()
        connection.rollback()
        session.close()
        assert not read()


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("commits", [False, True])
def test_a_value_of_a_session_that_is_closed_within_a_transaction(
    worker: Worker, commits: bool
) -> None:
    manager = worker.cache_manager
    with manager.request(), worker.engine.connect() as connection:
        connection.begin()
        session = Session(connection)
        session.execute(select(page)).all()
        session.add(Page(name="a", text="", version=0))
        assert manager.get("k", lambda: len(session.new)) == 1
        if commits:
            connection.commit()
            assert manager.get("k", lambda: len(session.new)) == 1
        session.close()
        assert manager.get("k", lambda: len(session.new)) == 0
        connection.commit()
        assert manager.get("k", lambda: len(session.new)) == 0


@pytest.mark.on("sqlite-wal")
def test_rolled_back_before_the_value_is_kept(worker: Worker, schedule: Schedule) -> None:
    manager = worker.cache_manager
    with manager.request():
        session = Session(worker.engine)
        contexts = [contextvars.copy_context() for _ in range(2)]

        def read() -> Any:
            session.add(Page(name="a", text="", version=0))
            return manager.get("k", lambda: len(session.new))

        played = schedule(
            """
            reader  reaches  view: value found, not kept
            roller  ends
            reader  ends
            """,
            reader=lambda: contexts[0].run(read),
            roller=lambda: contexts[1].run(session.rollback),
        )
        assert played["reader"] == 1
        assert manager.get("k", lambda: len(session.new)) == 0


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("way", ["session", "savepoint", "savepoint of one that has begun"])
def test_async_a_value_of_a_session_that_had_nothing_flushed(worker: Worker, way: str) -> None:
    import asyncio

    from sqlalchemy.ext.asyncio import AsyncSession

    from coherent_cache import CacheManager

    async def main() -> None:
        engine = worker.database.async_engine()
        manager = CacheManager(engine)
        async with AsyncSession(engine) as session:

            async def retriever() -> int:
                return len(session.new)

            with manager.request():
                await session.begin()
                if "begun" in way:
                    await session.execute(select(page))
                undone: Any = await session.begin_nested() if "savepoint" in way else session
                session.add(Page(name="a", text="", version=0))
                assert await manager.aget("k", retriever) == 1
                await undone.rollback()
                assert await manager.aget("k", retriever) == 0
                await session.commit()
                assert await manager.aget("k", retriever) == 0
        await manager.aclose()
        await engine.dispose()

    asyncio.run(main())


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("way", ["connection", "session"])
@pytest.mark.parametrize("in_request", [True, False])
def test_a_reset_of_the_applications_own(
    database: Database, worker: Worker, other: Worker, way: str, in_request: bool
) -> None:
    """SQLAlchemy's recipe: pool_reset_on_return=None and a listener of "reset", which rolls back by
    the driver; a Connection that is garbage-collected."""
    engine = database.engine(pool_reset_on_return=None)

    @event.listens_for(engine, "reset")
    def reset(dbapi_connection: Any, record: Any, state: Any) -> None:
        dbapi_connection.rollback()

    mine = Worker(database, engine=engine)
    other.write("Front", "old")
    with mine.cache_manager.request() if in_request else contextlib.nullcontext():
        holder: Any = engine.connect() if way == "connection" else Session(engine)
        holder.execute(page.update().values(text="never"))
        del PageText(mine, "Front").text
        assert PageText(mine, "Front").text == "never"
        del holder
        gc.collect()
        assert PageText(mine, "Front").text == "old"


@pytest.mark.on("postgresql", "mariadb", "sqlite-wal")
def test_a_connection_of_others_that_is_collected_here(worker: Worker, other: Worker) -> None:
    """The garbage collector runs in a thread of this request, and finds a Connection that another
    request has left in a cycle."""
    worker.write("Front", "old")
    manager = worker.cache_manager
    assert elsewhere(worker) == "old"

    def leak() -> None:
        with manager.request():
            connection = worker.engine.connect()
            connection.execute(select(page)).all()
            del PageText(worker, "Front").text
            cycle: Any = [connection]
            cycle.append(cycle)

    gc.collect()
    gc.disable()
    try:
        with manager.request():
            assert PageText(worker, "Front").text == "old"
            with ThreadPoolExecutor(1) as pool:
                pool.submit(leak).result()
            # another process commits, and another request here looks
            with ThreadPoolExecutor(1) as pool:
                pool.submit(other.write, "Front", "new").result()
            assert elsewhere(worker) == "new"
            assert PageText(worker, "Front").text == "old"  # its one value
            gc.collect()
            assert PageText(worker, "Front").text == "old"
    finally:
        gc.enable()


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_a_del_in_a_nested_request_and_a_write_after_it(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.cache_manager.request():
        with worker.cache_manager.request():
            del PageText(worker, "Front").text
        assert elsewhere(other) == "old"
        with Session(worker.engine) as session:
            session.execute(page.update().values(text="new"))
            session.commit()
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal", "postgresql")
def test_given_a_session_that_will_join_an_open_transaction(worker: Worker, other: Worker) -> None:
    """SQLAlchemy's recipe for test suites: a session on a Connection whose transaction is open."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.connect() as connection:
        connection.execute(page.update().values(text="new"))
        session = Session(connection)
        worker.cache_manager.invalidate(PageText(worker, "Front"), "text", session=session)
        session.execute(page.update().values(text="newer"))
        session.commit()
        connection.commit()
        session.close()
    assert elsewhere(other) == "newer"


@pytest.mark.on("sqlite-wal", "postgresql")
def test_given_a_session_that_commits_nothing_in_an_open_transaction(
    worker: Worker, other: Worker
) -> None:
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.connect() as connection:
        connection.execute(page.update().values(text="new"))
        session = Session(connection)
        session.begin()
        worker.cache_manager.invalidate(PageText(worker, "Front"), "text", session=session)
        session.commit()
        connection.commit()
        session.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("has_begun", [False, True])
def test_given_a_session_that_joins_no_more(worker: Worker, other: Worker, has_begun: bool) -> None:
    """The transaction that it would have joined ends before."""
    worker.write("Front", "old")
    assert elsewhere(other) == "old"
    with worker.engine.connect() as connection:
        connection.execute(select(page)).all()
        session = Session(connection)
        if has_begun:
            session.begin()
        worker.cache_manager.invalidate(PageText(worker, "Front"), "text", session=session)
        connection.commit()
        assert elsewhere(other) == "old"
        session.execute(page.update().values(text="new"))
        session.commit()
        connection.commit()
        session.close()
    assert elsewhere(other) == "new"


@pytest.mark.on("postgresql")
def test_a_read_does_not_wait_for_the_session_of_another_thread(worker: Worker) -> None:
    """A request of two threads.  One has locked a row; the other one's session waits for that row
    in the server; the first computes a cached value, and then would commit."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    manager = worker.cache_manager
    engine = worker.engine

    def retriever() -> str | None:
        with engine.connect() as connection:
            return connection.scalar(select(page.c.text).where(page.c.name == "Back"))

    with manager.request():
        begun = threading.Event()
        context = contextvars.copy_context()

        def use() -> None:
            with Session(engine) as session:
                found = session.get(Page, "Back")
                begun.set()
                session.execute(page.update().where(page.c.name == "Front").values(text="two"))
                session.commit()
                del found

        with ThreadPoolExecutor(2) as pool:
            holder = engine.connect()
            holder.execute(page.update().where(page.c.name == "Front").values(text="one"))
            user = pool.submit(context.run, use)
            assert begun.wait(10)
            time.sleep(0.5)  # it waits for the row now
            reader = pool.submit(contextvars.copy_context().run, manager.get, "k", retriever)
            try:
                assert reader.result(8) == "old"  # nobody but this one would commit
            finally:
                holder.commit()
                holder.close()
                user.result(30)
                reader.result(30)


@pytest.mark.on("postgresql")
def test_a_read_does_not_wait_for_the_session_of_another_task(worker: Worker) -> None:
    """The same with two tasks of a request."""
    import asyncio

    from sqlalchemy.ext.asyncio import AsyncSession

    from coherent_cache import CacheManager

    worker.write("Front", "old")
    worker.write("Back", "old")

    async def main() -> None:
        engine = worker.database.async_engine()
        manager = CacheManager(engine)

        async def retriever() -> str | None:
            async with engine.connect() as connection:
                return await connection.scalar(select(page.c.text).where(page.c.name == "Back"))

        async def use() -> None:
            async with AsyncSession(engine) as session:
                found = await session.get(Page, "Back")
                await session.execute(
                    page.update().where(page.c.name == "Front").values(text="two")
                )
                await session.commit()
                del found

        with manager.request():
            async with engine.connect() as holder:
                await holder.execute(page.update().where(page.c.name == "Front").values(text="one"))
                user = asyncio.create_task(use())
                await asyncio.sleep(0.5)
                try:
                    found = await asyncio.wait_for(manager.aget("k", retriever), 8)
                finally:
                    await holder.commit()
                    await user
        await manager.aclose()
        await engine.dispose()
        assert found == "old"

    asyncio.run(main())
