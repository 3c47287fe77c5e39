"""`CacheManager`: the cache of one database in this process."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Engine, MetaData
from sqlalchemy.pool import QueuePool, StaticPool

from .blocks import BeginBlock, ConnectBlock
from .core import Core, sync_engine
from .entry import Slot
from .errors import ConfigurationError
from .forking import tell_after_fork, tell_before_fork
from .freshness import Freshness, Strict
from .greenlets import spawn
from .invalidation import AnyConnection, AnySession, Invalidator
from .keys import check_key
from .ledger import Execute, LedgerStatus
from .loading import Loader
from .once import Once, Turns, check_once
from .recall import generation_of, recall
from .scope import current_view, open_view
from .sessions import SessionWatch
from .shared import SharedValues, ValueTier
from .source import ConnectionSource, SourceWatch
from .store import Store
from .tables import create_tables, verify_tables
from .view import View
from .watch import EngineWatch

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from .snapshot.keeper import Keeper

_T = TypeVar("_T")

_NO_INSTANCE: Any = object()


@dataclass(frozen=True)
class Statistics:
    """What this process's cache has done since the manager was made, or the process forked."""

    #: Values in memory, and what the sizer says of them in bytes (0 without one).
    entries: int
    size_bytes: int
    #: Values that were dropped because the bounds were reached.
    evictions: int
    #: Retriever calls.
    loads: int
    #: Values that were found in the tier.
    tier_hits: int
    #: Values that came back from the snapshot; the values in the file after the last saving, and
    #: those that it left out because they could not be serialised.
    restored: int
    saved: int
    not_saved: int
    #: Checks of the ledger, each for all requests that waited for it.
    checks: int
    #: Seconds spent on them.
    check_seconds: float


#: How many keys a manager remembers the slots of.
_REMEMBERED_KEYS = 4096


