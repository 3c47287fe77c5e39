"""What the application's objects find their cache and their database by, synchronous or not."""

from __future__ import annotations

import asyncio
import inspect
import random
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from coherent_cache import CacheManager

from ..history import current_log
from .workload import Workload

_T = TypeVar("_T")

#: The ORM session of the request, where there is one.
current_session: ContextVar[Any] = ContextVar("current_session", default=None)


def drive(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: _T = end.value
        return value
    coroutine.close()
    raise RuntimeError("it waits")


async def settled(value: Any) -> Any:
    """*value*, waited for if need be: SQLAlchemy's asynchronous objects have the methods of its
    synchronous ones."""
    return await value if inspect.isawaitable(value) else value


@asynccontextmanager
async def entered(manager: Any, *, is_async: bool) -> AsyncIterator[Any]:
    """``with`` or ``async with``."""
    if is_async:
        async with manager as value:
            yield value
    else:
        with manager as value:
            yield value


class Environment:
    """One process of the application."""

    def __init__(self, workload: Workload, engine: Engine | AsyncEngine, **options: Any) -> None:
        self.workload = workload
        self.engine: Any = engine
        self.is_async = isinstance(engine, AsyncEngine)
        self.cache_manager = CacheManager(engine, **options)
        self._random = random.Random()

    def new_session(self) -> Any:
        """A session of the workload's kind; it has to be closed."""
        kind: Any = AsyncSession if self.is_async else Session
        return kind(self.engine, expire_on_commit=self.workload.expire_on_commit)

    def enter(self, manager: Any) -> Any:
        """``async with environment.enter(...)`` enters what the application enters by ``with``
        or, where it is asynchronous, by ``async with``."""
        return entered(manager, is_async=self.is_async)

    async def sleep(self, seconds: float) -> None:
        if self.is_async:
            await asyncio.sleep(seconds)
        else:
            time.sleep(seconds)

    # For retrievers

    async def begin_load(self, name: str) -> None:
        """A retriever begins."""
        log = current_log.get()
        if log is not None:
            log.add("load", name)
        await self.pause()

    async def pause(self) -> None:
        """Now and then a retriever is slow, before it reads or after."""
        chance, longest = self.workload.slow
        if self._random.random() < chance:
            await self.sleep(self._random.random() * longest)

    async def one(self, query: Any) -> Any:
        """The one row that *query* finds, on the connection that the library gives."""
        async with self.enter(self.cache_manager.connect()) as connection:
            return (await settled(connection.execute(query))).one()
