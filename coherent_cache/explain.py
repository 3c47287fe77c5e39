"""Turns a driver's error into one of ours where the user can do something about it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from .errors import CacheError, InvalidationError, TableError

_NO_TABLE = {"42P01", 1146, "no such table"}
_NO_COLUMN = {"42703", 1054, "no such column", "has no column named"}
_READ_ONLY_TRANSACTION = 1792
_READ_ONLY = {"25006", _READ_ONLY_TRANSACTION, 1290, 1836, "readonly database"}
_BUSY = "database is locked"
_NO_RIGHT = {"42501", 1142, 1143}


def explain(
    dialect: Dialect, error: DBAPIError, table: str, keys: Sequence[str] = ()
) -> CacheError | None:
    """Return the error to raise from *error*, or None: then it is the user's to see as it is."""
    codes = _codes(dialect, error)
    if codes & _NO_TABLE:
        return missing_table(table)
    if codes & _NO_COLUMN:
        return TableError(
            f"the table {table!r} is not one of this release of coherent_cache (an older "
            f"release made it, or another program): upgrade it with the migrations, or give the "
            f"manager another table name",
            table=table,
        )
    named = ", ".join(repr(key) for key in keys[:3]) + (", …" if len(keys) > 3 else "")
    if keys and codes & _READ_ONLY:
        return InvalidationError(
            f"{named}: cannot be invalidated on a read-only connection or database; "
            f"invalidate in the transaction that writes the data",
            keys=keys,
        )
    if keys and codes & _NO_RIGHT:
        return InvalidationError(
            f"{named}: cannot be invalidated, the database user may not write "
            f"the table {table!r}; grant it INSERT (on MariaDB also SELECT, INSERT and UPDATE of "
            f"{table + '_lane'!r})",
            keys=keys,
        )
    return None


def can_write_nothing(dialect: Dialect, error: DBAPIError) -> bool:
    """Whether *error* says that nothing can be written: in the transaction, on the connection, in
    the whole database, or while another one writes."""
    return bool(_codes(dialect, error) & (_READ_ONLY | {_BUSY}))


def is_of_a_read_only_transaction(dialect: Dialect, error: DBAPIError) -> bool:
    """MariaDB: whether *error* says that the transaction was READ ONLY from its beginning."""
    return _READ_ONLY_TRANSACTION in _codes(dialect, error)


def missing_table(table: str) -> TableError:
    """The error for a table that is not there."""
    return TableError(
        f"the table {table!r} of coherent_cache, or {table + '_lane'!r}, does not exist: "
        f"create it with manager.create_table(), with 'coherent-cache init', or with a "
        f"migration (see 'Migrations' in the documentation)",
        table=table,
    )


def _codes(dialect: Dialect, error: DBAPIError) -> set[str | int]:
    original = error.orig
    if dialect.name == "postgresql":
        code = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
        return {code} if code else set()
    if dialect.name == "sqlite":
        text = str(original)
        known = ("no such table", "no such column", "has no column named", "readonly database")
        return {part for part in (*known, _BUSY) if part in text}
    arguments = getattr(original, "args", ())
    return {arguments[0]} if arguments and isinstance(arguments[0], int) else set()
