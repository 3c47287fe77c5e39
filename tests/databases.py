"""The databases the tests run on: which are there, and a fresh one for each test run.

PostgreSQL and MariaDB are named by ``COHERENT_CACHE_POSTGRESQL`` and ``COHERENT_CACHE_MARIADB``
(URLs of an account that may create databases); the defaults are their standard local ports.  One
that does not answer is skipped and named in the closing summary, unless
``COHERENT_CACHE_REQUIRE_SERVICES=1`` makes that a failure.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event, make_url, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

SERVICES = {
    "postgresql": (
        "COHERENT_CACHE_POSTGRESQL",
        "postgresql+psycopg://postgres@127.0.0.1:5432/postgres",
    ),
    "mariadb": ("COHERENT_CACHE_MARIADB", "mysql+pymysql://root@127.0.0.1:3306/mysql"),
}
_ASYNC_DRIVERS = {"sqlite": "aiosqlite", "postgresql": "asyncpg", "mysql": "aiomysql"}

REQUIRED = os.environ.get("COHERENT_CACHE_REQUIRE_SERVICES") == "1"


@dataclass
class Database:
    """One database of a test: a name for the report and how to connect."""

    kind: str  # sqlite-wal, sqlite-journal, sqlite-memory, postgresql, mariadb
    url: URL
    engines: list[Engine] = field(default_factory=list)

    @property
    def is_sqlite(self) -> bool:
        return self.kind.startswith("sqlite")

    def engine(self, **options: Any) -> Engine:
        """A new engine: to the library, another process."""
        if self.url.drivername == "mysql+pymysql":  # reading certificates takes 30 ms each time
            options.setdefault("connect_args", {}).setdefault("ssl_disabled", True)
        engine = create_engine(self.url, **options)
        self._prepare(engine)
        self.engines.append(engine)
        return engine

    def async_engine(self, **options: Any) -> AsyncEngine:
        """A new asynchronous engine; dispose of it in its event loop."""
        driver = _ASYNC_DRIVERS[self.url.get_backend_name()]
        url = self.url.set(drivername=f"{self.url.get_backend_name()}+{driver}")
        engine = create_async_engine(url, **options)
        self._prepare(engine.sync_engine)
        return engine

    def _prepare(self, engine: Engine) -> None:
        if self.kind in ("sqlite-wal", "sqlite-journal"):
            mode = "WAL" if self.kind == "sqlite-wal" else "DELETE"

            @event.listens_for(engine, "connect")
            def configure(connection: Any, record: Any) -> None:
                cursor = connection.cursor()
                cursor.execute("PRAGMA synchronous=OFF")
                cursor.execute(f"PRAGMA journal_mode={mode}")
                cursor.close()

    def dispose(self) -> None:
        for engine in self.engines:
            engine.dispose()
        self.engines.clear()


def service_url(kind: str) -> URL:
    variable, default = SERVICES[kind]
    return make_url(os.environ.get(variable) or default)


def unavailable(kind: str) -> str | None:
    """Why the service cannot be used, None if it can."""
    engine = create_engine(service_url(kind), poolclass=NullPool)
    try:
        with engine.connect():
            return None
    except Exception as error:
        return f"{SERVICES[kind][0]} ({service_url(kind)}): {error}".splitlines()[0]


def create_database(kind: str) -> URL:
    """Make an empty database with a name of its own and return its URL."""
    url = service_url(kind)
    name = f"coherent_cache_{uuid.uuid4().hex[:12]}"
    _administer(kind, f"CREATE DATABASE {name}")
    return url.set(database=name)


def drop_database(kind: str, url: URL) -> None:
    """Drop a database made by `create_database`, whoever is still connected."""
    force = " WITH (FORCE)" if kind == "postgresql" else ""
    _administer(kind, f"DROP DATABASE IF EXISTS {url.database}{force}")


def _administer(kind: str, statement: str) -> None:
    engine = create_engine(service_url(kind), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))


def sqlite_url(directory: Path, name: str = "test.db") -> URL:
    return URL.create("sqlite", database=str(directory / name))
