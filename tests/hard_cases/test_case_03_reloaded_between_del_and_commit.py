"""Case 3: reloaded between the ``del`` and COMMIT.

A request changes the page and deletes its cached text.  Before it commits another thread of the
same process reads the page: nothing is committed, so it loads the old text, at the old generation,
and keeps it for all.  The request commits and reads: if it took what the process has, it would not
see its own write.
"""

from __future__ import annotations

import pytest

from ..workers import PageText, Worker, put
from .support import LEVELS, Gate, Thread, at_level, in_thread


def reload_before_commit(worker: Worker, other: Worker, *, read_in_transaction: bool) -> None:
    manager = worker.cache_manager
    worker.write("Front", "old")
    with manager.request():
        assert PageText(worker, "Front").text == "old"
        with manager.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
            assert in_thread(lambda: worker.read("Front")) == "old"
            if read_in_transaction:
                assert PageText(worker, "Front").text == "new"
                assert in_thread(lambda: worker.read("Front")) == "old"
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.parametrize("read_in_transaction", [False, True])
def test_case_03_reloaded(worker: Worker, other: Worker, read_in_transaction: bool) -> None:
    reload_before_commit(worker, other, read_in_transaction=read_in_transaction)


@pytest.mark.on("postgresql", "mariadb")
@pytest.mark.parametrize("level", LEVELS)
def test_case_03_at_each_level(worker: Worker, other: Worker, level: str) -> None:
    reload_before_commit(at_level(worker, level), other, read_in_transaction=False)


def slow_reload(worker: Worker, *, lands_before_the_read: bool) -> None:
    """Another thread's load begins before the COMMIT and ends after it."""
    manager = worker.cache_manager
    worker.write("Front", "old")
    gate = Gate()
    with manager.request():
        with manager.begin() as connection:
            put(connection, "Front", "new")
            put(connection, "Other", "new")
            del worker.wiki.names
            # It has read its data when it stops.
            worker.wiki.after = gate.stop
            thread = Thread(lambda: worker.wiki.names)
            gate.wait()
            worker.wiki.after = lambda: None
        if lands_before_the_read:
            gate.open()
            assert thread.result() == {"Front"}
        assert worker.wiki.names == {"Front", "Other"}
        gate.open()
        assert thread.result() == {"Front"}
        assert worker.wiki.names == {"Front", "Other"}
    with manager.request():
        assert worker.wiki.names == {"Front", "Other"}


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
@pytest.mark.parametrize("lands_before_the_read", [True, False])
def test_case_03_loader_that_outlasts_the_commit(
    worker: Worker, lands_before_the_read: bool
) -> None:
    # (A reader of SQLite's rollback journal would hold the commit up.)
    slow_reload(worker, lands_before_the_read=lands_before_the_read)


def test_case_03_two_transactions_of_one_request(worker: Worker) -> None:
    # The first commit's news are not the second's.
    manager = worker.cache_manager
    with manager.request():
        for text in ("one", "two", "three"):
            with manager.begin() as connection:
                put(connection, "Front", text)
                del PageText(worker, "Front").text
                in_thread(lambda: worker.read("Front"))
            assert PageText(worker, "Front").text == text


def test_case_03_invalidated_without_a_transaction(worker: Worker) -> None:
    # The same with a del that is its own transaction.
    manager = worker.cache_manager
    values = iter(["old", "new"])
    with manager.request():
        assert manager.get("key", lambda: next(values)) == "old"
        manager.invalidate("key")
        assert manager.get("key", lambda: next(values)) == "new"
    assert manager.get("key", lambda: "never") == "new"
