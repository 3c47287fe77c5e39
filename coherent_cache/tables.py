"""Creates the ledger's tables, whoever else is doing so at the same moment."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Sequence
from typing import Any

from filelock import FileLock
from sqlalchemy import Engine, Table, inspect
from sqlalchemy.exc import DBAPIError, NoSuchTableError

from .errors import TableError
from .explain import missing_table
from .ledger.base import MARK, MARKS, new_token
from .schema import LedgerTables

#: Seconds to wait for another process of this host that creates the table.
_LOCK_SECONDS = 60.0


def create_tables(engine: Engine, tables: LedgerTables) -> None:
    """Create what is missing; raise `TableError` if a table of that name is another's."""
    # Checking and creating are two steps.  Processes of one host take turns; one on another
    # host may still come first, which is found out by looking again.
    with FileLock(lock_path(engine, tables, "create"), timeout=_LOCK_SECONDS):
        # Nothing is made next to a table that is another's.
        # (Test: test_table_of_another_program.)
        _verify(engine, [t for t in (tables.log, tables.lanes) if _exists(engine, t)])
        made = not _exists(engine, tables.log)
        try:
            tables.metadata.create_all(engine, tables=[tables.log, tables.lanes])
            if made:
                _insert_first_rows(engine, tables.log)
        except DBAPIError:
            if not (_exists(engine, tables.log) and _exists(engine, tables.lanes)):
                raise
    verify_tables(engine, tables)


def _insert_first_rows(engine: Engine, log: Table) -> None:
    """Insert what a ledger begins with; a process of another host may do the same."""
    with engine.begin() as connection:
        connection.execute(log.insert(), first_rows(engine.dialect.name))


def first_rows(dialect: str) -> list[dict[str, Any]]:
    """The rows that a ledger begins with, which are no invalidations: its first mark, and on
    PostgreSQL a row below every transaction number, by which the first readings know that nothing
    was pruned.  (`migrations.upgrade` inserts them too.)"""
    mark = {"generation": -1, "key": MARK, "key_hash": 0, "lane": MARKS, "position": 0}
    if dialect == "sqlite":
        # The next row gets the next number, and has to lie beyond what this mark lets go.
        # (Test: test_the_first_row_of_all_stays_until_a_mark.)
        mark["generation"] = 0
    rows = [{**mark, "token": new_token()}]
    if dialect == "postgresql":
        rows.append({**mark, "generation": 0, "key": "", "lane": 0, "token": new_token()})
    return rows


def verify_tables(engine: Engine, tables: LedgerTables) -> None:
    """Raise `TableError` unless the tables have the columns of this release."""
    _verify(engine, [tables.log, tables.lanes])


def _verify(engine: Engine, wanted: Sequence[Table]) -> None:
    with engine.connect() as connection:
        inspector = inspect(connection)
        for table in wanted:
            try:
                columns = inspector.get_columns(table.name, schema=table.schema)
            except NoSuchTableError as error:
                raise missing_table(wanted[0].name) from error
            found = {c["name"] for c in columns}
            missing = sorted(set(table.columns.keys()) - found)
            if missing:
                raise TableError(
                    f"a table {table.name!r} exists but lacks {', '.join(missing)}: it was made by "
                    f"an older release or by another program; upgrade it with the migrations, drop "
                    f"it, or give the manager another table name",
                    table=table.name,
                )


def _exists(engine: Engine, table: Table) -> bool:
    with engine.connect() as connection:
        return inspect(connection).has_table(table.name, schema=table.schema)


def lock_path(engine: Engine, tables: LedgerTables, purpose: str) -> str:
    """A file that processes of this host lock, for one *purpose* on one table."""
    name = f"{engine.url.render_as_string(hide_password=True)} {tables.log.fullname}"
    digest = hashlib.sha256(name.encode()).hexdigest()[:24]
    user = os.getuid() if hasattr(os, "getuid") else 0
    return os.path.join(tempfile.gettempdir(), f"coherent_cache-{user}-{digest}.{purpose}.lock")
