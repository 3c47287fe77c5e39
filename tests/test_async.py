"""Asynchronous engines: the same promises, awaited.

A request is a task here.  Its retrievers are coroutines, its transactions are held by an
`AsyncConnection` or an `AsyncSession`, and while one task waits the others of its loop go on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import (
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
    async_sessionmaker,
)
from sqlalchemy.orm import DeclarativeBase

from coherent_cache import CacheManager, SynchronousUseError, cached

from .databases import Database
from .workers import Worker, page

pytestmark = pytest.mark.on("sqlite-wal", "postgresql", "mariadb")


class Base(DeclarativeBase):
    pass


class Page(Base):
    __table__ = page.to_metadata(Base.metadata)


class AsyncWorker:
    """A process of an asynchronous application."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine
        self.cache_manager = CacheManager(engine)
        self.calls = 0
        self.hook: Callable[[], Awaitable[Any]] = nothing

    @cached
    async def names(self) -> frozenset[str]:
        self.calls += 1
        await self.hook()
        async with self.cache_manager.connect() as connection:
            return frozenset(await connection.scalars(select(page.c.name)))

    @cached
    async def count(self) -> int:
        return len(await self.names)

    @cached
    async def selfish(self) -> int:
        return 1 + await self.selfish

    @cached
    def synchronous(self) -> frozenset[str]:
        """Read through ``run_sync``."""
        return frozenset(self.session.scalars(select(page.c.name)))

    session: Any = None


async def nothing() -> None:
    pass


async def insert(connection: Any, name: str) -> None:
    await connection.execute(page.insert().values(name=name, text=""))


def run(
    database: Database, story: Callable[..., Coroutine[Any, Any, None]], workers: int = 1
) -> None:
    """Run *story* with asynchronous workers in an event loop of its own."""

    async def main() -> None:
        made = [AsyncWorker(database.async_engine()) for _ in range(workers)]
        try:
            await story(*made)
        finally:
            for worker in made:
                await worker.cache_manager.aclose()
                await worker.engine.dispose()

    asyncio.run(main())


def test_async_begin(worker: Worker) -> None:
    """`del` within ``manager.begin()``, seen by another asynchronous worker and by a synchronous
    one; and their `del` seen here."""

    async def story(here: AsyncWorker, there: AsyncWorker) -> None:
        await here.cache_manager.acreate_table()
        assert await here.names == await there.names == worker.wiki.names == frozenset()
        async with here.cache_manager.begin() as connection:
            await insert(connection, "A")
            del here.names
            async with here.cache_manager.begin() as inner:
                assert inner.sync_connection is connection.sync_connection
            assert await here.names == {"A"}
            assert await asyncio.create_task(elsewhere(there)) == frozenset()
        assert await here.names == await there.names == {"A"}
        assert await here.count == await there.count == 1
        with pytest.raises(ZeroDivisionError):
            async with here.cache_manager.begin() as connection:
                await insert(connection, "B")
                del here.names
                assert await here.names == {"A", "B"}
                assert await here.count == 2
                raise ZeroDivisionError
        assert await here.names == await there.names == {"A"}
        assert await here.count == 1
        with worker.cache_manager.begin() as sync:
            sync.execute(page.insert().values(name="C", text=""))
            here.cache_manager.view  # noqa: B018
            worker.cache_manager.invalidate(AsyncWorker.names.key_of(here))
        assert await here.names == await there.names == {"A", "C"}

    async def elsewhere(who: AsyncWorker) -> Any:
        return await who.names

    run(worker.database, story, 2)


@pytest.mark.parametrize("how", ["session", "scoped"])
def test_async_session(worker: Worker, how: str) -> None:
    """``session.add(x); del obj.attr; await session.commit()``, with nothing flushed at the `del`,
    and a rollback."""

    async def story(here: AsyncWorker, there: AsyncWorker) -> None:
        assert await here.names == await there.names == frozenset()
        maker = async_sessionmaker(here.engine, expire_on_commit=False)
        session: Any = maker()
        if how == "scoped":
            session = async_scoped_session(maker, scopefunc=asyncio.current_task)
        session.add(Page(name="A", text="", version=0))
        del here.names
        assert await there.names == frozenset()
        await session.commit()
        assert await here.names == await there.names == {"A"}
        async with session.begin():
            session.add(Page(name="B", text="", version=0))
            await session.flush()
            del here.names
            assert await there.names == {"A"}
        assert await here.names == await there.names == {"A", "B"}
        session.add(Page(name="C", text="", version=0))
        await session.flush()
        del here.names
        await session.rollback()
        assert await here.names == await there.names == {"A", "B"}
        found = await session.get(Page, "A")
        await session.delete(found)
        here.cache_manager.invalidate(here, "names", session=session)
        await session.commit()
        assert await here.names == await there.names == {"B"}
        await session.close()

    run(worker.database, story, 2)


