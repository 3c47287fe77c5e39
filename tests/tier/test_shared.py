"""What one process computes another finds in the tier, and nothing that is not right for it."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select

from coherent_cache import CacheManager, cached
from coherent_cache.keys import key_hash
from coherent_cache.ledger import Execute, Result, generations

from ..databases import Database
from ..guarantees.helpers import Gate, elsewhere, in_thread, transaction_at
from ..workers import PageText, Worker, page, put
from .shelf import Shelf


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


class Slow:
    """A value computed from another, by a retriever that may be stopped after it has read."""

    def __init__(self, env: Worker, after: Callable[[], None] = lambda: None) -> None:
        self.env = env
        self.after = after

    @cached
    def text(self) -> tuple[str | None]:
        found = PageText(self.env, "a").text
        self.after()
        return (found,)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def sharers(worker: Worker, shelf: Shelf) -> tuple[Worker, Worker]:
    return Worker(worker.database, tier=shelf), Worker(worker.database, tier=shelf)


def loads(worker: Worker) -> int:
    return worker.cache_manager.statistics.loads


def generation(worker: Worker, key: str) -> str | None:
    found = worker.cache_manager.core.access.generations([key], ())
    return found.get(key)


def test_one_computes_for_both(sharers: tuple[Worker, Worker]) -> None:
    one, two = sharers
    one.write("a", "first")
    assert one.read("a") == two.read("a") == "first"
    assert (loads(one), loads(two)) == (1, 0)
    with two.cache_manager.request() as view:
        assert PageText(two, "a").text == "first"
        assert (view.hits, view.tier_hits) == (1, 0)  # by now it is in the process
    assert two.cache_manager.statistics.tier_hits == 1


def test_what_was_invalidated_is_not_found(sharers: tuple[Worker, Worker]) -> None:
    one, two = sharers
    for text in ("first", "second", "third"):
        one.write("a", text)
        assert two.read("a") == one.read("a") == text
    assert loads(one) == 0
    assert loads(two) == 3


def test_an_old_snapshot_is_not_put_under_a_new_generation(
    worker: Worker, sharers: tuple[Worker, Worker]
) -> None:
    """The retriever has read, somebody commits, and only then the generation of what it read is."""
    one, two = sharers
    gate = Gate()
    slow = in_thread(lambda: Slow(one, gate).text)
    gate.wait()
    elsewhere(lambda: worker.write("a", ""))
    gate.open()
    assert slow.result(15) == (None,)
    assert Slow(two).text == ("",)


@pytest.mark.on("postgresql", "mariadb")
def test_a_transaction_opened_before_the_generation_was_read(worker: Worker, shelf: Shelf) -> None:
    """The snapshot is there, somebody commits, the generation is read, and then the data are."""
    engine = worker.database.engine(isolation_level="REPEATABLE READ")
    one = Worker(worker.database, engine=engine, tier=shelf)
    with one.cache_manager.request():
        assert PageText(one, "other").text is None  # the request has looked at the ledger
        with one.cache_manager.begin() as connection:
            connection.execute(select(page.c.name)).all()
            elsewhere(lambda: worker.write("a", ""))
            assert one.wiki.names == frozenset()
    assert Worker(worker.database, tier=shelf).wiki.names == {"a"}


@pytest.mark.on("postgresql", "mariadb")
def test_a_transaction_opened_long_before(worker: Worker, sharers: tuple[Worker, Worker]) -> None:
    one, two = sharers
    with transaction_at(one, "REPEATABLE READ") as connection:
        connection.execute(select(page.c.name)).all()
        elsewhere(lambda: worker.write("a", ""))
        one.wiki.names  # noqa: B018  (whatever it shows)
    assert two.wiki.names == {"a"}


def test_uncommitted_values_are_not_put(sharers: tuple[Worker, Worker], shelf: Shelf) -> None:
    one, two = sharers
    with one.engine.connect() as connection:
        put(connection, "a", "never committed")
        with one.cache_manager.request():
            assert one.wiki.names == {"a"}
            del one.wiki.names
            assert one.wiki.names == {"a"}
        assert shelf.kept == {}
        connection.rollback()
    assert two.wiki.names == one.wiki.names == frozenset()


def test_what_it_depends_on_counts(sharers: tuple[Worker, Worker]) -> None:
    one, two = sharers
    one.write("a", "1")
    one.write("b", "1")
    assert Both(one).texts == Both(two).texts == ("1", "1")
    assert loads(two) == 0
    one.write("b", "2")
    assert Both(two).texts == Both(one).texts == ("1", "2")
    one.write("b", "3")
    assert Both(one).texts == Both(two).texts == ("1", "3")


def test_a_value_of_the_tier_is_hidden_by_a_del(sharers: tuple[Worker, Worker]) -> None:
    """A request invalidates what a value depends on, and only then reads it, and writes."""
    one, two = sharers
    one.write("a", "old")
    assert Both(one).texts == ("old", None)
    with two.cache_manager.request(), two.cache_manager.begin() as connection:
        del PageText(two, "a").text
        assert Both(two).texts == ("old", None)
        put(connection, "a", "new")
        assert Both(two).texts == ("new", None)
    assert Both(two).texts == Both(one).texts == ("new", None)


def test_a_generation_never_comes_back(worker: Worker) -> None:
    keys = ["k", "never"]
    seen: list[dict[str, str]] = []
    for number in range(4):
        worker.cache_manager.invalidate("k")
        for other in range(3):
            worker.cache_manager.invalidate(f"{number} {other}")
        worker.cache_manager.prune(keep=1)
        seen.append(worker.cache_manager.core.access.generations(keys, ()))
    assert len({found["k"] for found in seen}) == 4


def test_pruned_and_what_was_put_before(worker: Worker, sharers: tuple[Worker, Worker]) -> None:
    one, two = sharers
    assert one.read("a") is None
    worker.write("a", "new")
    for number in range(3):
        worker.write("elsewhere", str(number))
    worker.cache_manager.prune(keep=1)
    assert two.read("a") == "new"


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_pruned_within_transactions(worker: Worker, shelf: Shelf) -> None:
    """On SQLite rows go in small numbers; generations change at the marks only, in time."""
    writer = Worker(worker.database, prune_keep=5, prune_every=10)
    seen, changes, before = set(), 0, generation(writer, "never")
    for number in range(100):
        writer.cache_manager.invalidate("k" if number % 10 == 0 else f"other {number}")
        if number % 10 == 0:
            found = generation(writer, "k")
            assert found not in seen
            seen.add(found)
        now = generation(writer, "never")
        changes += now != before
        before = now
    assert 1 < changes < 12


@pytest.mark.on("sqlite-wal", "sqlite-journal")
def test_the_first_row_of_all_stays_until_a_mark(worker: Worker) -> None:
    """The table's first mark lets no row go, whatever number comes next."""
    writer = Worker(worker.database, prune_keep=1, prune_every=1)
    before = generation(writer, "k")
    writer.cache_manager.invalidate("k")
    assert generation(writer, "k") != before


