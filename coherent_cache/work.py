"""Work that may still be undone, and the values that were computed from it.

A value that was computed in a transaction vanishes with it, since the transaction holds it.  One
that was computed from the work of several is held by one of them, and stands as long as none of the
others is undone (`Joint`); one that no transaction holds stays in the request's view, which is told
when the work is undone (`keep_while`).
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import Any

from .entry import Entry, Slot
from .view import View


class Work:
    """What may still be undone: a transaction, or what an ORM session has not flushed."""

    #: How often what had been read in it may have been undone.
    undone = 0
    #: How many statements that may have written were executed.
    writes = 0
    #: What was invalidated when it was committed.
    invalidated: frozenset[str] = frozenset()
    # The views that keep a value of it, and other work that is undone with it.
    _keepers: weakref.WeakKeyDictionary[View, None] | None = None
    _parts: Sequence[Draft] = ()

    @property
    def committed(self) -> bool:
        """It ended well."""
        raise NotImplementedError

    def stands(self, undone: int) -> bool:
        """Whether nothing was undone since `undone` was that."""
        raise NotImplementedError

    def hides(self, keys: frozenset[str]) -> bool:
        """Whether one of *keys* is to be invalidated with it."""
        return False

    def add_view(self, view: View) -> None:
        """*view* is about to keep a value of it."""
        # One operation: of two threads that find none, both get the same.
        views: Any = self.__dict__.setdefault("_keepers", weakref.WeakKeyDictionary())
        views[view] = None

    def add_part(self, part: Draft) -> None:
        """*part* counts with it from now on."""
        self.__dict__.setdefault("_parts", []).append(part)

    def let_go(self, *, undone: bool) -> None:
        """It has ended, or something of it was undone: nobody need be told any more."""
        if self._keepers is None and not self._parts:
            return  # mostly
        # Taken out, see `add_view`.
        views = self.__dict__.pop("_keepers", None)
        for part in self.__dict__.pop("_parts", ()):
            if undone:
                part.undo()
            else:
                part.commit()
        if views is not None and undone:
            for each in views.keyrefs():  # copied at once: a thread may be adding to them
                view = each()
                if view is not None:
                    view.drop(self)


class Draft(Work):
    """What is done to the objects of an ORM session in one of its transactions, or in a savepoint.

    As long as it is not flushed, no transaction of the database has it.
    """

    #: Something was computed from it.
    used = False
    _committed = False

    @property
    def committed(self) -> bool:
        """See `Work.committed`."""
        return self._committed

    def stands(self, undone: int) -> bool:
        """See `Work.stands`; it is undone as a whole."""
        return not self.undone

    def undo(self) -> None:
        """The session was rolled back, or closed."""
        self.undone = 1  # first, see `keep_while`
        self.let_go(undone=True)

    def commit(self) -> None:
        """The session's transaction was committed."""
        self._committed = True
        self.let_go(undone=False)


class Joint(Entry):
    """A private value that was computed from the work of *others* besides its holder's."""

    __slots__ = ("_others",)

    def __init__(self, entry: Entry, others: Iterable[Work]) -> None:
        super().__init__(
            entry.slot, entry.value, entry.label, others=entry.others, owners=entry.owners
        )
        self._others = [(work, work.undone, work.writes) for work in others]

    def stands(self, holder: Work) -> bool:
        """Whether it may be shown still: nothing was undone; and if the request has invalidated it,
        nothing was written since (see `Transaction.find`), and that is not committed.

        (Tests: test_a_value_of_two_open_transactions, test_own_writes_in_two_open_transactions.)
        """
        if not all(work.stands(undone) for work, undone, _ in self._others):
            return False
        if any(self.depends_on(work.invalidated) for work, _, _ in self._others):
            return False
        if all(work.writes == writes for work, _, writes in self._others):
            return True
        keys = self.keys
        return not holder.hides(keys) and not any(work.hides(keys) for work, _, _ in self._others)

    def keep_after(self, holder: Work, view: View, slot: Slot, outcome: object) -> None:
        """Its holder was committed: *view* keeps it as long as the others stand."""
        rest = [work for work, _, _ in self._others if not work.committed]
        if self.stands(holder) and not any(work.hides(self.keys) for work in rest):
            keep_while(rest, view, slot, self.owned_by(*(rest or (outcome,))), view.changes)


def keep_while(works: Sequence[Work], view: View, slot: Slot, entry: Entry, changes: int) -> Entry:
    """Let *view* keep *entry* (see `View.keep`) until one of *works* is undone.

    The interleaving this guards against: a thread of the request computes a value from objects that
    are not flushed, another one rolls the session back, and only then the first keeps it.  So the
    work knows the view before it has the value, and is asked after it.
    (Test: test_rolled_back_before_the_value_is_kept.)
    """
    for work in works:
        work.add_view(view)
    before = [work.undone for work in works]
    kept = view.keep(slot, entry, changes)
    for work, undone in zip(works, before, strict=True):
        if not work.stands(undone) and not work.committed:
            view.drop(work)
    return kept
