"""The ledger prunes itself: the table levels off, in nobody's request."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import threading
import time
from contextlib import closing
from typing import Any

import pytest
from filelock import FileLock

from coherent_cache import CacheManager, ConfigurationError, store
from coherent_cache.drivers import cursor_execute
from coherent_cache.tables import lock_path

from .databases import Database
from .guarantees.helpers import Gate, generations
from .workers import PageText, Worker

servers = pytest.mark.on("postgresql", "mariadb")


def pruner_of(worker: Worker) -> Any:
    return worker.cache_manager.core.access.pruner


def finish(worker: Worker) -> None:
    """Wait until what the worker prunes by itself is over."""
    thread = pruner_of(worker)._thread
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()


def write_rows(worker: Worker, count: int) -> None:
    with worker.cache_manager.begin() as connection:
        for number in range(count):
            worker.cache_manager.invalidate(f"key {number}", connection=connection)


def test_the_table_levels_off(
    worker: Worker, other: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Churn: the table's length, what is remembered of drops and the positions stay what they are,
    and who reads is right all the time."""
    monkeypatch.setattr(store, "_REMEMBERED_DROPS", 100)
    churner = Worker(worker.database, prune_keep=50, prune_every=40)
    lengths = []
    for turn in range(30):
        churner.write("Front", str(turn))
        write_rows(churner, 20)
        finish(churner)
        assert other.read("Front") == churner.read("Front") == str(turn)
        lengths.append(generations(worker))
    for _ in range(100):
        # Rows that are newer than somebody else's open transaction stay until it ends.
        if max(lengths[15:]) <= 50 + 4 * 40 or worker.database.kind != "postgresql":
            break
        time.sleep(0.1)
        write_rows(churner, 40)
        finish(churner)
        lengths = [generations(worker)] * 16
    else:
        pytest.skip("somebody else's transaction on this server does not end")
    assert max(lengths[15:]) <= 50 + 4 * 40
    remembered = other.cache_manager.core.store._dropped
    assert len(remembered) <= 100
    churner.cache_manager.close()


@servers
def test_it_is_nobodys_request(worker: Worker) -> None:
    """The one who writes goes on while rows are deleted; close() waits for the batch."""
    churner = Worker(worker.database, prune_keep=1, prune_every=10)
    gate, threads = Gate(), []
    ledger: Any = churner.cache_manager.core.ledger
    choose = ledger.choose

    def stopping(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        gate()
        return choose(*arguments)

    ledger.choose = stopping
    write_rows(churner, 10)
    gate.wait()
    for number in range(3):
        churner.write("Front", str(number))
        assert churner.read("Front") == str(number)
    write_rows(churner, 10)  # one at a time
    gate.open()
    churner.cache_manager.close()
    assert threading.current_thread() not in threads
    assert len(set(threads)) == 1
    assert not threads[0].is_alive()


@servers
def test_one_process_of_a_host_at_a_time(worker: Worker) -> None:
    churner = Worker(worker.database, prune_keep=1, prune_every=10)
    core = churner.cache_manager.core
    before = generations(worker)
    with FileLock(lock_path(core.engine, core.tables, "prune")):
        for _ in range(3):  # on MariaDB a lane keeps its newest commit
            write_rows(churner, 10)
            finish(churner)
        assert generations(worker) == before + 30


@servers
def test_an_error_is_nobodys(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    churner = Worker(worker.database, prune_keep=1, prune_every=10)
    ledger: Any = churner.cache_manager.core.ledger
    prune, ledger.prune = ledger.prune, lambda *_, **__: 1 / 0
    with caplog.at_level("INFO", logger="coherent_cache"):
        write_rows(churner, 20)
        finish(churner)
    assert "tried again later" in caplog.text
    ledger.prune = prune
    churner.write("Front", "new")
    assert churner.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_on_sqlite_no_thread_writes(worker: Worker) -> None:
    """There any commit in between fails a transaction that has read and goes on to write."""
    churner = Worker(worker.database, prune_keep=5, prune_every=10)
    for _ in range(20):
        write_rows(churner, 10)
        assert pruner_of(churner)._thread is None
    assert generations(worker) <= 5 + 30
    for number in range(40):
        churner.cache_manager.invalidate(f"lone {number}")
    assert generations(worker) <= 5 + 30


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_on_sqlite_it_costs_a_transaction_the_same_in_a_long_table(worker: Worker) -> None:
    """In steps of SQLite's machine: it holds the file's only write lock meanwhile."""
    churner = Worker(worker.database, prune_keep=10_000, prune_every=1_000)
    core = churner.cache_manager.core

    def steps() -> list[int]:
        """Of two turns: one that writes no mark yet, and one that deletes."""
        counts = []
        with closing(sqlite3.connect(str(worker.database.url.database))) as connection:
            execute = cursor_execute(core.engine.dialect, lambda: connection)
            for keep in (100_000, 10):
                count = itertools.count()
                core.ledger.prune_within(execute, keep, 20, 1)  # the mark, the second time
                connection.set_progress_handler(lambda count=count: next(count) < 0, 1)
                core.ledger.prune_within(execute, keep, 20, 1)
                connection.set_progress_handler(None, 1)
                counts.append(next(count))
            connection.rollback()
        return counts

    write_rows(churner, 100)
    few = steps()
    write_rows(churner, 5_000)
    assert min(few) > 10
    assert [many <= 2 * before for many, before in zip(steps(), few, strict=True)] == [True, True]


def test_it_can_be_switched_off(worker: Worker) -> None:
    quiet = Worker(worker.database, prune_keep=1, prune_every=None)
    before = generations(worker)
    write_rows(quiet, 200)
    assert pruner_of(quiet)._thread is None
    assert generations(worker) == before + 200
    for options in ({"prune_keep": 0}, {"prune_every": 0}):
        with pytest.raises(ConfigurationError):
            Worker(worker.database, **options)


@servers
def test_after_a_fork(worker: Worker) -> None:
    """The parent's thread is not in the child, and its locks may be held."""
    churner = Worker(worker.database, prune_keep=1, prune_every=10)
    pruner = pruner_of(churner)
    pruner._lock.acquire()
    pruner.after_fork()
    write_rows(churner, 20)
    assert pruner._thread is not None
    finish(churner)
    churner.write("Front", "new")
    assert PageText(churner, "Front").text == "new"


@servers
def test_asynchronous_engine(database: Database) -> None:
    writer = Worker(database)
    writer.cache_manager.create_table()

    async def story() -> Any:
        engine = database.async_engine()
        manager = CacheManager(engine, prune_keep=1, prune_every=10)
        pruned = threading.Event()
        ledger: Any = manager.core.ledger
        choose = ledger.choose

        def noticed(*arguments: Any) -> Any:
            found = choose(*arguments)
            pruned.set()
            return found

        ledger.choose = noticed
        for number in range(20):
            await manager.ainvalidate(f"key {number}")
        assert await asyncio.to_thread(pruned.wait, 15)
        await manager.aclose()
        await engine.dispose()

    asyncio.run(story())
