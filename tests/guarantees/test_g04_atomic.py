"""G4: an invalidation commits and rolls back with the data: never lost, early or alone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import Connection, event, text

from coherent_cache.scope import Scope

from ..workers import PageText, Worker, put
from .helpers import SECONDS, generations, settle


def test_g04_not_before_the_commit(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    calls = PageText.calls
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        if worker.database.kind != "sqlite-journal":  # there nobody can read before the commit
            before = generations(worker)
            assert other.read("Front") == "old"
            assert generations(worker) == before
            assert PageText.calls == calls
    assert other.read("Front") == "new"


def test_g04_a_rollback_invalidates_nothing(worker: Worker, other: Worker) -> None:
    settle(worker, other)
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    before = generations(worker)
    with pytest.raises(KeyError):
        _change_and_raise(worker)
    calls = PageText.calls
    assert generations(worker) == before
    assert other.read("Front") == "old"
    assert PageText.calls == calls
    assert worker.read("Front") == "old"


def _change_and_raise(worker: Worker) -> None:
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "new"
        raise KeyError


def test_g04_savepoints(worker: Worker, other: Worker) -> None:
    """One is rolled back and invalidates nothing; one is released and counts with the commit."""
    settle(worker, other)
    for name in ("Kept", "Undone"):
        worker.write(name, "old")
        assert other.read(name) == "old"
    before = generations(worker)
    with worker.cache_manager.begin() as connection:
        with connection.begin_nested():
            put(connection, "Kept", "new")
            del PageText(worker, "Kept").text
        undone = connection.begin_nested()
        put(connection, "Undone", "new")
        del PageText(worker, "Undone").text
        undone.rollback()
    assert generations(worker) == before + 1
    calls = PageText.calls
    assert other.read("Undone") == "old"
    assert PageText.calls == calls
    assert other.read("Kept") == "new"


def test_g04_blocks_inside_each_other(worker: Worker, other: Worker) -> None:
    """The outer block alone commits, and one row is enough for a key invalidated twice."""
    worker.write("Front", "old")
    before = generations(worker)
    with worker.cache_manager.begin() as outer:
        with worker.cache_manager.begin() as inner:
            assert inner is outer
            put(inner, "Front", "new")
            del PageText(worker, "Front").text
        del PageText(worker, "Front").text
        if worker.database.kind != "sqlite-journal":
            assert generations(worker) == before
    assert generations(worker) == before + 1
    assert other.read("Front") == "new"


@pytest.mark.parametrize("commits", [True, False], ids=["commit", "rollback"])
@pytest.mark.on("postgresql", "mariadb")
def test_g04_two_phases(worker: Worker, other: Worker, commits: bool) -> None:
    if worker.database.kind == "postgresql" and not _allows_prepare(worker):
        pytest.skip("the server has max_prepared_transactions = 0")
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        transaction = connection.begin_twophase()
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        transaction.prepare()
        assert other.read("Front") == "old"
        if commits:
            transaction.commit()
        else:
            transaction.rollback()
        expected = "new" if commits else "old"
        assert other.read("Front") == expected
        assert PageText(worker, "Front").text == expected


def _allows_prepare(worker: Worker) -> bool:
    with worker.engine.connect() as connection:
        return bool(int(connection.scalar(text("SHOW max_prepared_transactions")) or 0))


def test_g04_a_commit_that_a_listener_refuses(worker: Worker, other: Worker) -> None:
    """Somebody else's listener raises just before COMMIT: nothing happened."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    before = generations(worker)

    def refuse(connection: Connection) -> None:
        raise KeyError("refused")

    event.listen(worker.engine, "commit", refuse)
    with pytest.raises(KeyError, match="refused"):
        worker.write("Front", "new")
    event.remove(worker.engine, "commit", refuse)
    assert generations(worker) == before
    assert worker.read("Front") == other.read("Front") == "old"
    worker.write("Front", "new")
    assert worker.read("Front") == other.read("Front") == "new"


def test_g04_the_invalidations_cannot_be_written(worker: Worker, other: Worker) -> None:
    """Then the data does not commit either."""
    worker.write("Front", "old")
    worker.cache_manager.metadata.drop_all(worker.engine)
    with pytest.raises(Exception, match="create_table"):
        worker.write("Front", "new")
    worker.cache_manager.create_table()
    assert worker.read("Front") == other.read("Front") == "old"


@pytest.fixture
def hasty_threads() -> Iterator[None]:
    """Threads take turns as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hasty_threads")
def test_g04_transactions_of_several_threads_of_a_request() -> None:
    """Threads of one request begin and end transactions at the same time, and none of them gets
    lost: a `del` that does not find its transaction would be made at once, and alone."""
    scope = Scope(request=True)
    others: list[Any] = [SimpleTransaction() for _ in range(200)]
    for one in others:
        scope.add(one)
    start = threading.Barrier(4)

    def begin_and_end() -> None:
        start.wait()
        for _ in range(2_000):
            mine: Any = SimpleTransaction()
            scope.add(mine)
            assert mine in scope.all_transactions(None)
            scope.remove(mine)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(begin_and_end) for _ in range(4)]:
            done.result(SECONDS)
    assert set(scope.all_transactions(None)) == set(others)


class SimpleTransaction:
    manager = None
    is_calm = True
