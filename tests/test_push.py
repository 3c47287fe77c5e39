"""Push: a thread hears of other processes' commits and looks, so that requests ask nothing.

What is heard is waited for at the store; the bound is that of a clock which stands until it is set.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import queue
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import create_async_engine

from coherent_cache import Bounded, CacheManager, ConfigurationError, Push, listener
from coherent_cache.listener import channel
from coherent_cache.side import SideConnection, connect_beside

from .children import fork
from .databases import Database
from .test_freshness import Clock
from .workers import PageText, Worker

pytestmark = pytest.mark.on("postgresql")

#: Seconds in which nothing but a notification can be what wakes a listener.
LONG = 1_000.0
#: How long something is waited for at most.
PATIENCE = 10.0
THREAD = "coherent_cache listening"


class Pushed(Worker):
    """A worker with `Push`, whose looks are seen."""

    def __init__(self, database: Database, seconds: float = LONG, **options: Any) -> None:
        super().__init__(database, freshness=Push(seconds, **options))
        #: The thread and the keys of each look that was applied.
        self.looks: queue.SimpleQueue[tuple[str, frozenset[str]]] = queue.SimpleQueue()
        store = self.cache_manager.core.store
        apply, looks = store.apply, self.looks

        def seen(news: Any) -> None:
            apply(news)
            looks.put((threading.current_thread().name, news.keys))

        store.apply = seen  # type: ignore[method-assign]

    def listen(self) -> None:
        """Be past the first look of the thread: from here on it hears what is said."""
        self.read("Front")
        self.until_the_thread_looks()

    def until_the_thread_looks(self, key: str = "") -> None:
        """Wait for a look of the thread that brought *key*."""
        while True:
            thread, keys = self.looks.get(timeout=PATIENCE)
            if thread == THREAD and (not key or any(key in each for each in keys)):
                return

    @property
    def listener(self) -> Any:
        return self.cache_manager.core.access._listener

    @property
    def thread(self) -> Any:
        return self.listener._thread

    @property
    def connection(self) -> Any:
        return self.listener._line.connection


@pytest.fixture
def reader(worker: Worker) -> Iterator[Pushed]:
    """It has read "old" and listens."""
    worker.write("Front", "old")
    made = Pushed(worker.database)
    made.listen()
    yield made
    made.cache_manager.close()


@pytest.fixture
def writer(worker: Worker) -> Iterator[Pushed]:
    made = Pushed(worker.database)
    yield made
    made.cache_manager.close()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The threads that sent a statement to the ledger, one name for each statement."""
    found: list[str] = []
    run = SideConnection.run

    def counted(self: SideConnection, statement: str, parameters: Any) -> Any:
        found.append(threading.current_thread().name)
        return run(self, statement, parameters)

    monkeypatch.setattr(SideConnection, "run", counted)
    return found


class Outage:
    """A listener finds no connection, until `over`."""

    def __init__(self) -> None:
        self.met = threading.Event()
        self.over = threading.Event()

    def connect(self, engine: Any) -> Any:
        if not self.over.is_set():
            self.met.set()
            raise OperationalError("connect", {}, Exception("nobody is there"))
        return connect_beside(engine)


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    made = Outage()
    monkeypatch.setattr(listener, "connect_beside", made.connect)
    monkeypatch.setattr(listener, "_AGAIN_SECONDS", 0.01)
    return made


def end(worker: Worker, pid: int) -> None:
    with worker.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


# Fresh without asking


def test_an_idle_process_becomes_fresh(reader: Pushed, writer: Pushed, asked: list[str]) -> None:
    for number in range(3):
        writer.write("Front", str(number))
        reader.until_the_thread_looks("Front")
        asked.clear()
        assert reader.read("Front") == str(number)
        assert "MainThread" not in asked


def test_an_invalidation_without_a_transaction_is_told(reader: Pushed, writer: Pushed) -> None:
    writer.cache_manager.invalidate("something")
    reader.until_the_thread_looks("something")


