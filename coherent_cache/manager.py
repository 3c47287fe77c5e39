"""`CacheManager`: the cache of one database in this process."""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, MetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import (
    AsyncConnection,
    AsyncEngine,
    AsyncSession,
    async_scoped_session,
)
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.pool import StaticPool

from .access import LedgerAccess
from .blocks import BeginBlock, ConnectBlock
from .entry import Slot
from .errors import CacheError, ConfigurationError
from .explain import explain
from .greenlets import spawn
from .keys import check_key
from .ledger import Execute, LaneHolder, Ledger, LedgerStatus, ledger_for
from .loading import Loader
from .schema import add_tables
from .scope import View, current_scope, current_view, open_view, views_around
from .sessions import SessionWatch
from .source import ConnectionSource, SourceWatch
from .store import Store
from .tables import create_tables, verify_tables
from .transaction import Transaction
from .watch import EngineWatch

_T = TypeVar("_T")

_log = logging.getLogger("coherent_cache")

_NO_INSTANCE: Any = object()

AnySession = Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any]
AnyConnection = Connection | AsyncConnection


@dataclass(frozen=True)
class Statistics:
    """What this process's cache has done since it started."""

    #: Values in memory, and what the sizer says of them in bytes (0 without one).
    entries: int
    size_bytes: int
    #: Values that were dropped because the bounds were reached.
    evictions: int
    #: Retriever calls.
    loads: int
    #: Seconds spent on checks of the ledger.
    check_seconds: float


