"""Case 1: rollback, then the same number.

A process begins a transaction, changes the page, deletes the cached text and reads it: its own
text.  It rolls back.  Another process changes the page and commits; on SQLite its row in the ledger
gets the very number that the first one's would have had.  If the first process had kept its text
under that number, it would now serve a text that never was.
"""

from typing import Any

import pytest

from ..workers import PageText, Worker, put
from ..written import when_written
from .support import LEVELS, at_level, check, in_thread, ledger_rows, loads


class UndoError(Exception):
    pass


def roll_back_and_let_the_other_commit(worker: Worker, other: Worker) -> None:
    worker.write("Front", "first")
    assert worker.read("Front") == "first"
    with worker.cache_manager.request():
        with pytest.raises(UndoError), worker.cache_manager.begin() as connection:
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
            assert PageText(worker, "Front").text == "never"
            raise UndoError
        # Not even the request that computed it sees it any more.
        assert PageText(worker, "Front").text == "first"
    assert worker.read("Front") == "first"
    other.write("Front", "theirs")
    assert worker.read("Front") == "theirs"
    assert other.read("Front") == "theirs"


def test_case_01_rolled_back(worker: Worker, other: Worker) -> None:
    roll_back_and_let_the_other_commit(worker, other)


@pytest.mark.on("sqlite-memory")
def test_case_01_in_memory(worker: Worker) -> None:
    roll_back_and_let_the_other_commit(worker, worker)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_01_at_each_level(worker: Worker, level: str) -> None:
    roll_back_and_let_the_other_commit(at_level(worker, level), at_level(worker, level))


def test_case_01_rolled_back_with_its_ledger_row(worker: Worker, other: Worker) -> None:
    # The COMMIT fails after the ledger's row was written: SQLite's number and MariaDB's place in
    # the lane are given again.
    worker.write("Front", "first")
    assert worker.read("Front") == other.read("Front") == "first"

    def fail(pooled: object) -> None:
        raise UndoError

    with when_written(worker.engine, fail), worker.cache_manager.request():
        with pytest.raises(UndoError), worker.cache_manager.begin() as connection:
            put(connection, "Front", "never")
            del PageText(worker, "Front").text
            assert PageText(worker, "Front").text == "never"
        assert PageText(worker, "Front").text == "first"
    assert worker.read("Front") == other.read("Front") == "first"
    other.write("Front", "theirs")
    assert worker.read("Front") == other.read("Front") == "theirs"
    worker.write("Front", "ours")
    assert worker.read("Front") == other.read("Front") == "ours"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_01_the_number_is_indeed_the_same(worker: Worker, other: Worker) -> None:
    worker.write("Front", "first")
    before = ledger_rows(worker.database)[-1][0]
    seen = []

    def look_and_fail(pooled: Any) -> None:
        seen.append(pooled.execute("SELECT MAX(generation) FROM cache").fetchone()[0])
        raise UndoError

    with when_written(worker.engine, look_and_fail), pytest.raises(UndoError):
        worker.write("Front", "never")
    other.write("Front", "theirs")
    assert seen == [before + 2]  # the text and the list of names
    assert ledger_rows(worker.database)[-1][0] == before + 2


def test_case_01_other_threads_never_see_it(worker: Worker, other: Worker) -> None:
    worker.write("Front", "first")
    with worker.engine.connect() as connection:
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "never"
        assert in_thread(lambda: worker.read("Front")) == "first"
        connection.rollback()
        other_is_read = in_thread(lambda: worker.read("Front"))
    assert other_is_read == worker.read("Front") == "first"


def test_case_01_what_others_loaded_meanwhile_stays(worker: Worker, other: Worker) -> None:
    # A rolled back invalidation is nobody's news: no process computes anything anew.
    worker.write("Front", "first")
    assert worker.read("Front") == other.read("Front") == "first"
    before = loads(worker, other)
    with worker.engine.connect() as connection:
        put(connection, "Front", "never")
        del PageText(worker, "Front").text
        connection.rollback()
    assert worker.read("Front") == other.read("Front") == "first"
    assert loads(worker, other) == before
    check(worker)
    assert worker.read("Front") == "first"
