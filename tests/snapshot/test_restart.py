"""What a process had in memory is there for the next one, and nothing that is not right for it."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from sqlalchemy import create_engine

from coherent_cache import CacheManager, ConfigurationError, cached
from coherent_cache.sealing import PickleSerializer, PlainForm, TypedSerializer
from coherent_cache.snapshot import Snapshot

from ..databases import Database
from ..guarantees.helpers import elsewhere
from ..workers import PageText, Worker, put

KEY = "a secret of more than sixteen bytes"


class Both:
    """A value computed from two others."""

    def __init__(self, env: Worker) -> None:
        self.env = env

    @cached
    def texts(self) -> tuple[str | None, str | None]:
        return PageText(self.env, "a").text, PageText(self.env, "b").text

    @cached(tier=False)
    def at_home(self) -> str | None:
        return PageText(self.env, "a").text


class Point(NamedTuple):
    x: int


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "values"


@pytest.fixture
def start(worker: Worker, path: Path) -> Callable[..., Worker]:
    """Starts a worker with the snapshot."""

    def start(**options: Any) -> Worker:
        return Worker(worker.database, snapshot=Snapshot(path, every=None, **options))

    return start


def loads(worker: Worker) -> int:
    return worker.cache_manager.statistics.loads


def test_the_next_process_computes_nothing(start: Any, path: Path) -> None:
    first = start()
    first.write("a", "text")
    assert (first.read("a"), first.wiki.names) == ("text", {"a"})
    first.cache_manager.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(each.name for each in path.parent.glob("values*")) == ["values", "values.lock"]
    second = start()
    with second.cache_manager.request() as view:
        assert (PageText(second, "a").text, second.wiki.names) == ("text", {"a"})
        assert (view.hits, view.misses) == (2, 0)
    assert second.wiki.names is second.wiki.names
    assert loads(second) == 0
    assert second.cache_manager.statistics.restored == 2
    assert first.cache_manager.statistics.saved == 2


def test_one_query_for_all(start: Any, monkeypatch: Any) -> None:
    first = start()
    for number in range(20):
        first.cache_manager.get(f"k{number}", lambda: 1)
    assert first.cache_manager.save_snapshot() == 20
    second = start()
    reader = second.cache_manager.core.access._current().reader
    asked = []
    ask = reader.ask
    monkeypatch.setattr(reader, "ask", lambda question: asked.append(1) or ask(question))
    for number in range(20):
        assert second.cache_manager.get(f"k{number}", lambda: 2) == 1
    assert len(asked) == 1


def test_what_was_invalidated_meanwhile(start: Any, worker: Worker) -> None:
    first = start()
    first.write("a", "old")
    first.write("b", "same")
    assert Both(first).texts == ("old", "same")
    first.cache_manager.close()
    worker.write("a", "new")
    second = start()
    assert Both(second).texts == ("new", "same")
    assert second.read("a") == "new"
    assert second.cache_manager.statistics.restored == 1  # the text of b


def test_news_reach_what_waits(start: Any, worker: Worker) -> None:
    first = start()
    first.write("a", "old")
    assert Both(first).texts == ("old", None)
    first.cache_manager.close()
    second = start()
    second.cache_manager.get("any", lambda: 1)
    assert second.cache_manager.statistics.restored == 3
    worker.write("a", "new")
    assert Both(second).texts == ("new", None)
    assert second.read("a") == "new"


def test_a_commit_before_the_generations_are_read(
    start: Any, worker: Worker, monkeypatch: Any
) -> None:
    """Entries are taken down, somebody commits, and only then the generations are read."""
    first = start()
    first.write("a", "old")
    assert first.read("a") == "old"
    access = first.cache_manager.core.access
    generations = access.generations

    def late(*arguments: Any, **options: Any) -> Any:
        elsewhere(lambda: worker.write("a", "new"))
        return generations(*arguments, **options)

    monkeypatch.setattr(access, "generations", late)
    first.cache_manager.save_snapshot()
    assert start().read("a") == "new"


def test_a_commit_while_values_are_taken_back(start: Any, worker: Worker, monkeypatch: Any) -> None:
    """The generations are read, somebody commits, and another thread looks at the ledger."""
    first = start()
    first.write("a", "old")
    assert first.read("a") == "old"
    first.cache_manager.close()
    second = start()
    access = second.cache_manager.core.access
    generations = access.generations

    def slow(*arguments: Any, **options: Any) -> Any:
        found = generations(*arguments, **options)
        elsewhere(lambda: worker.write("a", "new"))
        elsewhere(lambda: access.check(()))
        return found

    monkeypatch.setattr(access, "generations", slow)
    second.cache_manager.get("any", lambda: 1)
    assert second.read("a") == "new"
    assert second.cache_manager.statistics.restored == 0


def test_dropped_while_it_is_decoded(worker: Worker, path: Path) -> None:
    """The value is taken out, and becomes one only after somebody's commit is applied."""

    def from_plain(plain: Any) -> Point:
        elsewhere(lambda: worker.cache_manager.invalidate("k"))
        elsewhere(lambda: second.cache_manager.get("any", lambda: 1))
        return Point(plain)

    form = PlainForm(cls=Point, to_plain=lambda point: point.x, from_plain=from_plain)
    options = Snapshot(path, every=None, serializer=TypedSerializer([form]))
    first = Worker(worker.database, snapshot=options)
    first.cache_manager.get("k", lambda: Point(1))
    first.cache_manager.close()
    second = Worker(worker.database, snapshot=options)
    assert second.cache_manager.get("other", lambda: 1) == 1
    second.cache_manager.get("k", lambda: Point(2))
    assert second.cache_manager.get("k", lambda: Point(3)).x in (2, 3)
    assert loads(second) >= 3


