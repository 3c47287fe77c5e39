"""Reading a value: from the view, from a transaction around it, from the store, or computed.

The synchronous and the asynchronous way differ only in how they wait: for I/O, for somebody else's
load, for the retriever.  Every step between is one function for both.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from .core import Core
from .entry import Entry, Slot
from .errors import ConfigurationError
from .flights import Flights
from .greenlets import current_owner, in_greenlet, pause, spawn, wait_for, wait_for_async
from .load import Chain, Flight, Load, current_load, forbid_recursion, load_under_way
from .memo import NO_MEMO, current_memo
from .once import NO_WAIT, Once, Turns, Wait
from .points import point
from .scope import Scope, current_scope, current_view, open_view
from .sessions import SessionWatch
from .shared import SharedValues, variant_of
from .source import SourceWatch
from .transaction import Outcome, Transaction
from .view import View
from .work import Joint, Work, keep_while

#: How often a caller waits for loads that end with nothing for him before he loads himself.
_WAITS = 3

#: Seconds that a caller waits for somebody else's load if his own transaction may hold a lock.
#: The interleaving this guards against: he holds one that a writer waits for, the load waits behind
#: that writer, and he waits for the load; the database sees no circle, and would wait for ever.
#: (Tests: test_g10_a_load_that_waits_behind_a_writer_*.)
_PATIENCE = 1.0


class _Read:
    """One read that the view could not answer at once."""

    __slots__ = (
        "chain",
        "changes",
        "failed",
        "is_request",
        "once",
        "owner",
        "parent",
        "scope",
        "slot",
        "view",
    )

    def __init__(self, core: Core, slot: Slot, once: Once | None) -> None:
        self.slot = slot
        self.once: Once | None = once
        self.scope = current_scope()
        view = current_view(core)
        self.is_request = view is not None
        #: Outside a request a view that lasts for this read, and for what its retriever reads.
        self.view = view if view is not None else View()
        self.changes = self.view.changes
        self.owner = current_owner()
        self.parent = load_under_way()
        #: A load that ended with an error.
        self.failed: Load | None = None
        self.chain: Chain = self.parent.chain if self.parent is not None else Chain()

    def keep(self, entry: Entry) -> Entry:
        """Keep *entry* in the view, and return the one that counts there."""
        return self.view.keep(self.slot, entry, self.changes)


class Loader:
    """The reads of one manager."""

    def __init__(
        self,
        core: Core,
        sessions: SessionWatch,
        source: SourceWatch | None,
        shared: SharedValues | None,
        turns: Turns | None,
    ) -> None:
        self._core = core
        self._shared = shared
        self._turns = turns
        self._sessions = sessions
        self._source = source
        self._store = core.store
        self._flights = Flights()
        self.loads = 0
        self.tier_hits = 0

    def get(self, slot: Slot, compute: Callable[[], Any], once: Once | None = None) -> Any:
        """Return the value of *slot*, by *compute* if need be; with *once* by one process for all
        that share the tier."""
        found = self._from_view(slot)
        if found is None:
            read = _Read(self._core, slot, once)
            found = self._look_up(read)
            if found is None:
                found = self._load(read, compute)
            if read.parent is not None:
                read.parent.absorb(found, self._core)
        return found.value

    async def aget(
        self, slot: Slot, compute: Callable[[], Awaitable[Any]], once: Once | None = None
    ) -> Any:
        """`get` for a coroutine function."""
        found = self._from_view(slot)
        if found is None:
            read = _Read(self._core, slot, once)
            found = await self._alook_up(read)
            if found is None:
                found = await self._aload(read, compute)
            if read.parent is not None:
                read.parent.absorb(found, self._core)
        return found.value

    # The steps of a read

    def _from_view(self, slot: Slot) -> Entry | None:
        view = current_view(self._core)
        if view is None:
            return None
        found = view.values.get(slot)
        if found is not None:
            load = load_under_way()
            if load is not None:
                load.absorb(found, self._core)
        return found

    def _look_up(self, read: _Read) -> Entry | None:
        """A value that is there already."""
        found, settled = self._look_around(read)
        if settled:
            return found
        self._core.check(read.view, read.scope)
        self._note_calm(read)
        return self._from_store(read)

    async def _alook_up(self, read: _Read) -> Entry | None:
        if not self._core.is_async:
            return self._look_up(read)
        found, settled = self._look_around(read)
        if settled:
            return found
        await self._core.acheck(read.view, read.scope)  # no greenlet where nothing is new
        self._note_calm(read)
        return self._from_store(read)

    def _look_around(self, read: _Read) -> tuple[Entry | None, bool]:
        """What a transaction around the caller has of the value, and whether that settles it."""
        if self._source is not None:
            self._source.notice()
        for transaction in read.scope.transactions(self._core):
            found = transaction.find(read.slot, read.owner)
            if found is not None:
                read.view.counted += 1
                return found, True
        return None, self._hides(read.scope, frozenset((read.slot.key,)))

    def after_fork(self) -> None:
        """In a forked child the loads of the parent's other threads are not ours."""
        self._flights.after_fork()
        if self._turns is not None:
            self._turns.after_fork()
        self.loads = self.tier_hits = 0

    def _note_calm(self, read: _Read) -> None:
        """Let the view know that it is checked and that nothing is around it that hides a value or
        holds a private one, if that is so: the next reads need not look (`getters.known`).

        `Core.unrest` is read first: what begins while this looks replaces it, and undoes the note.
        So does a commit of the request, which counts first: either it is seen here, or it replaces
        what was read.  (Tests: tests/test_first_read.py.)
        """
        view, scope, unrest = read.view, read.scope, self._core.unrest
        if view.calm is unrest or view.scope is not scope or not view.checked:
            return
        # Also those of other threads and tasks, since the note is for all who have the view.  A
        # transaction of a `ConnectionSource` that nobody has noticed has nothing either, since a
        # `del` and a load notice it; and if one that has nothing ends without a word, nothing
        # becomes of it.
        if all(t.is_calm for t in scope.all_transactions(self._core)) and all(
            self._sessions.is_calm(session) for session in scope.sessions()
        ):
            view.calm = unrest

    def _from_store(self, read: _Read) -> Entry | None:
        found = self._store.get(read.slot)
        if found is None or self._hides(read.scope, found.keys):
            return None
        read.view.counted += 1
        return read.keep(found)

    def _hides(self, scope: Scope, keys: frozenset[str]) -> bool:
        """Whether a transaction or session around the caller has invalidated one of *keys*."""
        # Near: what waits with the session of a job that has a copy of the same context is its own,
        # and a value that is hidden is not kept.  (Test: test_g02_a_job_beside_it_uses_a_session.)
        return any(t.hides(keys) for t in scope.transactions(self._core)) or any(
            self._sessions.hides(session, keys) for session in scope.near_sessions()
        )

    def _is_alone(self, read: _Read) -> bool:
        """Whether the value has to be computed for this caller, not for others or by them: his
        own transaction has written, or he has invalidated it."""
        forbid_recursion(self._core, read.slot, read.parent)
        transactions = list(read.scope.transactions(self._core))
        if read.parent is None:
            for transaction in transactions:
                read.chain.works_in(transaction)
        return any(t.dirty for t in transactions) or self._hides(
            read.scope, frozenset((read.slot.key,))
        )

    def _join_or_lead(self, read: _Read, *, blocks: bool) -> tuple[Flight, bool]:
        return self._flights.join_or_lead(
            read.slot,
            read.chain,
            read.parent,
            wanted=read.view.label,
            label=self._store.label,
            blocks=blocks,
            # Also one that nothing was executed on, for which another may wait.
            # (Test: test_pool_of_one_and_an_idle_connection.)
            holds_connection=bool(read.scope.own_connections(self._core)),
            others_connect=read.scope.others_connect,
        )

    def _load(self, read: _Read, compute: Callable[[], Any]) -> Entry:
        # Before waiting: a task that waits in plain code would stop the loop that the load needs.
        # (Test: test_async_sync_attribute_beside_a_load_of_it.)
        self._core.access.require_greenlet()
        if self._is_alone(read):
            return self._compute(read, compute)
        for _ in range(_WAITS):
            flight, leads = self._join_or_lead(read, blocks=not in_greenlet())
            if leads:
                with _Landing(self._flights, read, flight) as landing:
                    # Another flight may have landed since we looked.
                    landing.entry = self._from_store(read) or self._bring(read, compute)
                    return landing.entry
            try:
                done = wait_for(flight.future, _patience(read))
            finally:
                self._flights.stop_waiting(read.chain, flight, read.parent)
            if not done:
                break
            found = self._take(read, flight)
            if found is not None:
                return found
        return self._compute(read, compute)

    async def _aload(self, read: _Read, compute: Callable[[], Awaitable[Any]]) -> Entry:
        if self._is_alone(read):
            return await self._acompute(read, compute)
        for _ in range(_WAITS):
            flight, leads = self._join_or_lead(read, blocks=False)
            if leads:
                with _Landing(self._flights, read, flight) as landing:
                    landing.entry = self._from_store(read) or await self._abring(read, compute)
                    return landing.entry
            try:
                done = await wait_for_async(flight.future, _patience(read))
            finally:
                self._flights.stop_waiting(read.chain, flight, read.parent)
            if not done:
                break
            found = self._take(read, flight)
            if found is not None:
                return found
        return await self._acompute(read, compute)

    def _take(self, read: _Read, flight: Flight) -> Entry | None:
        """What the flight brought, if it is new enough for this view and was computed from nothing
        that the reader has invalidated.

        The interleaving this guards against: a request invalidates what the value depends on, takes
        the value from another's load, keeps it, and only then writes.
        (Test: test_case_03_taken_from_another_request_after_the_del.)
        """
        try:
            entry = flight.future.result()
        except Exception:  # what the retriever raised
            failed = flight.failed
            if failed is not None and not failed.concerns_others(read.view.label):
                return None
            if read.parent is not None and flight.failed is not None:
                read.parent.absorb_failure(flight.failed)
            raise
        if entry is None or entry.label < read.view.label:
            return None
        if self._hides(read.scope, entry.keys):
            return None
        read.view.counted += 1
        return read.keep(entry)

    def _bring(self, read: _Read, compute: Callable[[], Any]) -> Entry:
        """The value, by whoever has it: the snapshot, another process through the tier, else the
        retriever."""
        entry = self._take_back(read)
        if entry is not None:
            return entry
        shared = self._shared
        if shared is None:
            return self._compute(read, compute)
        with self._wait(read) as wait:
            waited = False
            while True:
                look = shared.look(read.slot, self._around(read), check=waited)
                entry = self._accept(read, look.entry)
                if entry is not None:
                    return entry
                seconds = wait.step(look.generation)
                if seconds is None:
                    break
                pause(seconds)
                waited = True
            entry = self._compute(read, compute)
            # Before the others are let in, or the next one would find nothing and compute as well.
            # (Test: test_the_value_is_there_before_the_lock_is_free.)
            # Transactions are asked for again: the retriever may have begun one that goes on.
            # (Test: test_put_beside_a_transaction_that_the_retriever_began.)
            shared.put(entry, self._around(read), look.generation)
        return entry

    async def _abring(self, read: _Read, compute: Callable[[], Awaitable[Any]]) -> Entry:
        entry = self._take_back(read)
        if entry is not None:
            return entry
        shared = self._shared
        if shared is None:
            return await self._acompute(read, compute)
        async with self._wait(read) as wait:
            waited = False
            while True:
                look = await shared.alook(read.slot, self._around(read), check=waited)
                entry = self._accept(read, look.entry)
                if entry is not None:
                    return entry
                seconds = await wait.astep(look.generation)
                if seconds is None:
                    break
                await asyncio.sleep(seconds)
                waited = True
            entry = await self._acompute(read, compute)
            await shared.aput(entry, self._around(read), look.generation)
        return entry

    def _wait(self, read: _Read) -> Wait:
        if read.once is None or self._turns is None:
            return NO_WAIT
        return self._turns.wait(read.once, read.slot.key, variant_of(read.slot) or "", read.chain)

    def _around(self, read: _Read) -> list[Transaction]:
        return list(read.scope.transactions(self._core))

    def _take_back(self, read: _Read) -> Entry | None:
        """What the snapshot had, see `_accept`.  (Test: test_hidden_by_a_del.)"""
        keeper = self._core.keeper
        found = None if keeper is None else keeper.take(read.slot)
        if found is None or self._hides(read.scope, found.keys):
            return None
        read.view.counted += 1
        return read.keep(found)

    def _accept(self, read: _Read, found: Entry | None) -> Entry | None:
        """What the tier had, unless the reader has invalidated what it was computed from; see
        `_take`.  (Test: test_a_value_of_the_tier_is_hidden_by_a_del.)"""
        if found is None or self._hides(read.scope, found.keys):
            return None
        self._store.publish(read.slot, found)
        read.view.counted += 1
        read.view.tier_hits += 1
        self.tier_hits += 1
        return read.keep(found)

    def _compute(self, read: _Read, compute: Callable[[], Any]) -> Entry:
        load = self._begin(read)
        with _Loading(self._core, read, load):
            value = compute()
            if inspect.iscoroutine(value):
                value.close()  # nobody will await it
                raise ConfigurationError(
                    f"the retriever of {read.slot.key!r} returned a coroutine, which cannot be "
                    f"cached: make it 'async def', also where it is decorated"
                )
            self._settle(load)
        return self._keep(read, load.result(value))

    async def _acompute(self, read: _Read, compute: Callable[[], Awaitable[Any]]) -> Entry:
        load = self._begin(read)
        with _Loading(self._core, read, load):
            value = await compute()
            await self._io(self._settle, load)
        return self._keep(read, load.result(value))

    @point(before="load: to be done, label not taken", after="load: label taken, no data read")
    def _begin(self, read: _Read) -> Load:
        # The label is read before the data.  Too old costs a reload, too new is wrong for good.
        label = self._store.label
        self.loads += 1
        read.view.misses += 1
        load = Load(self._core, read.slot, label, read.parent, read.chain)
        if self._source is not None:
            self._source.touch(load)
        return load

    @point(before="load: data read, transactions not asked")
    def _settle(self, load: Load) -> None:
        """Ask about the transactions that the retriever read in and that go on after it."""
        if self._source is not None:
            self._source.touch(load)
        self._sessions.settle(load)
        for transaction in list(load.touched):
            found = transaction.watch.probe(transaction)
            load.settle(transaction, found.written, found.statement_snapshots)

    def _keep(self, read: _Read, entry: Entry) -> Entry:
        """Keep the value where those find it who may see it: everybody, the transactions it was
        computed in, or the request."""
        self._store.publish(read.slot, entry)
        if entry.owners:
            if Outcome.LOST in entry.owners:
                return entry
            works = [each for each in entry.owners if isinstance(each, Work) and not each.committed]
            if works:
                return self._keep_private(read, entry, works)
            # Of transactions that the retriever itself began and ended, whatever they were for:
            # read on a replica, or under a lock.  It stands for this request.
            return read.keep(entry)
        for transaction in read.scope.transactions(self._core):
            if transaction.hides(entry.keys):
                return transaction.remember(read.slot, read.owner, entry)
        if self._hides(read.scope, entry.keys):
            return entry
        return read.keep(entry)

    def _keep_private(self, read: _Read, entry: Entry, works: list[Work]) -> Entry:
        """Keep a value that was computed from *works*, until one of them is undone."""
        transactions = [work for work in works if isinstance(work, Transaction)]
        open_here = [t for t in transactions if t.manager is self._core and t.is_open]
        if open_here:
            # The oldest, which goes on for longest.
            holder = min(open_here, key=lambda transaction: transaction.number)
            if read.is_request:
                holder.concerns(read.view)
        elif transactions:
            return entry  # of another manager, or ended: nobody here would hold it
        else:
            hiding = [t for t in read.scope.transactions(self._core) if t.hides(entry.keys)]
            if not hiding:
                if self._hides(read.scope, entry.keys):
                    return entry
                return keep_while(works, read.view, read.slot, entry, read.changes)
            holder = hiding[0]
        others = [work for work in works if work is not holder]
        return holder.remember(read.slot, read.owner, Joint(entry, others) if others else entry)

    async def _io(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if self._core.is_async:
            return await spawn(function, *arguments)
        return function(*arguments)


def _patience(read: _Read) -> float | None:
    return _PATIENCE if read.chain.may_hold_locks else None


class _Landing:
    """A flight that lands whatever happens to its leader."""

    def __init__(self, flights: Flights, read: _Read, flight: Flight) -> None:
        self._flights = flights
        self._read = read
        self._flight = flight
        self.entry: Entry | None = None

    def __enter__(self) -> _Landing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Exception):
            self._flight.failed = self._read.failed
            self._flights.fail(self._read.slot, self._flight, error)
            return
        # A leader that was cancelled or interrupted says nothing about the value.
        entry = self.entry if error is None else None
        shared = entry if entry is not None and not entry.owners else None
        self._flights.land(self._read.slot, self._flight, shared)


class _Loading:
    """The retriever runs: the load is the context's current one, and so is the view, but not its
    memo: the load has to be told of what is read."""

    def __init__(self, core: Core, read: _Read, load: Load) -> None:
        self._load = load
        self._read = read
        self._view = None if read.is_request else open_view(core, read.view, request=False)

    def __enter__(self) -> None:
        self._outer = current_load.get()
        current_load.set(self._load)
        if self._view is not None:
            self._view.__enter__()
        self._memo = current_memo.get()
        current_memo.set(NO_MEMO)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        current_memo.set(self._memo)
        if self._view is not None:
            self._view.__exit__()
        self._load.end()
        current_load.set(self._outer)
        if error is not None:
            self._read.failed = self._load
            if self._read.parent is not None:
                self._read.parent.absorb_failure(self._load)
