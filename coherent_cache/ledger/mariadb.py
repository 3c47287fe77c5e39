"""The ledger on MariaDB and MySQL: each connection writes a lane of its own.

InnoDB shows no horizon of its snapshots, so rows are ordered by *lanes*.  A database connection
owns a lane: a row of ``cache_lane`` that it counts up just before COMMIT, and whose new value
numbers the log rows of that commit.  The lane's row stays locked until the COMMIT, so the values
of one lane become visible in order, and since nobody else writes that row nobody waits.  On MariaDB
both are one statement, for few rows; on MySQL, and for many, they are two.

A reading compares one figure over all lanes (the exclusive or of their random tokens, new with
each commit).  If it moved, the rows of the lanes that moved are read, from the last known one on:
by one statement where each of them moved by one commit, else by two.

A position is each lane's value and token.  The reading of a lane begins *with* the row of its
known value: if that row is gone, later ones may have been pruned; if a token differs or a value
went back, the database was restored.  Either way the reading does not join the last.

Ownership is a named lock of the server's session (``GET_LOCK``), claimed when the connection is
made, which is before any snapshot of its transactions.  It only keeps others from waiting: two
owners of one lane would still be ordered by the row's lock.  A connection without a lane (made
before the manager, or about to be prepared for two-phase commit, where the row stays locked after
the connection has gone on) inserts a new one in its transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy.engine import Dialect
from sqlalchemy.exc import DBAPIError

from ..keys import from_stored
from ..points import point
from ..schema import LedgerTables
from .base import (
    NEWS_LIMIT,
    PRUNED_AT_ONCE,
    ROWS_PER_STATEMENT,
    Execute,
    LaneHolder,
    Ledger,
    News,
    Question,
    chunks,
    new_token,
)

_Lane: TypeAlias = tuple[int, int]  # value, token
_Position: TypeAlias = dict[int, _Lane]
_Reading: TypeAlias = tuple[int, _Position]  # the exclusive or of the tokens, and the lanes

_LAST = "LAST_INSERT_ID()"
#: Stands for all transactions that have a lane locked.
_LANES = frozenset({"lanes"})
#: The statement that a check asks, and a variable with its text, in each of the ledger's sessions.
_PREPARED = "coherent_cache"
#: Lanes that one statement tells from those that moved.
_MOST_LANES = 200
#: Rows that go in one statement with the counting of their lane.
_ROWS_WITH_THE_LANE = 16
#: Drivers that send a statement as text, with its parameters in it.
_TEXT_DRIVERS = ("pymysql", "mysqldb", "aiomysql", "asyncmy")


class MariaDBLedger(Ledger):
    """See the module."""

    early_check = True
    commits_with_the_rows = True
    settles = True
    settles_by_rows = True

    def __init__(self, tables: LedgerTables, dialect: Dialect) -> None:
        super().__init__(tables, dialect)
        # A parameter's value, of which the driver makes nothing.
        self._figure = self.as_it_is(f"SELECT BIT_XOR(token) FROM {self.lanes_name}")
        # LAST_INSERT_ID(x) hands x to the next statement without another round trip.
        self._count_up = self.sql(
            f"UPDATE {self.lanes_name} SET value = LAST_INSERT_ID(value + 1), token = ? "
            f"WHERE lane = ?"
        )
        # Both in one, by the number of rows and what comes after them.
        self._at_once: dict[tuple[int, str], str] = {}
        # One statement, so one snapshot: the lanes that moved, the rows of the newest commit of
        # each, the token of the commit before, and the figure over all.  The numbers as one text:
        # to read what a column is takes the drivers longer than to read what is in it.
        self._next_commits = (
            f"SELECT CONCAT_WS(' ', l.lane, l.value, l.token, COALESCE(c.token, -1), "
            f"COALESCE((SELECT p.token FROM {self.log_name} p WHERE p.lane = l.lane "
            f"AND p.position = l.value - 1 LIMIT 1), -1), "
            f"(SELECT BIT_XOR(token) FROM {self.lanes_name})), c.{self.key_column} "
            f"FROM {self.lanes_name} l "
            f"LEFT JOIN {self.log_name} c ON c.lane = l.lane AND c.position = l.value "
            f"WHERE l.token NOT IN "
        )

    def prepare_session(self, execute: Execute) -> None:
        """See `Ledger.prepare_session`."""
        # Pruning locks the rows it deletes and none beside them.
        execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        # By a statement, since the drivers send text: the server need not parse it each time.
        execute(self.sql(f"SET @{_PREPARED} = ?"), (self._figure,))
        execute(f"PREPARE {_PREPARED} FROM @{_PREPARED}", ())

    def question(self, position: _Reading) -> Question:
        """See `Ledger.question`."""
        return f"EXECUTE {_PREPARED}", ()

    def judge(self, position: _Reading, rows: Sequence[Sequence[Any]]) -> News | None:
        """See `Ledger.judge`."""
        return News(position) if rows[0][0] == position[0] else None

    def catch_up(self, execute: Execute, position: _Reading | None) -> News:
        """See `Ledger.catch_up`."""
        if position is not None and 0 < len(position[1]) <= _MOST_LANES:
            news = self._one_commit_further(execute, position)
            if news is not None:
                return news
        # The lanes are read before the rows: a commit between the two is news next time.
        now: _Position = {
            row[0]: (row[1], row[2])
            for row in execute(f"SELECT lane, value, token FROM {self.lanes_name}", ()).rows
        }
        figure = 0
        for _, token in now.values():
            figure ^= token
        if position is None:
            return News((figure, now), complete=False)
        keys = self._moved(execute, position[1], now)
        return News((figure, now), keys or frozenset(), complete=keys is not None)

    def _one_commit_further(self, execute: Execute, position: _Reading) -> News | None:
        """The news if each lane has at most one commit that is not known; else None."""
        figure, before = position
        tokens = [token for _, token in before.values()]
        statement = f"{self._next_commits}({', '.join('?' * len(tokens))})"
        now = dict(before)
        keys: set[str] = set()
        total = None
        for numbers, key in execute(self.sql(statement), tokens).rows:
            lane, value, token, written, token_before, total = map(int, numbers.split())
            if value == 0 and lane not in before:  # it was claimed and not used
                figure ^= token
                now[lane] = (value, token)
                continue
            old_value, old_token = before.get(lane, (0, 0))
            # What does not join is for the long way to find out.
            if value != old_value + 1 or written != token:
                return None
            if old_value and token_before != old_token:
                return None
            if now.get(lane) != (value, token):  # the first row of this commit
                figure ^= old_token ^ token
                now[lane] = (value, token)
            keys.add(from_stored(key))
        if figure != total:
            return None  # a lane is gone
        return News((figure, now), frozenset(keys))

    @point(before="check: lanes read, rows not")
    def _moved(self, execute: Execute, before: _Position, now: _Position) -> frozenset[str] | None:
        """The keys of all lanes that moved, or None if a lane does not join its last reading."""
        if before.keys() - now.keys():
            return None
        moved = {
            lane: (before.get(lane, (0, 0)), known)
            for lane, known in now.items()
            if before.get(lane) != known
        }
        if sum(new[0] - old[0] for old, new in moved.values()) > NEWS_LIMIT:
            return None
        keys: set[str] = set()
        for chunk in chunks(list(moved.items())):
            ranges = " OR ".join(["(lane = ? AND position >= ? AND position <= ?)"] * len(chunk))
            rows = execute(
                self.sql(
                    f"SELECT lane, position, token, {self.key_column} FROM {self.log_name} "
                    f"WHERE {ranges}"
                ),
                [number for lane, (old, new) in chunk for number in (lane, old[0], new[0])],
            ).rows
            found: dict[int, dict[int, int]] = {lane: {} for lane, _ in chunk}
            for lane, at, token, key in rows:
                found[lane][at] = token
                if at > moved[lane][0][0]:
                    keys.add(from_stored(key))
            for lane, (old, new) in chunk:
                # Value 0 is a lane that was claimed and not used: it has no row.
                wanted = range(max(old[0], 1), new[0] + 1)
                if len(found[lane]) != len(wanted) or new[0] < old[0]:
                    return None
                if old[0] and found[lane].get(old[0]) != old[1]:
                    return None
        return frozenset(keys)

    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """See `Ledger.write`."""
        token = new_token()
        if lane.lane is not None and not lane.shared_until_commit:
            if self._in_one_statement() and len(keys) <= _ROWS_WITH_THE_LANE:
                # `_write_in_turn` as one statement of MariaDB's own, which saves a round trip.
                written = execute(*self._compound(keys, lane.lane, token)).rowcount > 0
            else:
                written = self._write_in_turn(execute, keys, lane.lane, token)
            if written:
                return
            # The lane vanished: it was inserted in a transaction that rolled back, or the
            # table was made anew.
        new_lane = self._insert_lane(execute, 1, token)
        self.insert_rows(execute, keys, lane=new_lane, position="1", token=token)
        # Kept only if it is owned, or a connection made later would claim it as free and the two
        # would wait for each other's COMMIT.  (Test: test_case_09_connection_without_a_lane.)
        if not lane.shared_until_commit and self._lock(
            execute, self._lock_prefix(execute), new_lane
        ):
            lane.lane = new_lane

    def _write_in_turn(self, execute: Execute, keys: Sequence[str], lane: int, token: int) -> bool:
        """Count *lane* up and insert its rows; False if there is no such lane."""
        if execute(self._count_up, (token, lane)).rowcount != 1:
            return False
        position = _LAST
        if len(keys) > ROWS_PER_STATEMENT:  # the first INSERT will set it anew
            ((number,),) = execute(f"SELECT {_LAST}", ()).rows
            position = str(number)
        self.insert_rows(execute, keys, lane=lane, position=position, token=token)
        return True

    def write_and_commit(
        self, keys: Sequence[str], lane: LaneHolder, quote: Callable[[str], str]
    ) -> Question | None:
        """See `Ledger.write_and_commit`."""
        if lane.lane is None or len(keys) > _ROWS_WITH_THE_LANE or not self._in_one_statement():
            return None
        return self._compound(keys, lane.lane, new_token(), "COMMIT; ")

    def _compound(self, keys: Sequence[str], lane: int, token: int, then: str = "") -> Question:
        """One statement that counts *lane* up and, if it is there, inserts its rows; and *then*."""
        statement = self._at_once.get((len(keys), then))
        if statement is None:
            insert = self.insert_statement(len(keys), _LAST)
            statement = self._at_once[len(keys), then] = (
                f"BEGIN NOT ATOMIC {self._count_up}; "
                f"IF ROW_COUNT() = 1 THEN {insert}; {then}END IF; END"
            )
        return statement, (token, lane, *self.row_parameters(keys, lane, token))

    def _in_one_statement(self) -> bool:
        """Whether server and driver take a compound statement outside a procedure: not MySQL, nor
        a driver that would prepare it."""
        dialect: Any = self.dialect
        return (
            dialect.is_mariadb
            and dialect.driver in _TEXT_DRIVERS
            and (dialect.server_version_info or ()) >= (10, 1, 1)
        )

    def _insert_lane(self, execute: Execute, value: int, token: int) -> int:
        statement = f"INSERT INTO {self.lanes_name} (value, token) VALUES (?, ?)"
        execute(self.sql(statement), (value, token))
        ((lane,),) = execute("SELECT LAST_INSERT_ID()", ()).rows
        return int(lane)

    def claim_lane(self, execute: Execute) -> int | None:
        """See `Ledger.claim_lane`: a lane nobody holds, else a new one."""
        # Each statement by itself.  In a transaction at SERIALIZABLE the reading would lock every
        # lane, and wait for those of others that are about to commit, or are prepared; and what
        # is locked would stay so until the user's first transaction ends.
        # (Tests: test_g10_a_new_connection_*.)
        ((autocommit,),) = execute("SELECT @@autocommit", ()).rows
        execute("SET autocommit = 1", ())
        try:
            return self._claim(execute)
        finally:
            execute(f"SET autocommit = {int(autocommit)}", ())

    def _claim(self, execute: Execute) -> int | None:
        prefix = self._lock_prefix(execute)
        free = execute(
            self.sql(
                f"SELECT lane FROM {self.lanes_name} "
                f"WHERE IS_FREE_LOCK(CONCAT(?, lane)) = 1 ORDER BY RAND() LIMIT 3"
            ),
            (prefix,),
        ).rows
        for (lane,) in free:
            if self._lock(execute, prefix, lane):
                return int(lane)
        lane = self._insert_lane(execute, 0, new_token())
        return lane if self._lock(execute, prefix, lane) else None

    @point(before="lane: seen free, not claimed")
    def _lock(self, execute: Execute, prefix: str, lane: int) -> bool:
        ((got,),) = execute(self.sql("SELECT GET_LOCK(?, 0)"), (f"{prefix}{lane}",)).rows
        return bool(got)

    def _lock_prefix(self, execute: Execute) -> str:
        """Named locks belong to the whole server: the name has to tell its tables apart."""
        ((database,),) = execute("SELECT DATABASE()", ()).rows
        name = f"{self.tables.lanes.schema or database}.{self.tables.lanes.name}"
        return f"coherent_cache.{hashlib.sha256(name.encode()).hexdigest()[:16]}."

    def unsettled(self, execute: Execute, known: frozenset[str] | None) -> frozenset[str]:
        """See `Ledger.unsettled`.  Who has rows to commit, prepared or not, has the row of a lane
        locked; so for a moment without any of them all lanes are locked, waiting for nobody."""
        # No moment is found where many write; there little can be known without asking anyway.
        try:
            execute(f"SELECT lane FROM {self.lanes_name} FOR UPDATE NOWAIT", ())
        except DBAPIError:  # or there is no NOWAIT: before MariaDB 10.3, MySQL 8
            return _LANES
        return frozenset()

    def choose(self, execute: Execute, keep: int, batch: int) -> list[Sequence[int]]:
        """See `Ledger.choose`.  Each lane keeps its newest commit, for those who know it."""
        # A commit is not cut in two: a reader that knows nothing of a lane yet takes its first
        # commit for whole if any row of it is there.
        commits = execute(
            self.sql(
                f"SELECT c.lane, c.position FROM {self.log_name} c "
                f"JOIN {self.lanes_name} l ON l.lane = c.lane WHERE c.position < l.value "
                f"GROUP BY c.lane, c.position HAVING MAX(c.generation) <= "
                f"(SELECT MAX(generation) FROM {self.log_name}) - ? "
                f"ORDER BY MAX(c.generation) LIMIT ?"
            ),
            (max(keep, 1), PRUNED_AT_ONCE),
        ).rows
        chosen: list[Sequence[int]] = []
        for chunk in chunks(commits, min(batch, ROWS_PER_STATEMENT)):
            pairs = " OR ".join(["(lane = ? AND position = ?)"] * len(chunk))
            rows = execute(
                self.sql(f"SELECT generation FROM {self.log_name} WHERE {pairs}"),
                [number for commit in chunk for number in commit],
            ).rows
            chosen.append([row[0] for row in rows])
        return [rows for rows in chosen if rows]

    @point(before="prune: rows chosen, none deleted")
    def remove(self, execute: Execute, rows: Sequence[int]) -> int:
        """See `Ledger.remove`."""
        # Row by row, by primary key: a search by lane, or of a table so small that it is read
        # from end to end, would wait for rows that are about to be committed.
        # (Test: test_case_10_prune_waits_for_nobody.)
        execute("BEGIN", ())
        statement = self.sql(f"DELETE FROM {self.log_name} WHERE generation = ?")
        deleted = sum(execute(statement, (row,)).rowcount for row in rows)
        execute("COMMIT", ())
        return deleted
