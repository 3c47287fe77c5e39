"""The application of the workload: items that are written, and sums that depend on several."""

from __future__ import annotations

import random
import time
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, event, select

from coherent_cache import CacheManager, cached

from ..databases import Database
from .history import Part, current_log

metadata = MetaData()
item = Table(
    "item",
    metadata,
    Column("name", String(20), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("write_id", String(40), nullable=False),
    mysql_engine="InnoDB",
)
#: The database's own record of what committed: a row for each write, in its transaction.
record = Table("record", metadata, Column("write_id", String(40), primary_key=True))

#: How many items a sum is made of.
GROUP = 3

#: What SQLAlchemy calls isolation levels; on SQLite how a transaction begins: by the driver's own
#: rule (at the first write), or by SQLAlchemy's recipe for the driver (all of them).
SQLITE_BEGINS = {"DRIVER": None, "BEGIN": "BEGIN", "IMMEDIATE": "BEGIN IMMEDIATE"}


def make_engine(database: Database, isolation: str, **options: Any) -> Engine:
    """An engine at an isolation level, one of `SQLITE_BEGINS` on SQLite."""
    if not database.is_sqlite:
        return database.engine(isolation_level=isolation, **options)
    engine = database.engine(connect_args={"timeout": 20}, **options)
    begin = SQLITE_BEGINS[isolation]
    if begin is not None:

        @event.listens_for(engine, "connect")
        def leave_it_to_us(dbapi_connection: Any, _: Any) -> None:
            dbapi_connection.isolation_level = None

        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

    return engine


class Process:
    """What the cached attributes need to find."""

    def __init__(self, engine: Engine, **options: Any) -> None:
        self.cache_manager = CacheManager(engine, **options)
        self._random = random.Random()

    def load(self, name: str) -> None:
        """A retriever begins."""
        log = current_log.get()
        if log is not None:
            log.add("load", name)
        self.pause()

    def pause(self) -> None:
        """Now and then a retriever is slow, before it reads or after."""
        if self._random.random() < 0.1:
            time.sleep(self._random.random() * 0.004)


class Item:
    """A row, read as a cached attribute."""

    def __init__(self, env: Process, name: str) -> None:
        self.env = env
        self.name = name

    @cached("name")
    def value(self) -> tuple[Part, ...]:
        self.env.load(self.name)
        query = select(item.c.name, item.c.version, item.c.write_id)
        with self.env.cache_manager.connect() as connection:
            row = connection.execute(query.where(item.c.name == self.name)).one()
        self.env.pause()
        return (Part(*row),)


class Sum:
    """A value computed from the values of several items, themselves cached."""

    def __init__(self, env: Process, number: int) -> None:
        self.env = env
        self.number = number

    @property
    def names(self) -> list[str]:
        return [f"i{self.number * GROUP + index}" for index in range(GROUP)]

    @cached("number")
    def value(self) -> tuple[Part, ...]:
        self.env.load(f"sum{self.number}")
        return tuple(part for name in self.names for part in Item(self.env, name).value)
