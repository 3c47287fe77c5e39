"""``trac.cache``, as Trac publishes it, on a session's connection.

Trac's cache asks an environment for two things: a connection to read, and the transaction to write
in.  Both are the session's transaction if it is in one, as both are one connection in Trac.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, text
from trac.cache import CacheManager, key_to_id  # type: ignore[import-untyped]
from trac.core import ComponentManager  # type: ignore[import-untyped]

_local = threading.local()

CREATE = 'CREATE TABLE cache (id INTEGER PRIMARY KEY, generation INTEGER, "key" VARCHAR(500))'


class TracCache:
    """See `variants.Variant`."""

    def __init__(self, session: Any, engine: Any) -> None:
        self._manager = CacheManager(_Environment(session, engine))

    def begin_request(self) -> None:
        """See `variants.Variant`."""
        self._manager.reset_metadata()

    def get(self, key: str, load: Callable[[], Any]) -> Any:
        """See `variants.Variant`."""
        return self._manager.get(key_to_id(key), lambda _: load(), None)

    def forget(self, key: str) -> None:
        """See `variants.Variant`."""
        self._manager.invalidate(key_to_id(key))


def create_table(engine: Any) -> None:
    """Create the table that Trac's schema has."""
    statement = CREATE.replace('"', "`") if engine.dialect.name == "mysql" else CREATE
    with engine.begin() as connection:
        connection.execute(text(statement))


class _Environment(ComponentManager):  # type: ignore[misc]
    """What Trac's cache needs of an environment."""

    def __init__(self, session: Any, engine: Any) -> None:
        super().__init__()
        self.db_query = _Database(session, engine, writes=False)
        self.db_transaction = _Database(session, engine, writes=True)

    def component_activated(self, component: Any) -> None:
        component.env = self


class _Database:
    """``env.db_query(sql)``, and ``with env.db_query as db: db(sql)``."""

    def __init__(self, session: Any, engine: Any, *, writes: bool) -> None:
        self._session = session
        self._engine = engine
        self._writes = writes

    def __call__(self, sql: str, parameters: tuple[Any, ...] = ()) -> list[Any]:
        with self._connection() as connection:
            return _execute(connection, sql, parameters)

    def __enter__(self) -> Callable[..., list[Any]]:
        opened = self._connection()
        connection = opened.__enter__()
        _stack().append(opened)
        return lambda sql, parameters=(): _execute(connection, sql, parameters)

    def __exit__(self, *error: Any) -> None:
        _stack().pop().__exit__(*error)

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        session = self._session()
        if self._writes or session.in_transaction():
            yield session.connection()
        else:
            with self._engine.connect() as connection:
                yield connection


def _stack() -> list[Any]:
    """The blocks that this thread is in."""
    found: list[Any] = _local.__dict__.setdefault("blocks", [])
    return found


def _execute(connection: Connection, sql: str, parameters: tuple[Any, ...]) -> list[Any]:
    if connection.dialect.name == "sqlite":
        sql = sql.replace("%s", "?")
    result = connection.exec_driver_sql(sql, parameters)
    return list(result) if result.returns_rows else []
