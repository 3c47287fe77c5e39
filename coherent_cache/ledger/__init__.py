"""The ledger: the shared table, seen as the record of what was invalidated."""

from __future__ import annotations

from sqlalchemy.engine import Dialect

from ..errors import UnsupportedDatabaseError
from ..schema import LedgerTables
from .base import Execute, LaneHolder, Ledger, LedgerStatus, News, Result
from .generation import all_generations, generations
from .mariadb import MariaDBLedger
from .postgresql import PostgreSQLLedger
from .sqlite import SQLiteLedger

_LEDGERS: dict[str, type[Ledger]] = {
    "sqlite": SQLiteLedger,
    "postgresql": PostgreSQLLedger,
    "mysql": MariaDBLedger,
    "mariadb": MariaDBLedger,
}


def ledger_for(dialect: Dialect, tables: LedgerTables) -> Ledger:
    """Return the ledger for *dialect*, or raise `UnsupportedDatabaseError`."""
    try:
        kind = _LEDGERS[dialect.name]
    except KeyError:
        raise UnsupportedDatabaseError(dialect.name, sorted(_LEDGERS)) from None
    return kind(tables, dialect)


__all__ = [
    "Execute",
    "LaneHolder",
    "Ledger",
    "LedgerStatus",
    "News",
    "Result",
    "all_generations",
    "generations",
    "ledger_for",
]
