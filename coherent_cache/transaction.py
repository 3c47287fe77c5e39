"""What the cache knows of one open transaction: its invalidations and its private values.

Nothing here talks to a database.  `Transaction` is told what happens by `watch` (SQLAlchemy's
events) or by a `ConnectionSource` (an application that keeps its connections itself).
"""

from __future__ import annotations

import enum
import itertools
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from .entry import Entries, Entry, Slot, forget
from .greenlets import current_owner
from .points import point
from .view import View
from .work import Joint, Work

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from .announcements import Announcement
    from .ledger import Execute
    from .lending import Loans
    from .scope import Scope


#: Puts the beginnings of transactions and loads in order.
numbers = itertools.count()

#: The transactions that a task, or one that it was begun by, had begun before.
_begun_before: ContextVar[tuple[weakref.ref[Transaction], ...]] = ContextVar(
    "coherent_cache.begun_before", default=()
)


class Probe(NamedTuple):
    """What is known of a transaction at one moment."""

    written: bool
    #: Each statement sees a snapshot of its own, so reading now is reading what is new.
    statement_snapshots: bool


class Watch(Protocol):
    """The one who knows a transaction's connection."""

    #: Whether it watches a replica, where nobody writes.
    is_replica: bool

    def carries(self, transaction: Transaction) -> bool:
        """Whether an invalidation can wait for the commit of *transaction*."""
        ...

    def connection_of(self, transaction: Transaction) -> Connection | None:
        """SQLAlchemy's Connection of *transaction*, if it has one that is known and open."""
        ...

    def dbapi_connection_of(self, transaction: Transaction) -> Any:
        """The driver's connection of *transaction*, None if it was closed."""
        ...

    def execute_in(self, transaction: Transaction) -> Execute:
        """A way to execute in *transaction* that no event sees."""
        ...

    def holds_lock(self, transaction: Transaction) -> bool:
        """SQLite: whether *transaction* may hold a lock on the database file."""
        ...

    def probe(self, transaction: Transaction) -> Probe:
        """What is known of *transaction* at this moment."""
        ...


class Outcome(enum.Enum):
    """How a transaction ended."""

    COMMITTED = "committed"
    ROLLED_BACK = "rolled back"
    #: The connection was lost, perhaps during COMMIT, or the transaction was ended by a way
    #: that nothing announces.
    UNKNOWN = "unknown"
    #: What was read in it is of no use to anybody: the retriever, or another thread, has undone it
    #: or gone on with another one meanwhile.
    LOST = "lost"


class _Level:
    """The state of the transaction or of one of its savepoints."""

    __slots__ = ("commits", "missed", "name", "pending", "unsent", "values")

    def __init__(self, name: object, *, commits: bool = False, unsent: bool = False) -> None:
        self.name = name
        #: A savepoint of an ORM session, which sends it with its next statement.
        self.unsent = unsent
        #: Something was executed before that.
        self.missed = False
        #: SQLite with AUTOCOMMIT: the outermost savepoint is the transaction.
        self.commits = commits
        self.pending: set[str] = set()
        # Private values by who computed them (None: in the transaction itself), and the count of
        # writes at that time.
        self.values: dict[tuple[object, Slot], tuple[Entry, int]] = {}

    def forget(self, keys: frozenset[str]) -> None:
        for place, (entry, _) in list(self.values.items()):
            if entry.depends_on(keys):
                self.values.pop(place, None)


