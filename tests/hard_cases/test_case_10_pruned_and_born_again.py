"""Case 10: pruned and born again.

A row of the ledger is pruned and later the key has one again.  A process that was idle meanwhile
still holds a value from before: if the new row looks like what it knew, it takes the value for
current.  The same when the database is restored from an older dump under running processes, when
its file is replaced by another one or by a copy that went its own way, and when a server that
crashed hands out again the numbers it had given: what was learned before does not join what is read
now, so everything is dropped.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from ..databases import Database
from ..workers import PageText, Worker, put, take_lane, wait_for_older_transactions
from .support import (
    at_level,
    check,
    check_until_calm,
    ledger_rows,
    loads,
    operator,
    stored,
    while_committing,
)

# Pruned


def test_case_10_idle_while_its_row_is_pruned(worker: Worker, other: Worker) -> None:
    # The news that the idle one has not read are gone: it has to drop everything.
    take_lane(worker)
    worker.write("Front", "old")
    worker.write("Other", "old")
    assert other.read("Front") == other.read("Other") == "old"
    worker.write("Front", "new")
    for number in range(5):
        worker.write("Elsewhere", str(number))
    wait_for_older_transactions(worker)
    worker.cache_manager.prune(keep=1)
    assert "Front" not in "".join(str(row) for row in ledger_rows(worker.database, "key"))
    assert other.read("Front") == "new"


def test_case_10_born_again(worker: Worker, other: Worker) -> None:
    # Pruned, then invalidated again by somebody else: the row is there as it was before.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    worker.write("Front", "newer")
    for number in range(3):
        worker.write("Elsewhere", str(number))
    worker.cache_manager.prune(keep=1)
    worker.write("Front", "newest")
    assert other.read("Front") == "newest"


def test_case_10_first_row_is_born_and_pruned_unseen(worker: Worker, other: Worker) -> None:
    # A process that began with an empty table has no row to tell by.
    assert other.read("Front") is None
    worker.write("Front", "new")
    for number in range(3):
        worker.write("Elsewhere", str(number))
    worker.cache_manager.prune(keep=1)
    assert other.read("Front") == "new"
    assert worker.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_10_first_row_where_the_table_was_made_empty(worker: Worker, other: Worker) -> None:
    # By Alembic's autogenerate: without the row that create_table() inserts.
    operator(worker.database, "DELETE FROM cache")
    test_case_10_first_row_is_born_and_pruned_unseen(worker, other)
    # Once there is a row to tell by, an invalidation drops what it names.
    worker.write("Front", "newer")
    assert other.read("Front") == other.read("Front") == "newer"


@pytest.mark.on("postgresql")
def test_case_10_pruned_below_the_newest_row_known(worker: Worker, other: Worker) -> None:
    # T takes its number, another commits and is seen, T commits; T's row is pruned before anybody
    # looks, and the newest row that is known stands.
    reader = Worker(worker.database)
    worker.write("Front", "old")
    assert reader.read("Front") == "old"
    with worker.engine.connect() as late:
        late.execute(text("SELECT pg_current_xact_id()"))
        other.write("Back", "new")
        assert reader.read("Back") == "new"
        put(late, "Front", "new")
        del PageText(worker, "Front").text
        late.commit()
    wait_for_older_transactions(worker)
    worker.cache_manager.prune(keep=1)
    assert len(ledger_rows(worker.database)) <= 2
    assert reader.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_10_a_dump_of_a_server_that_was_further(worker: Worker, other: Worker) -> None:
    # Rows with numbers that this server has not given yet: they are no news, at no reading, and
    # pruning takes them away.
    operator(
        worker.database,
        "INSERT INTO cache (key, key_hash, lane, position, token) "
        "SELECT 'tests.workers.PageText.text[''Front'']', 0, 0, 1000000000000, 1",
    )
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    before = other.cache_manager.statistics.loads
    for _ in range(3):
        assert other.read("Front") == "old"
    assert other.cache_manager.statistics.loads == before
    worker.write("Front", "new")
    assert other.read("Front") == "new"
    worker.cache_manager.prune()
    assert "1000000000000" not in str(ledger_rows(worker.database, "position"))
    worker.write("Front", "newer")
    assert other.read("Front") == "newer"


def test_case_10_pruned_rows_of_a_connection_made_since(worker: Worker, other: Worker) -> None:
    # On MariaDB a lane that the idle process has never seen, with its first rows gone.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    late = Worker(worker.database)
    late.write("Front", "new")
    for number in range(3):
        late.write("Elsewhere", str(number))
    worker.cache_manager.prune(keep=1)
    assert other.read("Front") == "new"


def test_case_10_pruned_in_small_batches(worker: Worker, other: Worker) -> None:
    # The idle process looks between two batches.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    worker.write("Front", "new")
    for number in range(4):
        worker.write("Elsewhere", str(number))
    wait_for_older_transactions(worker)
    texts = []
    worker.cache_manager.prune(keep=1, batch=1, progress=lambda _: texts.append(None))
    assert len(texts) > 2
    assert other.read("Front") == "new"
    worker.write("Front", "newer")
    progress = iter(range(100))
    worker.cache_manager.prune(
        keep=1, batch=1, progress=lambda _: check(other) if next(progress) == 1 else None
    )
    assert other.read("Front") == "newer"


def test_case_10_nothing_is_dropped_that_was_seen(worker: Worker, other: Worker) -> None:
    # Who has read the news loses nothing when they are pruned.
    for number in range(4):
        worker.write("Front", str(number))
    # On PostgreSQL, of those who have read when the newest row could be an anchor.
    wait_for_older_transactions(worker)
    assert other.read("Front") == worker.read("Front") == "3"
    before = loads(other)
    assert worker.cache_manager.prune(keep=1) > 0
    assert other.read("Front") == "3"
    assert loads(other) == before
    worker.write("Elsewhere", "something")
    assert other.read("Front") == "3"
    assert loads(other) == before
    worker.write("Front", "4")
    assert other.read("Front") == "4"


def test_case_10_fewer_rows_than_are_kept(worker: Worker, other: Worker) -> None:
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    rows = ledger_rows(worker.database)
    before = loads(other)
    assert worker.cache_manager.prune(keep=100) == 0
    assert worker.cache_manager.prune() == 0
    assert ledger_rows(worker.database) == rows
    assert other.read("Front") == "old"
    assert loads(other) == before


@pytest.mark.on("postgresql")
def test_case_10_pruned_beside_an_open_transaction(worker: Worker, other: Worker) -> None:
    # A transaction that wrote its rows before the prune commits after it.
    reader = Worker(worker.database)
    for number in range(3):
        worker.write("Front", str(number))
    assert reader.read("Front") == "2"

    def meanwhile() -> None:
        for number in range(3):
            other.write("Other", str(number))
        assert reader.read("Front") == "2"
        other.cache_manager.prune(keep=1)
        assert reader.read("Front") == "2"

    while_committing(worker.engine, meanwhile)
    worker.write("Front", "new")
    assert reader.read("Front") == "new"
    worker.cache_manager.prune(keep=1)
    assert reader.read("Front") == "new"


@pytest.mark.on("mariadb")
def test_case_10_prune_waits_for_nobody(worker: Worker, other: Worker) -> None:
    impatient_one = at_level(worker, None)
    _ = impatient_one.cache_manager.status()
    side = impatient_one.cache_manager.core.access._connections._writer
    side.execute("SET SESSION innodb_lock_wait_timeout = 1", ())
    for number in range(3):
        worker.write("Front", str(number))
    while_committing(worker.engine, lambda: impatient_one.cache_manager.prune(keep=1))
    worker.write("Front", "new")


# Restored


def _copy(source: str, target: str) -> None:
    """SQLite's backup API: *target* becomes what *source* is, in place."""
    with closing(sqlite3.connect(source)) as one, closing(sqlite3.connect(target)) as two:
        one.backup(two)


