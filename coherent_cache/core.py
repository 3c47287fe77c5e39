"""What the parts of one manager share: its engine, ledger and store, and three things to do."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import DBAPIError

from .access import LedgerAccess
from .errors import CacheError, ConfigurationError
from .explain import explain
from .freshness import Freshness
from .ledger import Execute, LaneHolder, Ledger, ledger_for
from .pruning import Pruner
from .resolve import note_manager
from .schema import add_tables
from .scope import Scope, current_scope, current_view, views_around
from .sqlite_file import Identity
from .store import Store
from .transaction import Transaction
from .view import View

if TYPE_CHECKING:
    # Not at run time: SQLAlchemy's asyncio needs greenlet, which it does not always install.
    from sqlalchemy.ext.asyncio import AsyncEngine

    from .snapshot.keeper import Keeper
    from .watch import EngineWatch

_log = logging.getLogger("coherent_cache")


class Core:
    """Views, scopes and transactions name it as theirs: managers are told apart by it."""

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        store: Store,
        *,
        table: str,
        schema: str | None,
        ledger_engine: Engine | AsyncEngine | None,
        freshness: Freshness,
        prune_keep: int,
        prune_every: int | None,
    ) -> None:
        self.engine: Engine = sync_engine(engine)
        self.async_engine: AsyncEngine | None = None
        if not isinstance(engine, Engine):
            self.async_engine = engine
        for name in (table, schema):
            if name is not None and not _can_be_a_name(name):
                raise ConfigurationError(f"no database has a table or schema of the name {name!r}")
        self.tables = add_tables(MetaData(), table=table, schema=schema)
        self.ledger: Ledger = ledger_for(self.engine.dialect, self.tables)
        self.store = store
        beside = self.engine if ledger_engine is None else sync_engine(ledger_engine)
        if beside.dialect.is_async is not self.engine.dialect.is_async:
            raise ConfigurationError("engine and ledger_engine are both asynchronous, or neither")
        self.access = LedgerAccess(
            beside,
            self.ledger,
            store,
            is_async=self.is_async,
            freshness=freshness,
            pruner=Pruner(beside, self.ledger, keep=prune_keep, every=prune_every),
            on_file=self._note_file,
        )
        #: The file that SQLite's ledger is in, as the ledger's own connections have it.
        self.file: Identity | None = None
        #: Replaced whenever a transaction or a session begins to hide values, or to hold private
        #: ones, or a request has committed an invalidation, anywhere in the process: what views
        #: have noted before is out of date.
        self.unrest = object()
        #: Whether each value in the process is of this manager, see `resolve`.
        self.is_only = False
        note_manager(self)
        #: The engines whose transactions are watched.
        self.watches: list[EngineWatch] = []
        #: Takes values back from a snapshot, and saves them.
        self.keeper: Keeper | None = None

    @property
    def is_async(self) -> bool:
        """Whether it was made from an `AsyncEngine`."""
        return self.async_engine is not None

    def _note_file(self, file: Identity | None) -> None:
        """One of the ledger's connections was made.  If another file is there now, connections to
        the one before go, as far as nobody has them."""
        before, self.file = self.file, file
        if before not in (None, file):
            for watch in self.watches:
                watch.engine.dispose()

    def stir(self) -> None:
        """Something begins to stand between a view and the store; see `View.calm`."""
        # A new object, not a count: of two threads neither can put an old one back.
        self.unrest = object()

    # Looking at the ledger

    def check(self, view: View, scope: Scope) -> None:
        """Look at the ledger, unless *view* has."""
        if view.checked:
            return
        commits = view.commits
        start = time.perf_counter()
        if commits or not self.access.is_current():
            self.access.check(list(scope.transactions(self)))
            self._count(view, start)
        if self.keeper is not None:
            self.keeper.looked(scope.transactions(self))
        self._looked(view, commits)

    async def acheck(self, view: View, scope: Scope) -> None:
        """`check` from a coroutine, on an asynchronous engine."""
        if view.checked:
            return
        commits = view.commits
        start = time.perf_counter()
        if commits or not self.access.is_current():
            await self.access.acheck(list(scope.transactions(self)))
            self._count(view, start)
        if self.keeper is not None:
            await self.keeper.alooked(scope.transactions(self))
        self._looked(view, commits)

    def _count(self, view: View, start: float) -> None:
        view.check_seconds += time.perf_counter() - start
        view.checks += 1

    def _looked(self, view: View, commits: int) -> None:
        view.looked(self.store.label, commits)

    def check_early(self) -> None:
        """Look at the ledger for the open view, before a transaction takes its snapshot: what is
        read from it can then be published."""
        view = current_view(self)
        if view is None:
            return
        try:
            self.check(view, current_scope())
        except (DBAPIError, CacheError):
            # The statement that this precedes is not ours to fail; the first read will say it.
            _log.debug("the early look at the ledger failed", exc_info=True)

    # Writing into it

    def write_keys(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """Write *keys* into the ledger in the transaction that *execute* works in."""
        try:
            self.ledger.write(execute, keys, lane)
            self.access.pruner.prune_within(execute, len(keys))
        except DBAPIError as error:
            explained = explain(self.engine.dialect, error, self.tables.log.name, keys)
            if explained is None:
                raise
            raise explained from error

    def invalidate_now(self, keys: Sequence[str]) -> None:
        """Invalidate *keys* in a transaction of their own, committed before this returns."""
        try:
            self.access.write(sorted(set(keys)))
        finally:
            self.access.committed(len(keys))
            for view in views_around(self):
                view.uncheck()  # first, see `Transaction.restart`
                view.forget(frozenset(keys))

    def invalidate_late(self, keys: Sequence[str], *, must: bool = False) -> None:
        """Another thread of the request has invalidated *keys* during a COMMIT.  It does so at
        once, since they came too late for it; but if they were meant for what is committed, that
        was too early.  (Test: test_case_14_a_del_during_another_threads_commit.)

        Or nobody has (*must*), since nothing could be written in the transaction."""
        try:
            self.invalidate_now(keys)
        except (DBAPIError, CacheError):  # the COMMIT, whose result this would hide, went well
            if must:
                raise
            _log.exception(
                "%d keys that came during a COMMIT were not invalidated again", len(keys)
            )

    def hand_on(self, keys: Sequence[str]) -> None:
        """*keys* were to be invalidated with what has written nothing, and was rolled back.  An
        error is the caller's: nobody else makes that ``del``.

        On SQLite not beside a transaction that may have a lock, for which an invalidation by itself
        would wait: that takes them.  (Test: test_del_beside_a_reader_that_ends_beside_a_writer.)
        """
        around = self.transactions_around()
        if self.access.may_ask_beside(around):
            self.invalidate_now(keys)
            return
        for transaction in around:
            transaction.invalidate(keys)

    # Connections

    def watch_of(self, connection: Connection) -> EngineWatch | None:
        """The watch of the connection's engine, if it is one of ours."""
        for watch in self.watches:
            if connection.engine.pool is watch.engine.pool:
                return watch
        return None

    def transactions_around(self) -> list[Transaction]:
        """The transactions that are open around the caller."""
        return list(current_scope().transactions(self))

    def transaction_of(self, connection: Connection) -> Transaction | None:
        """The open transaction of *connection*, if it is one of ours."""
        watch = self.watch_of(connection)
        return None if watch is None else watch.transaction_of(connection)


def _can_be_a_name(name: str) -> bool:
    """Whether it is text that can be sent to a database: not empty, no NUL, no lone surrogate."""
    return bool(name) and "\x00" not in name and not any("\ud800" <= c <= "\udfff" for c in name)


def sync_engine(engine: Engine | AsyncEngine) -> Engine:
    """The engine that does the work."""
    found = getattr(engine, "sync_engine", engine)
    if isinstance(found, Engine):
        return found
    raise ConfigurationError(
        f"CacheManager takes an SQLAlchemy Engine or AsyncEngine, not {type(engine).__name__}"
    )
