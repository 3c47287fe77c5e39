"""Strict without a statement: what SQLite's shared memory shows, and what it does not."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from coherent_cache import CacheManager, Strict
from coherent_cache.wal_index import _is_locked_by_us, _mapped_at, map_wal_index, names_a_state

from .asking_nothing import (
    CountingWorker,
    asks_after_a_commit_only,
    asks_for_what_comes_during_a_check,
    sees_own_commits_and_rollbacks,
)
from .children import fork
from .databases import Database
from .schedules.schedule import Schedule
from .workers import Worker, metadata

pytestmark = pytest.mark.on("sqlite-wal")

if sys.platform != "linux":
    pytest.skip("only on Linux", allow_module_level=True)

SHARED = Strict(shared_memory=True)


class Reader(CountingWorker):
    def __init__(self, database: Database) -> None:
        super().__init__(database, freshness=SHARED)

    def warm(self) -> None:
        """Be past the check that maps the memory, and one that has looked at it before."""
        for _ in range(3):
            self.read("Front")


def shm(worker: Worker) -> Path:
    return Path(f"{worker.database.url.database}-shm")


@pytest.fixture
def reader(worker: Worker) -> Reader:
    worker.write("Front", "old")
    made = Reader(worker.database)
    made.warm()
    return made


def test_nothing_is_asked_while_nothing_is_committed(worker: Worker, reader: Reader) -> None:
    asks_after_a_commit_only(reader, worker)


def test_strict_asks_each_time_by_default(worker: Worker) -> None:
    worker.write("Front", "old")
    worker.read("Front")
    before = worker.cache_manager.statistics.checks
    for _ in range(3):
        worker.read("Front")
    assert worker.cache_manager.statistics.checks == before + 3


def test_own_commits_and_rollbacks(reader: Reader) -> None:
    sees_own_commits_and_rollbacks(reader)


def test_committed_while_a_check_is_under_way(
    worker: Worker, reader: Reader, schedule: Schedule
) -> None:
    """The header is read before the statement: a commit that comes after it is asked for."""
    asks_for_what_comes_during_a_check(reader, worker, schedule)


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_checkpoints(worker: Worker, reader: Reader, mode: str) -> None:
    for number in range(4):
        worker.write("Front", str(number))
        assert reader.read("Front") == str(number)
        with worker.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA wal_checkpoint({mode})").all()
        assert reader.read("Front") == str(number)
        before = reader.checks
        assert reader.read("Front") == str(number)
        # A WAL that was begun anew has no frames yet: nothing names the state.
        assert reader.checks == before + (mode == "TRUNCATE")


def test_the_last_connection_of_others_closes(worker: Worker, reader: Reader) -> None:
    reader.engine.dispose()
    worker.cache_manager.close()
    worker.engine.dispose()
    assert reader.read("Front") == "old"
    Worker(worker.database).write("Front", "new")
    assert reader.read("Front") == "new"


#: Ends by a kill in a COMMIT: what its connection has done to the header is undone again, in both
#: copies (the frames are there, the header was not written) or in one (it was half written).
KILLED = """
import mmap, os, signal, sys
from sqlalchemy import make_url
from tests.databases import Database
from tests.workers import Worker