class CacheManager:
    """Keeps values computed from one database in this process, coherent with that database.

    One manager an engine.  Values are read by cached attributes (see `cached`) or `get`,
    and invalidated by ``del`` or `invalidate` within the application's own transaction.

    :param engine: an `Engine` or `AsyncEngine` on SQLite, PostgreSQL, MariaDB or MySQL.
    :param table: the name of the ledger's table; a second one is called ``<table>_lane``.
    :param schema: the schema it is in, None for the connection's default.
    :param max_entries: how many values are kept at most; the least recently used go first.
    :param max_bytes: how many bytes of values are kept at most, as *sizer* tells.
    :param sizer: returns the size of a value in bytes; needed with *max_bytes*.  It must not
        change the value or read cached attributes.
    :param replicas: engines that read a copy of the database which may lag behind.  What a
        retriever reads there is for its own request and never shared.
    :param source: for an application that keeps its transactions outside SQLAlchemy, see
        `ConnectionSource`; the engine then only makes the ledger's own connections.
    """

    def __init__(
        self,
        engine: Engine | AsyncEngine,
        *,
        table: str = "cache",
        schema: str | None = None,
        max_entries: int = 100_000,
        max_bytes: int | None = None,
        sizer: Callable[[Any], int] | None = None,
        replicas: Sequence[Engine | AsyncEngine] = (),
        source: ConnectionSource | None = None,
    ) -> None:
        if max_entries < 1:
            raise ConfigurationError(f"max_entries is at least 1, not {max_entries}")
        if max_bytes is not None and sizer is None:
            raise ConfigurationError("max_bytes needs a sizer: a callable that returns bytes")
        self.async_engine = engine if isinstance(engine, AsyncEngine) else None
        self.engine: Engine = _sync_engine(engine)
        self.tables = add_tables(MetaData(), table=table, schema=schema)
        self.ledger: Ledger = ledger_for(self.engine.dialect, self.tables)
        self.store = Store(max_entries, max_bytes, sizer)
        self.access = LedgerAccess(self.engine, self.ledger, self.store, is_async=self.is_async)
        self.sessions = SessionWatch(self)
        self._loader = Loader(self)
        self._watches = [EngineWatch(self, self.engine)]
        for replica in replicas:
            self._watches.append(EngineWatch(self, _sync_engine(replica), replica=True))
        self.source = SourceWatch(self, source, self.engine.dialect) if source else None
        _forget_after_fork(self)

    def __repr__(self) -> str:
        return (
            f"<CacheManager {self.engine.url.render_as_string(hide_password=True)} "
            f"table={self.tables.log.fullname!r} entries={len(self.store)}>"
        )

    @property
    def is_async(self) -> bool:
        """Whether the manager was made from an `AsyncEngine`."""
        return self.async_engine is not None

    # Values

    def get(self, key: str, retriever: Callable[..., _T], instance: Any = _NO_INSTANCE) -> _T:
        """Return the value of *key*; ``retriever(instance)`` computes it if it is not known.

        Without *instance* the retriever is called with no argument.  Within a request the value
        is as new as the request's view, and stays the same until the request invalidates it;
        outside a request it is as new as this call.  Raises what the retriever raises.
        May do I/O: a check of the ledger, and whatever the retriever does.
        """
        return self.get_slot(Slot(check_key(key)), _call(retriever, instance))

    async def aget(
        self,
        key: str,
        retriever: Callable[..., Awaitable[_T]],
        instance: Any = _NO_INSTANCE,
    ) -> _T:
        """`get` with a retriever that is a coroutine function."""
        return await self.aget_slot(Slot(check_key(key)), _call(retriever, instance))

    def get_slot(self, slot: Slot, compute: Callable[[], _T]) -> _T:
        """`get` for descriptors, which tell apart values of one key."""
        value: _T = self._loader.get(slot, compute)
        return value

    async def aget_slot(self, slot: Slot, compute: Callable[[], Awaitable[_T]]) -> _T:
        """`aget` for descriptors."""
        value: _T = await self._loader.aget(slot, compute)
        return value

    # Invalidation

    def invalidate(
        self,
        target: Any,
        attribute: str | None = None,
        *,
        session: AnySession | None = None,
        connection: AnyConnection | None = None,
    ) -> None:
        """Invalidate a key, or the cached attribute *attribute* of the object *target*.

        The invalidation belongs to the transaction of *session* or *connection* if one is given,
        else to all transactions open in this context that could carry the write: it commits and
        rolls back with them.  If none is open it is made at once, in its own transaction.
        Raises `InvalidationError` or `TableError`, here or at the commit, if it cannot be written.
        """
        key = check_key(target) if attribute is None else _key_of(target, attribute)
        keys = frozenset((key,))
        if connection is not None:
            found = self.transaction_of(_sync_connection(connection))
            targets = [found] if found is not None and found.watch.carries(found) else []
            waiting: list[Session] = []
        elif session is not None:
            sync = _sync_session(session)
            targets = self._transactions_of(sync)
            waiting = [] if targets else [sync]
        else:
            targets, waiting = self._targets()
        views = list(views_around(self))
        for transaction in targets:
            transaction.invalidate(keys)
            if transaction.watch is self.source and self.source is not None:
                self.source.write(transaction, [key])
            for view in views:
                transaction.concerns(view)
        for waiting_session in waiting:
            self.sessions.invalidate(waiting_session, keys)
        for view in views:
            view.forget(keys)
        if not targets and not any(s.in_transaction() for s in waiting):
            self.invalidate_now([key])
            if session is None and connection is None:
                self._invalidate_early(keys)

    async def ainvalidate(
        self,
        target: Any,
        attribute: str | None = None,
        *,
        session: AnySession | None = None,
        connection: AnyConnection | None = None,
    ) -> None:
        """`invalidate` on an asynchronous engine, also where no transaction is open."""
        await spawn(
            lambda: self.invalidate(target, attribute, session=session, connection=connection)
        )

    def invalidate_now(self, keys: Sequence[str]) -> None:
        """Invalidate *keys* in a transaction of their own, committed before this returns."""
        try:
            self.access.write(sorted(set(keys)))
        finally:
            for view in views_around(self):
                view.forget(frozenset(keys))
                view.uncheck()

    def evict(self) -> None:
        """Drop every value from this process's memory.  No other process is told: nothing became
        invalid."""
        self.store.clear()

    def _targets(self) -> tuple[list[Transaction], list[Session]]:
        """The transactions of this context that can carry an invalidation, and the sessions that
        may come to have one."""
        if self.source is not None:
            self.source.notice()
        scope = current_scope()
        targets = [t for t in scope.all_transactions(self) if t.watch.carries(t)]
        waiting: list[Session] = []
        for session in scope.sessions():
            found = self._transactions_of(session)
            targets += [t for t in found if t not in targets]
            if not found and session.in_transaction() and self.sessions.may_carry(session):
                waiting.append(session)
        return targets, waiting

    def _invalidate_early(self, keys: frozenset[str]) -> None:
        """No transaction is open, but connections and sessions are at hand that will begin one
        with their next statement, which may be the write that the ``del`` was meant for.

        ``with engine.connect() as c: del obj.attr; c.execute(...); c.commit()``: invalidated only
        now, the key would be loaded anew before the write commits, and stay old.
        """
        scope = current_scope()
        for connection in scope.connections():
            watch = self._watch_of(connection)
            if watch is not None and not connection.closed:
                watch.invalidate_early(connection, keys)
        for session in scope.sessions():
            if self.sessions.may_carry(session):
                self.sessions.invalidate(session, keys)

    def _transactions_of(self, session: Session) -> list[Transaction]:
        found = [self.transaction_of(c) for c in self.sessions.connections_of(session)]
        return [t for t in found if t is not None and t.watch.carries(t)]

    # Connections and views

    def begin(self) -> BeginBlock:
        """A transaction of this context: ``with manager.begin() as conn`` (``async with`` on an
        asynchronous engine).

        It commits at the end of the block, or rolls back if the block raises.  A block inside
        another one joins it: it gets the same connection, and the outer block alone ends the
        transaction.  For a part that may fail by itself use ``conn.begin_nested()``.
        """
        return BeginBlock(self)

    def connect(self) -> ConnectBlock:
        """A connection to read from: ``with manager.connect() as conn``.

        That of the transaction open in this context if there is one (of a session too, which is
        flushed if it has invalidations waiting), so that a retriever sees its own request's
        data and takes no second connection; else a new one.
        """
        return ConnectBlock(self)

    @contextmanager
    def request(self) -> Iterator[View]:
        """One view from here to the end of the block, for scripts, jobs and tests; the web
        integrations open one for each request.

        The ledger is looked at once, at the first read (and again after an own commit); values
        stay the same until the block itself invalidates them.  A block inside another has a view
        of its own.
        """
        with open_view(self, View(), request=True) as view:
            yield view

    @property
    def view(self) -> View | None:
        """The view open in this context, None outside a request."""
        return current_view(self)

    def reset_metadata(self) -> None:
        """Let the open view begin anew: the next read looks at the ledger, and values that were
        read before may change."""
        view = current_view(self)
        if view is not None:
            view.values.clear()
            view.uncheck()

    # The table

    @property
    def metadata(self) -> MetaData:
        """The `MetaData` of the ledger's tables."""
        return self.tables.metadata

    def create_table(self) -> None:
        """Create the ledger's tables unless they exist; any number of processes may do so at
        once.  Raises `TableError` if a table of that name has other columns."""
        create_tables(self.engine, self.tables)

    async def acreate_table(self) -> None:
        """`create_table` on an asynchronous engine."""
        await spawn(self.create_table)

    def verify_table(self) -> None:
        """Raise `TableError` unless the ledger's tables are there and of this release."""
        verify_tables(self.engine, self.tables)

    def status(self) -> LedgerStatus:
        """Return figures about the ledger's tables; costs a scan of them."""
        return self.access.run(self.ledger.status)

    def prune(
        self,
        *,
        keep: int = 10_000,
        batch: int = 1_000,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """Delete the oldest rows of the ledger, all but about the newest *keep*; return how many.

        Each *batch* is a transaction of its own; *progress* is called with the rows deleted so
        far.  No value becomes wrong: a process that has been idle since before the rows that went
        drops everything at its next check.
        """
        deleted = 0
        while True:
            count = self.access.run(lambda execute: self.ledger.prune(execute, keep, batch))
            deleted += count
            if progress is not None:
                progress(deleted)
            if count == 0:
                return deleted

    @property
    def statistics(self) -> Statistics:
        """What this process's cache has done so far."""
        return Statistics(
            entries=len(self.store),
            size_bytes=self.store.size_bytes,
            evictions=self.store.evictions,
            loads=self._loader.loads,
            check_seconds=self.access.check_seconds,
        )

    def close(self) -> None:
        """Close the ledger's own connections.  They open again when they are needed; until
        then nothing that is in memory is served, since nothing vouches for it."""
        self.access.close()

    async def aclose(self) -> None:
        """`close` on an asynchronous engine, for the running event loop's connections."""
        await spawn(self.access.close)

    def transaction_ended(self, connection: Any, committed: bool | None) -> None:
        """Tell that the transaction of a `ConnectionSource`'s DBAPI connection has ended: by
        commit, by rollback, or (None) in a way that is not known."""
        if self.source is None:
            raise ConfigurationError("transaction_ended() needs CacheManager(source=...)")
        self.source.ended(connection, committed)

    # What the watches call

    def transaction_of(self, connection: Connection) -> Transaction | None:
        """The open transaction of *connection*, if it is one of the manager's."""
        watch = self._watch_of(connection)
        return None if watch is None else watch.transaction_of(connection)

    def _watch_of(self, connection: Connection) -> EngineWatch | None:
        for watch in self._watches:
            if connection.engine.pool is watch.engine.pool:
                return watch
        return None

    def write_keys(self, execute: Execute, keys: Sequence[str], lane: LaneHolder) -> None:
        """Write *keys* into the ledger in the transaction that *execute* works in."""
        try:
            self.ledger.write(execute, keys, lane)
        except DBAPIError as error:
            explained = explain(self.engine.dialect, error, self.tables.log.name, keys)
            if explained is None:
                raise
            raise explained from error

    def check_view_early(self) -> None:
        """Look at the ledger for the open view, before its first transaction takes a snapshot."""
        view = current_view(self)
        if view is None:
            return
        try:
            self._loader.check(view, current_scope())
        except (DBAPIError, CacheError):
            # The statement that this precedes is not ours to fail; the first read will say it.
            _log.debug("the early look at the ledger failed", exc_info=True)

    def after_fork(self) -> None:
        """In a forked child: everything that belongs to the parent is left alone."""
        self.store.after_fork()
        self.access.after_fork()
        self._loader = Loader(self)
        for watch in self._watches:
            if not isinstance(watch.engine.pool, StaticPool) and not self.access.is_memory:
                watch.engine.dispose(close=False)


def _call(retriever: Callable[..., _T], instance: Any) -> Callable[[], _T]:
    if instance is _NO_INSTANCE:
        return retriever
    return lambda: retriever(instance)


def _key_of(target: Any, attribute: str) -> str:
    key_of = getattr(getattr(type(target), attribute, None), "key_of", None)
    if key_of is None:
        raise ConfigurationError(
            f"{type(target).__qualname__}.{attribute} is not a cached attribute"
        )
    return str(key_of(target))


def _sync_engine(engine: Engine | AsyncEngine) -> Engine:
    if isinstance(engine, AsyncEngine):
        return engine.sync_engine
    if isinstance(engine, Engine):
        return engine
    raise ConfigurationError(
        f"CacheManager takes an SQLAlchemy Engine or AsyncEngine, not {type(engine).__name__}"
    )


def _sync_connection(connection: AnyConnection) -> Connection:
    if isinstance(connection, AsyncConnection):
        found = connection.sync_connection
        if found is None:
            raise ConfigurationError("the AsyncConnection given has not been started")
        return found
    return connection


def _sync_session(session: AnySession) -> Session:
    found: Any = session
    if isinstance(found, scoped_session | async_scoped_session):
        found = found()
    return found.sync_session if isinstance(found, AsyncSession) else found


_managers: weakref.WeakSet[CacheManager] = weakref.WeakSet()


def _forget_after_fork(manager: CacheManager) -> None:
    if hasattr(os, "register_at_fork") and not _managers:
        _register_once()
    _managers.add(manager)


def _after_fork_in_child() -> None:
    for manager in list(_managers):
        manager.after_fork()


_registered: list[bool] = []


def _register_once() -> None:
    if not _registered:
        _registered.append(True)
        os.register_at_fork(after_in_child=_after_fork_in_child)