@contextmanager
def dump(database: Database, directory: Path) -> Iterator[Any]:
    """Remembers the tables; what it yields puts their rows back, in place."""
    if database.is_sqlite:
        copy = str(directory / "dump.db")
        _copy(str(database.url.database), copy)
        yield lambda: _copy(copy, str(database.url.database))
        return
    tables = ("page", "cache", "cache_lane")
    engine = database.engine()
    with engine.connect() as connection:
        rows = {
            table: [
                dict(row) for row in connection.execute(text(f"SELECT * FROM {table}")).mappings()
            ]
            for table in tables
        }
    key = "`key`" if database.kind == "mariadb" else "key"

    def restore() -> None:
        with engine.begin() as connection:
            for table in tables:
                if database.kind == "postgresql":
                    connection.execute(text(f"TRUNCATE {table}"))
                else:
                    connection.execute(text(f"DELETE FROM {table}"))
                for row in rows[table]:
                    names = ", ".join(key if name == "key" else name for name in row)
                    marks = ", ".join(f":{name}" for name in row)
                    connection.execute(text(f"INSERT INTO {table} ({names}) VALUES ({marks})"), row)

    yield restore
    engine.dispose()


def test_case_10_restored_from_an_older_dump(worker: Worker, other: Worker, tmp_path: Path) -> None:
    worker.write("Front", "first")
    with dump(worker.database, tmp_path) as restore:
        worker.write("Front", "second")
        assert worker.read("Front") == other.read("Front") == "second"
        restore()
    assert stored(worker.database) == "first"
    assert worker.read("Front") == other.read("Front") == "first"
    worker.write("Front", "third")
    assert worker.read("Front") == other.read("Front") == "third"


