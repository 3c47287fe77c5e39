"""Ledgers and database files: what is replaced, restored, attached, forked, or held open."""

from __future__ import annotations

import os
import resource
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.pool import NullPool

from coherent_cache import Strict

from ..children import fork
from ..databases import Database, sqlite_url
from ..hard_cases.support import check, in_thread, loads
from ..hard_cases.test_case_10_pruned_and_born_again import dump
from ..workers import PageText, Worker, metadata, put, wait_for_older_transactions


def _copy_restored(file: str, copy: str) -> None:
    """Make another file of *file*, in which all pages are "restored"."""
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
        target.execute("UPDATE page SET text = 'restored'")
        target.commit()


def attached(tmp_path: Path, file: Path, **options: Any) -> Worker:
    """A process whose main file is test.db, and whose ledger and pages are in *file*."""
    database = Database("sqlite-wal", sqlite_url(tmp_path))
    poolclass = options.pop("poolclass", None)
    engine = database.engine(**({"poolclass": poolclass} if poolclass else {}))

    @event.listens_for(engine, "connect")
    def attach(connection: Any, record: Any) -> None:
        connection.execute(f"ATTACH '{file}' AS beside")
        connection.execute("PRAGMA beside.journal_mode=WAL")

    return Worker(database, engine=engine, schema="beside", **options)


def make_pages_beside(file: Path) -> None:
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TABLE page (name VARCHAR(100) PRIMARY KEY, text VARCHAR(1000) NOT NULL, "
            "version INTEGER NOT NULL DEFAULT 0)"
        )
        connection.commit()


def test_shared_memory_of_another_file(tmp_path: Path) -> None:
    """The ledger is in an attached file, `Strict(shared_memory=True)` looks at the main one."""
    file = tmp_path / "beside.db"
    make_pages_beside(file)
    with closing(sqlite3.connect(tmp_path / "test.db")) as keep:
        keep.execute("PRAGMA journal_mode=WAL")
        keep.execute("CREATE TABLE something (a)")
        keep.commit()
        writer = attached(tmp_path, file)
        writer.cache_manager.create_table()
        writer.write("Front", "old")
        reader = attached(tmp_path, file, freshness=Strict(shared_memory=True))
        for _ in range(5):
            assert reader.read("Front") == "old"
        writer.write("Front", "new")
        assert writer.read("Front") == "new"
        assert reader.read("Front") == "new"


def test_attached_file_is_replaced(tmp_path: Path) -> None:
    """Each transaction has a connection of its own and sees the new file; checks see the old."""
    file, copy = tmp_path / "beside.db", tmp_path / "copy.db"
    make_pages_beside(file)
    writer = attached(tmp_path, file, poolclass=NullPool)
    writer.cache_manager.create_table()
    writer.write("Front", "old")
    reader = attached(tmp_path, file, poolclass=NullPool)
    assert reader.read("Front") == "old"
    _copy_restored(file, copy)
    for end in ("-wal", "-shm"):
        Path(f"{file}{end}").unlink(missing_ok=True)
    os.replace(copy, file)
    late = attached(tmp_path, file, poolclass=NullPool)
    late.write("Front", "new")
    with reader.engine.connect() as connection:
        assert connection.scalar(text("SELECT text FROM page")) == "new"
    assert reader.read("Front") == "new"


def test_symbolic_link_to_another_file(tmp_path: Path) -> None:
    """The URL names a symbolic link, which is made to point to another file.  Each transaction has
    a connection of its own and sees the new file; checks see the old."""
    first, second, link = tmp_path / "first.db", tmp_path / "second.db", tmp_path / "test.db"
    link.symlink_to(first)
    database = Database("sqlite-wal", sqlite_url(tmp_path))

    def process() -> Worker:
        return Worker(database, engine=database.engine(poolclass=NullPool))

    old = process()
    metadata.create_all(old.engine)
    old.cache_manager.create_table()
    old.write("Front", "old")
    reader = process()
    assert reader.read("Front") == "old"
    with closing(sqlite3.connect(first)) as source, closing(sqlite3.connect(second)) as target:
        source.backup(target)
    new = tmp_path / "new"
    new.symlink_to(second)
    os.replace(new, link)
    late = process()
    late.write("Front", "new")
    with create_engine(database.url, poolclass=NullPool).connect() as connection:
        assert connection.scalar(text("SELECT text FROM page")) == "new"
    assert reader.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_a_connection_to_the_file_that_was_replaced(worker: Worker, tmp_path: Path) -> None:
    """
    thread A  has a connection, and no transaction
    somebody  replaces the file
    thread B  looks: the file is another one, everything is dropped, the pool is disposed of
    thread A  begins a transaction on its connection, of the old file, and reads
    thread B  is given that
    """
    file, copy = str(worker.database.url.database), str(tmp_path / "copy.db")
    worker.write("Front", "old")
    _copy_restored(file, copy)
    reader = Worker(worker.database)
    with reader.engine.connect() as kept:
        kept.execute(text("SELECT 1"))
        kept.commit()
        for end in ("-wal", "-shm"):
            Path(f"{file}{end}").unlink(missing_ok=True)
        os.replace(copy, file)
        for _ in range(15):
            assert in_thread(lambda: reader.read("Front")) == "restored"
        reader.cache_manager.evict()

        def of_the_kept() -> None:
            with reader.cache_manager.request():
                reader.cache_manager.get(
                    "the front", lambda: kept.scalar(text("SELECT text FROM page"))
                )

        with kept.begin():
            of_the_kept()
    got = in_thread(
        lambda: reader.cache_manager.get(
            "the front",
            lambda: reader.engine.connect().__enter__().scalar(text("SELECT text FROM page")),
        )
    )
    assert got == "restored"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize("numbers", ["lower", "higher and pruned"])
