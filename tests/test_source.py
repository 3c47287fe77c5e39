"""An application that keeps raw DBAPI connections itself, as Trac does, bound to the thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from coherent_cache import CacheManager, ConfigurationError, cached

from .databases import Database
from .workers import Worker


class Environment:
    """Raw connections: one open transaction a thread, ended by commit() or rollback()."""

    def __init__(self, database: Database, *, tells_writes: bool = True) -> None:
        self.engine = database.engine()
        self.tells_writes = tells_writes
        self._local = threading.local()
        self.cache_manager = CacheManager(self.engine, source=self)

    def current(self) -> Any | None:
        return getattr(self._local, "connection", None)

    def has_written(self, connection: Any) -> bool | None:
        return self._local.written if self.tells_writes else None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        if self.current() is not None:
            yield self.current()
            return
        pooled = self.engine.raw_connection()
        connection: Any = pooled.dbapi_connection
        self._local.connection, self._local.written = connection, False
        committed = False
        try:
            yield connection
            connection.commit()
            committed = True
        finally:
            self._local.connection = None
            if not committed:
                connection.rollback()
            self.cache_manager.transaction_ended(connection, committed)
            pooled.close()

    def execute(self, statement: str) -> list[Any]:
        with self.transaction() as connection:
            if not statement.startswith("SELECT"):
                self._local.written = True
            cursor = connection.cursor()
            cursor.execute(statement)
            rows = list(cursor.fetchall()) if cursor.description else []
            cursor.close()
            return rows


class Names:
    def __init__(self, env: Environment) -> None:
        self.env = env
        self.calls = 0

    @cached
    def names(self) -> frozenset[str]:
        self.calls += 1
        return frozenset(row[0] for row in self.env.execute("SELECT name FROM page"))


INSERT = "INSERT INTO page (name, text, version) VALUES ('{}', '', 0)"


@pytest.fixture(params=[True, False], ids=["tells-writes", "tells-nothing"])
def env(worker: Worker, request: pytest.FixtureRequest) -> Environment:
    return Environment(worker.database, tells_writes=request.param)


def test_commits_and_rolls_back_with_the_raw_connection(env: Environment, worker: Worker) -> None:
    mine = Names(env)
    theirs = Names(Environment(worker.database))
    assert mine.names == theirs.names == frozenset()
    with env.transaction():
        env.execute(INSERT.format("a"))
        del mine.names
        assert mine.names == {"a"}
        if worker.database.kind != "sqlite-journal":
            assert theirs.names == frozenset()
    assert mine.names == theirs.names == {"a"}
    with pytest.raises(KeyError), env.transaction():
        env.execute(INSERT.format("b"))
        del mine.names
        assert mine.names == {"a", "b"}
        raise KeyError
    assert mine.names == theirs.names == {"a"}


def test_read_before_the_del_is_private(env: Environment) -> None:
    """A cold store, a write, a read, and only then (or never) a `del`: nobody may keep it."""
    mine = Names(env)
    with pytest.raises(KeyError), env.transaction():
        env.execute(INSERT.format("a"))
        assert mine.names == {"a"}
        raise KeyError
    assert mine.names == frozenset()


def test_what_is_read_in_a_clean_transaction_is_kept(worker: Worker) -> None:
    env = Environment(worker.database)
    mine = Names(env)
    for _ in range(3):
        assert mine.names == frozenset()
    assert mine.calls == 1


def test_ended_without_a_word(env: Environment) -> None:
    """The application commits and forgets to say so; the next transaction finds out."""
    mine = Names(env)
    with env.transaction() as connection:
        env.execute(INSERT.format("a"))
        del mine.names
        assert mine.names == {"a"}
        connection.commit()
        assert mine.names == {"a"}
    assert mine.names == {"a"}


@pytest.mark.on("sqlite-wal")
def test_needs_a_source(worker: Worker) -> None:
    with pytest.raises(ConfigurationError, match="source"):
        worker.cache_manager.transaction_ended(object(), True)
