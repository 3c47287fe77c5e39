"""A worker as the tests see it: an engine and a manager of its own, and a small application.

Two workers in one test are two processes to the library: they share nothing but the database.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, Connection, Engine, Integer, MetaData, String, Table, select, text

from coherent_cache import CacheManager, cached

from .databases import Database

metadata = MetaData()
page = Table(
    "page",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("text", String(1000), nullable=False),
    Column("version", Integer, nullable=False, default=0),
    mysql_engine="InnoDB",
)


class Worker:
    """One process of the application."""

    def __init__(self, database: Database, *, engine: Engine | None = None, **options: Any) -> None:
        self.database = database
        self.engine = engine if engine is not None else database.engine()
        self.cache_manager = CacheManager(self.engine, **options)
        self.wiki = Wiki(self)

    def drop_engine(self) -> None:
        """Leave nothing in the test's hands that holds the engine."""
        self.database.engines.remove(self.engine)
        self.engine.dispose()

    def read(self, name: str) -> str | None:
        """The page's text as a request of its own sees it."""
        with self.cache_manager.request():
            return PageText(self, name).text

    def write(self, name: str, text: str) -> None:
        """Change a page and invalidate what depends on it, in one transaction."""
        with self.cache_manager.begin() as connection:
            put(connection, name, text)
            del PageText(self, name).text
            del self.wiki.names


def put(connection: Connection, name: str, text: str) -> None:
    """Insert or update a page."""
    changed = connection.execute(page.update().where(page.c.name == name).values(text=text))
    if not changed.rowcount:
        connection.execute(page.insert().values(name=name, text=text))


def wait_for_older_transactions(worker: Worker, seconds: float = 30) -> None:
    """On PostgreSQL, wait until all rows of the ledger may be pruned: a transaction that is open
    anywhere on the server, perhaps another test's, keeps those that are newer than it."""
    if worker.database.kind != "postgresql":
        return
    oldest = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
    with worker.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        newest = connection.scalar(text("SELECT MAX(position) FROM cache"))
        end = time.monotonic() + seconds
        while connection.scalar(oldest) <= newest:
            assert time.monotonic() < end, "a transaction on this server does not end"
            time.sleep(0.02)


def take_lane(worker: Worker) -> None:
    """On MariaDB, let *worker*'s connection have a lane of its own: it has one after a commit or
    two, unless somebody who had a database of the same name still holds the lock of the lane's
    name."""
    lane = None
    while worker.database.kind == "mariadb" and lane is None:
        with worker.cache_manager.begin() as connection:
            worker.cache_manager.invalidate("a lane")
            lane = connection.connection.info.get("coherent_cache.lane.cache_lane")


class Wiki:
    """A component: one instance in each process."""

    def __init__(self, env: Worker) -> None:
        self.env = env
        #: How often the retriever ran.
        self.calls = 0
        #: Called by the retriever: before it reads, and after.
        self.before: Callable[[], None] = _nothing
        self.after: Callable[[], None] = _nothing

    @cached
    def names(self) -> frozenset[str]:
        """The names of all pages."""
        self.calls += 1
        self.before()
        with self.env.cache_manager.connect() as connection:
            found = frozenset(connection.scalars(select(page.c.name)))
        self.after()
        return found


class PageText:
    """A page's text: many instances, one value for each name."""

    calls = 0
    _lock = threading.Lock()

    def __init__(self, env: Worker, name: str) -> None:
        self.env = env
        self.name = name

    @cached("name")
    def text(self) -> str | None:
        with PageText._lock:
            PageText.calls += 1
        with self.env.cache_manager.connect() as connection:
            return connection.scalar(select(page.c.text).where(page.c.name == self.name))


def _nothing() -> None:
    pass