def test_requests_ask_nothing(reader: Pushed, asked: list[str]) -> None:
    statements: list[str] = []

    def count(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(statement)

    event.listen(reader.engine, "before_cursor_execute", count)
    for _ in range(20):
        assert reader.read("Front") == "old"
    assert asked == statements == []


def test_own_commits_are_seen_at_once(reader: Pushed) -> None:
    for number in range(3):
        reader.write("Front", str(number))
        assert reader.read("Front") == str(number)


def test_a_writer_that_tells_nobody(worker: Worker) -> None:
    """The heartbeat finds what it committed."""
    reader = Pushed(worker.database, 0.1)
    reader.listen()
    worker.write("Front", "new")
    reader.until_the_thread_looks("Front")
    reader.cache_manager.close()


def test_many_commits_are_told_once(worker: Worker, writer: Pushed) -> None:
    """And outside of their transactions, which is what would cost them."""
    writer.listen()
    store = writer.cache_manager.core.store
    apply = store.apply
    held, go_on = threading.Event(), threading.Event()

    def hold(news: Any) -> None:
        apply(news)
        if threading.current_thread().name == THREAD:
            held.set()
            go_on.wait(PATIENCE)

    store.apply = hold  # type: ignore[method-assign]
    writer.write("Front", "first")
    assert held.wait(PATIENCE)
    ear = connect_beside(worker.engine)
    worker.engine.dialect.set_isolation_level(ear, "AUTOCOMMIT")
    name = channel(writer.cache_manager.core.tables)
    heard: list[str] = []
    ear.add_notify_handler(lambda said: heard.append(said.payload))
    ear.execute(f"LISTEN {name}")
    for number in range(20):
        writer.write("Front", str(number))
    go_on.set()
    while writer.listener._line.to_tell:
        writer.until_the_thread_looks()
    writer.cache_manager.close()  # the thread has ended
    ear.execute(f"NOTIFY {name}, 'end'")
    while "end" not in heard:
        ear.execute("SELECT 1")
    assert heard == ["", "end"]
    ear.close()


@pytest.mark.parametrize("schema", [None, "elsewhere"])
def test_tables_are_told_apart(worker: Worker, schema: str | None) -> None:
    here = worker.cache_manager.core.tables
    there = CacheManager(worker.engine, table="cache" if schema else "other", schema=schema)
    assert channel(here) != channel(there.core.tables)


def test_several_processes(worker: Worker) -> None:
    worker.write("Front", "old")
    ready, told = os.pipe()

    def child() -> Any:
        reader = Pushed(worker.database)
        reader.listen()
        os.write(told, b"x")
        reader.until_the_thread_looks("Front")
        return reader.read("Front"), reader.cache_manager.statistics.loads

    children = [fork(child) for _ in range(2)]
    for _ in children:
        assert os.read(ready, 1)
    writer = Pushed(worker.database)
    writer.write("Front", "new")
    assert [each.join() for each in children] == [("new", 2)] * 2
    writer.cache_manager.close()
    os.close(ready)
    os.close(told)


# The bound, whatever becomes of the listener


def test_the_bound_is_kept_without_a_connection(
    worker: Worker, monkeypatch: pytest.MonkeyPatch, caplog: Any, asked: list[str]
) -> None:
    """It is ended by the server; requests look themselves, and it comes back by itself."""
    worker.write("Front", "old")
    clock = Clock()
    reader = Pushed(worker.database, clock=clock)
    reader.listen()
    outage = Outage()
    monkeypatch.setattr(listener, "connect_beside", outage.connect)
    monkeypatch.setattr(listener, "_AGAIN_SECONDS", 0.01)
    with caplog.at_level(logging.WARNING, "coherent_cache"):
        end(worker, reader.connection.info.backend_pid)
        assert outage.met.wait(PATIENCE)
    assert len([each for each in caplog.records if "listener" in each.message]) == 1
    for number in range(3):
        clock.now += LONG + 1
        worker.write("Front", str(number))
        asked.clear()
        assert reader.read("Front") == str(number)
        assert set(asked) == {"MainThread"}
    clock.now += LONG + 1
    outage.over.set()
    reader.until_the_thread_looks()
    worker.write("Front", "at last")
    with contextlib.closing(Pushed(worker.database).cache_manager) as teller:
        teller.invalidate("something")
        reader.until_the_thread_looks("something")
    asked.clear()
    assert reader.read("Front") == "at last"
    assert "MainThread" not in asked
    reader.cache_manager.close()


def test_the_bound_is_kept_without_a_thread(worker: Worker, asked: list[str]) -> None:
    """It dies; a request that finds nobody's look looks, and has another thread."""
    worker.write("Front", "old")
    clock = Clock()
    reader = Pushed(worker.database, clock=clock)
    reader.listen()
    first = reader.thread
    reader.listener.stop()
    worker.write("Front", "new")
    clock.now += LONG + 1
    asked.clear()
    assert reader.read("Front") == "new"
    assert "MainThread" in asked
    reader.until_the_thread_looks()
    assert reader.thread is not first
    assert reader.thread.is_alive()
    reader.cache_manager.close()


def test_a_look_that_fails_vouches_for_nothing(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker.write("Front", "old")
    clock = Clock()
    reader = Pushed(worker.database, 0.02, clock=clock)
    reader.listen()
    ledger = reader.cache_manager.core.ledger
    read, met = ledger.read, threading.Event()

    def fail(*arguments: Any) -> Any:
        if threading.current_thread().name != THREAD:
            return read(*arguments)
        met.set()
        raise OperationalError("look", {}, Exception("no"))

    monkeypatch.setattr(ledger, "read", fail)
    assert met.wait(PATIENCE)
    worker.write("Front", "new")
    clock.now += 1
    assert reader.read("Front") == "new"
    reader.cache_manager.close()


# Nobody's transaction waits or fails


def test_a_commit_does_not_fail_because_nobody_can_be_told(
    reader: Pushed, writer: Pushed, outage: Outage
) -> None:
    writer.write("Front", "new")
    assert outage.met.wait(PATIENCE)
    writer.write("Front", "newer")
    assert writer.read("Front") == "newer"
    assert writer.thread.is_alive()


def test_a_commit_does_not_wait_for_the_thread(
    writer: Pushed, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, go_on = threading.Event(), threading.Event()

    def hang(engine: Any) -> Any:
        met.set()
        assert go_on.wait(PATIENCE)
        return connect_beside(engine)

    monkeypatch.setattr(listener, "connect_beside", hang)
    for number in range(3):
        writer.write("Front", str(number))
    assert met.wait(PATIENCE)
    writer.write("Front", "new")
    assert writer.read("Front") == "new"
    assert not go_on.is_set()
    go_on.set()


@pytest.mark.parametrize("what", ["thread", "sockets"])
def test_a_process_that_can_have_no_thread(
    writer: Pushed, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fail(*arguments: Any, **options: Any) -> Any:
        raise RuntimeError("can't start new thread") if what == "thread" else OSError("too many")

    target = threading.Thread if what == "thread" else listener.socket
    monkeypatch.setattr(target, "start" if what == "thread" else "socketpair", fail)
    writer.write("Front", "new")
    assert writer.read("Front") == "new"
    assert writer.thread is None


# Its life


def test_nothing_is_started_before_it_is_needed(worker: Worker) -> None:
    made = Pushed(worker.database)
    with made.cache_manager.request():
        pass
    assert made.thread is None


def test_close_ends_the_thread(worker: Worker, reader: Pushed) -> None:
    thread, connection = reader.thread, reader.connection
    pid = connection.info.backend_pid
    reader.cache_manager.close()
    assert not thread.is_alive()
    assert connection.closed
    end(worker, pid)  # returns when it is gone
    worker.write("Front", "new")
    assert reader.read("Front") == "new"
    reader.until_the_thread_looks()
    assert reader.thread.is_alive()


def test_a_manager_takes_its_thread_along(worker: Worker) -> None:
    passing = Pushed(worker.database)
    passing.listen()
    thread, connection = passing.thread, passing.connection
    manager = weakref.ref(passing.cache_manager)
    passing.drop_engine()
    del passing
    gc.collect()
    assert manager() is None
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert connection.closed


def test_fork(worker: Worker, reader: Pushed, writer: Pushed) -> None:
    """The child has a thread of its own, and the parent's connection is left alone."""
    parents = reader.connection.info.backend_pid

    def child() -> Any:
        assert reader.thread is None
        while not reader.looks.empty():
            reader.looks.get()
        reader.listen()
        childs = reader.connection.info.backend_pid
        Pushed(worker.database).write("Front", "the child's")
        reader.until_the_thread_looks("Front")
        return childs != parents, reader.read("Front")

    assert fork(child, clean_exit=True).join() == (True, "the child's")
    reader.until_the_thread_looks("Front")
    assert reader.connection.info.backend_pid == parents
    writer.write("Front", "new")
    reader.until_the_thread_looks("Front")
    assert reader.read("Front") == "new"


# Where there is none


@pytest.mark.on("sqlite-wal", "mariadb")
def test_another_database(database: Database) -> None:
    with pytest.raises(ConfigurationError, match=r"Bounded\(seconds=2.0\)"):
        CacheManager(database.engine(), freshness=Push(2.0))


def test_an_asynchronous_engine(database: Database) -> None:
    for driver in ("asyncpg", "psycopg"):
        engine = create_async_engine(database.url.set(drivername=f"postgresql+{driver}"))
        with pytest.raises(ConfigurationError, match=r"asynchronous.*Bounded"):
            CacheManager(engine, freshness=Push(2.0))


def test_another_driver(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = database.engine()
    monkeypatch.setattr(engine.dialect, "driver", "psycopg2")
    with pytest.raises(ConfigurationError, match=r"postgresql\+psycopg2.*Bounded"):
        CacheManager(engine, freshness=Push(2.0))


def test_what_it_is() -> None:
    assert Push(2.0) == Push(2.0) != Bounded(2.0)
    with pytest.raises(ConfigurationError, match="Push"):
        Push(0)


def test_a_retriever_is_not_run_by_the_thread(reader: Pushed, writer: Pushed) -> None:
    before = PageText.calls
    writer.write("Front", "new")
    reader.until_the_thread_looks("Front")
    assert PageText.calls == before