@pytest.mark.parametrize("first", ["nothing", "a statement", "a flushed row"])
@pytest.mark.parametrize("begun", ["before", "inside"])
def test_async_a_del_in_a_task_that_was_handed_the_session(
    worker: Worker, first: str, begun: str
) -> None:
    """As in ``asyncio.wait_for(change(session), 5)``, which makes a task of what it waits for; or
    a task that is there already."""

    async def story(here: AsyncWorker, there: AsyncWorker) -> None:
        async def change(session: AsyncSession) -> None:
            await may_change.wait()
            await insert(session, "A")
            del here.names
            assert await here.names == {"A"} | before

        for end in ("rollback", "commit"):
            async with AsyncSession(here.engine) as session:
                may_change = asyncio.Event()
                if begun == "before":
                    task = asyncio.create_task(change(session))
                await session.begin()
                before = set()
                if first == "a statement":
                    await session.execute(text("SELECT 1"))
                elif first == "a flushed row":
                    await insert(session, "B")
                    del here.names
                    before = {"B"}
                if begun == "inside":
                    task = asyncio.create_task(change(session))
                may_change.set()
                await task
                assert await there.names == frozenset()
                await (session.commit() if end == "commit" else session.rollback())
                assert (
                    await here.names
                    == await there.names
                    == ({"A"} | before if end == "commit" else set())
                )

    run(worker.database, story, 2)


def test_async_run_sync(worker: Worker) -> None:
    """A synchronous attribute works where synchronous code does: in ``run_sync``."""

    async def story(here: AsyncWorker) -> None:
        with pytest.raises(SynchronousUseError, match=r"async def.*ainvalidate.*run_sync"):
            here.synchronous  # noqa: B018
        async with AsyncSession(here.engine) as session:
            here.session = session.sync_session

            def read(_: Any) -> frozenset[str]:
                return here.synchronous

            assert await session.run_sync(read) == frozenset()
            session.add(Page(name="A", text="", version=0))
            del here.synchronous
            await session.commit()
            assert await session.run_sync(read) == {"A"}

    run(worker.database, story)


def test_async_del_without_a_transaction(worker: Worker) -> None:
    """`del` cannot wait for the database; ``ainvalidate`` can."""

    async def story(here: AsyncWorker, there: AsyncWorker) -> None:
        worker.cache_manager.invalidate("first row")
        assert await here.names == await there.names == frozenset()
        worker.write("A", "")
        with pytest.raises(SynchronousUseError, match="ainvalidate"):
            del here.names
        assert await there.names == frozenset()
        await here.cache_manager.ainvalidate(here, "names")
        assert await here.names == await there.names == {"A"}
        with pytest.raises(SynchronousUseError, match="async with"), here.cache_manager.begin():
            pass
        with pytest.raises(SynchronousUseError, match="'with'"):
            async with worker.cache_manager.connect():
                pass

    run(worker.database, story, 2)


def test_async_one_load(worker: Worker) -> None:
    """Many tasks miss at once: one retriever call.  A leader that is cancelled is succeeded by one
    of those who wait; an exception reaches them all."""

    async def story(here: AsyncWorker) -> None:
        entered, release = asyncio.Event(), asyncio.Event()

        async def hook() -> None:
            entered.set()
            await release.wait()

        here.hook = hook
        tasks = [asyncio.create_task(value()) for _ in range(8)]
        await entered.wait()
        release.set()
        assert await asyncio.gather(*tasks) == [frozenset()] * 8
        assert here.calls == 1

        for leader_ends in ("cancelled", "fails"):
            await here.cache_manager.ainvalidate(here, "names")
            entered, release = asyncio.Event(), asyncio.Event()
            here.calls = 0
            leader = asyncio.create_task(value())
            await entered.wait()
            waiters = [asyncio.create_task(value()) for _ in range(3)]
            await all_wait(here, 3)
            if leader_ends == "cancelled":
                leader.cancel()
                waiters.pop().cancel()
                with pytest.raises(asyncio.CancelledError):
                    await leader
                release.set()
                assert await asyncio.gather(*waiters) == [frozenset()] * 2
                assert here.calls == 2
            else:
                here.hook = failing
                release.set()
                await asyncio.gather(leader, *waiters)
                await here.cache_manager.ainvalidate(here, "names")
                for result in await asyncio.gather(value(), value(), return_exceptions=True):
                    assert isinstance(result, ZeroDivisionError)
                here.hook = nothing
                assert await here.names == frozenset()

    async def failing() -> None:
        raise ZeroDivisionError

    async def value() -> frozenset[str]:
        return await current[0].names

    current: list[AsyncWorker] = []

    async def remembered(here: AsyncWorker) -> None:
        current.append(here)
        await story(here)

    run(worker.database, remembered)


