"""The ledger on PostgreSQL: rows carry their transaction's number, read by snapshots.

The numbers of transactions are taken at their first write and committed in any order, so a
reading by "greater than the last seen" would lose what commits late.  A snapshot says which
transactions had not ended when it was taken: those it lists as in progress, and all from its upper
bound on.  Each reading is one statement, and so one snapshot; it asks for the rows of exactly the
transactions that had not ended in the snapshot of the reading before.  A row is fetched once, also
while somebody keeps a transaction open; savepoints carry the number of their top transaction, and
prepared transactions count as open.

Two statements of a session that have the same snapshot see the same rows: no transaction that
writes has ended in between.  Where readings have found that for a while the next asks for nothing
but the snapshot, which takes the server no table and no index; if it is another the reading goes
on.

A standby does not know which transactions are in progress, only the lowest of them, the *horizon*;
what looks like the same snapshot may show more rows.  There the rows from the previous horizon on
are asked for, and those seen before are no news.

A position is the snapshot, an *anchor* and a *head*, each a row that was seen and is verified at
each reading.  The anchor lies below the horizon.  Rows are pruned by position, lowest first, so as
long as the anchor stands nothing above the horizon was pruned.  The head is the newest row that was
seen, which may be gone although the anchor stands.

A row is known by its number, its random token and the transaction that put it into this table
(`xmin`).  A dump may hold both rows, and what was written in a clone of the database may stand
below them, or what was written here may be missing; but who restores it inserts its rows, in a
transaction of his own, so they are others.  Ledger rows are never updated; freezing, VACUUM FULL
and CLUSTER leave `xmin` as it is.  (Test: test_a_clone_comes_back.)

After a crash PostgreSQL may hand out transaction numbers again that it had given before.  A crash
ends every session, so a snapshot is trusted only by the session that read it: a new connection
starts over (`News.complete` false).  The session carries a random mark, because a pooler may change
the server's session under a connection that lives on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from sqlalchemy.engine import Dialect

from ..keys import from_stored, to_stored
from ..points import point
from ..schema import LedgerTables
from .base import (
    NEWS_LIMIT,
    PRUNED_AT_ONCE,
    REMEMBERED,
    Execute,
    LaneHolder,
    Ledger,
    News,
    Question,
    chunks,
    new_token,
    row_texts,
)

_HORIZON = "pg_snapshot_xmin(pg_current_snapshot())::text::bigint"
_UPPER = "pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
_OWN = "pg_current_xact_id()::text::bigint"
_MARK = "coherent_cache.session"
#: The generation of a row at position 0 that the table was made with: the first anchor.
_FIRST = 0
#: After so many readings in a row that found the same snapshot one asks for nothing else.  If it
#: finds another that takes a second round trip: where a transaction ends between two readings with
#: probability p, p (1 - p)^10 of one more a reading, which is 0.035 at most.
CALM = 10
#: Stands for transactions that are prepared, among the numbers of those that are open.
_PREPARED = "prepared"
#: How the mark of a session begins whose server is not, and cannot become, a standby.
_PRIMARY = "primary."


def _version(row: str) -> str:
    """What tells *row* from a copy of it, as one number of 63 bits; as two it would take a check
    two columns more."""
    return f"{row}.token # {row}.xmin::text::bigint"


class _Row(NamedTuple):
    position: int
    generation: int
    version: int | None  # see `_version`


_NO_ROW = _Row(0, -1, None)


class _Position(NamedTuple):
    session: str
    exact: bool  # whether the snapshot tells all that was in progress
    snapshot: str
    horizon: int
    upper: int  # the first transaction number that was not given yet
    running: str  # those between that were in progress, as PostgreSQL writes a list
    seen: frozenset[int]  # where it does not: generations of rows at or above the horizon
    anchor: _Row
    head: _Row
    calm: int = 0  # how many readings in a row found the same snapshot, up to CALM


class PostgreSQLLedger(Ledger):
    """See the module."""

    invalidations = f"lane = 0 AND generation <> {_FIRST}"
    commits_with_the_rows = True
    settles = True

    def __init__(self, tables: LedgerTables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        now = f"pg_current_snapshot()::text, current_setting('{_MARK}', true)"
        rest = f"c.position, c.{self.key_column}"
        row = f"c.generation, {_version('c')} AS version, {rest}"
        later = f"SELECT {row} FROM {self.log_name} c WHERE c.lane = 0 AND c.position >= ?"
        known = f"(SELECT {_version('a')} FROM {self.log_name} a WHERE a.generation = ?)"

        def asking(rows: str, limit: str) -> str:
            # One statement, so one snapshot: it and the rows belong together.
            return self.sql(
                f"SELECT {now}, {known}, {known}, c.generation, c.version, {rest} "
                f"FROM (SELECT 1) one LEFT JOIN ({rows}) c ON true LIMIT {limit}"
            )

        self._now = f"SELECT {now}"
        self._later = asking(later, str(NEWS_LIMIT + 1))
        # What is asked mostly, in fewer steps of the server's: the rows beside the anchor, which is
        # the head too (asked for once: a NULL costs nothing), and none if it is gone.
        self._anchor_and_later = self.sql(
            f"SELECT {now}, {_version('a')}, NULL, {row} FROM {self.log_name} a "
            f"LEFT JOIN {self.log_name} c ON c.lane = 0 AND c.position >= ? "
            f"WHERE a.generation = ? LIMIT {NEWS_LIMIT + 1}"
        )
        # One by one: where there are no statistics yet the planner takes a list of numbers for
        # longer than the table, and reads all of that.  (OFFSET 0 keeps it from seeing through.)
        # (Test: test_g08_a_transaction_held_open_beside_a_table_without_statistics.)
        self._running_or_later = asking(
            f"{later} UNION ALL SELECT c.* FROM unnest(CAST(CAST(? AS text) AS bigint[])) running "
            f"JOIN LATERAL (SELECT {row} FROM {self.log_name} c "
            f"WHERE c.lane = 0 AND c.position = running OFFSET 0) c ON true",
            str(NEWS_LIMIT + 1),
        )
        self._from_horizon = asking(later, "?")

    def prepare_session(self, execute: Execute) -> None:
        """See `Ledger.prepare_session`."""
        # A check under SERIALIZABLE would make the user's transactions fail; the plan of the
        # one statement that runs all the time need not be made anew each time, and must not be a
        # walk through the table, which the planner guesses to be small.
        execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        execute("SET plan_cache_mode = force_generic_plan", ())
        execute("SET enable_seqscan = off", ())
        # Asked before any snapshot that will be trusted to list what is in progress: one taken by
        # a standby lists nothing, also when the standby is promoted a moment later.
        ((standby,),) = execute("SELECT pg_is_in_recovery()", ()).rows
        kind = "standby." if standby else _PRIMARY
        execute(f"SET {_MARK} = '{kind}{secrets.token_hex(8)}'", ())

    def question(self, position: _Position) -> Question:
        """See `Ledger.question`."""
        if position.calm == CALM:
            return self._now, ()
        _, exact, _, horizon, upper, running, seen, anchor, head, _ = position
        if not exact:
            limit = NEWS_LIMIT + len(seen) + 1
            return self._from_horizon, (anchor.generation, head.generation, horizon, limit)
        if running != "{}":
            return (
                self._running_or_later,
                (anchor.generation, head.generation, upper, running),
            )
        if head == anchor != _NO_ROW:
            return self._anchor_and_later, (upper, anchor.generation)
        return self._later, (anchor.generation, head.generation, upper)

    def judge(self, position: _Position, rows: Sequence[Sequence[Any]]) -> News | None:
        """See `Ledger.judge`."""
        known_session, exact, known, before, _, _, seen, anchor, head, calm = position
        if calm == CALM:
            snapshot, session = rows[0]
            return News(position) if snapshot == known and session == known_session else None
        if not rows:
            return None  # the anchor is gone
        snapshot, session, anchor_found, head_found, first, *_ = rows[0]
        if (
            session != known_session
            or anchor_found != anchor.version
            # The anchor lies far back where somebody keeps a transaction open: the rows after it
            # may be others by themselves.
            # (Test: test_only_the_rows_above_the_horizon_are_restored.)
            or (head != anchor and head_found != head.version)
        ):
            return None
        if first is None:
            if snapshot == known:
                # A standby's snapshot does not tell.  (Test: test_standby_sees_what_commits_late.)
                return News(position._replace(calm=calm + 1)) if exact else News(position)
            found = []
        else:
            found = [_Row(row[6], row[4], row[5]) for row in rows]
        horizon, upper, running = _parse(snapshot)
        generations = {row.generation for row in found}
        if (
            horizon < before
            # Without an anchor nothing tells what was pruned; not so while the horizon stands,
            # which nothing is pruned above.  (Test: test_case_10_pruned_below_the_only_row_known.)
            or (anchor is _NO_ROW and horizon != before)
            # Without any row nothing tells what was restored.
            # (Test: test_restored_where_no_row_was_known.)
            or head is _NO_ROW
            or not seen <= generations
            or len(rows) > NEWS_LIMIT + len(seen)
        ):
            return None
        new = [row for row in found if row.generation not in seen]
        if new:
            head = max(new, key=_generation)
        below = [row for row in (head, *found) if _NO_ROW.position < row.position < horizon]
        anchor = max((anchor, *below))
        if head.position < horizon:
            head = anchor
        return News(
            _Position(
                session,
                exact,
                snapshot,
                horizon,
                upper,
                running,
                seen
                if exact
                else frozenset([row.generation for row in found if row.position >= horizon]),
                anchor,
                head,
            ),
            frozenset([from_stored(row[7]) for row in rows if row[4] not in seen])
            if new
            else frozenset(),
        )

    def catch_up(self, execute: Execute, position: _Position | None) -> News:
        """Read the rows if only the snapshot was asked for; else take a position without news:
        whatever was cached before it has to go."""
        if position is not None and position.calm == CALM:
            return self.read(execute, position._replace(calm=0))
        ((snapshot, session),) = execute(self._now, ()).rows
        horizon, upper, running = _parse(snapshot)
        anchor, head = self._known_at(execute, horizon)
        # A session without a mark may be another each time: it is never joined to the next.
        session = session or f"unknown.{secrets.token_hex(8)}"
        ((newest, now),) = execute(
            f"SELECT (SELECT MAX(position) FROM {self.log_name} WHERE lane = 0), {_UPPER}",
            (),
        ).rows
        # Numbers that were not given yet come from a dump of another server.
        exact = session.startswith(_PRIMARY) and (newest is None or newest < now)
        seen: frozenset[int] = frozenset()
        if not exact:
            found = execute(
                self.sql(
                    f"SELECT generation FROM {self.log_name} WHERE lane = 0 AND position >= ? "
                    f"LIMIT {NEWS_LIMIT + 1}"
                ),
                (horizon,),
            ).rows
            seen = frozenset([row[0] for row in found])
            if len(seen) > NEWS_LIMIT:
                # Held back too far: nothing is joined to this until the horizon has moved.
                session = f"unknown.{secrets.token_hex(8)}"
        return News(
            _Position(session, exact, snapshot, horizon, upper, running, seen, anchor, head),
            complete=False,
        )

    @point(before="first look: horizon read, rows not")
    def _known_at(self, execute: Execute, horizon: int) -> tuple[_Row, _Row]:
        """The anchor below *horizon*, and the head."""
        rows = execute(
            self.sql(
                f"SELECT position, generation, {_version('c')} FROM {self.log_name} c "
                f"WHERE lane = 0 AND position < ? ORDER BY position DESC, generation DESC LIMIT 1"
            ),
            (horizon,),
        ).rows
        anchor = head = _Row(*rows[0]) if rows else _NO_ROW
        rows = execute(
            f"SELECT position, generation, {_version('c')} FROM {self.log_name} c WHERE lane = 0 "
            f"ORDER BY generation DESC LIMIT 1",
            (),
        ).rows
        if rows and rows[0][0] >= horizon:
            head = _Row(*rows[0])
        return anchor, head

    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """See `Ledger.write`.  Rows are only inserted, so nobody waits for anybody."""
        self.insert_rows(execute, keys, position=_OWN)

    def write_and_commit(
        self, keys: Sequence[str], lane: LaneHolder, quote: Callable[[str], str]
    ) -> Question | None:
        """See `Ledger.write_and_commit`.  If the INSERT fails, the server leaves out the COMMIT."""
        if len(keys) > REMEMBERED:
            return None
        rows = row_texts([to_stored(key) for key in keys], quote, 0, _OWN, new_token())
        return f"{self.as_it_is(self._insert_into)} {rows}; COMMIT", ()

    def unsettled(self, execute: Execute, known: frozenset[str] | None) -> frozenset[str]:
        """See `Ledger.unsettled`.  Each transaction holds a lock on its own virtual number, which
        anybody may see and which is never given again while the server runs; one that is prepared
        has none any more, so while there is any of them nothing is settled."""
        rows = execute(
            "SELECT virtualxid FROM pg_locks WHERE locktype = 'virtualxid' AND pid IN "
            "(SELECT pid FROM pg_stat_activity WHERE datname = current_database()) "
            f"UNION ALL SELECT '{_PREPARED}' FROM pg_prepared_xacts "
            "WHERE database = current_database()",
            (),
        ).rows
        found = frozenset([row[0] for row in rows])
        return found | {_PREPARED} if known is None else found & known

    def choose(self, execute: Execute, keep: int, batch: int) -> list[Sequence[int]]:
        """See `Ledger.choose`."""
        # By position, lowest first: the anchor of a process goes before any row it has not seen.
        # With no more than *keep* rows there is no such row (LEAST would ignore the NULL).
        rows = execute(
            self.sql(
                f"SELECT generation FROM {self.log_name} WHERE lane = 0 AND position > 0 "
                f"AND position < LEAST("
                f"{_HORIZON}, COALESCE((SELECT position FROM {self.log_name} WHERE lane = 0 "
                f"ORDER BY position DESC OFFSET ? LIMIT 1), 0)) "
                # From a dump of another server: nobody can have missed them.
                f"OR lane = 0 AND position >= {_UPPER} "
                f"ORDER BY position LIMIT ?"
            ),
            (max(keep, 1) - 1, PRUNED_AT_ONCE),
        ).rows
        return chunks([row[0] for row in rows], batch)

    @point(before="prune: rows chosen, none deleted")
    def remove(self, execute: Execute, rows: Sequence[int]) -> int:
        """See `Ledger.remove`.  The table's first row stands for that none was."""
        self.delete_rows(execute, [_FIRST])
        return self.delete_rows(execute, rows)


def _parse(snapshot: str) -> tuple[int, int, str]:
    """Horizon, upper bound and the running transactions of PostgreSQL's text of a snapshot."""
    horizon, upper, running = snapshot.split(":")
    return int(horizon), int(upper), f"{{{running}}}"


def _generation(row: _Row) -> int:
    return row.generation
