"""Caches with a protection taken out, for the checker to convict.

Each entry of `CACHES` breaks the library in the process that calls it.
"""

from __future__ import annotations

import os
import random
import tempfile
import threading
import time
from collections.abc import Iterable
from typing import Any

from coherent_cache import View
from coherent_cache.access import LedgerAccess
from coherent_cache.announcements import Announcements
from coherent_cache.entry import Entry, Slot
from coherent_cache.freshness import LastLook
from coherent_cache.ledger import News
from coherent_cache.reader import Reader
from coherent_cache.store import Store
from coherent_cache.transaction import Outcome, Transaction
from coherent_cache.watch import EngineWatch

from .broken_tiers import TIERS


def _clean(entry: Entry, label: int) -> Entry:
    """The same value, as if it were anybody's."""
    return Entry(Slot(entry.key, entry.variant), entry.value, label, others=entry.others)


def _publish_dirty() -> None:
    """What was computed in a transaction that has written is given to everybody."""
    publish = Store.publish

    def dirty(self: Store, slot: Slot, entry: Entry) -> bool:
        return publish(self, slot, _clean(entry, entry.label))

    Store.publish = dirty  # type: ignore[method-assign]


def _check_seldom() -> None:
    """Only one request in four looks at the ledger."""
    check = LedgerAccess.check
    calls = 0

    def seldom(self: LedgerAccess, transactions: Iterable[Transaction]) -> None:
        nonlocal calls
        calls += 1
        if calls % 4 == 1:
            check(self, transactions)

    LedgerAccess.check = seldom  # type: ignore[method-assign]


def _publish_old() -> None:
    """A value that was invalidated while it was computed is kept all the same."""
    publish = Store.publish

    def old(self: Store, slot: Slot, entry: Entry) -> bool:
        if entry.owners:
            return False
        return publish(self, slot, _clean(entry, self.label))

    Store.publish = old  # type: ignore[method-assign]


def _invalidate_early() -> None:
    """An invalidation does not wait for its transaction's COMMIT."""
    invalidate = Transaction.invalidate

    def early(self: Transaction, keys: Iterable[str]) -> bool:
        keys = frozenset(keys)
        if self.watch._dialect.name != "sqlite":  # type: ignore[attr-defined]  # there it would wait for itself
            self.manager.access.write(sorted(keys))
        carried = invalidate(self, keys)
        self.written = True
        return carried

    Transaction.invalidate = early  # type: ignore[method-assign]


def _forget_between_reads() -> None:
    """A request keeps nothing of what it has read."""

    class Forgetful(dict[Any, Any]):
        def setdefault(self, key: Any, default: Any = None) -> Any:
            return default

    initialise = View.__init__

    def forgetful(self: View) -> None:
        initialise(self)
        self.values = Forgetful()

    View.__init__ = forgetful  # type: ignore[method-assign]


def _keep_after_rollback() -> None:
    """A request keeps what it has computed in a transaction that rolled back."""
    end = Transaction.end

    def kept(self: Transaction, outcome: Outcome) -> None:
        private = {
            slot: _clean(entry, entry.label)
            for level in self._levels
            for (_, slot), (entry, _) in level.values.items()
        }
        views = self._views
        end(self, outcome)
        if outcome is Outcome.ROLLED_BACK:
            for view in views:
                view.values.update(private)

    Transaction.end = kept  # type: ignore[method-assign]


def _keep_after_undo() -> None:
    """A transaction keeps what was computed in a savepoint that was rolled back."""
    rollback_to = Transaction.rollback_to

    def kept(self: Transaction, name: str) -> None:
        # Only what the savepoint's end has to drop is kept: the values, not the invalidations.
        values = {k: v for level in self._levels[1:] for k, v in level.values.items()}
        rollback_to(self, name)
        for place, (entry, _) in values.items():
            self._levels[-1].values[place] = (entry, self.writes)

    Transaction.rollback_to = kept  # type: ignore[method-assign]


def _invalidate_one() -> None:
    """Of several keys of a transaction only the first is invalidated."""
    invalidate = Transaction.invalidate

    def one(self: Transaction, keys: Iterable[str]) -> bool:
        return bool(self.pending()) or invalidate(self, keys)

    Transaction.invalidate = one  # type: ignore[method-assign]


def _lose_a_commit() -> None:
    """Now and then a COMMIT becomes a ROLLBACK, and nobody is told."""
    before_end = EngineWatch.before_end
    calls = 0

    def lose(
        self: EngineWatch, transaction: Transaction, pooled: Any, outcome: Outcome, *, plain: bool
    ) -> bool:
        nonlocal calls
        before_end(self, transaction, pooled, outcome, plain=False)
        if outcome is Outcome.COMMITTED and transaction.dirty:
            calls += 1
            if calls % 5 == 0:
                pooled.rollback()
        return False

    EngineWatch.before_end = lose  # type: ignore[method-assign]


def _show_the_old_one() -> None:
    """A `del` does not hide the value from the request that asked for it."""
    Transaction.hides = lambda self, keys: False  # type: ignore[method-assign]


def _count_from_the_end() -> None:
    """`Bounded` counts from the end of a look, which is now and then held up after it has read."""
    apply = Reader._apply
    chance = random.Random()

    def held_up(self: Reader, news: News, state: bytes | None) -> None:
        if chance.random() < 0.2:
            time.sleep(0.1)
        apply(self, news, state)

    def end(self: LastLook, begun: tuple[float, int] | None) -> None:
        self._look = self.begin()

    Reader._apply = held_up  # type: ignore[method-assign]
    LastLook.end = end  # type: ignore[method-assign]


def _outdate_nothing() -> None:
    """In `Bounded` a commit of this process is no reason to look."""
    LastLook.outdate = lambda self: None  # type: ignore[method-assign]


def _never_too_old() -> None:
    """In `Bounded` time is no reason to look: only own commits are."""

    def will_do(self: LastLook) -> bool:
        return self._look is not None and self._look[1] == self._commits

    LastLook.will_do = will_do  # type: ignore[method-assign]


def _vouch_without_looking() -> None:
    """In `Push` the heartbeat says that all is well, and does not look."""
    check = LedgerAccess.check

    def vouch(self: LedgerAccess, transactions: Iterable[Transaction]) -> None:
        if threading.current_thread().name == "coherent_cache listening":
            self.last_look.end(self.last_look.begin())
        else:
            check(self, transactions)

    LedgerAccess.check = vouch  # type: ignore[method-assign]


def _announce_nothing() -> None:
    """With `OneHost`, commits are not told to others."""
    announce = Announcements.announce
    elsewhere = Announcements(os.path.join(tempfile.mkdtemp(), "announcements"), "nobody's")
    Announcements.announce = lambda self: announce(elsewhere)  # type: ignore[method-assign]


CACHES = {
    "publish-dirty": _publish_dirty,
    "check-seldom": _check_seldom,
    "publish-old": _publish_old,
    "invalidate-early": _invalidate_early,
    "forget-between-reads": _forget_between_reads,
    "keep-after-rollback": _keep_after_rollback,
    "keep-after-undo": _keep_after_undo,
    "show-the-old-one": _show_the_old_one,
    "invalidate-one": _invalidate_one,
    "lose-a-commit": _lose_a_commit,
    "count-from-the-end": _count_from_the_end,
    "outdate-nothing": _outdate_nothing,
    "never-too-old": _never_too_old,
    **TIERS,
    "vouch-without-looking": _vouch_without_looking,
    "announce-nothing": _announce_nothing,
}