url, end = make_url(sys.argv[1]), int(sys.argv[2])
worker = Worker(Database("sqlite-wal", url))
worker.read("Front")
memory = mmap.mmap(os.open(f"{url.database}-shm", os.O_RDWR), 4096)
before = memory[:96]
worker.write("Front", "new")
assert memory[:96] != before
memory[:end] = before[:end]
os.kill(os.getpid(), signal.SIGKILL)
"""
#: Makes the header one that everybody has to recover.
SPOILT = """
import mmap, os, sys
memory = mmap.mmap(os.open(sys.argv[1], os.O_RDWR), 4096)
memory[:48] = bytes(48)
os._exit(0)
"""


def run(script: str, *arguments: str) -> int:
    return subprocess.run([sys.executable, "-c", script, *arguments], check=False).returncode


@pytest.mark.long
@pytest.mark.thorough
def test_a_writer_is_killed_before_the_header(worker: Worker, reader: Reader) -> None:
    url = worker.database.url.render_as_string()
    assert run(KILLED, url, "96") == -signal.SIGKILL
    before = reader.checks
    assert reader.read("Front") == "old"
    assert reader.checks == before
    # Its COMMIT never returned, and nobody can see it ...
    assert Worker(worker.database).read("Front") == "old"
    # ... until somebody recovers the index: then it is there for all.
    assert run(SPOILT, str(shm(worker))) == 0
    assert reader.read("Front") == "new"
    assert Worker(worker.database).read("Front") == "new"


@pytest.mark.long
@pytest.mark.thorough
def test_a_writer_is_killed_within_the_header(worker: Worker, reader: Reader) -> None:
    assert run(KILLED, worker.database.url.render_as_string(), "48") == -signal.SIGKILL
    assert reader.read("Front") == "new"
    assert Worker(worker.database).read("Front") == "new"


def test_a_header_that_names_no_state() -> None:
    def header(version: int = 3007000, initialised: int = 1, frames: int = 1) -> bytes:
        return struct.pack("=I8xB3xI", version, initialised, frames).ljust(48, b"x")

    assert names_a_state(2 * header())
    assert not names_a_state(header() + header(frames=2))  # it is being written
    assert not names_a_state(2 * header(frames=0))  # any two empty ones are equal
    assert not names_a_state(2 * header(initialised=0))
    assert not names_a_state(2 * header(version=3021000))
    assert not names_a_state(bytes(96))


def test_the_file_is_replaced(worker: Worker, reader: Reader, tmp_path: Path) -> None:
    database = Database("sqlite-wal", worker.database.url.set(database=str(tmp_path / "two.db")))
    there = Worker(database)
    there.cache_manager.create_table()
    metadata.create_all(there.engine)
    there.write("Front", "theirs")
    there.cache_manager.close()
    there.engine.dispose()
    worker.cache_manager.close()
    worker.engine.dispose()
    for leftover in ("-wal", "-shm"):
        Path(f"{worker.database.url.database}{leftover}").unlink(missing_ok=True)
    os.replace(str(database.url.database), str(worker.database.url.database))
    assert reader.read("Front") == "theirs"


def test_a_closed_manager_vouches_for_nothing(worker: Worker, reader: Reader) -> None:
    before = reader.checks
    reader.cache_manager.close()
    assert reader.read("Front") == "old"
    assert reader.checks == before + 1
    worker.write("Front", "new")
    assert reader.read("Front") == "new"
    reader.warm()
    before = reader.checks
    assert reader.read("Front") == "new"
    assert reader.checks == before  # mapped again


def test_sqlite_keeps_its_locks(worker: Worker, reader: Reader) -> None:
    """Closing any descriptor of the file would drop all that this process has on it."""
    worker.read("Front")  # its connections have the database open
    found = shm(worker).stat()
    assert _is_locked_by_us(found)
    for _ in range(2):
        reader.warm()
        assert descriptors_of(found) == 1  # SQLite's own
        assert len(_mapped_at(found)) == 2
        reader.cache_manager.close()
        assert _is_locked_by_us(found)
        assert len(_mapped_at(found)) == 1


def descriptors_of(file: os.stat_result) -> int:
    """How many descriptors of *file* this process has open."""
    count = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the directory
            count += os.path.samestat(os.fstat(int(name)), file)
    return count


def test_a_forked_child_has_no_lock_and_asks(worker: Worker, reader: Reader) -> None:
    """A connection that somebody has stays open, and the child takes the parent's locks for its
    own."""

    def child() -> tuple[int, object]:
        reader.warm()
        before = reader.checks
        reader.read("Front")
        return reader.checks - before, map_wal_index(str(worker.database.url.database))

    with worker.engine.connect() as held:
        held.exec_driver_sql("SELECT text FROM page").all()
        assert fork(child).join() == (1, None)
        reader.warm()
        before = reader.checks
        assert reader.read("Front") == "old"
        assert reader.checks == before


@pytest.mark.on("sqlite-journal", "sqlite-memory", "postgresql")
def test_where_there_is_none_checks_ask(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "coherent_cache")
    worker.write("Front", "old")
    engine = worker.engine if worker.database.kind == "sqlite-memory" else None
    asking = Worker(worker.database, engine=engine, freshness=SHARED)
    for number in range(1, 4):
        assert asking.read("Front") == "old"
        assert asking.cache_manager.statistics.checks == number
    told = [record for record in caplog.records if "shared memory" in record.getMessage()]
    assert len(told) == (0 if worker.database.kind == "sqlite-memory" else 1)


def test_on_an_asynchronous_engine(worker: Worker) -> None:
    async def story() -> None:
        engine = worker.database.async_engine()
        manager = CacheManager(engine, freshness=SHARED)
        values = iter(["old", "new"])

        async def load() -> str:
            return next(values)

        worker.cache_manager.invalidate("key")  # or there is nothing in the WAL that is there
        for _ in range(3):
            assert await manager.aget("key", load) == "old"
        before = manager.statistics.checks
        assert await manager.aget("key", load) == "old"
        assert manager.statistics.checks == before
        worker.cache_manager.invalidate("key")
        assert await manager.aget("key", load) == "new"
        await manager.aclose()
        await engine.dispose()

    asyncio.run(story())