class Transaction(Work):
    """One open transaction."""

    # As most transactions begin, and most end: set on the class, since each has one.

    #: The thread or task that began it.
    owner: object = None
    #: Others that have worked in it.
    users: frozenset[object] = frozenset()
    #: Who has executed something in it last.
    last_user: object = None
    #: `Store.label` before the first statement, which may have opened the snapshot.
    label: int | None = None
    #: The driver has said that it is open.
    seen_open = False
    #: What the driver had executed last when it began.
    last_result: Any = None
    #: `Store.label` before it began.
    born = -1
    #: It is an ORM session's, whose objects are as old as their first reading.
    keeps_objects = False
    #: Something that is not plainly a SELECT was executed: it may have written, or taken
    #: locks, or read rows that are newer than the rest of its snapshot.
    dirty = False
    #: SQLite: begun by BEGIN IMMEDIATE or EXCLUSIVE.
    locked = False
    #: SQLite: `total_changes` of the connection when the transaction began.
    changes_before = 0
    #: A statement was executed in it.
    executed = False
    #: Begun by `CacheManager.begin`, so that nested blocks join it.
    joinable = False
    #: Its keys are in the ledger: nothing is written twice.
    written = False
    #: It takes no more keys: those that it has were taken to be written, or it ends.
    closed = False
    #: The keys that were taken to be written.
    taken: Sequence[str] | None = None
    #: Nothing can be written in it: its keys are invalidated by themselves after its end.
    only_reads = False
    #: PostgreSQL: a statement has failed in it, and its COMMIT is a ROLLBACK.
    has_failed = False
    #: What is to be done when the statement has run that may end it.
    ending: Callable[[], None] | None = None
    #: Its COMMIT, if others on this host were told of it.
    announcement: Announcement | None = None
    #: SQLite: on a connection to a file that was replaced.
    is_of_the_past = False
    #: It was ended by a statement, and nothing was executed since: SQLAlchemy has one open, and the
    #: database has none.
    is_resting = False
    #: A savepoint of an ORM session was begun in it that may not be sent yet.
    unsent = False
    #: More than one session works in it, or one has begun in it again.
    has_sessions = False
    #: SQLAlchemy is in the middle of beginning it.
    beginning = False
    #: How it ended; None while it is open.
    outcome: Outcome | None = None
    #: Two-phase: prepared, and so beyond our reach.
    prepared = False
    #: COMMIT or ROLLBACK comes next: its connection is not lent any more.
    is_ending = False
    #: Those tasks that its connection is lent to, if there was any.
    loans: Loans | None = None

    def __init__(self, manager: Any, scope: Scope, watch: Watch, handle: Any) -> None:
        #: The manager whose keys it carries; compared by identity only.
        self.manager = manager
        #: Greater than that of every transaction and load that began before.
        self.number = next(numbers)
        self.scope: Scope | None = scope
        #: What the one who watches needs to find the connection again.
        self.handle = handle
        self.watch = watch
        #: The views of the requests that work in it, and of those that have only let keys be
        #: invalidated with it: which.  Replaced, not changed.
        self._views: dict[View, frozenset[str] | None] = {}
        self._levels = [_Level(None)]

    def is_used_by(self, who: object) -> bool:
        """Whether *who*, a thread or task, began it or has worked in it."""
        return who == self.owner or who in self.users

    def note_user(self, who: object) -> None:
        """*who* executes something in it, to whom it may have been handed (`asyncio.wait_for` makes
        a task of what it waits for).

        (Tests: test_a_del_of_one_who_was_handed_the_transaction, test_async_*_handed_*.)"""
        self.last_user = who
        if not self.is_used_by(who):
            self.users |= {who}

    def note_begun(self) -> None:
        """The task that begins it, and those that it begins meanwhile, have it at hand.

        Nothing for a thread: one that is started in a copy of its context may work beside it, and
        no driver keeps two threads on one connection apart.
        """
        if not isinstance(self.owner, int):
            before = [each for each in _begun_before.get() if _is_open(each())]
            _begun_before.set((*before, weakref.ref(self)))

    def is_at_hand(self) -> bool:
        """Whether the caller works on its connection when he asks the manager for one.

        He began it, or has executed something in it last.  Or he is a task that was begun inside of
        it: `asyncio.gather` makes a task of what it is given, before Python 3.12
        `asyncio.wait_for` too, and what is read there is to be what the caller of those would read.
        (SQLAlchemy has a lock for the statements of an asynchronous connection.)

        Or it is where the request's own data are although another thread began it: a framework may
        begin a session in one thread of its pool and go on with it in another.  A clean transaction
        is left to those who work with it, since a connection is not for two threads at a time.
        """
        user = current_owner()
        if user in (self.owner, self.last_user):
            return True
        if isinstance(self.owner, int):
            return self.dirty or bool(self.pending())
        return not isinstance(user, int) and any(each() is self for each in _begun_before.get())

    @property
    def is_open(self) -> bool:
        """Whether its end is still to come."""
        return self.scope is not None

    @property
    def committed(self) -> bool:
        """See `Work.committed`."""
        return self.outcome is Outcome.COMMITTED

    def stands(self, undone: int) -> bool:
        """See `Work.stands`; the end counts as one, see `_begin_anew`."""
        return self.undone == (undone + 1 if self.outcome is Outcome.COMMITTED else undone)

    @property
    def is_calm(self) -> bool:
        """Whether it neither hides a value nor holds a private one."""
        return not any(level.pending or level.values for level in self._levels)

    # Invalidations

    @point(after="del: pending, view not told")
    def invalidate(self, keys: Iterable[str]) -> bool:
        """Let *keys* be invalidated with this transaction's commit; return whether they will be.

        The interleaving it guards against: one thread of a request finds the transaction, another
        one commits it, and the keys come when those to be written were taken already.  So they are
        put there first and then it is asked, while `close` does it the other way round.
        (Tests: test_case_14_a_del_while_another_threads_transaction_ends, and after it.)
        """
        keys = frozenset(keys)
        levels = self._levels
        while True:
            level = levels[-1]
            level.pending |= keys
            if level.values:
                level.forget(keys)
            # Unless a savepoint began or ended meanwhile, and what was pending was taken along.
            # (Test: test_release_while_another_thread_dels.)
            if level is levels[-1]:
                break
        if keys:
            self.manager.stir()
        # In this order, see `restart`.
        return not self.closed and levels is self._levels

    def invalidate_early(self, keys: Iterable[str], views: Iterable[View]) -> None:
        """`invalidate`, of *keys* that were to be invalidated before it began.

        What *views* have read of them since then they saw as they would in the transaction: until
        it writes.  (Test: test_read_between_del_and_the_first_statement.)
        """
        keys = frozenset(keys)
        self.invalidate(keys)
        for view in views:
            for slot, entry in view.forget(keys).items():
                self.remember(slot, self.owner, entry)

    def pending(self) -> list[str]:
        """The keys to write into the ledger, in one order for all transactions."""
        if len(self._levels) == 1:
            return sorted(self._levels[0].pending)
        return sorted(set().union(*(level.pending for level in self._levels)))

    def close(self) -> Sequence[str]:
        """The end comes next: return the keys to write.  Those that come later are too late, as
        `invalidate` will say."""
        self.closed = True
        self.taken = self.pending()
        return self.taken

    def hides(self, keys: frozenset[str]) -> bool:
        """Whether values computed from *keys* may not be taken from outside any more."""
        return any(not keys.isdisjoint(level.pending) for level in self._levels)

    # Private values

    def find(self, slot: Slot, owner: object) -> Entry | None:
        """Return the private value of *slot* that is still valid at the innermost savepoint.

        *owner* is the thread or task that asks: it finds what it computed itself, and what was
        computed in the transaction if that is at hand.  Another one of the same request may read on
        another connection, and see less.
        (Tests: test_own_writes_in_a_task_of_the_request,
        test_a_private_value_and_the_next_thread_of_the_request.)
        """
        hidden: set[str] = set()  # invalidated at a level further in
        for level in reversed(self._levels):
            found = level.values.get((owner, slot))
            if found is None:
                found = level.values.get((None, slot))
                if found is not None and not self.is_at_hand():
                    found = None
            if found is not None and hidden.isdisjoint(found[0].keys):
                entry, writes = found
                # After `del` a request sees its own data: what it writes after the value was
                # computed is part of that.  Without a `del` it has one value.
                if writes != self.writes and self.hides(entry.keys):
                    return None
                return None if type(entry) is Joint and not entry.stands(self) else entry
            hidden |= level.pending
            if slot.key in hidden:
                return None
        return None

    def drop(self, keys: frozenset[str]) -> None:
        """*keys* were invalidated with another transaction: what it has of them is not what the
        request wants to see.  (Test: test_own_write_in_one_of_two_transactions.)"""
        for level in self._levels:
            if level.values:
                level.forget(keys)

    def remember(self, slot: Slot, owner: object, entry: Entry) -> Entry:
        """Keep a value for *owner*, or for all who have the transaction at hand if it was computed
        there, for the rest of the innermost savepoint or transaction; return the one that counts:
        another task may have computed it meanwhile.
        (Test: test_two_tasks_that_read_one_value_in_the_transaction.)"""
        kept = self.find(slot, owner)
        if kept is not None:
            return kept
        place = (None if entry.owners == {self} else owner, slot)
        self._levels[-1].values[place] = (entry, self.writes)
        self.manager.stir()
        return entry

    def concerns(self, view: View, keys: frozenset[str] | None = None) -> None:
        """The request of *view* works in this transaction; or, with *keys*, it has no more to do
        with it than that these are to be invalidated.

        (Test: test_a_del_that_reached_anothers_transaction.)
        """
        known = self._views.get(view, frozenset())
        if known is not None:
            self._views = {**self._views, view: None if keys is None else known | keys}

    # Savepoints

    def savepoint(self, name: str | None, *, commits: bool = False) -> None:
        """A savepoint begins; *commits* if its release will commit."""
        self._levels.append(_Level(name, commits=commits))

    def commits(self, name: str) -> bool:
        """Whether the release of the savepoint commits."""
        index = self._index(name)
        return index is not None and self._levels[index].commits

    def release(self, name: str) -> None:
        """A savepoint ends well: what happened in it counts with the one around it.

        A savepoint that is released takes all further in with it.
        """
        index = self._index(name)
        if index is None:
            return
        outer, ended = self._levels[index - 1], self._levels[index:]
        # Taken out first: who puts a key there meanwhile sees that, and puts it down again.
        del self._levels[index:]
        for level in ended:
            outer.pending |= level.pending
            outer.forget(frozenset(level.pending))
            outer.values.update(level.values)

    def forget_savepoint(self, name: object) -> None:
        """The savepoint is not to be gone back to any more; what happened in it, and further in,
        counts with the one around it, or with the next one further in."""
        index = self._index(name)
        if index is None:
            return
        outer, level = self._levels[index - 1], self._levels.pop(index)  # first, see `release`
        outer.pending |= level.pending
        outer.forget(frozenset(level.pending))
        outer.values.update(level.values)

    def rollback_to(self, name: str) -> None:
        """What happened since the savepoint did not happen; the savepoint itself stays."""
        index = self._index(name)
        self.undone += 1
        self.let_go(undone=True)
        if index is None:
            # Not one that we saw begin: anything may have been undone.
            for level in self._levels:
                level.values.clear()
            return
        commits = self._levels[index].commits
        del self._levels[index:]
        self._levels.append(_Level(name, commits=commits))
        # Values of further out, computed from data that is still there, stay valid; a write
        # that was undone must not make them look newer than they are.
        self.writes += 1

    def unsent_savepoint(self, marker: object) -> None:
        """An ORM session begins a savepoint, and will send it before its next statement: until then
        the database knows nothing of it.  What belongs to it is found by *marker*.

        (Tests: test_a_savepoint_of_a_session_that_is_not_sent_yet, and after it.)
        """
        self.unsent = True
        self._levels.append(_Level(marker, unsent=True))

    def note_missed(self) -> None:
        """Something is executed that is no part of the savepoints that are not sent yet."""
        for level in reversed(self._levels):
            if not level.unsent:
                break
            level.missed = True

    def undo_unsent(self, marker: object) -> None:
        """The session has rolled that savepoint back.  If the database knew of it, its own level
        was told.

        What else was executed here meanwhile was not undone, and a key may have been meant for it.
        (Tests: test_a_write_beside_a_savepoint_that_is_not_sent_yet, and after it.)
        """
        index = self._index(marker)
        if index is None:
            return
        outer, level = self._levels[index - 1], self._levels.pop(index)  # first, see `release`
        if level.missed or self.has_sessions:
            outer.pending.update(level.pending)
            outer.forget(frozenset(level.pending))

    def _index(self, name: object) -> int | None:
        for index in range(len(self._levels) - 1, 0, -1):
            if self._levels[index].name == name:
                return index
        return None

    # The end

    def end(self, outcome: Outcome) -> list[str]:
        """The transaction ended: it leaves its scope, and its requests' views are told.

        Return the keys that have to be invalidated after it: those that came too late to go with
        its COMMIT, since who let them come may have done so at once, which is before it; and those
        of one that was rolled back and had written nothing.
        """
        self.closed = True  # first, see `invalidate`
        late = self._settle(outcome)
        self.outcome = outcome
        self._views = {}
        scope, self.scope = self.scope, None
        if scope is not None:
            scope.remove(self)
        return late

    def restart(self, outcome: Outcome) -> list[str]:
        """The database's transaction ended and the connection goes on with another; return what
        `end` does."""
        self.closed = True
        late = self._settle(outcome)
        self.is_resting = True
        # After the levels were replaced: who saw it closed no more sees that.
        self.closed = False
        return late

    def has_run(self) -> None:
        """A statement has run, or has failed: if it may have ended the transaction, that is now."""
        ending = self.ending
        if ending is not None:
            self.ending = None
            ending()

    def _settle(self, outcome: Outcome) -> list[str]:
        """The database's transaction ended; return what was to be invalidated with it, and came
        too late for that."""
        announcement = self.announcement
        if announcement is not None:
            self.announcement = None
            announcement.end(known=outcome is not Outcome.UNKNOWN)
        if len(self._levels) == 1 and self.is_calm:
            self._begin_anew()  # what is below would find nothing to do
            self.let_go(undone=outcome is not Outcome.COMMITTED)
            return []
        levels = self._levels
        pending = frozenset().union(*[level.pending for level in levels])
        late = self._left_over(pending, outcome)
        # Not one that has only read: the write is in another, which may come.
        # (Test: test_session_that_was_never_used_after_one_that_has_read.)
        claims = outcome is Outcome.COMMITTED and self.dirty
        if pending:
            self.invalidated |= pending
        values: Entries = {}
        if outcome is Outcome.COMMITTED:
            for level in levels:
                if level.values:
                    values.update({slot: entry for (_, slot), (entry, _) in level.values.items()})
            if values:
                forget(values, pending)
        self._levels = [_Level(None)]
        self._begin_anew()
        self.let_go(undone=outcome is not Outcome.COMMITTED)
        if pending and outcome is not Outcome.ROLLED_BACK:
            self.manager.access.committed(len(pending))
        if pending and claims and self.scope is not None:
            self.scope.claim(self.manager, pending - late)
        for view, keys in self._views.items():
            concerned = pending if keys is None else pending & keys
            # What it did not invalidate keeps its one value.  Those were computed from work that
            # is committed now, so they are for this request only but no longer private to the
            # transaction.
            for slot, entry in values.items() if keys is None else ():
                if type(entry) is Joint:
                    entry.keep_after(self, view, slot, outcome)
                else:
                    view.keep(slot, entry.owned_by(outcome), view.changes)
            if concerned and outcome is not Outcome.ROLLED_BACK:
                # Its own commit is news, and another thread may have loaded the old value after
                # the `del`; what others committed meanwhile is news too.
                # (Tests: test_case_03_*, test_case_20_*.)
                # Before the view forgets: a thread of the request that reads in between would take
                # the old value for checked, and keep it.  (Test: test_g03_read_while_the_view_*.)
                view.uncheck()
            if concerned:
                view.forget(concerned)
        return sorted(late)

    def _left_over(self, pending: frozenset[str], outcome: Outcome) -> frozenset[str]:
        """Those of *pending* that the end does not invalidate, and that have to be all the same."""
        if outcome is not Outcome.ROLLED_BACK:
            return frozenset() if self.taken is None else pending.difference(self.taken)
        # A `del` goes to what is open.  If that has written nothing, nothing was undone with it:
        # the write may have been committed before, on another connection.
        # (Test: test_del_after_the_commit_beside_a_reader.)
        if self.dirty or self.prepared or self.scope is None:
            return frozenset()
        return self.scope.nobody_has_claimed(self.manager, pending)

    def _begin_anew(self) -> None:
        if not self.keeps_objects:
            self.label = None
        if self.taken is not None:  # else none of these is what it was at the beginning
            self.taken = None
            self.only_reads = False
        self.undone += 1
        self.dirty = self.written = self.locked = self.executed = False


def _is_open(transaction: Transaction | None) -> bool:
    return transaction is not None and transaction.is_open
