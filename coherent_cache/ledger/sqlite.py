"""The ledger on SQLite: the number of a row is its place in the order of commits.

SQLite lets one transaction write at a time, from its first write to its COMMIT, and a row's
number, one more than the largest in the table, is taken while it writes.  So numbers become visible
in their own order and "greater than the last one seen" misses nothing.

No number comes back, since the newest row is never deleted: `choose` and `prune_within` leave the
newest invalidation, and a mark goes after a newer one was written.  Where rows are deleted by hand
their token tells.  (AUTOINCREMENT would write one more page at each commit.)

Whether anything was committed at all SQLite tells by its ``data_version``, a figure of the
connection's own: it is counted up when the connection finds that what it has in its page cache is
out of date, by which it would read the rows as well.

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
from .base import (
    MARK,
    MARKS,
    NEWS_LIMIT,
    PRUNED_AT_ONCE,
    Execute,
    LaneHolder,
    Ledger,
    News,
    Question,
    chunks,
)


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
            f"SELECT generation, token, {self.key_column} FROM {self.log_name} "
            f"WHERE generation >= ? ORDER BY generation LIMIT {NEWS_LIMIT + 2}"
        )
        self._newest_of_all = (
            f"SELECT generation, token FROM {self.log_name} ORDER BY generation DESC LIMIT 1"
        )
        schema = tables.log.schema
        of = "" if schema is None else f"{dialect.identifier_preparer.quote_schema(schema)}."
        self.version = f"PRAGMA {of}data_version"

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
        return News(newest, frozenset([from_stored(row[2]) for row in rows[1:] if row[2] != MARK]))

    def catch_up(self, execute: Execute, position: _Position | None) -> News:
        """See `Ledger.catch_up`."""
        return News(self._newest(execute), complete=False)

    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """See `Ledger.write`."""
        self.insert_rows(execute, keys, position="0")

    def choose(self, execute: Execute, keep: int, batch: int) -> list[Sequence[int]]:
        """See `Ledger.choose`.  Rows go oldest first, so those that stay are without a gap."""
        end = self._newest_row(execute) - max(keep, 1)
        return chunks(self._rows_up_to(execute, end, PRUNED_AT_ONCE), batch)

    def prune_within(self, execute: Execute, keep: int, limit: int, least: int) -> None:
        """See `Ledger.prune_within`.

        The mark says up to which number rows may go: those were all committed before it, since
        numbers are in the order of commits, and the mark has a number itself that is greater.  They
        go little by little, and only when none is left comes the next mark.

        The file's only write lock is held meanwhile, so no statement may walk the table: rows are
        not indexed by their lane but for marks, and SQLite goes by their number.
        (Test: test_on_sqlite_it_costs_a_transaction_the_same_in_a_long_table.)
        """
        marks = execute(
            f"SELECT position FROM {self.log_name} WHERE lane = {MARKS} "
            f"ORDER BY generation DESC LIMIT 1",
            (),
        ).rows
        marked = int(marks[0][0]) if marks else 0
        rows = self._rows_up_to(execute, marked, limit)
        if rows:
            self.delete_rows(execute, rows)
            return
        end = self._newest_row(execute) - max(keep, 1)
        oldest = self._rows_up_to(execute, end, 1)
        if oldest and end - oldest[0] + 1 >= least:  # hardly a number between is missing
            self.mark(execute, end)

    def _newest_row(self, execute: Execute) -> int:
        """The number of the newest invalidation, 0 if there is none."""
        rows = execute(
            f"SELECT generation FROM {self.log_name} WHERE lane = 0 "
            f"ORDER BY generation DESC LIMIT 1",
            (),
        ).rows
        return int(rows[0][0]) if rows else 0

    def _rows_up_to(self, execute: Execute, end: int, limit: int) -> list[int]:
        found = execute(
            self.sql(
                f"SELECT generation FROM {self.log_name} WHERE generation <= ? AND lane = 0 "
                f"ORDER BY generation LIMIT ?"
            ),
            (end, limit),
        ).rows
        return [row[0] for row in found]

    def shows(self, execute: Execute, position: _Position) -> bool:
        """See `Ledger.shows`."""
        found = self._newest(execute)
        return found == position or found.generation > position.generation

    def _newest(self, execute: Execute) -> _Position:
        rows = execute(self._newest_of_all, ()).rows
        return _Position(*rows[0]) if rows else _EMPTY
