"""Which of SQLAlchemy's Connections has taken a connection from the pool.

The pool and the dialect know the pool's object alone (`PoolProxiedConnection`); a block of
`CacheManager.connect` lends the Connection itself.
"""

from __future__ import annotations

import weakref
from typing import Any

from sqlalchemy import Connection, Engine, PoolProxiedConnection

_INFO = "coherent_cache.connection"


def note_connections(engine: Engine) -> None:
    """Note each Connection that *engine* makes.  Those of an engine made from it by
    `execution_options` are noted at their first statement (`note_connection`)."""
    # Not by the event for it, whose listeners cost every statement of the engine (`boundaries`).
    noting: Any = engine
    original = noting.connect

    def connect() -> Connection:
        connection: Connection = original()
        note_connection(connection)
        return connection

    noting.connect = connect


def note_connection(connection: Connection) -> None:
    """Note that *connection* has its connection from the pool."""
    connection.connection.info[_INFO] = weakref.ref(connection)


def connection_on(pooled: PoolProxiedConnection) -> Connection | None:
    """The open Connection that has *pooled*, if it was noted."""
    # What stands there may be of the one who had it before, who is closed or gone.
    reference = pooled.info.get(_INFO) if pooled.is_valid else None
    found: Connection | None = None if reference is None else reference()
    return None if found is None or found.closed or found.invalidated else found