class CacheManager:
    """Keeps values computed from one database in this process, coherent with that database.

    One manager an engine.  Values are read by cached attributes (see `cached`) or `get`,
    and invalidated by ``del`` or `invalidate` within the application's own transaction.

    :param engine: an `Engine` or `AsyncEngine` on SQLite, PostgreSQL, MariaDB or MySQL.
    :param table: the name of the ledger's table; a second one is called ``<table>_lane``.
    :param schema: the schema it is in, None for the connection's default.
    :param max_entries: how many values are kept at most; those that are seldom read go first.
    :param max_bytes: how many bytes of values are kept at most, as *sizer* tells.
    :param sizer: returns the size of a value in bytes; needed with *max_bytes*.  It must not
        change the value or read cached attributes.
    :param replicas: engines that read a copy of the database which may lag behind.  What a
        retriever reads there is for its own request and never shared.
    :param source: for an application that keeps its transactions outside SQLAlchemy, see
        `ConnectionSource`; the engine then only makes the ledger's own connections.
    :param ledger_engine: another engine to the same database for the ledger's own connections,
        where *engine* goes through a pooler that hands sessions around (PgBouncer in transaction
        mode): it has to reach the server, or pool by session.
    :param freshness: `Strict` (what None means; with ``shared_memory=True`` it asks nothing on
        SQLite while nothing is committed), `OneHost`, which asks nothing on a server's database
        while no process of this host commits, `Bounded`, which leaves checks out, or `Push`, which
        has them made by a thread that hears of commits (PostgreSQL).
    :param prune_keep: how many of the newest rows of the ledger stay when it prunes itself.
    :param prune_every: after how many rows that this process wrote it does so; None: never.
    :param tier: where values are shared with other processes: a `coherent_cache.tier.Tier`, or a
        region of dogpile.cache or a URL, or several from the most local to the most global.
    :param once_wait: the seconds that a reader waits at most for another process that computes a
        value ``once``; then he computes it himself.
    :param snapshot: a file that values go to when the process ends and come back from: its path, or
        a `coherent_cache.snapshot.Snapshot`.
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
        ledger_engine: Engine | AsyncEngine | None = None,
        freshness: Freshness | None = None,
        prune_keep: int = 10_000,
        prune_every: int | None = 1_000,
        tier: Any = None,
        once_wait: float = 5.0,
        snapshot: Any = None,
    ) -> None:
        if max_entries < 1:
            raise ConfigurationError(f"max_entries is at least 1, not {max_entries}")
        if max_bytes is not None and sizer is None:
            raise ConfigurationError("max_bytes needs a sizer: a callable that returns bytes")
        if prune_keep < 1 or (prune_every is not None and prune_every < 1):
            raise ConfigurationError("prune_keep is at least 1, and prune_every too, or None")
        if not once_wait >= 0:
            raise ConfigurationError(f"once_wait is a number of seconds, not {once_wait}")
        store = Store(max_entries, max_bytes, sizer)
        self.core = Core(
            engine,
            store,
            table=table,
            schema=schema,
            ledger_engine=ledger_engine,
            freshness=Strict() if freshness is None else freshness,
            prune_keep=prune_keep,
            prune_every=prune_every,
        )
        self.engine: Engine = self.core.engine
        self._sessions = SessionWatch(self.core)
        self._source = SourceWatch(self.core, source) if source is not None else None
        self._tier = _tier_of(tier)
        self._shared = None if self._tier is None else SharedValues(self.core, self._tier)
        # Of keys that `get` was given: they take longer to make than to find.
        self._slots: dict[str, Slot] = {}
        turns = None if self._tier is None else Turns(self._tier, once_wait)
        self._loader = Loader(self.core, self._sessions, self._source, self._shared, turns)
        self._invalidator = Invalidator(self.core, self._sessions, self._source)
        self.core.watches.append(EngineWatch(self.core, self.engine))
        for replica in replicas:
            self.core.watches.append(EngineWatch(self.core, sync_engine(replica), replica=True))
        if snapshot is not None:
            self.core.keeper = _keeper_of(self.core, snapshot)
        tell_before_fork(self)
        tell_after_fork(self)

    def __repr__(self) -> str:
        return (
            f"<CacheManager {self.engine.url.render_as_string(hide_password=True)} "
            f"table={self.core.tables.log.fullname!r} entries={len(self.core.store)}>"
        )

    @property
    def is_async(self) -> bool:
        """Whether the manager was made from an `AsyncEngine`."""
        return self.core.is_async

    # Values

    def get(
        self,
        key: str,
        retriever: Callable[..., _T],
        instance: Any = _NO_INSTANCE,
        *,
        once: Once | None = None,
    ) -> _T:
        """Return the value of *key*; ``retriever(instance)`` computes it if it is not known.

        Without *instance* the retriever is called with no argument.  Within a request the value
        is as new as the request's view, and stays the same until the request invalidates it;
        outside a request it is as new as this call.  Raises what the retriever raises.
        May do I/O: a check of the ledger, and whatever the retriever does.

        With *once* and a tier one process computes it for all others, of this ``"host"`` or of the
        ``"cluster"``; they wait for `once_wait` seconds at most.
        """
        check_once(once)
        return self.get_slot(self._slot_of_key(key), _call(retriever, instance), once)

    async def aget(
        self,
        key: str,
        retriever: Callable[..., Awaitable[_T]],
        instance: Any = _NO_INSTANCE,
        *,
        once: Once | None = None,
    ) -> _T:
        """`get` with a retriever that is a coroutine function."""
        check_once(once)
        return await self.aget_slot(self._slot_of_key(key), _call(retriever, instance), once)

    def get_slot(self, slot: Slot, compute: Callable[[], _T], once: Once | None = None) -> _T:
        """`get` for descriptors, which tell apart values of one key."""
        value: _T = self._loader.get(slot, compute, once)
        return value

    async def aget_slot(
        self, slot: Slot, compute: Callable[[], Awaitable[_T]], once: Once | None = None
    ) -> _T:
        """`aget` for descriptors."""
        value: _T = await self._loader.aget(slot, compute, once)
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
        if attribute is None:
            keys = frozenset((check_key(target),))
        else:
            keys = _keys_of(target, attribute)
        self._invalidator.invalidate(keys, session, connection)

    def invalidate_keys(self, keys: frozenset[str]) -> None:
        """`invalidate` for descriptors, whose attribute may have more than one key."""
        self._invalidator.invalidate(keys)

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

    def _slot_of_key(self, key: str) -> Slot:
        if type(key) is not str:
            return Slot(check_key(key))
        slot = self._slots.get(key)
        if slot is None:
            slot = Slot(key)
            if len(self._slots) >= _REMEMBERED_KEYS:
                self._slots.clear()
            self._slots[key] = slot
        return slot

    def evict(self, target: Any = None, attribute: str | None = None) -> None:
        """Drop values from this process's memory: all, that of a key, or that of the cached
        attribute *attribute* of the object *target*.

        Nothing became invalid and no other process is told: that is `invalidate`.  A request that
        has read the value keeps it; the next read finds it in the tier or computes it.  No I/O.
        """
        if target is None:
            self.core.store.clear()
        else:
            self.core.store.evict(_slot_of(target, attribute))

    # Many values, and the tier

    def prefetch(self, *targets: Any) -> int:
        """Bring into this process's memory what the tier has of many values, by one question to it
        and two to the ledger; return how many came.

        A target is a key, or a pair of an object and the name of a cached attribute.  Nothing is
        computed, and what is in memory already is not asked for.  Reading the values afterwards is
        as it always is.  0 without a tier.
        """
        slots = [slot for slot in map(_target, targets) if self.core.store.get(slot) is None]
        if self._shared is None or not slots:
            return 0
        found = self._shared.find_many(slots, self.core.transactions_around())
        return sum(self.core.store.publish(entry.slot, entry) for entry in found)

    async def aprefetch(self, *targets: Any) -> int:
        """`prefetch` on an asynchronous engine; the tier is asked in the event loop's thread."""
        return await spawn(lambda: self.prefetch(*targets))

    def share(self, *targets: Any) -> int:
        """Put into the tier what this process has in memory of many values (with no target: of
        all), by one question to the ledger, one look and one message to the tier; return how many
        could be put.

        Values go there by themselves when they are computed; this is for a tier that was away then,
        or was flushed, and for what came back from a snapshot.  0 without a tier.
        """
        if self._shared is None:
            return 0
        store = self.core.store
        if targets:
            kept = [store.get(slot) for slot in map(_target, targets)]
            entries = [entry for entry in kept if entry is not None]
        else:
            entries = store.most_used()
        return self._shared.put_many(entries, self.core.transactions_around())

    async def ashare(self, *targets: Any) -> int:
        """`share` on an asynchronous engine; the tier is told in the event loop's thread."""
        return await spawn(lambda: self.share(*targets))

    # Generations

    def generation(self, target: Any, attribute: str | None = None) -> str | None:
        """Return the generation that a key has at this moment, or the cached attribute *attribute*
        of the object *target*: a text that changes with each invalidation that commits, and never
        comes back.  None where there are none: for a database in memory, or a key that is
        invalidated all the time.  One query.

        It also changes when the ledger is pruned.  Other cached values that the attribute is
        computed from have generations of their own.
        """
        return generation_of(self.core, _slot_of(target, attribute).key)

    async def ageneration(self, target: Any, attribute: str | None = None) -> str | None:
        """`generation` on an asynchronous engine."""
        return await spawn(self.generation, target, attribute)

    def recall(self, target: Any, attribute: str | None = None, *, generation: str) -> Any:
        """Return the value that a key had under *generation*, or the cached attribute *attribute*
        of the object *target*, for audits and tests.  Nothing is computed.

        The tier keeps old values until it drops them by itself; this process has the current one at
        most.  Raises `NotKeptError` if neither has it.
        """
        return recall(self.core, self._tier, _slot_of(target, attribute), generation)

    async def arecall(self, target: Any, attribute: str | None = None, *, generation: str) -> Any:
        """`recall` on an asynchronous engine."""
        return await spawn(lambda: self.recall(target, attribute, generation=generation))

    # Connections and views

    def begin(self) -> BeginBlock:
        """A transaction of this context: ``with manager.begin() as conn`` (``async with`` on an
        asynchronous engine).

        It commits at the end of the block, or rolls back if the block raises.  A block inside
        another one joins it: it gets the same connection, and the outer block alone ends the
        transaction.  For a part that may fail by itself use ``conn.begin_nested()``.
        """
        return BeginBlock(self.core, self._sessions)

    def connect(self) -> ConnectBlock:
        """A connection to read from: ``with manager.connect() as conn``.

        That of the transaction open in this context if there is one (of a session too, which is
        flushed if it has invalidations waiting), so that a retriever sees its own request's
        data and takes no second connection; else a new one.
        """
        return ConnectBlock(self.core, self._sessions)

    @contextmanager
    def request(self) -> Iterator[View]:
        """One view from here to the end of the block, for scripts, jobs and tests; the web
        integrations open one for each request.

        The ledger is looked at once, at the first read (and again after an own commit); values
        stay the same until the block itself invalidates them.  A block inside another has a view
        of its own.
        """
        with open_view(self.core, View(), request=True) as view:
            yield view

    @property
    def view(self) -> View | None:
        """The view open in this context, None outside a request."""
        return current_view(self.core)

    def reset_metadata(self) -> None:
        """Let the open view begin anew: the next read looks at the ledger, and values that were
        read before may change."""
        view = current_view(self.core)
        if view is not None:
            view.begin_anew()

    # The table

    @property
    def metadata(self) -> MetaData:
        """The `MetaData` of the ledger's tables."""
        return self.core.tables.metadata

    def create_table(self) -> None:
        """Create the ledger's tables unless they exist; any number of processes may do so at
        once.  Raises `TableError` if a table of that name has other columns."""
        self.core.access.require_greenlet()
        create_tables(self.engine, self.core.tables)

    async def acreate_table(self) -> None:
        """`create_table` on an asynchronous engine."""
        await spawn(self.create_table)

    def verify_table(self) -> None:
        """Raise `TableError` unless the ledger's tables are there and of this release."""
        self.core.access.require_greenlet()
        verify_tables(self.engine, self.core.tables)

    def status(self) -> LedgerStatus:
        """Return figures about the ledger's tables; costs a scan of them."""
        return self.core.access.run(self.core.ledger.status)

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
            steps: Iterator[int] | None = None

            def step(execute: Execute) -> int:
                nonlocal steps
                if steps is None:
                    steps = self.core.ledger.prune(execute, keep, batch)
                return next(steps, 0)

            before = deleted
            while (count := self.core.access.run(step)) > 0:
                deleted += count
                if progress is not None:
                    progress(deleted)
            if deleted == before:
                return deleted

    async def averify_table(self) -> None:
        """`verify_table` on an asynchronous engine."""
        await spawn(self.verify_table)

    async def astatus(self) -> LedgerStatus:
        """`status` on an asynchronous engine."""
        return await spawn(self.status)

    async def aprune(
        self,
        *,
        keep: int = 10_000,
        batch: int = 1_000,
        progress: Callable[[int], None] | None = None,
    ) -> int:
        """`prune` on an asynchronous engine."""
        return await spawn(lambda: self.prune(keep=keep, batch=batch, progress=progress))

    def save_snapshot(self) -> int:
        """Save the values in memory to the snapshot's file, together with what others have saved
        there and is still valid; return how many values it has then.

        0, and the old file, if there is nothing, or the ledger has no generations: a database in
        memory, or an SQLite transaction of the caller's own that has written.  Waits for other
        workers that save at this moment, a minute at most.  I/O.  Raises `ConfigurationError`
        without a snapshot, and `OSError`.
        """
        return self._keeper().save(self.core.transactions_around())

    async def asave_snapshot(self) -> int:
        """`save_snapshot` on an asynchronous engine."""
        return await self._keeper().asave(self.core.transactions_around())

    def _keeper(self) -> Keeper:
        if self.core.keeper is None:
            raise ConfigurationError(
                "the manager has no snapshot: CacheManager(engine, snapshot='…')"
            )
        return self.core.keeper

    @property
    def statistics(self) -> Statistics:
        """What this process's cache has done so far."""
        keeper = self.core.keeper
        restored, saved, not_saved = (0, 0, 0) if keeper is None else keeper.counts
        return Statistics(
            entries=len(self.core.store),
            size_bytes=self.core.store.size_bytes,
            evictions=self.core.store.evictions,
            loads=self._loader.loads,
            tier_hits=self._loader.tier_hits,
            restored=restored,
            saved=saved,
            not_saved=not_saved,
            checks=self.core.access.checks,
            check_seconds=self.core.access.check_seconds,
        )

    def close(self) -> None:
        """Save the snapshot, if there is one, and close the ledger's own connections.  They open
        again when they are needed; until then nothing that is in memory is served, since nothing
        vouches for it."""
        self.core.access.require_greenlet("use 'await manager.aclose()'")
        keeper = self.core.keeper
        if keeper is not None and not self.is_async:
            keeper.stop()
            keeper.save_quietly()
        self.core.access.close()

    async def aclose(self) -> None:
        """`close` on an asynchronous engine, for the running event loop's connections."""
        # Waiting for a batch to end must not stop the loop.
        await asyncio.to_thread(self.core.access.pruner.stop)
        if self.core.keeper is not None:
            await self.core.keeper.astop()
            await self.core.keeper.asave_quietly()
        await spawn(self.core.access.close)

    def transaction_ended(self, connection: Any, committed: bool | None) -> None:
        """Tell that the transaction of a `ConnectionSource`'s DBAPI connection has ended: by
        commit, by rollback, or (None) in a way that is not known."""
        if self._source is None:
            raise ConfigurationError("transaction_ended() needs CacheManager(source=...)")
        self._source.ended(connection, committed)

    def before_fork(self) -> None:
        """SQLite: a child in which connections to the file are open, though nobody uses them, takes
        the parent's locks for its own, and has none.

        The interleaving this guards against: the parent ends, another process is the last to close
        the file as far as locks say, and deletes the WAL under the child, which sees no commit any
        more, and whose own nobody sees.  (Test: test_a_child_whose_parent_has_gone.)
        """
        core = self.core
        if core.engine.dialect.name != "sqlite" or core.is_async or core.access.is_memory:
            return
        self.core.access.before_fork()
        for watch in self.core.watches:
            if isinstance(watch.engine.pool, QueuePool):
                watch.engine.dispose()  # those that nobody has

    def after_fork(self) -> None:
        """In a forked child: everything that belongs to the parent is left alone."""
        self.core.store.after_fork()
        self.core.access.after_fork()
        if self.core.keeper is not None:
            self.core.keeper.after_fork()
        self._loader.after_fork()
        for watch in self.core.watches:
            if not isinstance(watch.engine.pool, StaticPool) and not self.core.access.is_memory:
                watch.engine.dispose(close=False)