async def all_wait(here: AsyncWorker, count: int) -> None:
    """Until *count* tasks wait for loads under way."""
    flights: Any = here.cache_manager._loader._flights
    for _ in range(100_000):
        if sum(len(f.future._done_callbacks) for f in flights._flights.values()) >= count:
            return
        await asyncio.sleep(0)
    raise AssertionError(f"never {count} that wait")


def test_async_views_follow_the_task(worker: Worker) -> None:
    """Two tasks, each a request; and one that a request starts, which is part of it."""

    async def story(here: AsyncWorker) -> None:
        first_read, changed = asyncio.Event(), asyncio.Event()

        async def request_before() -> None:
            with here.cache_manager.request():
                assert await here.names == frozenset()
                first_read.set()
                await changed.wait()
                assert await here.names == frozenset()
                assert await asyncio.create_task(part()) == frozenset()
            assert await here.names == {"A"}

        async def part() -> frozenset[str]:
            return await here.names

        async def request_after() -> None:
            await first_read.wait()
            worker.write("A", "")
            worker.cache_manager.invalidate(AsyncWorker.names.key_of(here))
            with here.cache_manager.request():
                assert await here.names == {"A"}
            changed.set()

        await asyncio.gather(request_before(), request_after())

    run(worker.database, story)


def test_async_two_loops(worker: Worker) -> None:
    """One after the other, with the same manager: connections belong to their loop."""
    engine = worker.database.async_engine()
    here = AsyncWorker(engine)

    async def once(expected: set[str]) -> None:
        assert await here.names == expected
        await here.cache_manager.ainvalidate("something")
        await here.cache_manager.aclose()
        await engine.dispose()

    asyncio.run(once(set()))
    worker.write("A", "")
    worker.cache_manager.invalidate(AsyncWorker.names.key_of(here))
    asyncio.run(once({"A"}))


@pytest.mark.on("postgresql", "mariadb")
def test_async_the_table_is_altered_while_a_process_runs(worker: Worker) -> None:
    """A statement that the server has prepared does not fit the table any more."""
    alter = {
        "postgresql": "ALTER TABLE cache ALTER key TYPE varchar({})",
        "mariadb": "ALTER TABLE cache_lane ADD COLUMN c{} BIGINT FIRST",
    }[worker.database.kind]

    async def story(here: AsyncWorker) -> None:
        assert await here.names == frozenset()
        key = AsyncWorker.names.key_of(here)
        for number in (1000, 2000):
            with worker.engine.begin() as connection:
                connection.execute(text(alter.format(number)))
            with worker.cache_manager.begin() as connection:
                connection.execute(page.insert().values(name=str(number), text=""))
                worker.cache_manager.invalidate(key)
            assert str(number) in await here.names

    run(worker.database, story)


def test_async_a_table_with_an_odd_name(worker: Worker) -> None:
    """What quotes and percent signs mean in SQL, and to a driver, they do not mean in a name."""
    name = '100% "o\'k" %s'

    async def story(here: AsyncWorker) -> None:
        here.cache_manager = CacheManager(here.engine, table=name)
        await here.cache_manager.acreate_table()
        assert await here.names == frozenset()
        async with here.cache_manager.begin() as connection:
            await insert(connection, "A")
            del here.names
        assert await here.names == {"A"}
        await here.cache_manager.ainvalidate(AsyncWorker.names.key_of(here))
        for _ in range(3):  # a check that failed would be made again on another connection
            with here.cache_manager.request():
                assert await here.names == {"A"}
        assert here.calls == 3

    run(worker.database, story)


def test_async_itself(worker: Worker) -> None:
    async def story(here: AsyncWorker) -> None:
        with pytest.raises(RecursionError, match="selfish"):
            await here.selfish
        await asyncio.gather(*[expect_recursion(here) for _ in range(3)])

    async def expect_recursion(here: AsyncWorker) -> None:
        with pytest.raises(RecursionError):
            await here.selfish

    run(worker.database, story)


def test_async_sync_attribute_beside_a_load_of_it(worker: Worker) -> None:
    """Plain code in the event loop wants what another task is loading: waiting would stop the loop
    that the load needs.  An error, not a hang."""

    async def story(here: AsyncWorker) -> None:
        async with AsyncSession(here.engine) as session:
            here.session = session.sync_session
            with here.cache_manager.request():
                await here.names  # the view has looked at the ledger
                other_task = asyncio.create_task(session.run_sync(lambda _: here.synchronous))
                while not here.cache_manager._loader._flights._flights:
                    await asyncio.sleep(0)
                with pytest.raises(SynchronousUseError):
                    here.synchronous  # noqa: B018
                assert await other_task == frozenset()

    run(worker.database, story)
