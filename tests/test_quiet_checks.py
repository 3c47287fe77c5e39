"""On SQLite checks that find nothing for a while ask for its `data_version`, and for no rows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from coherent_cache.reader import QUIET

from .databases import Database, sqlite_url
from .workers import PageText, Worker, metadata, put

pytestmark = pytest.mark.on("sqlite-wal", "sqlite-journal")

VERSION = "PRAGMA data_version"


class Asking:
    """Notes what the checks of a worker ask."""

    def __init__(self, worker: Worker) -> None:
        self._reader: Any = worker.cache_manager.core.access._connections.reader
        self._reader._side.open()
        self._statements: list[str] = []
        self._reader._side._connection.set_trace_callback(self._statements.append)

    def since(self) -> list[str]:
        """The first two words of each statement since the last call."""
        asked = [" ".join(statement.split()[:2]) for statement in self._statements]
        self._statements.clear()
        return asked

    def after_the_rows(self, then: Callable[[], object]) -> None:
        """Call *then* when the next check has read the rows."""
        ledger = self._reader._ledger
        read = ledger.read

        def read_and_then(execute: Any, position: Any) -> Any:
            ledger.read = read
            news = read(execute, position)
            then()
            return news

        ledger.read = read_and_then


@pytest.fixture
def reader(worker: Worker) -> Worker:
    worker.write("Front", "old")
    return quiet(Worker(worker.database))


def quiet(reader: Worker, front: str = "old") -> Worker:
    for _ in range(QUIET + 2):
        assert reader.read("Front") == front
    return reader


def test_nothing_but_the_version_is_asked_for(reader: Worker) -> None:
    asking = Asking(reader)
    for _ in range(3):
        reader.read("Front")
        assert asking.since() == [VERSION]


def test_what_anybody_commits_is_seen(reader: Worker, worker: Worker) -> None:
    """Another process, and this one: by its pool and by the ledger's own connection."""
    asking = Asking(reader)
    worker.write("Front", "another's")
    assert reader.read("Front") == "another's"
    assert asking.since() == [VERSION, "SELECT generation,"]
    quiet(reader, "another's")
    reader.write("Front", "its own")
    assert reader.read("Front") == "its own"
    quiet(reader, "its own")
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "told later")
    assert reader.read("Front") == "its own"
    del PageText(reader, "Front").text  # in a transaction of the ledger's own
    assert reader.read("Front") == "told later"


def test_where_others_commit_rows_are_asked_for_at_once(reader: Worker, worker: Worker) -> None:
    """Nothing of it is news; one statement in ten is one too many."""
    asking = Asking(reader)
    for number in range(1, 10 * (QUIET + 1) + 1):
        with worker.engine.begin() as connection:
            connection.exec_driver_sql(f"UPDATE page SET version = {number}")
        reader.read("Front")
    asked = asking.since()
    assert asked.count("SELECT generation,") == 10 * (QUIET + 1)
    assert asked.count(VERSION) <= 2 * 10 + 1
    quiet(reader)
    asking.since()
    reader.read("Front")
    assert asking.since() == [VERSION]


@pytest.mark.parametrize("before", range(QUIET + 1))
def test_committed_while_a_check_is_under_way(worker: Worker, before: int) -> None:
    """
    reader   reads the rows; before the last of these checks has asked for the version
    worker   commits
    reader   ends, and checks again: what it knows is no newer than the rows
    """
    worker.write("Front", "old")
    reader = Worker(worker.database)
    for _ in range(before):
        reader.read("Front")
    seldom = Asking(reader)
    seldom.after_the_rows(lambda: worker.write("Front", "new"))
    reader.read("Back")
    assert (VERSION in seldom.since()) is (before == QUIET)
    assert reader.read("Front") == "new"


def test_the_version_of_another_connection(reader: Worker, worker: Worker) -> None:
    """It begins at the same figure: what was committed while there was no connection is asked
    for."""
    side: Any = reader.cache_manager.core.access._connections.reader
    before = side._version
    assert before is not None
    reader.cache_manager.close()
    worker.write("Front", "new")
    assert reader.read("Front") == "new"
    quiet(reader, "new")
    assert side._version == before


def test_a_ledger_in_an_attached_file(tmp_path: Path) -> None:
    """Each file has a version of its own."""
    url = sqlite_url(tmp_path)

    def attached() -> Worker:
        database = Database("sqlite-wal", url)
        engine = database.engine()

        @event.listens_for(engine, "connect")
        def attach(connection: Any, record: Any) -> None:
            connection.execute(f"ATTACH '{tmp_path / 'beside.db'}' AS \"be side\"")

        return Worker(database, engine=engine, schema="be side")

    worker, reader = attached(), attached()
    metadata.create_all(worker.engine)
    worker.cache_manager.create_table()
    worker.write("Front", "old")
    quiet(reader)
    asking = Asking(reader)
    worker.write("Front", "new")
    assert reader.read("Front") == "new"
    assert asking.since()[0] == 'PRAGMA "be'
