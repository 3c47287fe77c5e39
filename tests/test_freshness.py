"""Bounded freshness: one check in so many seconds, and own commits are seen at once.

Time is the test's: a clock that stands until it is set.
"""

from __future__ import annotations

import asyncio

import pytest

from coherent_cache import Bounded, CacheManager, ConfigurationError, OneHost, Push, Strict
from coherent_cache.freshness import freshness_of

from .databases import Database
from .guarantees.helpers import in_thread
from .schedules.schedule import Schedule
from .workers import PageText, Worker, metadata, put

BOUND = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def bounded(database: Database, clock: Clock) -> Worker:
    return Worker(database, freshness=Bounded(BOUND, clock))


def test_strict_is_the_default(worker: Worker) -> None:
    worker.read("Front")
    before = worker.cache_manager.statistics.checks
    for _ in range(3):
        worker.read("Front")
    assert worker.cache_manager.statistics.checks == before + 3


def test_bounded_checks_once_in_so_many_seconds(worker: Worker) -> None:
    clock = Clock()
    reader = bounded(worker.database, clock)
    worker.write("Front", "old")
    assert reader.read("Front") == "old"
    worker.write("Front", "new")
    clock.now += BOUND
    for _ in range(3):
        assert reader.read("Front") == "old"  # the commit came within the bound
    assert PageText(reader, "Front").text == "old"  # outside a request as well
    assert reader.cache_manager.statistics.checks == 1
    clock.now += 0.001
    assert reader.read("Front") == "new"
    assert reader.cache_manager.statistics.checks == 2


def test_bounded_counts_from_the_beginning_of_a_check(worker: Worker, schedule: Schedule) -> None:
    """A check reads the news and is held up; when it applies them the bound is over."""
    clock = Clock()
    reader = bounded(worker.database, clock)
    worker.write("Front", "old")

    def wait() -> None:
        worker.write("Front", "new")
        clock.now += BOUND + 1

    schedule(
        """
        early   reaches  check: news read, not applied
        others  ends
        early   ends
        """,
        early=lambda: reader.read("Front"),
        others=wait,
    )
    assert reader.read("Front") == "new"
    assert reader.cache_manager.statistics.checks == 2


def test_bounded_sees_what_this_process_committed(worker: Worker) -> None:
    """G3, and what other requests of the process see: own commits are no older than they are."""
    clock = Clock()
    reader = bounded(worker.database, clock)
    for number in range(3):
        assert reader.read("Other") is None
        with reader.cache_manager.request():
            assert PageText(reader, "Front").text == (f"{number - 1}" if number else None)
            with reader.cache_manager.begin() as connection:
                put(connection, "Front", str(number))
                del PageText(reader, "Front").text
                assert PageText(reader, "Front").text == str(number)
            assert PageText(reader, "Front").text == str(number)
        assert in_thread(lambda: reader.read("Front")).result(10) == str(number)
    worker.write("Front", "theirs")
    reader.cache_manager.invalidate("something")  # in a transaction of its own
    assert reader.read("Front") == "theirs"
    worker.write("Front", "again")
    with reader.cache_manager.request():
        assert PageText(reader, "Front").text == "theirs"
        reader.cache_manager.reset_metadata()
        assert PageText(reader, "Front").text == "again"


def test_bounded_keeps_what_was_computed_in_a_transaction_private(worker: Worker) -> None:
    """G5: a rollback leaves nothing."""
    reader = bounded(worker.database, Clock())
    worker.write("Front", "old")
    assert reader.read("Front") == "old"
    with reader.cache_manager.request():
        with pytest.raises(ZeroDivisionError), reader.cache_manager.begin() as connection:
            put(connection, "Front", "never")
            del PageText(reader, "Front").text
            assert PageText(reader, "Front").text == "never"
            raise ZeroDivisionError
        assert PageText(reader, "Front").text == "old"
    assert reader.read("Front") == "old"


def test_bounded_serves_nothing_after_close(worker: Worker) -> None:
    reader = bounded(worker.database, Clock())
    worker.write("Front", "old")
    assert reader.read("Front") == "old"
    worker.write("Front", "new")
    reader.cache_manager.close()
    assert reader.read("Front") == "new"


@pytest.mark.on("sqlite-wal", "postgresql", "mariadb")
def test_bounded_on_an_asynchronous_engine(database: Database) -> None:
    clock = Clock()
    writer = Worker(database)
    writer.cache_manager.create_table()
    metadata.create_all(writer.engine)

    async def story() -> None:
        engine = database.async_engine()
        manager = CacheManager(engine, freshness=Bounded(BOUND, clock))
        values = iter(["old", "new", "own"])

        async def load() -> str:
            return next(values)

        assert await manager.aget("key", load) == "old"
        writer.cache_manager.invalidate("key")
        assert await manager.aget("key", load) == "old"
        clock.now += BOUND + 1
        assert await manager.aget("key", load) == "new"
        await manager.ainvalidate("key")
        assert await manager.aget("key", load) == "own"
        await manager.aclose()
        await engine.dispose()

    asyncio.run(story())


def test_what_a_configuration_means() -> None:
    assert freshness_of("strict") == freshness_of(Strict()) == Strict()
    assert freshness_of("shared-memory") == Strict(shared_memory=True) != Strict()
    assert freshness_of(2) == freshness_of("2.0") == Bounded(seconds=2.0)
    assert freshness_of("push:2") == freshness_of(Push(2.0)) == Push(seconds=2.0)
    there = OneHost("/run/wiki/commits")
    assert freshness_of("one-host:/run/wiki/commits") == freshness_of(there) == there
    for wrong in ("often", 0, -1, None, "nan", "push:", "push:0", "push:often", "one-host:"):
        with pytest.raises(ConfigurationError):
            freshness_of(wrong)
    before = Bounded(1).clock()
    assert before <= Bounded(1).clock()
