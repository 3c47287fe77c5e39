"""An open transaction, through Core or the ORM, synchronous or not."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import select

from .environment import Environment, current_session, settled
from .tables import record, row_class_of, table_of


class Savepoint:
    """An open savepoint."""

    def __init__(self, transaction: Any) -> None:
        self._transaction = transaction

    async def release(self) -> None:
        await settled(self._transaction.commit())

    async def undo(self) -> None:
        await settled(self._transaction.rollback())


class Work:
    """What is done in an open transaction, on its Connection."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def look(self) -> None:
        """Read something: it may open the transaction's snapshot."""
        await settled(self.connection.execute(select(record.c.write_id).limit(1)))

    async def write(self, key: str, write_id: str) -> int:
        """Count the row's version up, under its lock, and name the write that did it; return the
        version."""
        table = table_of(key)
        row = table.c.name == key
        await settled(self.connection.execute(record.insert().values(write_id=write_id)))
        await settled(
            self.connection.execute(
                table.update().where(row).values(version=table.c.version + 1, write_id=write_id)
            )
        )
        found = await settled(self.connection.execute(select(table.c.version).where(row)))
        version: int = found.scalar_one()
        return version

    async def savepoint(self) -> Savepoint:
        return Savepoint(await settled(self.connection.begin_nested()))


class SessionWork(Work):
    """What is done in an open transaction, with the objects of a Session."""

    async def write(self, key: str, write_id: str) -> int:
        session = self.connection
        await settled(session.flush())
        await settled(session.execute(record.insert().values(write_id=write_id)))
        row = await settled(
            session.get_one(row_class_of(key), key, with_for_update=True, populate_existing=True)
        )
        row.version += 1
        row.write_id = write_id
        version: int = row.version
        return version


@asynccontextmanager
async def transaction(env: Environment, way: int) -> AsyncIterator[Work]:
    """A transaction, in one of the *ways* (any number) that an application has.  It commits at the
    end of the block."""
    session = current_session.get()
    if session is not None:
        if not session.in_transaction():
            await settled(session.begin())
        try:
            yield SessionWork(session)
            await settled(session.commit())
        except BaseException:
            await settled(session.rollback())
            raise
    elif way % 4 == 0:
        async with env.enter(env.engine.begin()) as connection:
            yield Work(connection)
    elif way % 4 == 1:
        async with env.enter(env.engine.connect()) as connection:
            yield Work(connection)
            await settled(connection.commit())
    elif way % 4 == 2:
        async with env.enter(env.new_session()) as session, env.enter(session.begin()):
            yield Work(await settled(session.connection()))
    else:
        async with env.enter(env.cache_manager.begin()) as connection:
            yield Work(connection)
