"""G1: a request that begins after a COMMIT has returned never gets a value from before it."""

from __future__ import annotations

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from ..schedules.schedule import Schedule
from ..workers import PageText, Worker, page, put
from .helpers import begin_with, elsewhere


def test_g01_another_thread(worker: Worker) -> None:
    worker.write("Front", "Hello")
    assert elsewhere(lambda: worker.read("Front")) == "Hello"
    worker.write("Front", "Bye")
    assert elsewhere(lambda: worker.read("Front")) == "Bye"


def test_g01_another_worker(worker: Worker, other: Worker) -> None:
    for text_ in ("one", "two", "three"):
        worker.write("Front", text_)
        assert other.read("Front") == text_
        assert worker.read("Front") == text_
        other.write("Front", text_ + "!")
        assert worker.read("Front") == text_ + "!"


def test_g01_every_key_of_the_transaction(worker: Worker, other: Worker) -> None:
    names = [f"Page {number}" for number in range(20)]
    for round_ in ("one", "two"):
        with worker.cache_manager.begin() as connection:
            for name in names:
                put(connection, name, round_)
                del PageText(worker, name).text
        with other.cache_manager.request():
            assert {PageText(other, name).text for name in names} == {round_}


def test_g01_outside_a_request_each_read_looks(worker: Worker, other: Worker) -> None:
    shown = PageText(other, "Front")
    worker.write("Front", "Hello")
    assert shown.text == "Hello"
    worker.write("Front", "Bye")
    assert shown.text == "Bye"


def test_g01_an_invalidation_of_its_own(worker: Worker, other: Worker) -> None:
    worker.write("Front", "Hello")
    assert other.read("Front") == "Hello"
    with worker.engine.begin() as connection:  # the `del` comes when the data is committed
        put(connection, "Front", "Bye")
    del PageText(worker, "Front").text
    assert other.read("Front") == "Bye"


def test_check_under_way_is_not_shared(worker: Worker, other: Worker, schedule: Schedule) -> None:
    """A check that began before a commit returned may not serve a request that began after: that
    one waits for it to end, and makes his own."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    played = schedule(
        """
        early   reaches  check: begun, nothing read
        early   reaches  check: news read, not applied
        writer  ends
        late    reaches  look: about to begin
        late    reaches  check: another is under way, not waited
        late    goes on
        early   ends
        late    ends
        """,
        early=lambda: other.read("Front"),
        writer=lambda: worker.write("Front", "new"),
        late=lambda: other.read("Front"),
    )
    assert played["early"] in ("old", "new")  # it began before the commit
    assert played["late"] == "new"


@pytest.mark.on("sqlite-wal")
def test_g01_a_temporary_table_locks_nothing(worker: Worker, other: Worker) -> None:
    """SQLite: who writes to a temporary table only does not keep others from committing.

    other    writes to its temporary table, and reads: its snapshot is open
    worker   commits
    other    begins a request, reads in that transaction, ends it, and reads again: what the old
             snapshot shows of the ledger is not all there is
    """
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with other.engine.connect() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE mine (x INTEGER)"))
        connection.commit()
        connection.execute(text("INSERT INTO mine VALUES (1)"))
        connection.execute(page.select()).all()
        worker.write("Front", "new")
        with other.cache_manager.request():
            assert other.wiki.names == {"Front"}
            connection.rollback()
            assert PageText(other, "Front").text == "new"


@pytest.mark.on("sqlite-wal")
def test_g01_a_write_that_failed_locks_nothing(worker: Worker, other: Worker) -> None:
    """SQLite: a transaction that wanted to write and could not still has its old snapshot.

    other    BEGIN, reads: its snapshot is open
    worker   commits
    other    wants to write: "database is locked", since its snapshot is old
    other    begins a request, reads, ends that transaction, and reads again
    """
    begin_with(other.engine, "BEGIN")
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with other.engine.connect() as connection:
        connection.execute(page.select()).all()
        worker.write("Front", "new")
        with pytest.raises(OperationalError, match="locked"):
            connection.execute(page.update().values(text="mine"))
        with other.cache_manager.request():
            assert other.wiki.names == {"Front"}
            connection.rollback()
            assert PageText(other, "Front").text == "new"
