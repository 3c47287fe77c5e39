"""Hard case 20: a process that invalidated meets its own commit again.

It knows what it wrote.  What it does not know is what others committed between its last look and
its own COMMIT: its commit is no proof that it is up to date, and must not be counted as a look.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ..workers import PageText, Worker, put

pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")


def test_case_20_others_committed_meanwhile(worker: Worker, other: Worker) -> None:
    """The other worker's commit, of another key, comes between our look and our COMMIT."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    assert worker.read("Front") == worker.read("Back") == "old"
    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == PageText(worker, "Back").text == "old"
        with worker.cache_manager.begin() as connection:
            if not worker.database.is_sqlite:
                put(connection, "Front", "new")
                other.write("Back", "new")  # while we are in our transaction
            else:
                other.write("Back", "new")
                put(connection, "Front", "new")
            del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Back") == other.read("Back") == "new"
    assert worker.read("Front") == other.read("Front") == "new"


def test_case_20_same_key_by_both(worker: Worker, other: Worker) -> None:
    """Both invalidate the key, the other one later: ours is not the last word."""
    worker.write("Front", "0")
    assert worker.read("Front") == other.read("Front") == "0"
    for turn in range(1, 4):
        worker.write("Front", f"{turn} ours")
        assert worker.read("Front") == f"{turn} ours"
        other.write("Front", f"{turn} theirs")
        worker.write("Back", f"{turn}")  # a commit of ours that has nothing to do with it
        assert worker.read("Front") == f"{turn} theirs"
        assert other.read("Front") == f"{turn} theirs"
        assert other.read("Back") == worker.read("Back") == f"{turn}"


def test_case_20_in_one_request(worker: Worker, other: Worker) -> None:
    """After its own commit the request looks again: what it did not read yet it sees as new as its
    commit, what it has read keeps its one value."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    worker.write("Side", "old")
    for name in ("Front", "Back", "Side"):
        assert worker.read(name) == "old"
    with worker.cache_manager.request():
        assert PageText(worker, "Side").text == "old"
        other.write("Back", "new")
        other.write("Side", "new")
        with worker.cache_manager.begin() as connection:
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "new"
        assert PageText(worker, "Back").text == "new"
        assert PageText(worker, "Side").text == "old"
    assert worker.read("Side") == "new"


def test_case_20_old_value_loaded_by_another_thread(worker: Worker, other: Worker) -> None:
    """Between our `del` and our COMMIT a thread of ours loads the old value, and the other worker
    commits; our own commit drops the one and reveals the other."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    with ThreadPoolExecutor(1) as pool, worker.cache_manager.request():
        with worker.cache_manager.begin() as connection:
            del PageText(worker, "Front").text
            if worker.database.is_sqlite:
                other.write("Back", "new")
            put(connection, "Front", "new")
            assert pool.submit(worker.read, "Front").result() == "old"
            if not worker.database.is_sqlite:
                assert pool.submit(worker.read, "Back").result() == "old"
                other.write("Back", "new")
        assert PageText(worker, "Front").text == "new"
        assert PageText(worker, "Back").text == "new"
        assert pool.submit(worker.read, "Front").result() == "new"
        assert pool.submit(worker.read, "Back").result() == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_case_20_lone_del(worker: Worker, other: Worker) -> None:
    """A `del` in its own transaction is a commit as well."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    assert worker.read("Front") == worker.read("Back") == "old"
    with worker.cache_manager.request():
        assert PageText(worker, "Front").text == "old"
        other.write("Back", "new")
        del PageText(worker, "Front").text
        assert PageText(worker, "Back").text == "new"
    assert worker.read("Back") == "new"


def test_case_20_several_commits_at_once(worker: Worker, other: Worker) -> None:
    """Commits of several connections of one process and of another, all before the next look."""
    for name in ("A", "B", "C"):
        worker.write(name, "old")
        assert worker.read(name) == "old"
    with ThreadPoolExecutor(2) as pool:
        pool.submit(worker.write, "A", "new").result()
        pool.submit(other.write, "B", "new").result()
        pool.submit(worker.write, "C", "new").result()
    for name in ("A", "B", "C"):
        assert worker.read(name) == other.read(name) == "new"
    assert worker.wiki.names == other.wiki.names == {"A", "B", "C"}
