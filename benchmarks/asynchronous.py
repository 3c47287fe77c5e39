"""A check through an asynchronous driver that finds nothing new.

The limit, and the reference, is the driver's own round trip: ``SELECT 1`` awaited on a connection
of its own that is held, without SQLAlchemy.  "A request" is a view, one awaitable attribute, and
the end of the view.  On PostgreSQL a check asks for less where nothing is committed on the whole
server, so it is also measured, by itself, after a transaction of something else has ended.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from coherent_cache import CacheManager, cached
from tests.databases import Database

from .databases import available, fresh_database
from .measure import Case, Timed, measure
from .registry import Options
from .tables import Table

_DRIVERS = {
    "sqlite-wal": ("sqlite+aiosqlite",),
    "postgresql": ("postgresql+asyncpg", "postgresql+psycopg"),
    "mariadb": ("mysql+aiomysql",),
}
_REFERENCE = "SELECT 1, driver's connection held"
_SELECT = text("SELECT 1")
_TRANSACTION = text("SELECT pg_current_xact_id()")


def run(options: Options) -> Iterator[Table]:
    """Yield a table for each driver."""
    for kind in available(options.databases, options.progress):
        for driver in _DRIVERS.get(kind, ()):
            with fresh_database(kind) as database, asyncio.Runner() as runner:
                opened = runner.run(_open(database, driver))
                rows = measure(
                    list(_cases(runner, *opened)),
                    reference=_REFERENCE,
                    rounds=options.rounds,
                    seconds=0.05,
                    progress=options.progress,
                    title=f"asynchronous: {driver}",
                )
                runner.run(_close(*opened))
            yield Table(driver.split("+")[1], rows, reference=_REFERENCE)


async def _open(database: Database, driver: str) -> tuple[CacheManager, AsyncEngine, Any]:
    engine = database.async_engine() if driver != "postgresql+psycopg" else None
    if engine is None:
        engine = create_async_engine(database.url.set(drivername=driver))
    manager = CacheManager(engine)
    await manager.acreate_table()
    connection = await engine.connect()
    await connection.execution_options(isolation_level="AUTOCOMMIT")
    return manager, engine, connection


async def _close(manager: CacheManager, engine: AsyncEngine, connection: Any) -> None:
    await connection.close()
    await manager.aclose()
    await engine.dispose()


def _cases(
    runner: asyncio.Runner, manager: CacheManager, engine: AsyncEngine, connection: Any
) -> Iterator[Case]:
    class Site:
        cache_manager = manager

        @cached
        async def title(self) -> str:
            return "a value"

    site = Site()

    async def pooled() -> None:
        async with engine.connect() as taken:
            (await taken.execute(_SELECT)).scalar()

    async def check() -> None:
        await manager.core.access.acheck(())

    async def request() -> None:
        with manager.request():
            await site.title

    runner.run(request())
    raw = connection.sync_connection.connection.driver_connection
    yield Case(_REFERENCE, _timed(runner, _round_trip(raw)), note="the limit")
    yield Case("SELECT 1 from the pool", _timed(runner, pooled))
    yield Case("check", _timed(runner, check), 1.2)
    if engine.dialect.name == "postgresql":

        async def elsewhere() -> None:
            await connection.execute(_TRANSACTION)

        yield Case("check after others' commits", _timed(runner, check, before=elsewhere))
    yield Case("a request", _timed(runner, request))


def _timed(
    runner: asyncio.Runner,
    function: Callable[[], Awaitable[object]],
    *,
    before: Callable[[], Awaitable[object]] | None = None,
) -> Timed:
    async def repeat(number: int) -> float:
        if before is not None:
            seconds = 0.0
            for _ in range(number):
                await before()
                start = time.perf_counter()
                await function()
                seconds += time.perf_counter() - start
            return seconds
        start = time.perf_counter()
        for _ in range(number):
            await function()
        return time.perf_counter() - start

    return lambda number: runner.run(repeat(number))


def _round_trip(raw: Any) -> Callable[[], Awaitable[object]]:
    """``SELECT 1`` as the driver's own documentation writes it."""
    if hasattr(raw, "fetchval"):  # asyncpg
        return lambda: raw.fetchval("SELECT 1")
    if type(raw).__module__.startswith("aiomysql"):

        async def by_cursor() -> None:
            async with raw.cursor() as cursor:
                await cursor.execute("SELECT 1")
                await cursor.fetchall()

        return by_cursor

    async def by_connection() -> None:  # aiosqlite, psycopg
        cursor = await raw.execute("SELECT 1")
        await cursor.fetchall()
        await cursor.close()

    return by_connection
