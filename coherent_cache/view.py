"""The view: what one request sees."""

from __future__ import annotations

from .entry import Entries, Entry, Slot, forget
from .points import point


class View:
    """What one request sees: a position in the ledger, and the values it has read.

    The figures are for showing: how many values came from memory (*hits*) or had to be computed
    (*misses*), how many checks of the ledger were made and how long they took together.
    """

    __slots__ = (
        "changes",
        "check_seconds",
        "checked_at",
        "checks",
        "commits",
        "hits",
        "label",
        "misses",
        "values",
    )

    def __init__(self) -> None:
        self.values: Entries = {}
        #: How often something was invalidated in it.
        self.changes = 0
        #: How many invalidations this request has committed, and how many it had when it looked
        #: at the ledger.  Counted, not marked: a look that another thread of the request began
        #: before the commit may end after it.
        #: (Test: test_g03_a_look_of_another_thread_of_the_request.)
        self.commits = 0
        self.checked_at = -1
        #: `Store.label` at that look: nothing older may be handed to this request.
        self.label = 0
        self.hits = 0
        self.misses = 0
        self.checks = 0
        self.check_seconds = 0.0

    @property
    def checked(self) -> bool:
        """Whether the ledger was looked at, and this request committed nothing since."""
        return self.checked_at == self.commits

    def uncheck(self) -> None:
        """The next read has to look at the ledger."""
        self.commits += 1

    @point(before="view: value found, not kept")
    def keep(self, slot: Slot, entry: Entry, changes: int) -> Entry:
        """Keep *entry*, unless the slot has one or something was invalidated since *changes* was
        read; return the entry that counts.

        The interleaving it guards against: a thread of the request loads a value, another one
        invalidates it, and only then the first keeps what it loaded.
        """
        kept = self.values.setdefault(slot, entry)
        if self.changes != changes and kept is entry:
            self.values.pop(slot, None)
        return kept

    def forget(self, keys: frozenset[str]) -> None:
        """*keys* were invalidated: they have to be read anew."""
        self.changes += 1
        forget(self.values, keys)