def test_a_clone_comes_back(worker: Worker, other: Worker, numbers: str) -> None:
    """
    reader    has "old" and knows the newest row
    somebody  clones the database to another server, which has given fewer numbers (or more); the
              application there changes the page and invalidates it
    somebody  dumps the clone and restores it here, in one transaction
    reader    finds its anchor and its head, for the clone has them, and not the rows that were
              written in the clone
    """
    worker.write("Front", "old")
    reader = Worker(worker.database)
    assert reader.read("Front") == "old"
    # The key as the clone's row has it.
    with worker.engine.begin() as connection:
        rows = connection.execute(
            text("SELECT key, key_hash FROM cache WHERE key LIKE '%Front%'")
        ).all()
        key, key_hash = rows[0]
        upper = connection.scalar(
            text("SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
        )
    number = 1000 if numbers == "lower" else upper + 1_000_000
    # pg_restore --clean --single-transaction, with the same rows and one more.
    with worker.engine.begin() as connection:
        for table in ("cache", "page"):
            connection.execute(
                text(f"CREATE TEMP TABLE dump_{table} ON COMMIT DROP AS TABLE {table}")
            )
        connection.execute(text("DROP TABLE cache, page"))
        metadata.create_all(connection)
        worker.cache_manager.metadata.create_all(connection)
        connection.execute(text("DELETE FROM cache"))
        for table in ("cache", "page"):
            connection.execute(text(f"INSERT INTO {table} SELECT * FROM dump_{table}"))
        connection.execute(
            text(
                "SELECT setval(pg_get_serial_sequence('cache', 'generation'), "
                "(SELECT MAX(generation) + 1 FROM cache))"
            )
        )
        connection.execute(
            text(
                "INSERT INTO cache (generation, key, key_hash, lane, position, token) "
                "SELECT MAX(generation) + 1, :key, :hash, 0, :number, 4711 FROM cache"
            ),
            {"key": key, "hash": key_hash, "number": number},
        )
        connection.execute(text("UPDATE page SET text = 'from the clone'"))
    if numbers != "lower":
        worker.cache_manager.prune()
    fresh = Worker(worker.database)
    assert fresh.read("Front") == "from the clone"
    for _ in range(3):
        assert reader.read("Front") == "from the clone"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_a_commit_that_fails_and_is_tried_again(worker: Worker, other: Worker) -> None:
    """text("COMMIT") fails by a deferred constraint: SQLite goes on with the transaction.  The
    application goes back to a savepoint, and with it our rows, and commits."""
    with worker.engine.begin() as connection:
        connection.execute(text("CREATE TABLE parent (id INTEGER PRIMARY KEY)"))
        connection.execute(
            text(
                "CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER "
                "REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)"
            )
        )
    worker.write("Front", "old")
    assert other.read("Front") == worker.read("Front") == "old"
    with worker.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA foreign_keys = ON")
        connection.commit()
        with worker.cache_manager.request():
            put(connection, "Front", "new")
            del PageText(worker, "Front").text
            connection.execute(text("SAVEPOINT tried"))
            connection.execute(text("INSERT INTO child VALUES (1, 1)"))
            with pytest.raises(Exception, match="FOREIGN KEY"):
                connection.execute(text("COMMIT"))
            connection.execute(text("ROLLBACK TO tried"))
            connection.execute(text("COMMIT"))
            connection.commit()
    assert Worker(worker.database).read("Front") == "new"
    assert other.read("Front") == "new"


@pytest.mark.on("sqlite-journal")
def test_quiet_after_a_check_within_another_file(worker: Worker, tmp_path: Path) -> None:
    """Decision 62: `check_within` moves the position to that of the file that was replaced, and
    the version of the new file, which has not changed, vouches for it."""
    file, copy = str(worker.database.url.database), str(tmp_path / "copy.db")
    worker.write("Front", "old")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    gone_on = Worker(Database("sqlite-journal", worker.database.url.set(database=copy)))
    gone_on.write("Front", "theirs")
    gone_on.cache_manager.close()
    gone_on.engine.dispose()
    reader = Worker(worker.database)
    with reader.engine.connect() as kept:
        kept.execute(text("SELECT 1"))
        kept.commit()
        os.replace(copy, file)
        for _ in range(15):
            assert in_thread(lambda: reader.read("Front")) == "theirs"

        def use_kept() -> None:
            with kept.begin():
                kept.exec_driver_sql("BEGIN")
                kept.execute(text("SELECT text FROM page")).all()
                with reader.cache_manager.request():
                    _ = PageText(reader, "Front").text

        use_kept()
        use_kept()
        assert in_thread(lambda: reader.read("Front")) == "theirs"


def test_two_files_are_not_committed_at_once(tmp_path: Path) -> None:
    """The pages are in the main file and the ledger in an attached one, as in
    `test_a_ledger_in_an_attached_file`, both with a WAL: SQLite commits the one, then the other.
    The disk of the second is full: the COMMIT fails, the pages are committed, the invalidation is
    not."""
    file = tmp_path / "beside.db"
    writer = attached(tmp_path, file)
    metadata.create_all(writer.engine)
    writer.cache_manager.create_table()
    writer.write("Front", "old")
    reader = attached(tmp_path, file)
    assert reader.read("Front") == "old"
    with reader.engine.connect() as keep:
        keep.execute(text("SELECT 1"))
        size = max(0, os.path.getsize(f"{file}-wal"))
        main = os.path.getsize(tmp_path / "test.db-wal")
        # The attached file's WAL is the larger one.
        with reader.engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE beside.filler (a)")
            connection.exec_driver_sql("INSERT INTO beside.filler VALUES (zeroblob(600000))")
        size = os.path.getsize(f"{file}-wal")
        assert size > main + 200_000
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(Exception, match="disk"):
                writer.write("Front", "new")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    with closing(sqlite3.connect(tmp_path / "test.db")) as plain:
        (now,) = plain.execute("SELECT text FROM page").fetchone()
    assert reader.read("Front") == now


def test_two_files_become_visible_one_after_the_other(tmp_path: Path) -> None:
    """The ledger is in the main file and the pages in an attached one, both with a WAL: between the
    one's commit and the other's a check has the news, and a load the old page."""
    file = tmp_path / "beside.db"
    make_pages_beside(file)

    def process() -> Worker:
        database = Database("sqlite-wal", sqlite_url(tmp_path))
        engine = database.engine()

        @event.listens_for(engine, "connect")
        def attach(connection: Any, record: Any) -> None:
            connection.execute(f"ATTACH '{file}' AS beside")
            connection.execute("PRAGMA beside.journal_mode=WAL")
            connection.execute("PRAGMA beside.cache_size=-400000")

        return Worker(database, engine=engine)

    writer = process()
    writer.cache_manager.create_table()
    writer.write("Front", "old")
    with writer.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE beside.filler (a)")
    reader = process()
    assert reader.read("Front") == "old"
    ended = threading.Event()

    def write() -> None:
        with writer.cache_manager.begin() as connection:
            connection.exec_driver_sql("INSERT INTO beside.filler VALUES (zeroblob(150000000))")
            put(connection, "Front", "new")
            del PageText(writer, "Front").text
        ended.set()

    thread = threading.Thread(target=write)
    thread.start()
    while not ended.is_set():
        reader.read("Front")
        time.sleep(0.002)
    thread.join()
    assert reader.read("Front") == "new"


@pytest.mark.on("postgresql")
def test_restored_from_a_dump_made_between_two_commits(worker: Worker, other: Worker) -> None:
    """
    A         writes its row in the ledger, and does not commit
    B         writes its row, which has the greater number, and commits
    somebody  makes a dump
    A         commits
    reader    reads the news of both, and A's page
    somebody  restores the dump in one transaction, which undoes A
    reader    finds its anchor and its head, which are B's row
    """
    worker.write("Front", "old")
    worker.write("Back", "old")
    reader = Worker(worker.database)
    assert reader.read("Front") == reader.read("Back") == "old"
    gate, go = threading.Event(), threading.Event()
    writer = worker.cache_manager.core.ledger
    original = writer.insert_rows

    # The rows first, in a statement of their own, and then the COMMIT is held up.
    writer.commits_with_the_rows = False
    with worker.engine.connect() as a:
        put(a, "Front", "new")
        del PageText(worker, "Front").text

        def hold(keys_execute: Any, *args: Any, **kw: Any) -> None:
            original(keys_execute, *args, **kw)
            gate.set()
            assert go.wait(20)

        writer.insert_rows = hold  # type: ignore[method-assign]
        thread = threading.Thread(target=a.commit)
        thread.start()
        assert gate.wait(20)
        writer.insert_rows = original  # type: ignore[method-assign]
        other.write("Back", "new")
        with other.engine.begin() as dump:
            for table in ("cache", "page"):
                dump.execute(text(f"CREATE TABLE dump_{table} AS TABLE {table}"))
        go.set()
        thread.join()
    assert reader.read("Front") == reader.read("Back") == "new"
    with other.engine.begin() as restore:
        for table in ("cache", "page"):
            restore.execute(text(f"DELETE FROM {table}"))
            restore.execute(text(f"INSERT INTO {table} SELECT * FROM dump_{table}"))
    assert Worker(worker.database).read("Front") == "old"
    for _ in range(3):
        assert reader.read("Front") == "old"


def _copy_in(connection: Any, table: str, options: str = "") -> None:
    """What pg_restore does with the rows of *table*, which are in dump_*table*."""
    cursor = connection.connection.driver_connection.cursor()
    with cursor.copy(f"COPY dump_{table} TO STDOUT") as out:
        rows = [bytes(row) for row in out]
    with cursor.copy(f"COPY {table} FROM STDIN {options}") as into:
        for row in rows:
            into.write(row)


def _restore(connection: Any, table: str, how: str) -> None:
    """Put what is in dump_*table* in the place of what is in *table*."""

    def execute(statement: str) -> None:
        connection.exec_driver_sql(statement)

    insert = f"INSERT INTO {table} SELECT * FROM dump_{table}"
    match how:
        case "DELETE and INSERT":
            execute(f"DELETE FROM {table}")
            execute(insert)
        case "within a savepoint":
            execute(f"SAVEPOINT a; DELETE FROM {table}; {insert}; RELEASE SAVEPOINT a")
        case "TRUNCATE and COPY":
            execute(f"TRUNCATE {table}")
            _copy_in(connection, table)
        case "TRUNCATE and COPY FREEZE":
            execute(f"TRUNCATE {table}")
            _copy_in(connection, table, "(FREEZE)")
        case "DROP, CREATE and COPY":
            execute(f"DROP TABLE {table} CASCADE")
            execute(f"CREATE TABLE {table} (LIKE dump_{table} INCLUDING ALL)")
            _copy_in(connection, table)
        case "over what is there":
            key, rest = ("generation", "position") if table == "cache" else ("name", "text")
            execute(f"DELETE FROM {table} WHERE {key} NOT IN (SELECT {key} FROM dump_{table})")
            execute(f"{insert} ON CONFLICT ({key}) DO UPDATE SET {rest} = EXCLUDED.{rest}")
        case "another table takes its name":
            execute(f"DROP TABLE {table} CASCADE; ALTER TABLE dump_{table} RENAME TO {table}")
        case "another schema takes its name":
            execute("CREATE SCHEMA IF NOT EXISTS restored")
            execute(f"ALTER TABLE dump_{table} SET SCHEMA restored")
            execute(f"ALTER TABLE restored.dump_{table} RENAME TO {table}")
            if table == "page":  # the last one
                execute("ALTER SCHEMA public RENAME TO before")
                execute("ALTER SCHEMA restored RENAME TO public")
                execute("DROP SCHEMA before CASCADE")


@pytest.mark.on("postgresql")
@pytest.mark.parametrize(
    "how",
    [
        "DELETE and INSERT",
        "within a savepoint",
        "TRUNCATE and COPY",
        "TRUNCATE and COPY FREEZE",
        "DROP, CREATE and COPY",
        "over what is there",
        "another table takes its name",
        "another schema takes its name",
    ],
)
@pytest.mark.parametrize("held_open", [False, True], ids=["nobody", "held open"])
def test_restored_to_before_a_commit_that_was_not_read(
    worker: Worker, how: str, held_open: bool
) -> None:
    """
    reader    looks at the ledger
    somebody  makes a dump
    worker    writes "undone"
    reader    reads that page, in the request that has looked: its news are not read yet
    somebody  restores the dump
    reader    finds every row that it knows, and none that is news
    """
    worker.write("Front", "old")
    reader = Worker(worker.database)
    assert reader.read("Front") == "old"
    reader.cache_manager.evict()
    with worker.database.engine().connect() as held:
        if held_open:  # the horizon stays where it is
            held.execute(text("SELECT pg_current_xact_id()"))
        with reader.cache_manager.request():
            reader.cache_manager.get("something", lambda: None)
            with worker.engine.begin() as somebody:
                for table in ("cache", "page"):
                    somebody.exec_driver_sql(
                        f"CREATE TABLE dump_{table} (LIKE {table} INCLUDING ALL); "
                        f"INSERT INTO dump_{table} SELECT * FROM {table}"
                    )
            worker.write("Front", "undone")
            assert PageText(reader, "Front").text == "undone"
        with worker.engine.begin() as somebody:
            for table in ("cache", "page"):
                _restore(somebody, table, how)
        for _ in range(3):
            assert reader.read("Front") == "old"


@pytest.mark.on("postgresql")
def test_restored_where_no_row_was_known(worker: Worker) -> None:
    """A table without a first row (made by Alembic's autogenerate), empty when it was looked at; a
    transaction that somebody keeps open holds the horizon back.  What is restored has lower numbers
    than any that is news."""
    worker.write("Front", "old")
    with worker.engine.begin() as connection:
        connection.execute(text("CREATE TABLE dump AS SELECT * FROM cache WHERE generation > 0"))
        connection.execute(text("DELETE FROM cache"))
    reader = Worker(worker.database)
    with worker.database.engine().connect() as held:
        held.execute(text("SELECT pg_current_xact_id()"))
        assert reader.read("Front") == "old"
        with worker.engine.begin() as restore:
            restore.execute(text("INSERT INTO cache SELECT * FROM dump"))
            restore.execute(text("UPDATE page SET text = 'restored'"))
        for _ in range(3):
            assert reader.read("Front") == "restored"


@pytest.mark.on("postgresql")
def test_only_the_rows_above_the_horizon_are_restored(worker: Worker, other: Worker) -> None:
    """By a program that compares, and changes what differs: the anchor, which lies far back where
    somebody keeps a transaction open, is not touched; the newest row that was seen is gone."""
    worker.write("Front", "first")
    assert other.read("Front") == "first"
    with worker.database.engine().connect() as held:
        held.execute(text("SELECT pg_current_xact_id()"))
        with worker.engine.begin() as connection:
            last = connection.scalar(text("SELECT MAX(generation) FROM cache"))
        worker.write("Front", "second")
        assert other.read("Front") == "second"
        with worker.engine.begin() as restore:
            restore.execute(text(f"DELETE FROM cache WHERE generation > {last}"))
            restore.execute(text("UPDATE page SET text = 'first'"))
        for _ in range(3):
            assert other.read("Front") == "first"


@pytest.mark.on("postgresql")
@pytest.mark.parametrize(
    "statement", ["VACUUM FREEZE cache", "VACUUM FULL cache", "CLUSTER cache USING cache_pkey"]
)
def test_nothing_is_dropped_where_rows_are_moved(worker: Worker, statement: str) -> None:
    """`xmin` stays what it is."""
    worker.write("Front", "old")
    reader = Worker(worker.database)
    assert reader.read("Front") == "old"
    wait_for_older_transactions(worker)
    check(reader)
    assert reader.read("Front") == "old"
    before = loads(reader)
    with worker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statement))
    worker.write("Back", "new")
    assert reader.read("Front") == "old"
    assert loads(reader) == before
    worker.write("Front", "new")
    assert reader.read("Front") == "new"