def test_case_10_restored_and_gone_on_to_the_same_number(
    worker: Worker, other: Worker, tmp_path: Path
) -> None:
    # Nobody looks until the ledger is as long as it was, with other rows in it.
    worker.write("Front", "first")
    worker.write("Other", "first")
    with dump(worker.database, tmp_path) as restore:
        worker.write("Front", "second")
        assert other.read("Front") == "second"
        assert other.read("Other") == "first"
        restore()
    Worker(worker.database).write("Other", "third")
    assert stored(worker.database) == "first"
    assert other.read("Front") == "first"
    assert other.read("Other") == "third"


@pytest.mark.on("postgresql")
def test_case_10_restored_while_somebody_kept_a_transaction_open(
    worker: Worker, other: Worker, tmp_path: Path
) -> None:
    # The row that a process knows the ledger by is in the dump; those it read after it are not.
    worker.write("Front", "first")
    assert other.read("Front") == "first"
    held = worker.database.engine().connect()
    held.execute(text("SELECT pg_current_xact_id()"))
    with dump(worker.database, tmp_path) as restore:
        worker.write("Front", "second")
        assert other.read("Front") == "second"
        restore()
    assert other.read("Front") == "first"
    held.close()
    assert other.read("Front") == "first"


@pytest.mark.on("postgresql")
def test_case_10_open_transaction_and_an_empty_table(worker: Worker, other: Worker) -> None:
    # While somebody keeps a transaction open nothing can have been pruned: the first rows are
    # news, and not at each look.
    held = worker.database.engine().connect()
    held.execute(text("SELECT pg_current_xact_id()"))
    check(other)
    worker.write("Front", "first")
    assert other.read("Front") == "first"
    worker.write("Other", "first")
    assert other.read("Other") == "first"
    before = other.cache_manager.statistics.loads
    for _ in range(3):
        assert other.read("Front") == "first"
    assert other.cache_manager.statistics.loads == before
    held.close()


@pytest.mark.on("sqlite-wal", "sqlite-journal")
@pytest.mark.parametrize("uri", [False, True], ids=["path", "uri"])
@pytest.mark.parametrize("gone_on", [False, True], ids=["older", "gone on"])
def test_case_10_file_replaced(worker: Worker, tmp_path: Path, uri: bool, gone_on: bool) -> None:
    # Another file comes in the place of the one that is open.  Its ledger may be as long.
    file, copy = str(worker.database.url.database), str(tmp_path / "copy.db")
    worker.write("Front", "first")
    worker.engine.dispose()
    worker.cache_manager.close()
    _copy(file, copy)
    if gone_on:
        clone = Worker(Database("sqlite-journal", worker.database.url.set(database=copy)))
        clone.write("Front", "theirs")
        clone.cache_manager.close()
        clone.engine.dispose()
    engine = create_engine(f"sqlite:///file:{file}?uri=true") if uri else None
    running = Worker(worker.database, engine=engine)
    running.write("Front", "second")
    assert running.read("Front") == "second"
    for leftover in (f"{file}-wal", f"{file}-shm"):
        Path(leftover).unlink(missing_ok=True)
    os.replace(copy, file)
    assert running.read("Front") == ("theirs" if gone_on else "first")
    running.cache_manager.close()
    running.engine.dispose()


