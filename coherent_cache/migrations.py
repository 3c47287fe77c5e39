"""Alembic and the ledger's tables.

An application with migrations of its own has two ways to add the tables; both give the same.

*Autogenerate*: one line where the application's metadata is defined, or in its ``env.py``::

    coherent_cache.add_tables(target_metadata)

``alembic revision --autogenerate`` then writes a migration that creates the tables, and finds no
difference afterwards.

*By hand*: a revision that calls the steps of this module::

    from coherent_cache import migrations

    def upgrade():
        migrations.upgrade(1)

    def downgrade():
        migrations.downgrade(1)

A step never changes once it is released.  A release that needs other tables adds a step, which its
changelog names, and the application adds a revision that calls it.  Use the functions inside of a
migration: they work through ``alembic.op``, also with ``--sql``.
"""

from __future__ import annotations

from typing import Any

from alembic import context, op
from sqlalchemy import BigInteger, Column, Integer, Text, column, inspect, text
from sqlalchemy import table as table_clause
from sqlalchemy.dialects.mysql import LONGTEXT

from .errors import ConfigurationError, TableError
from .tables import first_rows

#: The newest step there is.
LATEST = 1


def upgrade(step: int, *, table: str = "cache", schema: str | None = None) -> None:
    """Make the step to version *step* of the tables, from the one before.

    Tables that are there (``create_table()`` made them, or a migration that was interrupted) are
    taken over, and what they lack is added.  Raises `TableError` if a
    table of that name has other columns, `ConfigurationError` if this release has no such step.
    """
    _check_step(step)
    if not _is_there(table, schema, {"generation", "key", "key_hash", "lane", "position", "token"}):
        op.create_table(
            table,
            Column("generation", _number(), primary_key=True, autoincrement=True),
            Column("key", _key_text(), nullable=False),
            Column("key_hash", BigInteger(), nullable=False),
            Column("lane", BigInteger(), nullable=False),
            Column("position", BigInteger(), nullable=False),
            Column("token", BigInteger(), nullable=False),
            schema=schema,
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )
        _insert_first_rows(table, schema)
    # By themselves: MariaDB commits each, and may have been stopped between two.
    known = _indexes(table, schema)
    of_marks: dict[str, Any] = {"sqlite_where": text("lane = -1")}
    for columns, options in ((["lane", "position"], of_marks), (["key_hash"], {})):
        name = f"ix_{table}_{columns[-1]}"
        if name not in known:
            op.create_index(name, table, columns, schema=schema, **options)
    if not _is_there(f"{table}_lane", schema, {"lane", "value", "token"}):
        op.create_table(
            f"{table}_lane",
            Column("lane", _number(), primary_key=True, autoincrement=True),
            Column("value", BigInteger(), nullable=False),
            Column("token", BigInteger(), nullable=False),
            schema=schema,
            mysql_engine="InnoDB",
            mariadb_engine="InnoDB",
        )


def downgrade(step: int, *, table: str = "cache", schema: str | None = None) -> None:
    """Undo the step to version *step*: 1 removes the tables.

    Stop the application first: a process that finds no table raises `TableError`, rather than
    serve what nothing vouches for.
    """
    _check_step(step)
    op.drop_table(f"{table}_lane", schema=schema)
    op.drop_table(table, schema=schema)


def _insert_first_rows(table: str, schema: str | None) -> None:
    numbers = ("generation", "key_hash", "lane", "position", "token")
    columns = [column(name, BigInteger()) for name in numbers]
    log = table_clause(table, *columns, column("key", Text()), schema=schema)
    op.bulk_insert(log, first_rows(context.get_context().dialect.name))


def _check_step(step: int) -> None:
    if step not in range(1, LATEST + 1):
        raise ConfigurationError(
            f"this release of coherent_cache knows the steps 1 to {LATEST} of its tables, and not "
            f"{step!r}: install the release that the migration was written for"
        )


def _is_there(table: str, schema: str | None, columns: set[str]) -> bool:
    """Whether the table exists already; raise `TableError` if it is not ours."""
    if context.is_offline_mode():
        return False
    inspector = inspect(op.get_bind())
    if not inspector.has_table(table, schema=schema):
        return False
    missing = columns - {column["name"] for column in inspector.get_columns(table, schema=schema)}
    if missing:
        raise TableError(
            f"a table {table!r} exists but lacks {', '.join(sorted(missing))}: it was made by an "
            f"older release or by another program; drop it (its rows can be thrown away at any "
            f"time if they are a cache's), or choose another table name",
            table=table,
        )
    return True


def _indexes(table: str, schema: str | None) -> set[str | None]:
    if context.is_offline_mode():
        return set()
    return {index["name"] for index in inspect(op.get_bind()).get_indexes(table, schema=schema)}


def _number() -> BigInteger:
    return BigInteger().with_variant(Integer(), "sqlite")


def _key_text() -> Text:
    return Text().with_variant(
        LONGTEXT(charset="utf8mb4", collation="utf8mb4_bin"), "mysql", "mariadb"
    )