@pytest.mark.parametrize("here", ["idle", "has gone on", "has gone on and was read"])
@pytest.mark.parametrize("there", ["as it was", "pruned"])
def test_a_clone_that_went_on_comes_back(
    worker: Worker, tmp_path: Path, here: str, there: str
) -> None:
    """
    somebody  clones the database
    worker    goes on here
    another   goes on in the clone
    somebody  restores the clone here, while the reader is idle
    """
    names = ("Front", "Back", "Rear")
    for name in names:
        worker.write(name, "old")
    reader = Worker(worker.database)
    for _ in range(15):  # in the end it asks for less
        assert [reader.read(name) for name in names] == ["old"] * 3
    with dump(worker.database, tmp_path) as back_to_the_clone:
        if here != "idle":
            worker.write("Back", "undone")
            worker.write("Rear", "undone")
        if here.endswith("read"):
            assert reader.read("Rear") == reader.read("Back") == "undone"
        back_to_the_clone()
    another = Worker(worker.database)
    another.write("Front", "from the clone")
    if there == "pruned":
        another.write("Rear", "from the clone")
        wait_for_older_transactions(worker)
        another.cache_manager.prune(keep=1)
    (tmp_path / "dump.db").unlink(missing_ok=True)
    with dump(worker.database, tmp_path) as restore:
        restore()
    expected = [Worker(worker.database).read(name) for name in names]
    assert expected[0] == "from the clone"
    for _ in range(3):
        assert [reader.read(name) for name in names] == expected


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("charset", ["utf8mb3", "latin1"])
@pytest.mark.parametrize("writes", ["utf8mb4", "the same"])
def test_keys_of_a_connection_with_a_smaller_character_set(
    worker: Worker, charset: str, writes: str
) -> None:
    """A process whose connections have `charset=utf8` (or latin1) gets a question mark for what
    that cannot say, and drops nothing."""
    name = "\N{GRINNING FACE}" if charset == "utf8mb3" else "\N{CJK UNIFIED IDEOGRAPH-65E5}"
    small = Database("mariadb", worker.database.url.update_query_dict({"charset": charset}))
    reader = Worker(small)
    writer = worker if writes == "utf8mb4" else Worker(small)
    try:
        _invalidated_for_the_reader(name, reader, writer)
    finally:
        reader.cache_manager.close()
        small.dispose()


