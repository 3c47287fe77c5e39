"""The ledger on SQLite: the number of a row is its place in the order of commits.

SQLite lets one transaction write at a time, from its first write to its COMMIT, and a row's
number (AUTOINCREMENT) is taken while it writes.  So numbers become visible in their own order and
"greater than the last one seen" misses nothing.

A position is the newest row seen: its number and its random token.  Each reading begins *with*
that row.  If it is gone, rows after it may have been pruned; if its token is another, the file
was restored from an older state and went another way: then the reading does not join the last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Dialect

from ..keys import from_stored
from ..schema import LedgerTables
from .base import NEWS_LIMIT, Execute, LaneHolder, Ledger, News, Question


class _Position(NamedTuple):
    generation: int
    token: int


_EMPTY = _Position(0, 0)


class SQLiteLedger(Ledger):
    """See the module."""

    # The driver keeps the statement of a full INSERT, and does not read it again.
    numbers_as_text = False

    def __init__(self, tables: LedgerTables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        self._statement = self.sql(
            f"SELECT generation, token, {self._key_column} FROM {self.log_name} "
            f"WHERE generation >= ? ORDER BY generation LIMIT {NEWS_LIMIT + 2}"
        )

    def question(self, position: _Position) -> Question:
        """See `Ledger.question`."""
        return self._statement, (position.generation,)

    def judge(self, position: _Position, rows: Sequence[Sequence[Any]]) -> News | None:
        """See `Ledger.judge`."""
        if position == _EMPTY:
            # Rows where there were none: the first of them may have been pruned again.
            return None if rows else News(position)
        if len(rows) > NEWS_LIMIT + 1 or not rows or _Position(*rows[0][:2]) != position:
            return None
        if len(rows) == 1:
            return News(position)
        newest = _Position(*rows[-1][:2])
        return News(newest, frozenset([from_stored(row[2]) for row in rows[1:]]))

    def catch_up(self, execute: Execute, position: _Position | None) -> News:
        """See `Ledger.catch_up`."""
        return News(self._newest(execute), complete=False)

    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """See `Ledger.write`."""
        self.insert_rows(execute, keys, position="0")

    def prune(self, execute: Execute, keep: int, limit: int) -> int:
        """See `Ledger.prune`.  Rows go oldest first, so those that stay are without a gap."""
        rows = execute(
            self.sql(
                f"SELECT generation FROM {self.log_name} WHERE generation <= "
                f"(SELECT MAX(generation) FROM {self.log_name}) - ? ORDER BY generation LIMIT ?"
            ),
            (max(keep, 1), limit),
        ).rows
        return self.delete_rows(execute, [row[0] for row in rows])

    def _newest(self, execute: Execute) -> _Position:
        rows = execute(
            f"SELECT generation, token FROM {self.log_name} ORDER BY generation DESC LIMIT 1", ()
        ).rows
        return _Position(*rows[0]) if rows else _EMPTY
