"""The view: what one request sees."""

from __future__ import annotations

import threading
from typing import Any

from .entry import Entries, Entry, Slot, forget
from .memo import NO_MEMO, Memo, empty, new_memo
from .points import point

#: How many invalidations of a request are told apart, for values that are being computed meanwhile.
_REMEMBERED = 64


class View:
    """What one request sees: a position in the ledger, and the values it has read.

    The figures are for showing: how many values were there (*hits*; *tier_hits* of them in the
    tier, the others in this process) or had to be computed (*misses*), how many checks of the
    ledger were made and how long they took together.  What the same object reads again is not
    counted again.
    """

    __slots__ = (
        "__weakref__",
        "_forgotten",
        "_lock",
        "_not_hits",
        "calm",
        "changes",
        "check_seconds",
        "checked_at",
        "checks",
        "commits",
        "core",
        "counted",
        "label",
        "memo",
        "misses",
        "scope",
        "tier_hits",
        "values",
    )

    def __init__(self) -> None:
        self.values: Entries = {}
        #: The same by attribute and instance, in a request's view.
        self.memo: Memo = NO_MEMO
        #: Whose view it is, and the scope of its request; None outside one.
        self.core: Any = None
        self.scope: Any = None
        #: How often something was invalidated in it.
        self.changes = 0
        # What that was the last times (None: everything), and at which count.
        self._forgotten: list[tuple[int, frozenset[str] | None]] = []
        # Guards these two, and what is put into the values.  Innermost, held for a few
        # instructions; but somebody's connection may be collected meanwhile in this thread, whose
        # transaction then ends, and invalidates something here.
        self._lock = threading.RLock()
        #: How many invalidations this request has committed, and how many it had when it looked
        #: at the ledger.  Counted, not marked: a look that another thread of the request began
        #: before the commit may end after it.
        #: (Test: test_g03_a_look_of_another_thread_of_the_request.)
        self.commits = 0
        self.checked_at = -1
        #: `Store.label` at that look: nothing older may be handed to this request.
        self.label = 0
        #: `Core.unrest` when the view had looked at the ledger and no transaction or session
        #: around the request hid a value or held a private one: as long as it is the same, the
        #: view is checked and nothing stands between it and the store.
        self.calm: object = None
        #: The hits that were counted one by one, and how many of `values` are no others: those
        #: that the short way of a first read takes over are not counted there.
        self.counted = 0
        self._not_hits = 0
        self.misses = 0
        self.tier_hits = 0
        self.checks = 0
        self.check_seconds = 0.0

    def begin(self, core: Any, scope: Any) -> None:
        """A request of *core*'s begins, with *scope* for its own."""
        self.core = core
        self.scope = scope
        self.memo = new_memo(self)

    @property
    def checked(self) -> bool:
        """Whether the ledger was looked at, and this request committed nothing since."""
        return self.checked_at == self.commits

    def looked(self, label: int, commits: int) -> None:
        """A look at the ledger that began after *commits* invalidations of this request has ended,
        and the store has the news up to *label*.

        The interleaving this guards against: two threads look, and the one that began first says so
        last.  (Test: test_a_look_from_before_the_commit_lowers_the_label.)
        """
        with self._lock:
            self.label = max(self.label, label)
            self.checked_at = max(self.checked_at, commits)

    def uncheck(self) -> None:
        """The next read has to look at the ledger."""
        # First this, see `Loader._note_calm`.
        self.commits += 1
        if self.core is not None:
            self.core.stir()

    @property
    def hits(self) -> int:
        """How many values were there."""
        return self.counted + len(self.values) - self._not_hits

    @point(before="view: value found, not kept")
    def keep(self, slot: Slot, entry: Entry, changes: int) -> Entry:
        """Keep *entry*, unless the slot has one or something that it was computed from was
        invalidated since *changes* was read; return the entry that counts.

        The interleaving it guards against: a thread of the request loads a value, another one
        invalidates it, and only then the first keeps what it loaded.  What was invalidated besides
        is no reason not to keep it: read again, it could be another one.
        (Test: test_a_value_that_is_read_while_another_key_is_invalidated_stays.)

        Under the lock, and put there only then: to put it there and take it away again would take
        away what another thread has read since, and keeps.
        (Test: test_a_slow_thread_takes_away_what_another_has_read.)
        """
        with self._lock:
            if self.changes != changes and self._was_forgotten(changes, entry):
                return self.values.get(slot, entry)
            before, changes = len(self.values), self.changes
            kept = self.values.setdefault(slot, entry)
            self._not_hits += len(self.values) - before
            if self.changes != changes and kept is entry and self._was_forgotten(changes, entry):
                self._not_hits -= self.values.pop(slot, None) is not None
            return kept

    def check_kept(self, slot: Slot, entry: Entry, changes: int) -> Entry:
        """`keep` of an *entry* that was put there without the lock, when something was invalidated
        since *changes* was read."""
        with self._lock:
            if self._was_forgotten(changes, entry):
                if self.values.get(slot) is entry:
                    del self.values[slot]
                return entry
            return self.values.setdefault(slot, entry)

    @point(before="view: value kept, not in the memo")
    def memorise(self, index: int, instance: object, item: object, changes: int) -> None:
        """Let the attribute at *index* find *item* for *instance* without asking, unless something
        was invalidated since *changes* was read.

        The interleaving is that of `keep`; whoever invalidates counts `changes` up before he
        empties the memo, so either he removes the item or it is removed here.  Nor where the view
        has ended, even before *changes* was read: a thread that goes on would find it for ever.
        (Tests: test_case_03_memorised_after_the_del, test_a_thread_that_outlives_the_request.)
        """
        memo = self.memo
        if memo is NO_MEMO or index >= len(memo):  # the attribute is younger than the view
            return
        known = memo[index]
        if type(known) is dict and known:
            known[instance] = item
        else:
            memo[index] = {instance: item}
        if self.changes != changes or memo[0] is not self:
            empty(memo)

    def forget(self, keys: frozenset[str]) -> Entries:
        """*keys* were invalidated: they have to be read anew.  Return what it had of them."""
        self._count(keys)
        found = forget(self.values, keys)
        self._not_hits -= len(found)
        if found:
            # Who has found one between the two lines above memorises it when the memo is empty
            # already.  (Test: test_found_while_it_is_forgotten.)
            self._count(frozenset())
        self._empty_memo()
        return found

    def drop(self, owner: object) -> None:
        """What *owner* stands for was undone: what was computed from it has to be computed anew."""
        found = [slot for slot, entry in list(self.values.items()) if owner in entry.owners]
        if not found:
            return
        for slot in found:
            self._not_hits -= self.values.pop(slot, None) is not None
        # After they were taken out: who found one before counts as one who reads before this, and
        # takes it out of the memo again.  Nothing was invalidated, so others may keep what they
        # have loaded meanwhile.
        self._count(frozenset())
        self._empty_memo()

    def begin_anew(self) -> None:
        """Nothing was read yet."""
        self.uncheck()  # first, see `Transaction.restart`
        self._count(None)
        self._not_hits -= len(self.values)
        self.values.clear()
        self._empty_memo()

    def end(self) -> None:
        """The request is over.  Threads and tasks that it started and left running have copies of
        its context, and must not see its values for ever.

        One that is about to memorise what it read finds `changes` counted up, and undoes it.
        """
        self._count(None)
        if self.memo is not NO_MEMO:
            self.memo[0] = None
        self._empty_memo()

    def _count(self, keys: frozenset[str] | None) -> None:
        with self._lock:
            self.changes += 1
            self._forgotten.append((self.changes, keys))
            del self._forgotten[:-_REMEMBERED]

    def _was_forgotten(self, changes: int, entry: Entry) -> bool:
        """Whether what *entry* was computed from was invalidated since; under the lock."""
        since = [keys for count, keys in self._forgotten if count > changes]
        forgotten = self.changes - changes > len(since)
        return forgotten or any(keys is None or entry.depends_on(keys) for keys in since)

    def _empty_memo(self) -> None:
        if self.memo is not NO_MEMO:
            empty(self.memo)