def _invalidated_for_the_reader(name: str, reader: Worker, writer: Worker) -> None:
    values = ["old"]
    assert reader.cache_manager.get(name, lambda: values[0]) == "old"
    values[0] = "new"
    with writer.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        writer.cache_manager.invalidate(name)
    assert reader.cache_manager.get(name, lambda: values[0]) == "new"


@pytest.mark.on("mariadb")
def test_keys_in_a_session_that_is_not_strict(worker: Worker) -> None:
    small = Database(
        "mariadb",
        worker.database.url.update_query_dict(
            {"charset": "utf8mb3", "sql_mode": "NO_ENGINE_SUBSTITUTION"}
        ),
    )
    writer = Worker(small)
    try:
        _invalidated_for_the_reader("face \N{GRINNING FACE}", worker, writer)
    finally:
        writer.cache_manager.close()
        small.dispose()


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_file_replaced_with_an_engine_for_the_ledger(worker: Worker, tmp_path: Path) -> None:
    """The pool that is disposed of is the ledger engine's; the application's idle connections go on
    with the file that is no longer there, and what they read is served to all."""
    file, copy = str(worker.database.url.database), str(tmp_path / "copy.db")
    worker.write("Front", "old")
    _copy_restored(file, copy)
    reader = Worker(worker.database, ledger_engine=worker.database.engine())
    assert reader.read("Front") == "old"
    for end in ("-wal", "-shm"):
        Path(f"{file}{end}").unlink(missing_ok=True)
    os.replace(copy, file)
    for _ in range(3):
        assert reader.read("Front") == "restored"