def test_a_first_look_within_a_transaction(start: Any) -> None:
    """On SQLite one that has written might be what the query waits for; the next look will do."""
    first = start()
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    second = start().cache_manager
    with second.begin() as connection:
        put(connection, "a", "")
        second.get("any", lambda: 1)
    assert second.get("k", lambda: 2) == 1
    third = start().cache_manager
    with third.engine.connect() as connection:
        connection.exec_driver_sql("SELECT 1").all()
        assert third.get("k", lambda: 2) == 1


def test_hidden_by_a_del(start: Any) -> None:
    """A request invalidates what a value depends on, and only then reads it, and writes."""
    first = start()
    first.write("a", "old")
    assert Both(first).texts == ("old", None)
    first.cache_manager.close()
    second = start()
    second.cache_manager.get("any", lambda: 1)
    with second.cache_manager.request(), second.cache_manager.begin() as connection:
        del PageText(second, "a").text
        assert Both(second).texts == ("old", None)
        put(connection, "a", "new")
        assert Both(second).texts == ("new", None)
    assert Both(second).texts == ("new", None)


def test_uncommitted_values_are_not_saved(start: Any) -> None:
    first = start()
    with first.engine.connect() as connection:
        put(connection, "a", "never committed")
        with first.cache_manager.request():
            del first.wiki.names
            assert first.wiki.names == {"a"}
            first.cache_manager.save_snapshot()
        connection.rollback()
    first.cache_manager.close()
    assert start().wiki.names == frozenset()


def test_what_stays_in_the_process(start: Any) -> None:
    first = start()

    class Local:
        cache_manager = first.cache_manager

        @cached
        def value(self) -> int:
            return 1

    assert (Local().value, Both(first).at_home) == (1, None)
    first.cache_manager.get("unknown type", object)
    assert first.cache_manager.save_snapshot() == 1  # the text of a
    assert first.cache_manager.statistics.not_saved == 1


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_pruned_since(start: Any, worker: Worker) -> None:
    """Nothing can be told any more; what is still in memory is saved under what can be told now."""
    first = start()
    assert first.read("a") is None
    assert first.cache_manager.save_snapshot() == 1
    for number in range(3):
        worker.write("elsewhere", str(number))
    worker.cache_manager.prune(keep=1)
    second = start()
    assert second.read("b") is None
    assert second.cache_manager.statistics.restored == 0
    assert second.read("a") is None
    second.cache_manager.close()
    assert start().read("a") is None


@pytest.mark.on("sqlite-wal")
def test_waiting_values_are_saved_again(start: Any, worker: Worker, path: Path) -> None:
    """Nobody has asked for them; meanwhile a mark has made their generations other ones."""
    for number in range(3):
        worker.cache_manager.invalidate(f"l{number}")
    first = start()
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    second = start()
    second.cache_manager.get("other", lambda: 2)
    before = worker.cache_manager.generation("k")
    for number in range(3):
        worker.cache_manager.invalidate(f"l{number}")
    second.cache_manager.get("other", lambda: 3)
    worker.cache_manager.prune(keep=1)
    assert worker.cache_manager.generation("k") != before
    assert second.cache_manager.save_snapshot() == 2
    third = start()
    assert third.cache_manager.get("k", lambda: 3) == 1


