"""The ledger on PostgreSQL: rows carry their transaction's number, read up to a horizon.

The numbers of transactions are taken at their first write and committed in any order, so a
reading by "greater than the last seen" would lose what commits late.  Each reading asks instead,
in one statement and so in one snapshot, for the *horizon* of that snapshot (every transaction
below it has ended, so its rows are either visible or never will be) and for the rows from the
previous horizon on.  A row that was seen before is no news.  A transaction that is still open
holds the horizon back, so its rows are looked for until it ends, however late that is; savepoints
carry the number of their top transaction, and prepared transactions count as open.

A position is the horizon, the rows seen at or above it, and an *anchor*: a row below the horizon
(number and random token) that is verified at each reading.  Rows are pruned by position, lowest
first, so as long as the anchor stands nothing above the horizon was pruned; and a table restored
from an older dump does not hold the anchor, or another row in its place.

After a crash PostgreSQL may hand out transaction numbers again that it had given before, below a
horizon that was read before.  A crash ends every session, so a horizon is trusted only by the
session that read it: a new connection starts over (`News.complete` false).  The session carries
a random mark, because a pooler may change the server's session under a connection that lives on.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from ..keys import from_stored
from ..points import point
from .base import NEWS_LIMIT, Execute, LaneHolder, Ledger, News

_HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_MARK = "coherent_cache.session"


@dataclass(frozen=True, slots=True)
class _Anchor:
    position: int
    generation: int
    token: int


@dataclass(frozen=True, slots=True)
class _Position:
    session: str
    horizon: int
    seen: frozenset[int]  # generations of rows at or above the horizon
    anchor: _Anchor | None


class PostgreSQLLedger(Ledger):
    """See the module."""

    def prepare_session(self, execute: Execute) -> None:
        """See `Ledger.prepare_session`."""
        # A check under SERIALIZABLE would make the user's transactions fail; the plan of the
        # one statement that runs all the time need not be made anew each time.
        execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        execute("SET plan_cache_mode = force_generic_plan", ())
        execute(f"SET {_MARK} = '{secrets.token_hex(8)}'", ())

    def read(self, execute: Execute, position: _Position | None) -> News:
        """See `Ledger.read`."""
        if position is None:
            return self._start(execute)
        anchor = position.anchor
        # One statement, so one snapshot: horizon and rows belong together.
        rows = execute(
            self.sql(
                f"SELECT h.horizon, current_setting('{_MARK}', true), "
                f"(SELECT a.token FROM {self.log_name} a WHERE a.generation = ?), "
                f"c.generation, c.token, c.position, c.{self._key_column} "
                f"FROM (SELECT {_HORIZON} AS horizon) h LEFT JOIN {self.log_name} c "
                f"ON c.lane = 0 AND c.position >= ? LIMIT ?"
            ),
            (
                anchor.generation if anchor else -1,
                position.horizon,
                NEWS_LIMIT + len(position.seen) + 1,
            ),
        ).rows
        horizon, session, anchor_token = rows[0][:3]
        found = [row[3:] for row in rows if row[3] is not None]
        generations = {row[0] for row in found}
        if (
            session != position.session
            or horizon < position.horizon
            or anchor_token != (anchor.token if anchor else None)
            # Without an anchor, what came before the first of them may be pruned; not so while
            # the horizon stands, which nothing is pruned above.
            or (anchor is None and found and horizon != position.horizon)
            # Restored from a dump that holds the anchor and was made before a row that was seen
            # (the horizon stayed below it: somebody kept a transaction open).
            or not position.seen <= generations
            or len(rows) > NEWS_LIMIT + len(position.seen)
        ):
            return self._start(execute)
        below = [_Anchor(row[2], row[0], row[1]) for row in found if row[2] < horizon]
        if below:
            anchor = max(below, key=lambda row: (row.position, row.generation))
        return News(
            _Position(
                session,
                horizon,
                frozenset(row[0] for row in found if row[2] >= horizon),
                anchor,
            ),
            frozenset(from_stored(row[3]) for row in found if row[0] not in position.seen),
        )

    def _start(self, execute: Execute) -> News:
        """Take a position without news: whatever was cached before it has to go."""
        ((horizon, session),) = execute(
            f"SELECT {_HORIZON}, current_setting('{_MARK}', true)", ()
        ).rows
        anchor, seen = self._known_at(execute, horizon)
        return News(_Position(session or "", horizon, seen, anchor), complete=False)

    @point(before="first look: horizon read, rows not")
    def _known_at(self, execute: Execute, horizon: int) -> tuple[_Anchor | None, frozenset[int]]:
        """The anchor below *horizon*, and the rows from there on."""
        rows = execute(
            self.sql(
                f"SELECT position, generation, token FROM {self.log_name} "
                f"WHERE lane = 0 AND position < ? ORDER BY position DESC, generation DESC LIMIT 1"
            ),
            (horizon,),
        ).rows
        seen = execute(
            self.sql(f"SELECT generation FROM {self.log_name} WHERE lane = 0 AND position >= ?"),
            (horizon,),
        ).rows
        anchor = _Anchor(*rows[0]) if rows else None
        return anchor, frozenset(row[0] for row in seen)

    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """See `Ledger.write`.  Rows are only inserted, so nobody waits for anybody."""
        self.insert_rows(execute, keys, position="pg_current_xact_id()::text::bigint")

    def prune(self, execute: Execute, keep: int, limit: int) -> int:
        """See `Ledger.prune`."""
        # By position, lowest first: the anchor of a process goes before any row it has not seen.
        # With no more than *keep* rows there is no such row (LEAST would ignore the NULL).
        rows = execute(
            self.sql(
                f"SELECT generation FROM {self.log_name} WHERE lane = 0 AND position < LEAST("
                f"{_HORIZON}, COALESCE((SELECT position FROM {self.log_name} WHERE lane = 0 "
                f"ORDER BY position DESC OFFSET ? LIMIT 1), 0)) ORDER BY position LIMIT ?"
            ),
            (max(keep, 1) - 1, limit),
        ).rows
        return self.delete_rows(execute, [row[0] for row in rows])