@pytest.mark.on("sqlite-journal")
def test_rows_that_the_application_inserts_itself(worker: Worker) -> None:
    """
    thread R  begins a request, looks
    thread T  writes, and inserts the ledger's row itself (a program may)
    thread T  reads a cached value: a check within it, whose position passes its own row
    thread R  reads the page: the old one, as new as the store knows
    thread T  commits
    thread R  a new request: its check begins at T's row, and has no news
    """
    worker.write("Front", "old")
    with worker.engine.begin() as connection:
        key, key_hash = connection.execute(
            text("SELECT key, key_hash FROM cache WHERE key LIKE '%Front%'")
        ).one()
    manager = worker.cache_manager
    looked, wrote, loaded = threading.Event(), threading.Event(), threading.Event()

    def reads() -> None:
        with manager.request():
            manager.get("something", lambda: None)
            looked.set()
            assert wrote.wait(20)
            assert PageText(worker, "Front").text == "old"
            loaded.set()

    thread = threading.Thread(target=reads)
    thread.start()
    assert looked.wait(20)
    with worker.engine.begin() as connection:
        put(connection, "Front", "new")
        connection.execute(
            text(
                "INSERT INTO cache (key, key_hash, lane, position, token) "
                "VALUES (:key, :hash, 0, 0, 4711)"
            ),
            {"key": key, "hash": key_hash},
        )
        manager.get("another thing", lambda: None)
        wrote.set()
        assert loaded.wait(20)
    thread.join()
    assert Worker(worker.database).read("Front") == "new"
    for _ in range(3):
        assert worker.read("Front") == "new"


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("what", ["reads", "writes"])
def test_a_child_whose_parent_has_gone(worker: Worker, what: str) -> None:
    """
    parent  uses the manager, disposes of its engine, forks, and ends (closes what it has)
    child   reads: SQLite takes the inherited connection of the ledger for one that has the locks
            of this process, so the child's own connections have none
    others  are the last who have the file open, as far as locks say: they delete the WAL
    child   goes on with the deleted one, for good: it sees no commit, and nobody sees its own
    """
    worker.write("Front", "old")
    worker.engine.dispose()
    assert worker.read("Front") == "old"
    worker.engine.dispose()  # what is left is the ledger's own connection
    ready, go = os.pipe(), os.pipe()

    def in_child() -> str | None:
        first = worker.read("Front")
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        if what == "writes":
            worker.write("Mine", "written by the child")
            return first
        return worker.read("Front")

    child = fork(in_child)
    os.read(ready[0], 1)
    worker.cache_manager.close()
    worker.engine.dispose()
    for value in ("new", "newer"):
        another = Worker(worker.database)
        another.write("Front", value)
        another.cache_manager.close()
        another.engine.dispose()
    os.write(go[1], b"x")
    found = child.join()
    if what == "reads":
        assert found == "newer"
    else:
        assert Worker(worker.database).read("Mine") == "written by the child"


