"""The application's tables, and engines at an isolation level."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.orm import registry

from ...databases import Database

metadata = MetaData()


def _versioned(name: str, *columns: Column[Any]) -> Table:
    return Table(
        name,
        metadata,
        Column("name", String(20), primary_key=True),
        Column("version", Integer, nullable=False),
        Column("write_id", String(40), nullable=False),
        *columns,
        mysql_engine="InnoDB",
    )


#: Keys are called i0, i1, … and n0, n1, …: a note belongs to the item of its number.
item = _versioned("item")
note = _versioned("note", Column("item", String(20), nullable=False))
#: The database's own record of what committed: a row for each write, in its transaction.
record = Table(
    "record",
    metadata,
    Column("write_id", String(40), primary_key=True),
    mysql_engine="InnoDB",
)


class Row:
    """What the rows of both tables have."""

    name: str
    version: int
    write_id: str


class ItemRow(Row):
    """A row of `item`, for the ORM."""


class NoteRow(Row):
    """A row of `note`."""


_registry = registry()
_registry.map_imperatively(ItemRow, item)
_registry.map_imperatively(NoteRow, note)


def start_rows(items: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of both tables at the beginning."""
    start = {"version": 0, "write_id": "start"}
    return (
        [{"name": f"i{number}", **start} for number in range(items)],
        [{"name": f"n{number}", "item": f"i{number}", **start} for number in range(items)],
    )


def table_of(key: str) -> Table:
    """The table that has the row called *key*."""
    return item if key.startswith("i") else note


def row_class_of(key: str) -> type[Row]:
    """`table_of` for the ORM."""
    return ItemRow if key.startswith("i") else NoteRow


#: What SQLAlchemy calls isolation levels; on SQLite how a transaction begins: by the driver's own
#: rule (at the first write), or by SQLAlchemy's recipe for the driver (all of them).
SQLITE_BEGINS = {"DRIVER": None, "BEGIN": "BEGIN", "IMMEDIATE": "BEGIN IMMEDIATE"}

#: The databases, and at which levels they are tried.
LEVELS = {
    "sqlite-wal": list(SQLITE_BEGINS),
    "sqlite-journal": list(SQLITE_BEGINS),
    "postgresql": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
    "mariadb": ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"],
}


#: How long a statement waits for a lock, in seconds, before it is an error that is counted.
_LOCK_WAIT = 5


def make_engine(database: Database, isolation: str, **options: Any) -> Engine:
    """An engine at an isolation level, one of `SQLITE_BEGINS` on SQLite."""
    if not database.is_sqlite:
        engine = database.engine(isolation_level=isolation, **options)
        _wait_no_longer(engine)
        return engine
    engine = database.engine(connect_args={"timeout": 20}, **options)
    _begin_by(engine, isolation)
    return engine


def make_async_engine(database: Database, isolation: str, **options: Any) -> AsyncEngine:
    """`make_engine`, asynchronous."""
    if not database.is_sqlite:
        engine = database.async_engine(isolation_level=isolation, **options)
        _wait_no_longer(engine.sync_engine)
        return engine
    engine = database.async_engine(connect_args={"timeout": 20}, **options)
    _begin_by(engine.sync_engine, isolation)
    return engine


def _wait_no_longer(engine: Engine) -> None:
    if engine.dialect.name not in ("mysql", "mariadb"):
        return

    @event.listens_for(engine, "connect")
    def set_timeout(dbapi_connection: Any, _: Any) -> None:
        cursor = dbapi_connection.cursor()
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {_LOCK_WAIT}")
        cursor.close()


def _begin_by(engine: Engine, isolation: str) -> None:
    begin = SQLITE_BEGINS[isolation]
    if begin is None:
        return

    @event.listens_for(engine, "connect")
    def leave_it_to_us(dbapi_connection: Any, _: Any) -> None:
        dbapi_connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)
