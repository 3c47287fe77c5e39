"""Case 8: the first invalidation, twice.

Two open transactions invalidate a key that nobody has invalidated before, so the ledger has no row
of it.  With a row per key both would insert it: one fails with a unique violation, or waits for the
other to end.  Here neither fails nor waits, and both invalidations count.
"""

from __future__ import annotations

import pytest

from ..workers import Worker
from .support import LEVELS, at_level, impatient, ledger_rows, while_committing


def invalidate(worker: Worker, *keys: str) -> None:
    with worker.cache_manager.begin():
        for key in keys:
            worker.cache_manager.invalidate(key)


def first_twice(first: Worker, second: Worker, reader: Worker) -> None:
    values = iter(["one", "two", "three", "four"])

    def read() -> str:
        return reader.cache_manager.get("key", lambda: next(values))

    assert read() == "one"
    assert ledger_rows(reader.database) == []

    def meanwhile() -> None:
        invalidate(second, "key")
        assert read() == "two"

    while_committing(first.engine, meanwhile)
    invalidate(first, "key")
    assert read() == "three"
    assert read() == "three"
    assert ledger_rows(reader.database, "key") == [("key",), ("key",)]


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_08_first_invalidation_twice(worker: Worker, level: str) -> None:
    first_twice(at_level(worker, level), at_level(worker, level), worker)


@pytest.mark.on("mariadb")
def test_case_08_with_snapshot_isolation(worker: Worker) -> None:
    settings = "SESSION innodb_snapshot_isolation = ON"
    first, second = (
        Worker(worker.database, engine=impatient(worker.database, settings=settings))
        for _ in range(2)
    )
    first_twice(first, second, worker)


@pytest.mark.on("postgresql", "mariadb")
def test_case_08_four_at_once(worker: Worker) -> None:
    workers = [at_level(worker, "SERIALIZABLE") for _ in range(4)]
    assert worker.cache_manager.get("key", lambda: 0) == 0

    def commit(position: int) -> None:
        if position + 1 < len(workers):
            while_committing(workers[position].engine, lambda: commit(position + 1))
        invalidate(workers[position], "key")
        # The innermost commits first.
        assert worker.cache_manager.get("key", lambda: 10 - position) == 10 - position

    commit(0)
    assert len(ledger_rows(worker.database)) == len(workers)


def test_case_08_one_after_the_other(worker: Worker, other: Worker) -> None:
    # SQLite lets one write at a time; both were opened, and had their del, before either commits.
    values = iter(["one", "two", "three"])

    def read() -> str:
        return other.cache_manager.get("key", lambda: next(values))

    assert read() == "one"
    with worker.cache_manager.begin():
        worker.cache_manager.invalidate("key")
        with other.cache_manager.begin():
            other.cache_manager.invalidate("key")
        assert read() == "two"
    assert read() == "three"
    assert len(ledger_rows(worker.database)) == 2


def test_case_08_twice_in_one_transaction(worker: Worker, other: Worker) -> None:
    values = iter(["one", "two", "three"])
    assert other.cache_manager.get("key", lambda: next(values)) == "one"
    with worker.cache_manager.begin() as connection:
        worker.cache_manager.invalidate("key")
        with connection.begin_nested():
            worker.cache_manager.invalidate("key")
        worker.cache_manager.invalidate("key")
    assert other.cache_manager.get("key", lambda: next(values)) == "two"
    assert len(ledger_rows(worker.database)) == 1