@pytest.mark.on("postgresql")
def test_a_key_that_the_readers_client_encoding_has_not(worker: Worker) -> None:
    """A process with `client_encoding=latin1`: each check fails by the key of another process,
    until that row is pruned."""
    reader = Worker(
        worker.database, engine=worker.database.engine(connect_args={"client_encoding": "latin1"})
    )
    assert reader.read("Front") is None
    with worker.cache_manager.begin() as connection:
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        worker.cache_manager.invalidate("\N{CJK UNIFIED IDEOGRAPH-65E5}")
    for _ in range(2):
        assert reader.read("Front") == "new"


@pytest.mark.on("mariadb")
@pytest.mark.parametrize("what", ["never committed", "rolled back to a savepoint"])
def test_a_compound_statement_is_no_begin(worker: Worker, other: Worker, what: str) -> None:
    """BEGIN NOT ATOMIC commits nothing and may write: it is taken for BEGIN, which commits."""
    worker.write("Front", "old")
    worker.write("Back", "old")
    assert other.read("Back") == "old"
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        if what == "never committed":
            connection.exec_driver_sql(
                "BEGIN NOT ATOMIC UPDATE page SET text = 'uncommitted' WHERE name = 'Front'; END"
            )
            found = worker.cache_manager.get(
                "a text",
                lambda: connection.scalar(text("SELECT text FROM page WHERE name = 'Front'")),
            )
            assert found == "uncommitted"
            connection.rollback()
        else:
            put(connection, "Back", "new")
            del PageText(worker, "Back").text
            nested = connection.begin_nested()
            connection.exec_driver_sql("BEGIN NOT ATOMIC SET @nothing = 1; END")
            nested.rollback()
            connection.commit()
    if what == "never committed":
        assert in_thread(lambda: worker.cache_manager.get("a text", lambda: "old")) == "old"
    else:
        assert Worker(worker.database).read("Back") == "new"
        assert other.read("Back") == "new"


