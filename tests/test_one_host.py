"""Strict without a statement on one host: what processes announce to each other in a file."""

from __future__ import annotations

import asyncio
import gc
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from coherent_cache import CacheManager, ConfigurationError, OneHost
from coherent_cache.announcements import Announcements, announcements_at

from .asking_nothing import (
    CountingWorker,
    asks_after_a_commit_only,
    asks_for_what_comes_during_a_check,
    sees_own_commits_and_rollbacks,
)
from .children import fork, kill_self
from .databases import Database
from .schedules.gates import gates
from .schedules.schedule import Schedule
from .workers import Worker, put, take_lane

pytestmark = pytest.mark.on("postgresql", "mariadb")

if sys.platform == "win32":
    pytest.skip("needs locks on parts of a file", allow_module_level=True)

SENT = "commit: announced, not sent"
RETURNED = "end: returned, views not told"


class Member(CountingWorker):
    """A worker that announces its commits, and never looks for those of others by the clock."""

    def __init__(self, database: Database, path: Path, **options: Any) -> None:
        options.setdefault("clock", lambda: 0.0)
        super().__init__(database, freshness=OneHost(path, **options))

    @property
    def announcements(self) -> Announcements:
        found = self.cache_manager.core.access.announcements
        assert found is not None
        return found

    def settle(self) -> None:
        """Look for slots that were left, whenever it was done last."""
        self.announcements._settle_at = 0.0
        self.cache_manager.core.access.check(())

    def settles(self) -> bool:
        """Whether what was left is settled when whatever is open now, perhaps another test's, has
        ended."""
        end = time.monotonic() + 30
        while self.announcements.state() is None and time.monotonic() < end:
            self.settle()
        return not self.is_asking()

    def is_asking(self) -> bool:
        """Whether a request asks the database."""
        before = self.checks
        for _ in range(2):  # the first may find that somebody has committed
            self.read("Front")
        return self.checks == before + 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "announcements"


@pytest.fixture
def reader(worker: Worker, path: Path) -> Member:
    worker.write("Front", "old")
    made = Member(worker.database, path)
    assert made.read("Front") == "old"
    made.read("Front")
    return made


@pytest.fixture
def writer(worker: Worker, reader: Member, path: Path) -> Member:
    made = Member(worker.database, path)
    take_lane(made)
    made.read("Front")
    reader.read("Front")
    return made


def test_nothing_is_asked_while_nothing_is_committed(reader: Member, writer: Member) -> None:
    asks_after_a_commit_only(reader, writer)


def test_a_lone_invalidation(reader: Member, writer: Member) -> None:
    before = reader.checks
    writer.cache_manager.invalidate("anything")
    reader.read("Front")
    assert reader.checks == before + 1
    assert not reader.is_asking()


def test_own_commits_and_rollbacks(reader: Member) -> None:
    sees_own_commits_and_rollbacks(reader)
    assert not reader.is_asking()


@pytest.mark.parametrize("moment", [SENT, RETURNED])
def test_a_commit_on_its_way(
    reader: Member, writer: Member, schedule: Schedule, moment: str
) -> None:
    """Whoever reads meanwhile asks, and what he found does not do for the next."""
    schedule(
        f"""
        writer  reaches  {moment}
        early   ends
        writer  ends
        """,
        early=lambda: reader.read("Front"),
        writer=lambda: writer.write("Front", "new"),
    )
    assert reader.read("Front") == "new"
    assert not reader.is_asking()


def test_committed_while_a_check_is_under_way(
    reader: Member, writer: Member, schedule: Schedule
) -> None:
    """The slots are read before the statement: a commit that comes after it is asked for."""
    asks_for_what_comes_during_a_check(reader, writer, schedule)


def test_who_is_announced_is_known_to_the_database(
    reader: Member, writer: Member, schedule: Schedule
) -> None:
    """Else it would be taken for ended before it has begun."""
    ledger = reader.cache_manager.core.ledger
    found: list[frozenset[str]] = []

    def look() -> None:
        access = reader.cache_manager.core.access
        first = access.run(lambda execute: ledger.unsettled(execute, None))
        found.append(access.run(lambda execute: ledger.unsettled(execute, first)))

    schedule(
        f"""
        writer  reaches  {SENT}
        looker  ends
        writer  ends
        """,
        looker=look,
        writer=lambda: writer.write("Front", "new"),
    )
    assert found[0]
    look()
    assert not found[1]


def killed_at(moment: str, database: Database, path: Path) -> Callable[[], None]:
    """What a child does that is killed at *moment* of a commit."""

    def child() -> None:
        victim = Member(database, path)
        with gates([moment], lambda _: kill_self()):
            victim.write("Front", "new")

    return child


