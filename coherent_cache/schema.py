"""The tables of the ledger, as SQLAlchemy Core describes them.

``cache`` is a log: an invalidation is a row that is inserted and never changed.  What orders the
rows differs by database (see the modules of `coherent_cache.ledger`):

============  ============================================================================
SQLite        ``generation``: one writer at a time, so numbers are in the order of commits
PostgreSQL    ``position`` is the transaction number, read up to the horizon of a snapshot
MariaDB       ``lane`` and ``position``: each connection writes a lane of its own
============  ============================================================================

``cache_lane`` holds the lanes; it stays empty on SQLite and PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, Table, Text, text
from sqlalchemy.dialects.mysql import LONGTEXT

#: 64 bits everywhere; SQLite numbers rows by itself only in a column called INTEGER.
_Number = BigInteger().with_variant(Integer(), "sqlite")
_KeyText = Text().with_variant(
    LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
)


@dataclass(frozen=True)
class LedgerTables:
    """The two tables of one ledger."""

    log: Table
    lanes: Table

    @property
    def metadata(self) -> MetaData:
        """The `MetaData` they belong to."""
        return self.log.metadata


def add_tables(
    metadata: MetaData, *, table: str = "cache", schema: str | None = None
) -> LedgerTables:
    """Add the ledger's tables to *metadata* and return them.

    For an application with Alembic migrations of its own this is the one line to add to the
    metadata that ``autogenerate`` compares with.  Calling it again returns the same tables.
    """
    name = table if schema is None else f"{schema}.{table}"
    known = metadata.tables.get(name)
    if known is not None:
        return LedgerTables(known, metadata.tables[f"{name}_lane"])
    log = Table(
        table,
        metadata,
        Column("generation", _Number, primary_key=True, autoincrement=True),
        Column("key", _KeyText, nullable=False),
        Column("key_hash", BigInteger, nullable=False),
        Column("lane", BigInteger, nullable=False),
        Column("position", BigInteger, nullable=False),
        Column("token", BigInteger, nullable=False),
        # SQLite finds nothing but marks by it, and would take it for the rows of lane 0 too.
        Index(f"ix_{table}_position", "lane", "position", sqlite_where=text("lane = -1")),
        Index(f"ix_{table}_key_hash", "key_hash"),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    lanes = Table(
        f"{table}_lane",
        metadata,
        Column("lane", _Number, primary_key=True, autoincrement=True),
        Column("value", BigInteger, nullable=False),
        Column("token", BigInteger, nullable=False),
        schema=schema,
        mysql_engine="InnoDB",
        mariadb_engine="InnoDB",
    )
    return LedgerTables(log, lanes)
