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
from typing import NamedTuple

from ..keys import from_stored
from .base import NEWS_LIMIT, Execute, LaneHolder, Ledger, News


class _Position(NamedTuple):
    generation: int
    token: int


_EMPTY = _Position(0, 0)


class SQLiteLedger(Ledger):
    """See the module."""

    def read(self, execute: Execute, position: _Position | None) -> News:
        """See `Ledger.read`."""
        if position is None or position == _EMPTY:
            newest = self._newest(execute)
            # Rows where there were none: the first of them may have been pruned again.
            return News(newest, complete=newest == position)
        rows = execute(
            self.sql(
                f"SELECT generation, token, {self._key_column} FROM {self.log_name} "
                f"WHERE generation >= ? ORDER BY generation LIMIT {NEWS_LIMIT + 2}"
            ),
            (position.generation,),
        ).rows
        if len(rows) > NEWS_LIMIT + 1 or not rows or _Position(*rows[0][:2]) != position:
            return News(self._newest(execute), complete=False)
        newest = _Position(*rows[-1][:2])
        return News(newest, frozenset(from_stored(row[2]) for row in rows[1:]))

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