# Several workers


@pytest.mark.on("sqlite-wal")
def test_an_idle_worker_takes_nothing_away(start: Any, worker: Worker) -> None:
    idle, busy = start(), start()
    idle.cache_manager.get("idle", lambda: 1)
    for number in range(30):
        busy.cache_manager.get(f"busy {number}", lambda: 1)
    busy.cache_manager.close()
    worker.cache_manager.invalidate("busy 7")
    idle.cache_manager.close()
    last = start()
    last.cache_manager.get("any", lambda: 1)
    assert last.cache_manager.statistics.restored == 30
    assert last.cache_manager.get("busy 7", lambda: 2) == 2


@pytest.mark.on("sqlite-wal")
def test_another_saves_meanwhile(start: Any, worker: Worker, monkeypatch: Any) -> None:
    """The file is read, another worker replaces it, and somebody commits between the two."""
    one, two = start(), start()
    for number in range(3):
        one.cache_manager.get(f"one {number}", lambda: 1)
        two.cache_manager.get(f"two {number}", lambda: 1)
    access = one.cache_manager.core.access
    check = access.check

    def slow(transactions: Any) -> None:
        check(transactions)
        monkeypatch.undo()
        elsewhere(two.cache_manager.save_snapshot)
        elsewhere(lambda: worker.cache_manager.invalidate("two 1"))
        elsewhere(lambda: worker.cache_manager.invalidate("one 1"))

    monkeypatch.setattr(access, "check", slow)
    assert one.cache_manager.save_snapshot() == 4


@pytest.mark.on("sqlite-wal")
def test_the_most_used_within_a_size(start: Any) -> None:
    first = start(max_bytes=1_000)
    for number in range(100):
        first.cache_manager.get(f"k{number}", lambda: "x" * 50)
    for number in (97, 3):
        first.cache_manager.get(f"k{number}", lambda: "y")
    first.cache_manager.get("large", lambda: "x" * 600)
    assert 5 < first.cache_manager.save_snapshot() < 15
    second = start(max_bytes=1_000)
    assert [second.cache_manager.get(f"k{n}", lambda: "")[:1] for n in (97, 3)] == ["x", "x"]


@pytest.mark.on("sqlite-wal")
def test_bounds_apply_to_what_comes_back(start: Any, worker: Worker, path: Path) -> None:
    first = start()
    for number in range(50):
        first.cache_manager.get(f"k{number}", lambda: 1)
    first.cache_manager.get("k7", lambda: 1)
    first.cache_manager.close()
    second = Worker(worker.database, snapshot=path, max_entries=10)
    assert second.cache_manager.get("k7", lambda: 2) == 1
    assert second.cache_manager.statistics.entries == 10


@pytest.mark.on("sqlite-wal")
def test_evicted_while_it_waits(start: Any) -> None:
    first = start()
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    second = start()
    second.cache_manager.get("any", lambda: 1)
    second.cache_manager.evict("k")
    assert second.cache_manager.get("k", lambda: 2) == 2


# When


@pytest.mark.on("sqlite-wal")
def test_every_so_often(worker: Worker, path: Path) -> None:
    first = Worker(worker.database, snapshot=Snapshot(path, every=1e-9))
    keeper = first.cache_manager.core.keeper
    assert keeper is not None
    first.cache_manager.get("k", lambda: 1)
    keeper.stop()  # a saving that was under way would be the only one
    first.cache_manager.get("k", lambda: 1)  # a look that finds something to save
    keeper.stop()
    assert first.cache_manager.statistics.saved == 1
    assert path.exists()


@pytest.mark.on("sqlite-wal")
def test_nothing_new_is_not_saved_again(start: Any, path: Path) -> None:
    first = start()
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.close()
    path.unlink()
    first.cache_manager.close()
    assert not path.exists()


