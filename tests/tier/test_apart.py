"""What is not the same ledger shares nothing, even if it shares a tier."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from coherent_cache import CacheManager

from ..databases import Database
from ..workers import Worker
from .shelf import Shelf


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


def test_two_tables_in_one_database(worker: Worker, shelf: Shelf) -> None:
    values = []
    for table in ("cache", "second_cache"):
        manager = CacheManager(worker.database.engine(), table=table, tier=shelf)
        manager.create_table()
        values.append(manager.get("k", lambda table=table: table))  # type: ignore[misc]
    assert values == ["cache", "second_cache"]


def test_two_databases(database: Database, worker: Worker, shelf: Shelf, tmp_path: Path) -> None:
    second = CacheManager(create_engine(f"sqlite:///{tmp_path}/second.db"), tier=shelf)
    second.create_table()
    first = CacheManager(database.engine(), tier=shelf)
    assert first.get("k", lambda: "first") == "first"
    assert second.get("k", lambda: "second") == "second"


@pytest.mark.parametrize("how", ["DROP TABLE {}", "DELETE FROM {}"])
def test_a_table_that_was_made_anew(worker: Worker, shelf: Shelf, how: str) -> None:
    """What had been invalidated there is forgotten, and so is what was shared."""
    one = Worker(worker.database, tier=shelf)
    assert one.read("a") is None
    worker.write("a", "new")
    with worker.engine.begin() as connection:
        for table in ("cache", "cache_lane"):
            connection.execute(text(how.format(table)))
    worker.cache_manager.create_table()
    assert Worker(worker.database, tier=shelf).read("a") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_a_clone_goes_its_own_way(worker: Worker, shelf: Shelf) -> None:
    """A database and its copy have the same past: what is invalidated in one of them afterwards
    is found in neither under what the other has."""
    one = Worker(worker.database, tier=shelf)
    one.write("a", "before")
    assert one.read("a") == "before"
    copy = f"{worker.database.url.database}.copy"
    with (
        sqlite3.connect(str(worker.database.url.database)) as source,
        sqlite3.connect(copy) as target,
    ):
        source.backup(target)
    other = Worker(worker.database, engine=create_engine(f"sqlite:///{copy}"), tier=shelf)
    assert other.read("a") == "before"
    assert other.cache_manager.statistics.tier_hits == 1
    one.write("a", "here")
    other.write("a", "there")
    assert (one.read("a"), other.read("a")) == ("here", "there")
    again = Worker(worker.database, engine=create_engine(f"sqlite:///{copy}"), tier=shelf)
    assert again.read("a") == "there"
