"""Ledgers of any size, and how to look at one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import text

from coherent_cache import CacheManager
from tests.databases import Database

#: SQL that writes rows for *n* keys as if as many transactions had invalidated one each.
_FILL = {
    "sqlite": (
        "WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s WHERE i < :n) "
        'INSERT INTO cache ("key", key_hash, lane, position, token) '
        "SELECT 'a key of a usual length ' || i, i, 0, 0, i FROM s",
    ),
    "postgresql": (
        "INSERT INTO cache (key, key_hash, lane, position, token) "
        "SELECT 'a key of a usual length ' || i, i, 0, 3, i FROM generate_series(1, :n) i",
        "ANALYZE cache",
    ),
    "mysql": (
        "INSERT INTO cache (`key`, key_hash, lane, position, token) "
        "SELECT CONCAT('a key of a usual length ', seq), seq, 1000 + seq % 16, seq DIV 16, seq "
        "FROM seq_1_to_1000000 WHERE seq <= :n",
        "INSERT INTO cache_lane (lane, value, token) SELECT c.lane, c.position, c.token "
        "FROM cache c JOIN (SELECT lane, MAX(position) AS position FROM cache GROUP BY lane) m "
        "ON m.lane = c.lane AND m.position = c.position",
    ),
}


def fill(database: Database, rows: int) -> None:
    """Give the ledger *rows* rows of as many keys."""
    engine = database.engine()
    for statement in _FILL[engine.dialect.name]:
        with engine.begin() as connection:
            found = text(statement)
            connection.execute(found, {"n": rows} if ":n" in statement else {})
    engine.dispose()


@contextmanager
def manager_on(database: Database, **options: object) -> Iterator[CacheManager]:
    """A manager with its table and an engine of its own: to the library, another process."""
    manager = CacheManager(database.engine(), **options)  # type: ignore[arg-type]
    manager.create_table()
    try:
        yield manager
    finally:
        manager.close()


def look(manager: CacheManager) -> None:
    """One check of the ledger, and nothing else."""
    manager.core.access.check(())