def _call(retriever: Callable[..., _T], instance: Any) -> Callable[[], _T]:
    if instance is _NO_INSTANCE:
        return retriever
    return lambda: retriever(instance)


def _tier_of(given: Any) -> ValueTier | None:
    """What is given for a tier, which needs dogpile.cache only if it is."""
    if given is None:
        return None
    try:
        from .tier import as_tier
    except ImportError as error:
        raise ConfigurationError(
            f"a tier needs dogpile.cache ({error}): pip install coherent-cache[tier], or [redis] "
            f"or [memcached] with the client of the server"
        ) from error

    tier: ValueTier = as_tier(given)
    return tier


def _keeper_of(core: Core, given: Any) -> Keeper:
    """What is given for a snapshot; what it needs is imported only then."""
    from .snapshot.config import as_snapshot
    from .snapshot.keeper import Keeper

    found = as_snapshot(given)
    database = core.engine.url.database if core.engine.dialect.name == "sqlite" else None
    if database and os.path.abspath(database) == os.path.abspath(found.path):
        raise ConfigurationError(f"snapshot= is the database's own file: {database!r}")
    return Keeper(core, found)


def _keys_of(target: Any, attribute: str) -> frozenset[str]:
    keys: frozenset[str] = _descriptor(target, attribute).keys_of(target)
    return keys


def _slot_of(target: Any, attribute: str | None) -> Slot:
    if attribute is None:
        return Slot(check_key(target))
    slot: Slot = _descriptor(target, attribute).slot_of(target)
    return slot


def _target(target: Any) -> Slot:
    """The slot of a key, or of a pair of an object and the name of an attribute."""
    return _slot_of(*target) if isinstance(target, tuple) else _slot_of(target, None)


def _descriptor(target: Any, attribute: str) -> Any:
    found = getattr(type(target), attribute, None)
    if not hasattr(found, "keys_of"):
        raise ConfigurationError(
            f"{type(target).__qualname__}.{attribute} is not a cached attribute"
        )
    return found
