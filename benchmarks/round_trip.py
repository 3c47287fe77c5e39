"""The limit of everything that asks a database: the driver's own round trip."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine


def round_trip(engine: Engine) -> Callable[[], None]:
    """``SELECT 1`` on a connection of the driver that is held, in autocommit mode."""
    pooled = engine.raw_connection()
    connection = pooled.dbapi_connection
    assert connection is not None
    engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")

    def select() -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        cursor.close()

    # The pool's object goes with the function: while it lives, the connection is not given back.
    select.pooled = pooled  # type: ignore[attr-defined]
    return select
