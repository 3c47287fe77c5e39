"""Checks: reading the ledger's news into the store, shared by those who ask at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from sqlalchemy.exc import DBAPIError

from .greenlets import Mutex, spawn
from .ledger import Execute, Ledger, News
from .points import point
from .rounds import TaskRounds, ThreadRounds
from .side import SideConnection
from .store import Store

_T = TypeVar("_T")

#: After so many checks in a row that found no news, the next ones ask first whether anything at all
#: was committed, which is cheaper (`Ledger.version`).  If it was that was one statement too many.
QUIET = 10


class Reader:
    """Reads the ledger's news on one side connection and applies them to the store."""

    def __init__(
        self,
        ledger: Ledger,
        store: Store,
        side: SideConnection,
        state: Callable[[], bytes | None],
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._side = side
        # What tells that nothing was committed if it is the same later; None where nothing does.
        self._state = state
        # One check at a time, shared by those who wait for it.
        self._rounds = ThreadRounds()
        self._task_rounds = TaskRounds()
        # Guards the side connection and the position.  Taken before the store's lock; held
        # during the I/O of a check, and no user code runs while it is held.
        self._mutex = Mutex(side.is_async)
        self._lock_of_threads = self._mutex.of_threads
        # That of the event loop, when it was looked up: a reader belongs to one.
        self._lock: asyncio.Lock | None = None
        self._position: Any = None
        self._session = 0
        # Read before the newest check that is applied.  Replaced as a whole.
        self._seen: bytes | None = None
        # The same, of what the database counts; None if it was not asked.
        self._version: int | None = None
        self._quiet = 0  # checks in a row without news
        #: How many checks were made, and how long they took together.
        self.checks = 0
        self.seconds = 0.0

    def check(self) -> None:
        """Bring the store up to date with every commit that returned before this call.

        A caller that finds a check under way may not use it: the commit it has to see may have
        come after that check read.  It waits for the next one, which all who waited share.
        (Test: ``test_check_under_way_is_not_shared``.)
        """
        self._rounds.run(self._check)

    def acheck(self) -> Awaitable[None]:
        """`check` on an asynchronous engine, by its driver's own methods: nothing is gained from
        a greenlet where nothing is new."""
        return self._task_rounds.run(self._acheck)

    def is_current(self) -> bool:
        """Whether shared memory shows that nothing was committed since the newest check."""
        # That check's news are applied: a value in the store is no older than the check.
        seen = self._seen
        return seen is not None and self._state() == seen

    def _check(self) -> None:
        with self._lock_of_threads:
            start = time.perf_counter()
            session = self._side.session
            try:
                self._read()
            except DBAPIError as error:
                # A server that closed an idle connection is no news to anyone: ask again.
                if self._side.session != session or not error.connection_invalidated:
                    raise
                self._read()
            self.checks += 1
            self.seconds += time.perf_counter() - start

    async def _acheck(self) -> None:
        lock = self._lock
        if lock is None:
            lock = self._lock = self._mutex.of_tasks
        await lock.acquire()
        try:
            start = time.perf_counter()
            rows = state = None
            position = self._position
            if position is not None and self._side.can_fetch(self._session):
                state = self._state()
                try:
                    rows = await self._side.fetch(*self._ledger.question(position))
                except BaseException as error:
                    # An answer may still be on its way.
                    await spawn(self._side.close)
                    # Whatever it was: a connection made anew tells it in SQLAlchemy's words, or
                    # works.
                    if not isinstance(error, Exception):
                        raise
            if rows is None:
                await spawn(self._read)
            else:
                news = self._ledger.judge(position, rows)
                if news is None:
                    news = await spawn(self._ledger.catch_up, self._side.run, position)
                self._apply(news, state)
            self.checks += 1
            self.seconds += time.perf_counter() - start
        finally:
            lock.release()

    @property
    def position(self) -> Any:
        """Where the news that were applied end; None before the first check."""
        return self._position

    def ask(self, question: Callable[[Execute], _T]) -> _T:
        """Return what *question*, which only reads, finds on the side connection."""
        with self._mutex.held():
            fresh = not self._side.is_open
            self._side.open()
            try:
                return question(self._side.run)
            except DBAPIError as error:
                if not error.connection_invalidated or fresh:
                    raise
            self._side.open()
            return question(self._side.run)

    def check_within(self, execute: Execute, *, keep: bool) -> None:
        """Read the news through a transaction of the caller's, without waiting for anybody.

        The position is to be kept unless rows of that transaction's own may be among them: they
        become news with its commit.  (SQLite only, whose positions outlive a session.)
        """
        news = self._ledger.read(execute, self._position)
        self._store.apply(news)
        # Without the mutex: whoever reads meanwhile sets a position whose news are applied too.
        if keep:
            self._position = news.position
            # What the database counted was read before another one.
            self._version = None

    @point(before="check: begun, nothing read")
    def _read(self) -> None:
        self._side.open()
        # Whatever was learned in an earlier session is not joined to this one: in between the
        # server may have crashed, or been replaced by one that knows less.
        # (Tests: test_case_10_*, test_lost_side_connection_drops_everything.)
        position = self._position if self._side.session == self._session else None
        # Before the statement: what is committed after it, or while it is under way, has to be
        # asked for by the next check.  (Test: test_committed_while_a_check_is_under_way.)
        state = self._state()
        version = self._side.version() if self._quiet >= QUIET else None
        if version is not None and version == self._version and position is not None:
            self._seen = state
            return
        news = self._ledger.read(self._side.run, position)
        self._apply(news, state)
        if news.keys or not news.complete or None not in (version, self._version):
            version, self._quiet = None, 0  # somebody commits
        self._version = version
        self._quiet += 1
        if self._side.wants_state:
            self._side.map_state()

    def _apply(self, news: News, state: bytes | None) -> None:
        # Applied first, then the position: an error in between reads the same news again.
        self._store.apply(news)
        self._position = news.position
        self._session = self._side.session
        self._seen = state

    def close(self) -> None:
        """Close the connection.  The next check opens another and drops everything."""
        with self._mutex.held():
            self._side.close()

    def close_if_idle(self) -> None:
        """`close`, unless somebody uses the connection."""
        self._mutex.run_if_free(self._side.close)

    def succeed(self, before: Reader) -> None:
        """Take the place of *before*, whose event loop is closed, and which knows more than others
        of what was applied.  (Test: test_what_an_event_loop_knew_that_is_closed.)"""
        self._position = before._position  # that of another session: nothing is joined to it
        self.checks, self.seconds = before.checks, before.seconds
        before._side.cut_off()

    def abandon(self) -> None:
        """Forget the connection after a fork, without a word to the server."""
        self._side.abandon()


class MemoryReader:
    """Checks on the connections of an in-memory SQLite database, which has no second one.

    The database *is* its connection, so the position belongs to that.
    """

    def __init__(self, ledger: Ledger, store: Store, *, is_async: bool) -> None:
        self._ledger = ledger
        self._store = store
        self._mutex = Mutex(is_async)  # guards the position; see `Reader`
        self._position: Any = None
        self._connection: Any = None
        self.checks = 0
        self.seconds = 0.0

    def check(self, connection: Any, execute: Execute) -> None:
        """Read the news of the database that *connection* is, through *execute*."""
        with self._mutex.held():
            start = time.perf_counter()
            position = self._position if connection is self._connection else None
            news = self._ledger.read(execute, position)
            self._store.apply(news)
            self._position, self._connection = news.position, connection
            self.checks += 1
            self.seconds += time.perf_counter() - start
