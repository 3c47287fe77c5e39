"""What a ledger is: the record of invalidations, read as news and written before a COMMIT.

One implementation a database, because what orders commits differs; each states its proof.  A
ledger holds no connection and no state of the process: it is given a way to execute and the
position of the last reading, and returns what came since.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar, final

from sqlalchemy.engine import Dialect

from ..keys import key_hash, to_stored
from ..points import point
from ..schema import LedgerTables

_T = TypeVar("_T")

#: More news than this is not worth applying one by one: everything is dropped instead.
NEWS_LIMIT = 10_000

#: Rows a single INSERT or DELETE of ours names, far below every driver's limit of parameters.
ROWS_PER_STATEMENT = 500


#: Rows that a pruning looks for at once.
PRUNED_AT_ONCE = 10_000

#: The lane of *marks*, rows that are no invalidations (`Ledger.prune`), and the key they have,
#: which no key is stored as.
MARKS = -1
MARK = "\x1b"

#: A statement for no more rows or keys than this has parameters only, and is remembered.
REMEMBERED = 16
_REMEMBERED_ROWS = frozenset([*range(REMEMBERED + 1), ROWS_PER_STATEMENT])


class Result(NamedTuple):
    """What a statement gave: its rows (empty for one that returns none) and its row count."""

    rows: Sequence[Sequence[Any]]
    rowcount: int


#: Executes one statement written for the driver's parameter style.
Execute = Callable[[str, Sequence[Any]], Result]

#: A statement with its parameters.
Question: TypeAlias = tuple[str, tuple[Any, ...]]


class News(NamedTuple):
    """What a reading of the ledger brought.

    *position* is where the next reading continues; only the ledger that made it understands it.
    *keys* were invalidated since the last position.  If *complete* is false the readings do not
    join (pruned, restored, too long ago): whatever is cached has to be dropped.
    """

    position: Any
    keys: frozenset[str] = frozenset()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """Figures for an operator; reading them costs a scan of the table."""

    rows: int
    keys: int
    newest_generation: int
    lanes: int


class Ledger(abc.ABC):
    """The record of invalidations on one kind of database."""

    #: Whether a transaction of the user keeps one snapshot from its first statement, unless
    #: `probe` finds out otherwise.
    early_check = False
    #: Whether `write_and_commit` may have a message.
    commits_with_the_rows = False
    #: Whether there is `unsettled`, and whether it knows a transaction by rows that it has written:
    #: then they are written before their COMMIT is announced.
    settles = False
    settles_by_rows = False
    #: Whether the numbers of many rows are written into their INSERT.
    numbers_as_text = True
    #: A statement with one figure that is cheaper than `question`.  If a connection that commits
    #: nothing gets the same one twice, nobody has committed anything in between.
    version: str | None = None
    #: Which rows of the log are invalidations.
    invalidations = "lane >= 0"

    def __init__(self, tables: LedgerTables, dialect: Dialect) -> None:
        self.tables = tables
        self.dialect = dialect
        prepare = dialect.identifier_preparer
        self.log_name = prepare.format_table(tables.log)
        self.lanes_name = prepare.format_table(tables.lanes)
        self.key_column = prepare.quote("key")
        self._insert_into = (
            f"INSERT INTO {self.log_name} ({self.key_column}, key_hash, lane, position, token) "
            f"VALUES"
        )
        # The statements that insert few rows, by the number of rows and the position.
        self._inserts: dict[tuple[int, str], str] = {}
        #: Those that read generations (`generation`), by the number of keys.
        self.remembered_questions: dict[int, str] = {}

    # What differs by database

    @abc.abstractmethod
    def question(self, position: Any) -> Question:
        """Return the one statement that a check asks when there is nothing new."""

    @abc.abstractmethod
    def judge(self, position: Any, rows: Sequence[Sequence[Any]]) -> News | None:
        """Return what the answer to `question` says; None if more has to be asked.

        Without I/O, so that it serves drivers that are awaited as well.
        """

    @abc.abstractmethod
    def catch_up(self, execute: Execute, position: Any) -> News:
        """Return the news where `judge` could not tell them, or *position* is None."""

    def shows(self, execute: Execute, position: Any) -> bool:
        """Whether what *execute* reads is at least as new as *position*."""
        raise NotImplementedError

    @abc.abstractmethod
    def write(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """Insert a row for each of *keys*; called in their transaction, just before COMMIT."""

    def write_and_commit(
        self, keys: Sequence[str], lane: LaneHolder, quote: Callable[[str], str]
    ) -> Question | None:
        """Return one message to the server that does what `write` does, and commits; None where
        they have to be apart.  *quote* writes text as a literal, for a message without parameters.

        If the message fails nothing is committed; if it finds that the lane is gone it does
        nothing, and leaves the transaction open.
        """
        return None

    @abc.abstractmethod
    def choose(self, execute: Execute, keep: int, batch: int) -> list[Sequence[int]]:
        """Return the generations of the oldest rows beyond the newest *keep* (about
        `PRUNED_AT_ONCE` at most), in batches of about *batch* that may be deleted one after the
        other.

        A process whose position lies before a deleted row must find that out by itself at its next
        reading.
        """

    def prepare_session(self, execute: Execute) -> None:  # noqa: B027  (most need nothing)
        """Set up the ledger's own connection."""

    def claim_lane(self, execute: Execute) -> int | None:
        """Return the lane that a new database connection writes, or None where there are none."""
        return None

    # What is the same everywhere

    def read(self, execute: Execute, position: Any) -> News:
        """Return the news since *position* (None: the first reading, with no keys)."""
        if position is not None:
            news = self.judge(position, execute(*self.question(position)).rows)
            if news is not None:
                return news
        return self.catch_up(execute, position)

    @final
    def prune(self, execute: Execute, keep: int, batch: int, *, least: int = 1) -> Iterator[int]:
        """Delete the oldest rows beyond the newest *keep*, many at a time but not all; yield after
        each *batch* how many went.  Nothing is done for fewer than *least* rows.

        Called on an autocommit connection.  Before the first row goes a new *mark* is written: a
        row with a random token that takes the place of those before.  So who finds the same mark
        twice knows that every row which was committed in between is still there (`generations`).
        The order is: rows chosen, mark committed, rows deleted.  The interleaving it guards
        against: a key's generation is read, the key is invalidated, that row is pruned, and the
        generation is what it was.  (Test: test_a_generation_never_comes_back.)
        """
        batches = self.choose(execute, keep, batch)
        if batches and sum(map(len, batches)) >= least:
            self.mark(execute, max(map(max, batches)))
            for rows in batches:
                yield self.remove(execute, rows)

    @final
    def mark(self, execute: Execute, position: int = 0) -> None:
        """Write a new mark, and then delete those before it."""
        statement = f"SELECT generation FROM {self.log_name} WHERE lane = {MARKS}"
        before = execute(statement, ()).rows
        execute(
            self.sql(
                f"INSERT INTO {self.log_name} ({self.key_column}, key_hash, lane, position, "
                f"token) VALUES (?, 0, {MARKS}, ?, ?)"
            ),
            (MARK, position, new_token()),
        )
        self.delete_rows(execute, [row[0] for row in before])

    @final
    def mark_first(self, execute: Execute) -> None:
        """Write a mark if there is none.  Two that are written at once do no harm."""
        if not execute(f"SELECT 1 FROM {self.log_name} WHERE lane = {MARKS} LIMIT 1", ()).rows:
            self.mark(execute)

    def unsettled(self, execute: Execute, known: frozenset[str] | None) -> frozenset[str]:
        """Return what is open in the database that may have rows to commit; of that what is
        *known*, if that is not None.  If nothing is, whatever was open before the first of these
        calls has ended.

        For a connection of the ledger's own that may be lost by it.
        """
        raise NotImplementedError

    def prune_within(  # noqa: B027  (SQLite only)
        self, execute: Execute, keep: int, limit: int, least: int
    ) -> None:
        """Delete at most *limit* rows in the transaction that *execute* works in, on databases
        where nobody may write beside others."""

    @final
    def status(self, execute: Execute) -> LedgerStatus:
        """Return figures about the tables."""
        (row,) = execute(
            f"SELECT COUNT(*), COUNT(DISTINCT {self.key_column}), MAX(generation) "
            f"FROM {self.log_name} WHERE {self.invalidations}",
            (),
        ).rows
        (lanes,) = execute(f"SELECT COUNT(*) FROM {self.lanes_name}", ()).rows
        return LedgerStatus(int(row[0]), int(row[1]), int(row[2] or 0), int(lanes[0]))

    @final
    def sql(self, template: str) -> str:
        """Return *template* with its question marks written in the driver's parameter style."""
        pieces = template.split("?")
        style = self.dialect.paramstyle
        if style == "qmark":
            return template
        if style in ("format", "pyformat"):  # the drivers of both take %s with a sequence
            return "%s".join(pieces)
        sign = "$" if style == "numeric_dollar" else ":"
        return pieces[0] + "".join(f"{sign}{n}{text}" for n, text in enumerate(pieces[1:], 1))

    @final
    def as_it_is(self, statement: str) -> str:
        """*statement* as the server is to get it from a driver that is given no parameters: what
        names have doubled for the driver's parameter style is single."""
        return statement % () if self.dialect.paramstyle in ("format", "pyformat") else statement

    @final
    @point(before="commit: rows numbered, not inserted")
    def insert_rows(
        self,
        execute: Execute,
        keys: Sequence[str],
        *,
        lane: int = 0,
        position: str,
        token: int | None = None,
    ) -> None:
        """Insert the rows of *keys*, many to a statement; *position* is an SQL expression."""
        # One token for all: it tells this commit from another that a restored database may
        # have under the same number.
        token = new_token() if token is None else token
        for chunk in chunks(keys):
            if len(chunk) > REMEMBERED and self.numbers_as_text:
                self._insert_many(execute, chunk, lane, position, token)
            else:
                statement = self.insert_statement(len(chunk), position)
                execute(statement, self.row_parameters(chunk, lane, token))

    @final
    def insert_statement(self, rows: int, position: str) -> str:
        """The INSERT of a few *rows*; its parameters are those of `row_parameters`."""
        found = self._inserts.get((rows, position))
        if found is None:
            values = ", ".join([f"(?, ?, ?, {position}, ?)"] * rows)
            found = self.sql(f"{self._insert_into} {values}")
            # On MariaDB the position may be a number of this commit.
            if rows in _REMEMBERED_ROWS and (position == "0" or not position.isdigit()):
                self._inserts[rows, position] = found
        return found

    @final
    def row_parameters(self, keys: Sequence[str], lane: int, token: int) -> list[Any]:
        """See `insert_statement`."""
        params: list[Any] = []
        for key in keys:
            stored = to_stored(key)
            params += (stored, key_hash(stored), lane, token)
        return params

    def _insert_many(
        self, execute: Execute, keys: Sequence[str], lane: int, position: str, token: int
    ) -> None:
        """`insert_statement` with the numbers in it: drivers take longer for a parameter than the
        server does for the text of a number."""
        stored = [to_stored(key) for key in keys]
        values = row_texts(stored, lambda _: "?", lane, position, token)
        execute(self.sql(f"{self._insert_into} {values}"), stored)

    @point(before="prune: rows chosen, none deleted")
    def remove(self, execute: Execute, rows: Sequence[int]) -> int:
        """Delete a batch that was chosen; return how many rows went."""
        return self.delete_rows(execute, rows)

    @final
    def delete_rows(self, execute: Execute, generations: Sequence[int]) -> int:
        """Delete rows by number, in the order given."""
        deleted = 0
        for chunk in chunks(generations):
            marks = ", ".join("?" * len(chunk))
            statement = f"DELETE FROM {self.log_name} WHERE generation IN ({marks})"
            deleted += execute(self.sql(statement), chunk).rowcount
        return deleted


class LaneHolder:
    """Where a database connection keeps the number of its lane (only MariaDB and MySQL)."""

    __slots__ = ("lane", "shared_until_commit")

    def __init__(self, lane: int | None = None, *, shared_until_commit: bool = False) -> None:
        self.lane = lane
        #: A two-phase transaction: its rows stay locked after the connection has gone on.
        self.shared_until_commit = shared_until_commit


def chunks(items: Sequence[_T], size: int = ROWS_PER_STATEMENT) -> list[Sequence[_T]]:
    """Cut *items* into pieces of *size*, by default so many as one statement can name."""
    return [items[at : at + size] for at in range(0, len(items), size)]


def row_texts(
    stored: Sequence[str], write: Callable[[str], str], lane: int, position: str, token: int
) -> str:
    """The rows of *stored* keys as the text of an INSERT, with all numbers in it; *write* gives
    what stands for a key."""
    rest = f"{lane}, {position}, {token}"
    return ", ".join([f"({write(key)}, {key_hash(key)}, {rest})" for key in stored])


def new_token() -> int:
    """A random positive 63-bit number, from the system: two forked processes never share it."""
    return int.from_bytes(os.urandom(8), "big") >> 1