@pytest.mark.on("postgresql")
def test_a_cursor_that_was_opened_before(worker: Worker, other: Worker) -> None:
    """Under READ COMMITTED each statement has its own snapshot, but FETCH has the cursor's."""
    worker.write("Front", "old")
    with worker.engine.connect() as connection:
        connection.execute(text("DECLARE c CURSOR FOR SELECT text FROM page"))
        other.write("Front", "new")
        with worker.cache_manager.request():
            worker.cache_manager.get("something", lambda: None)
            PageText(worker, "Front")

            def retrieve() -> str:
                return connection.exec_driver_sql("FETCH ALL FROM c").scalars().one()

            worker.cache_manager.get("from the cursor", retrieve)
    assert in_thread(lambda: worker.cache_manager.get("from the cursor", lambda: "new")) == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_the_file_is_replaced_while_the_ledger_connects(worker: Worker, tmp_path: Path) -> None:
    """
    reader    connects, for its first check or for another reason
    somebody  replaces the file
    reader    notes the number of the file that is there now, and takes it for its own
    """
    file, copy = str(worker.database.url.database), str(tmp_path / "copy.db")
    worker.write("Front", "old")
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    worker.cache_manager.close()
    worker.engine.dispose()
    engine = worker.database.engine(poolclass=NullPool)
    engine.connect().close()
    replaced = []

    @event.listens_for(engine, "connect")
    def replace(connection: Any, record: Any) -> None:
        connection.execute("SELECT * FROM page").fetchall()
        if not replaced:
            replaced.append(True)
            for end in ("-wal", "-shm"):
                Path(f"{file}{end}").unlink(missing_ok=True)
            os.replace(copy, file)

    reader = Worker(worker.database, engine=engine)
    assert reader.read("Front") == "old"
    assert replaced
    late = Worker(worker.database)
    late.write("Front", "new")
    with reader.engine.connect() as connection:
        assert connection.scalar(text("SELECT text FROM page")) == "new"
    for _ in range(3):
        assert reader.read("Front") == "new"