@pytest.mark.parametrize("moment", [SENT, RETURNED])
def test_a_writer_is_killed(
    worker: Worker, reader: Member, path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Announcements, "wants_settling", lambda self: False)
    fork(killed_at(moment, worker.database, path)).wait_for_kill()
    assert reader.is_asking()
    assert reader.read("Front") == ("old" if moment == SENT else "new")
    monkeypatch.undo()
    assert reader.settles()
    assert reader.read("Front") == ("old" if moment == SENT else "new")


def test_an_answer_that_was_lost(reader: Member, writer: Member) -> None:
    """Nothing is settled before the transaction has ended."""
    with writer.engine.connect() as connection:
        transaction = connection.begin()
        put(connection, "Front", "new")
        lost = writer.announcements.announce()
        if writer.database.kind == "mariadb":
            connection.execute(text("UPDATE cache_lane SET value = value LIMIT 1"))
            connection.execute(text("SELECT lane FROM cache_lane LIMIT 1 FOR UPDATE"))
        lost.end(known=False)
        for _ in range(3):
            reader.settle()
            assert reader.is_asking()
        transaction.rollback()
    assert reader.settles()


def test_the_file_is_replaced(reader: Member, writer: Member, path: Path) -> None:
    path.unlink()
    writer.write("Front", "new")
    assert reader.read("Front") == "new"
    assert not reader.is_asking()
    path.unlink()
    assert reader.read("Front") == "new"
    writer.write("Front", "newer")
    assert reader.read("Front") == "newer"


def test_the_file_is_replaced_during_a_commit(
    reader: Member, writer: Member, schedule: Schedule, path: Path
) -> None:
    def replace_and_read() -> None:
        path.unlink()
        for _ in range(3):
            assert reader.read("Front") == "old"

    schedule(
        f"""
        writer  reaches  {SENT}
        reader  ends
        writer  ends
        """,
        reader=replace_and_read,
        writer=lambda: writer.write("Front", "new"),
    )
    assert reader.read("Front") == "new"


