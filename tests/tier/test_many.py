"""Many values at once: brought into memory from the tier, and put there."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from dogpile.cache import make_region

from coherent_cache import CacheManager
from coherent_cache.tier import Tier

from ..databases import Database
from ..guarantees.helpers import elsewhere
from ..workers import PageText, Worker, put
from .shelf import Shelf
from .test_shared import Both

NAMES = "abcdefgh"


def statements(worker: Worker) -> list[str]:
    """What is executed on the connection for reading, from now on."""
    seen: list[str] = []
    access = worker.cache_manager.core.access
    elsewhere(lambda: access.check(()))
    side = access._connections.reader._side
    run = side.run

    def counted(statement: str, parameters: object) -> object:
        seen.append(statement)
        return run(statement, parameters)

    side.run = counted  # type: ignore[method-assign]
    return seen


def test_brought_and_put_by_a_few_questions(worker: Worker) -> None:
    tier = Tier(make_region().configure("dogpile.cache.memory"))
    one, two = (Worker(worker.database, tier=tier) for _ in range(2))
    one.write("a", "first")
    assert [one.read(name) for name in NAMES] == ["first"] + [None] * 7
    assert Both(one).texts == ("first", None)
    seen = statements(two)
    targets = [(PageText(two, name), "text") for name in NAMES]
    assert two.cache_manager.prefetch(*targets, (Both(two), "texts"), "no such key") == 9
    assert len(seen) == 2
    assert two.cache_manager.prefetch(*targets) == 0
    assert [two.read(name) for name in NAMES] == ["first"] + [None] * 7
    assert Both(two).texts == ("first", None)
    assert two.cache_manager.statistics.loads == 0
    puts = tier.statistics.put
    seen.clear()
    assert two.cache_manager.share() == 9
    assert len(seen) == 2
    assert two.cache_manager.share((PageText(two, "a"), "text"), "no such key") == 1
    assert tier.statistics.put == puts + 10


def test_what_was_invalidated_is_not_brought(worker: Worker) -> None:
    shelf = Shelf()
    one, two = (Worker(worker.database, tier=shelf) for _ in range(2))
    one.write("a", "old")
    assert Both(one).texts == ("old", None)
    worker.write("a", "new")
    targets = [(PageText(two, "a"), "text"), (PageText(two, "b"), "text"), (Both(two), "texts")]
    assert two.cache_manager.prefetch(*targets) == 1  # b
    assert Both(two).texts == ("new", None)


def test_what_is_old_in_memory_is_not_put(worker: Worker) -> None:
    """Somebody has committed since the process looked last."""
    shelf = Shelf()
    one, two = (Worker(worker.database, tier=shelf) for _ in range(2))
    one.write("a", "old")
    assert one.read("a") == "old"
    shelf.kept.clear()
    worker.write("a", "new")
    assert one.cache_manager.share() == 0
    assert two.read("a") == "new"


def test_values_of_the_tier_are_hidden_by_a_del(worker: Worker) -> None:
    shelf = Shelf()
    one, two = (Worker(worker.database, tier=shelf) for _ in range(2))
    assert one.read("a") is None
    with two.cache_manager.request(), two.cache_manager.begin() as connection:
        del PageText(two, "a").text
        two.cache_manager.prefetch((PageText(two, "a"), "text"))
        put(connection, "a", "mine")
        assert PageText(two, "a").text == "mine"
    assert two.read("a") == one.read("a") == "mine"


def test_without_a_tier(worker: Worker) -> None:
    assert worker.read("a") is None
    assert worker.cache_manager.prefetch((PageText(worker, "b"), "text")) == 0
    assert worker.cache_manager.share() == 0


@pytest.mark.on("sqlite-wal", "postgresql")
def test_asynchronous(database: Database, worker: Worker) -> None:
    worker.cache_manager.invalidate("k")
    shelf = Shelf()

    async def compute() -> int:
        return 1

    async def story() -> None:
        engines = [database.async_engine() for _ in range(2)]
        one, two = (CacheManager(engine, tier=shelf) for engine in engines)
        assert await one.aget("k", compute) == 1
        assert await one.ashare("k") == 1
        assert await two.aprefetch("k") == 1
        assert await two.aget("k", compute) == 1
        assert two.statistics.loads == 0
        for manager, engine in zip((one, two), engines, strict=True):
            await manager.aclose()
            await engine.dispose()

    contextvars.Context().run(asyncio.run, story())