@pytest.mark.on("sqlite-wal")
def test_the_ledger_cannot_be_asked(
    start: Any, worker: Worker, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The old file stays, and the end is no error."""
    first = start()
    first.cache_manager.get("k", lambda: 1)
    first.cache_manager.save_snapshot()
    before = path.read_bytes()
    first.cache_manager.get("l", lambda: 1)
    with worker.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE cache RENAME TO away")
    with caplog.at_level(logging.WARNING, "coherent_cache"):
        first.cache_manager.close()
    assert "was not saved" in caplog.text
    assert path.read_bytes() == before


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_asynchronous(database: Database, worker: Worker, path: Path) -> None:
    async def run(answer: int, **options: Any) -> tuple[int, int]:
        async def compute() -> int:
            return answer

        engine = database.async_engine()
        manager = CacheManager(engine, snapshot=Snapshot(path, **options))
        found = await manager.aget("k", compute)
        await manager.aget(f"l{answer}", compute)
        if answer == 1:
            assert await manager.asave_snapshot() == 2
        await manager.aclose()
        await engine.dispose()
        return found, manager.statistics.saved

    def story(answer: int, **options: Any) -> tuple[int, int]:
        return contextvars.Context().run(asyncio.run, run(answer, **options))

    assert story(1) == (1, 2)
    assert story(2) == (1, 3)
    assert story(3, every=1e-9) == (1, 4)
    worker.cache_manager.invalidate("k")
    assert story(4)[0] == 4


def test_a_database_in_memory(path: Path) -> None:
    """It ends with its process, and nothing of it is another's."""
    for answer in (1, 2):
        manager = CacheManager(create_engine("sqlite://"), snapshot=path)
        manager.create_table()
        assert manager.get("k", lambda: answer) == answer  # noqa: B023
        assert manager.save_snapshot() == 0
        manager.close()
    assert not path.exists()


@pytest.mark.on("sqlite-wal")
def test_a_database_that_was_restored(worker: Worker, start: Any, tmp_path: Path) -> None:
    """The file is newer than the dump, and the same generations never come back."""
    for text in ("zero", "one"):
        worker.write("a", text)
    file = Path(str(worker.database.url.database))
    with worker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    worker.cache_manager.close()
    worker.engine.dispose()
    shutil.copy(file, tmp_path / "dump")
    first = start()
    first.write("a", "two")
    first.cache_manager.get("before the dump", lambda: 1)
    assert first.read("a") == "two"
    first.cache_manager.close()
    first.engine.dispose()
    worker.database.dispose()
    for name in (f"{file}-wal", f"{file}-shm"):
        Path(name).unlink(missing_ok=True)
    shutil.copy(tmp_path / "dump", file)
    second = start()
    assert second.read("a") == "one"
    second.write("a", "another two")
    assert second.read("a") == "another two"
    assert start().read("a") == "another two"


@pytest.mark.on("sqlite-wal")
def test_another_database(start: Any, tmp_path: Path, path: Path) -> None:
    first = start()
    assert first.cache_manager.get("k", lambda: 1) == 1
    first.cache_manager.close()
    manager = CacheManager(create_engine(f"sqlite:///{tmp_path}/another.db"), snapshot=path)
    manager.create_table()
    assert manager.get("k", lambda: 2) == 2
    manager.engine.dispose()


@pytest.mark.on("sqlite-wal")
def test_pickled(start: Any, path: Path) -> None:
    options = {"serializer": PickleSerializer(), "keys": [KEY]}
    first = start(**options)
    first.cache_manager.get("k", lambda: Point(1))
    first.cache_manager.close()
    again = start(**options).cache_manager
    assert again.get("k", lambda: Point(2)) == Point(1)


def test_what_does_not_fit(path: Path) -> None:
    for wrong in (
        lambda: Snapshot(path, max_bytes=0),
        lambda: Snapshot(path, every=0),
        lambda: Snapshot(""),
        lambda: CacheManager(create_engine("sqlite://"), snapshot=7),
        lambda: CacheManager(
            create_engine("sqlite://"), snapshot=Snapshot(path, serializer=PickleSerializer())
        ),
        CacheManager(create_engine("sqlite://")).save_snapshot,
    ):
        with pytest.raises(ConfigurationError):
            wrong()


def test_a_key_is_not_shown() -> None:
    assert KEY not in repr(Snapshot("x", keys=[KEY]))


def test_no_directory(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    url = f"sqlite:///{tmp_path}/test.db"
    (tmp_path / "file").write_text("")
    manager = CacheManager(create_engine(url), snapshot=tmp_path / "file" / "values")
    manager.create_table()
    assert manager.get("k", lambda: 1) == 1
    with pytest.raises(OSError, match="file"):
        manager.save_snapshot()
    manager.get("k", lambda: 1)
    manager.close()
    assert caplog.text.count("was not saved") == 1
    manager.engine.dispose()
    assert sorted(os.listdir(tmp_path)) == ["file", "test.db"]


@pytest.mark.on("sqlite-wal")
def test_not_over_the_database(worker: Worker) -> None:
    path = str(worker.database.url.database)
    with pytest.raises(ConfigurationError, match="database's own file"):
        CacheManager(worker.engine, snapshot=path)