@pytest.mark.on("mariadb")
def test_a_savepoint_of_the_same_name(worker: Worker, other: Worker) -> None:
    """On MariaDB a savepoint takes the place of the one that has the same name; a ROLLBACK TO one
    that is not there any more fails and undoes nothing."""
    worker.write("Front", "old")
    assert other.read("Front") == "old"
    with worker.cache_manager.request(), worker.engine.connect() as connection:
        connection.execute(text("SAVEPOINT a"))
        put(connection, "Front", "new")
        del PageText(worker, "Front").text
        connection.execute(text("SAVEPOINT a"))
        connection.execute(text("RELEASE SAVEPOINT a"))
        with pytest.raises(Exception, match="SAVEPOINT a does not exist"):
            connection.execute(text("ROLLBACK TO SAVEPOINT a"))
        connection.commit()
    assert Worker(worker.database).read("Front") == "new"
    assert other.read("Front") == "new"


@pytest.mark.on("sqlite-wal")
@pytest.mark.parametrize("begin", ["begin", "connect"])
def test_a_select_beside_one_that_has_not_ended(worker: Worker, other: Worker, begin: str) -> None:
    """
    reader  goes through the rows of a SELECT; there is no BEGIN (the driver sends one only before a
            write), but SQLite keeps the snapshot of that SELECT until it has ended
    writer  commits
    reader  reads a cached value in the loop: it looks at the ledger, its SELECT shares the old
            snapshot and is labelled with the look ("each SELECT has its own snapshot")
    """
    for name in ("Front", "Middle", "Rear"):
        other.write(name, "old")
    manager = worker.cache_manager
    opened: Any = manager.begin() if begin == "begin" else worker.engine.connect()
    with opened as connection:
        for number, (name,) in enumerate(connection.execute(text("SELECT name FROM page"))):
            if number == 0:
                other.write("Front", "new")
            with manager.request():
                PageText(worker, name).text  # noqa: B018
    assert Worker(worker.database).read("Front") == "new"
    for _ in range(3):
        assert in_thread(lambda: worker.read("Front")) == "new"


@pytest.mark.on("sqlite-wal")
def test_a_select_that_has_not_ended_when_its_connection_is_given_back(
    worker: Worker, other: Worker
) -> None:
    """The same with a result that somebody holds: the next request gets the connection from the
    pool, and with it the old snapshot."""
    for name in ("Front", "Middle", "Rear"):
        other.write(name, "old")
    with worker.engine.connect() as connection:
        held = connection.execute(text("SELECT name FROM page"))
        held.fetchone()
    other.write("Front", "new")
    worker.read("Front")
    held.close()
    del held
    assert Worker(worker.database).read("Front") == "new"
    for _ in range(3):
        assert worker.read("Front") == "new"


@pytest.mark.on("sqlite-journal")
def test_a_check_beside_a_select_that_has_not_ended(worker: Worker, other: Worker) -> None:
    """
    reader  goes through the rows of a SELECT, whose lock it has until that ends
    writer  commits, and waits for that lock (as it would without the library, for a moment)
    reader  looks at the ledger beside it, and waits for the writer: until one of them gives up
    """
    for name in ("Front", "Middle", "Rear"):
        other.write(name, "old")
    assert worker.read("Front") == "old"
    errors: list[BaseException] = []

    def write() -> None:
        try:
            other.write("Front", "new")
        except Exception as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    start = time.monotonic()
    with worker.cache_manager.begin() as connection:
        for number, (name,) in enumerate(connection.execute(text("SELECT name FROM page"))):
            if number == 0:
                writer.start()
                time.sleep(0.3)
            PageText(worker, name).text  # noqa: B018
    writer.join()
    assert not errors
    assert time.monotonic() - start < 3