def test_case_10_table_made_anew(worker: Worker, other: Worker) -> None:
    # Somebody drops the tables and creates them again.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    worker.cache_manager.metadata.drop_all(worker.engine)
    worker.cache_manager.create_table()
    operator(worker.database, "UPDATE page SET text = 'new'")
    assert other.read("Front") == "new"
    worker.write("Front", "newer")
    assert other.read("Front") == worker.read("Front") == "newer"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_case_10_emptied_and_gone_on_to_the_same_number(worker: Worker, other: Worker) -> None:
    # By hand: without its newest row the table gives the same numbers again.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    newest = worker.cache_manager.status().newest_generation
    operator(worker.database, "DELETE FROM cache")
    worker.write("Front", "new")
    assert worker.cache_manager.status().newest_generation == newest
    assert other.read("Front") == "new"


# The side connection


def side_of(worker: Worker) -> Any:
    """The connection that *worker* reads its ledger on."""
    return worker.cache_manager.core.access._connections.reader._side


def end_session(worker: Worker) -> None:
    """The server ends the session of *worker*'s side connection."""
    side = side_of(worker)
    if worker.database.kind == "postgresql":
        ((pid,),) = side.execute("SELECT pg_backend_pid()", ()).rows
        operator(worker.database, f"SELECT pg_terminate_backend({pid}, 5000)")
    elif worker.database.kind == "mariadb":
        ((number,),) = side.execute("SELECT CONNECTION_ID()", ()).rows
        operator(worker.database, f"KILL {number}")
    else:
        side.close()


def test_lost_side_connection_drops_everything(worker: Worker, other: Worker) -> None:
    # What the server did while nobody was connected is unknown: after a crash it may even hand
    # out transaction numbers again, below a position that was read before.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    operator(worker.database, "UPDATE page SET text = 'new'")  # an invalidation that got lost
    end_session(other)
    assert other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_10_session_changed_under_the_connection(worker: Worker, other: Worker) -> None:
    # A pooler between us and the server: the connection lives on, the server's session is another.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    operator(worker.database, "UPDATE page SET text = 'new'")
    side_of(other).execute("DISCARD ALL", ())
    assert other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_10_session_changed_while_nothing_happened(worker: Worker, other: Worker) -> None:
    # The snapshot is the same, but may be another server's that is as far.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    check_until_calm(other)
    before = PageText.calls
    side_of(other).execute("DISCARD ALL", ())
    assert other.read("Front") == "old"
    assert PageText.calls == before + 1


def test_case_10_closed_manager(worker: Worker, other: Worker) -> None:
    # Nothing vouches for what is in memory after the connections were closed.
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    other.cache_manager.close()
    operator(worker.database, "UPDATE page SET text = 'new'")
    assert other.read("Front") == "new"


def test_case_10_value_of_an_open_transaction(worker: Worker, other: Worker) -> None:
    # Everything is dropped, but not what a transaction knows of itself.
    worker.write("Front", "old")
    with worker.cache_manager.request(), worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        assert PageText(worker, "Front").text == "new"
        worker.cache_manager.evict()
        assert PageText(worker, "Front").text == "new"
    assert worker.read("Front") == other.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_case_10_pruned_below_the_only_row_known(worker: Worker, other: Worker) -> None:
    """A process knows one row of the ledger and none below it: a transaction with a lower number is
    open.  That one commits and its row is pruned; the row that the process knows is still there."""
    worker.write("Front", "old")
    writer = Worker(worker.database)
    with other.engine.begin() as connection:
        put(connection, "Front", "new")  # takes the lower number
        del PageText(other, "Front").text
        writer.write("Back", "text")
        writer.cache_manager.prune(keep=1)
        assert worker.read("Front") == "old"
        worker.cache_manager.close()  # so that it looks anew
        assert worker.read("Front") == worker.read("Front") == "old"
    writer.cache_manager.prune(keep=1)
    assert worker.read("Front") == "new"