def test_a_key_that_is_invalidated_all_the_time(worker: Worker, monkeypatch: Any) -> None:
    monkeypatch.setattr("coherent_cache.ledger.generation.MOST_ROWS", 3)
    for _ in range(2):
        worker.cache_manager.invalidate("k")
    assert generation(worker, "k") is not None
    for _ in range(3):
        worker.cache_manager.invalidate("k")
    assert generation(worker, "k") is None
    assert generation(worker, "other") is not None


def test_one_row_goes_and_another_comes(worker: Worker) -> None:
    """What was chosen before a mark goes after it: as many rows, and another generation."""
    for _ in range(2):
        worker.cache_manager.invalidate("k")
    before = generation(worker, "k")
    core = worker.cache_manager.core
    oldest = f"SELECT MIN(generation) FROM {core.ledger.log_name} WHERE key_hash = {key_hash('k')}"

    def remove_one(execute: Execute) -> None:
        assert core.ledger.delete_rows(execute, list(execute(oldest, ()).rows[0])) == 1

    core.access.run(remove_one)
    worker.cache_manager.invalidate("k")
    assert generation(worker, "k") != before


def test_many_rows_of_a_key_are_added_up_by_the_database(worker: Worker) -> None:
    for _ in range(30):
        worker.cache_manager.invalidate("k")
    core = worker.cache_manager.core
    told = []

    def counted(execute: Execute) -> dict[str, str]:
        def counting(statement: str, parameters: Sequence[Any]) -> Result:
            result = execute(statement, parameters)
            told.append(len(result.rows))
            return result

        return generations(core.ledger, counting, ["k", "never"])

    found = core.access.run(counted)
    assert found["k"] == generation(worker, "k")
    assert told == [2]  # the marks, and the key


def test_one_statement_or_the_whole_ledger_say_the_same(worker: Worker) -> None:
    worker.cache_manager.invalidate("k")
    worker.cache_manager.invalidate("\x00\ud800")
    keys = ["k", "\x00\ud800", "never"]
    access = worker.cache_manager.core.access
    few = access.generations(keys, ())
    assert few == access.generations(keys, (), whole=True)
    assert len(set(few.values())) == 3


def test_what_stays_in_the_process(sharers: tuple[Worker, Worker], shelf: Shelf) -> None:
    one, _ = sharers

    class Local:
        cache_manager = one.cache_manager

        @cached
        def value(self) -> int:
            return 1

    assert PageText(one, "a").text is None  # the first of its name
    shelf.kept.clear()
    one.cache_manager.evict()
    assert Local().value == 1
    again = type("PageText", (PageText,), {"__module__": PageText.__module__})
    assert again(one, "a").text is None
    assert shelf.kept == {}
    assert Both(one).at_home is None
    assert {key.rpartition(".")[2] for key, _, _ in shelf.kept} == {"text['a']"}


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_asynchronous(database: Database, worker: Worker, shelf: Shelf) -> None:
    worker.write("a", "first")

    async def story() -> None:
        async def compute() -> int:
            nonlocal calls
            calls += 1
            return calls

        calls = 0
        for _ in range(2):
            engine = database.async_engine()
            manager = CacheManager(engine, tier=shelf)
            assert await manager.aget("k", compute) == 1
            with manager.request() as view:
                assert await manager.aget("k", compute) == 1
                assert view.misses == 0
            await manager.aclose()
            await engine.dispose()
        engine = database.async_engine()
        manager = CacheManager(engine, tier=shelf)
        await manager.ainvalidate("k")
        assert await manager.aget("k", compute) == 2
        await manager.aclose()
        await engine.dispose()

    contextvars.Context().run(asyncio.run, story())
    assert shelf.found == 1


def test_a_database_in_memory_has_no_others(shelf: Shelf) -> None:
    from sqlalchemy import create_engine

    manager = CacheManager(create_engine("sqlite://"), tier=shelf)
    manager.create_table()
    assert manager.get("k", lambda: 1) == 1
    assert shelf.kept == {}