def test_the_file_cannot_be_opened_again(
    reader: Member, writer: Member, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.unlink()
    path.mkdir()
    writer.write("Front", "new")
    assert reader.read("Front") == "new"
    assert reader.is_asking()
    assert "cannot be opened" in caplog.text


def test_who_announces_nothing_is_seen_in_time(worker: Worker, path: Path) -> None:
    now = [0.0]
    worker.write("Front", "old")
    member = Member(worker.database, path, seconds=2.0, clock=lambda: now[0])
    assert member.read("Front") == "old"
    member.read("Front")
    worker.write("Front", "new")
    now[0] = 2.0
    assert member.read("Front") == "old"
    now[0] = 2.1
    assert member.read("Front") == "new"


def test_a_forked_child_owns_nothing_of_its_parents(
    reader: Member, writer: Member, path: Path
) -> None:
    mine = writer.announcements.announce()

    def child() -> bool:
        mine.end(known=True)  # it is the parent's
        writer.settle()
        return writer.announcements.state() is None

    assert fork(child).join()
    assert reader.announcements.state() is None
    mine.end(known=True)
    assert reader.announcements.state() is not None

    fork(lambda: writer.write("Front", "the child's")).join()
    assert reader.read("Front") == "the child's"


def test_an_announcement_that_is_dropped_is_left(reader: Member, writer: Member) -> None:
    dropped = writer.announcements.announce()
    assert reader.is_asking()
    del dropped
    assert reader.settles()


def test_no_slot_is_left(
    path: Path, reader: Member, writer: Member, caplog: pytest.LogCaptureFixture
) -> None:
    taken = [writer.announcements.announce() for _ in range(510)]
    assert "no slot left" not in caplog.text
    more = writer.announcements.announce()
    assert "no slot left" in caplog.text
    for each in [*taken, more]:
        each.end(known=True)
    assert reader.is_asking()
    writer.write("Front", "new")
    assert reader.read("Front") == "new"


def test_slots_of_two_processes(path: Path) -> None:
    """A slot has one owner, and is what he left it."""
    here = announcements_at(str(path), "a ledger")
    mine = here.announce()
    elsewhere(
        "there.settle(lambda known: frozenset())\n"
        "assert there.state() is None\n"
        "there.announce().end(known=True)\n"
        "there.announce().end(known=False)\n",
        path,
    )
    mine.end(known=True)
    assert here.state() is None  # what was left there
    asked: list[Any] = []
    here.settle(lambda known: asked.append(known) or frozenset({"one"}))  # type: ignore[func-returns-value]
    assert here.state() is None
    here.settle(lambda known: asked.append(known) or frozenset())  # type: ignore[func-returns-value]
    assert here.state() is not None
    assert asked == [None, frozenset({"one"})]
    here.announce().end(known=False)
    elsewhere("there.settle(lambda known: frozenset()); assert there.state() is not None", path)


def test_the_file_is_replaced_by_another_process(path: Path) -> None:
    here = announcements_at(str(path), "a ledger")
    before = here.state()
    assert before is not None
    path.unlink()
    elsewhere("there.announce().end(known=True)", path)
    assert here.state() != before
    assert here.state() not in (None, before)


def elsewhere(script: str, path: Path, ledger: str = "a ledger") -> None:
    """Run *script* in another process, which calls its announcements ``there``."""
    head = (
        "import sys; from coherent_cache.announcements import announcements_at\n"
        "there = announcements_at(*sys.argv[1:])\n"
    )
    subprocess.run([sys.executable, "-c", head + script, str(path), ledger], check=True)


def test_files_that_are_refused(worker: Worker, tmp_path: Path) -> None:
    def refused(path: Path, why: str) -> None:
        with pytest.raises(ConfigurationError, match=why):
            Worker(worker.database, freshness=OneHost(path))

    anybodys = tmp_path / "anybodys"
    anybodys.touch()
    anybodys.chmod(0o666)
    refused(anybodys, "everybody may write")
    others = tmp_path / "others"
    others.write_text("hello")
    refused(others, "another program's: it has 5 bytes")
    of_another = tmp_path / "of another"
    Worker(worker.database, table="other_cache", freshness=OneHost(of_another))
    refused(of_another, "another ledger's")
    refused(tmp_path, "directory")
    refused(tmp_path / "nowhere" / "file", "No such file")
    with pytest.raises(ConfigurationError, match=r"OneHost\(seconds=...\) is more than 0"):
        OneHost(tmp_path / "file", seconds=0)


def test_who_is_refused_drops_no_locks(worker: Worker, path: Path, reader: Member) -> None:
    mine = reader.announcements.announce()
    with pytest.raises(ConfigurationError):
        Worker(worker.database, table="other_cache", freshness=OneHost(path))
    path.chmod(0o666)
    with pytest.raises(ConfigurationError):
        Worker(worker.database, table="other_cache", freshness=OneHost(path))
    path.chmod(0o660)
    gc.collect()
    name = f"{worker.engine.url.database} cache"
    elsewhere("assert there._slots.adopt() == []", path, name)
    mine.end(known=True)
    assert reader.announcements.state() is not None


def test_the_file_is_for_its_owner_and_group(reader: Member, path: Path) -> None:
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o007 == 0


@pytest.mark.on("sqlite-wal", "sqlite-memory")
def test_sqlite_has_another_way(worker: Worker, path: Path) -> None:
    with pytest.raises(ConfigurationError, match="shared_memory=True"):
        Worker(worker.database, freshness=OneHost(path))


def test_what_cannot_be_asked_is_told_once(
    reader: Member,
    writer: Member,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Requests go on; they ask."""
    ledger = reader.cache_manager.core.ledger

    def refuse(execute: Any, known: Any) -> frozenset[str]:
        execute("SELECT * FROM not_for_you", ())
        raise AssertionError("it is there")

    monkeypatch.setattr(ledger, "unsettled", refuse)
    writer.announcements.announce().end(known=False)
    for _ in range(3):
        reader.settle()
    assert reader.is_asking()
    told = [r for r in caplog.records if "lost COMMIT" in r.getMessage()]
    assert len(told) == 1


def test_on_an_asynchronous_engine(worker: Worker, path: Path) -> None:
    async def story() -> None:
        engine = worker.database.async_engine()
        manager = CacheManager(engine, freshness=OneHost(path, clock=lambda: 0.0))
        other = Member(worker.database, path)
        values = iter(["old", "new", "own"])

        async def load() -> str:
            return next(values)

        for _ in range(3):
            assert await manager.aget("key", load) == "old"
        before = manager.statistics.checks
        assert await manager.aget("key", load) == "old"
        assert manager.statistics.checks == before
        other.cache_manager.invalidate("key")
        assert await manager.aget("key", load) == "new"
        await manager.ainvalidate("key")
        assert await manager.aget("key", load) == "own"
        lost = other.announcements.announce()
        lost.end(known=False)
        access = manager.core.access
        end = time.monotonic() + 30
        while other.announcements.state() is None and time.monotonic() < end:
            other.announcements._settle_at = 0.0
            await access.acheck(())
        assert other.announcements.state() is not None
        await manager.aclose()
        await engine.dispose()

    asyncio.run(story())
