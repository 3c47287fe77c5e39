"""Caches without a protection that matters when something goes wrong, for the faults to convict.

Most of them are right as long as nothing goes wrong.  Each entry of `CACHES` breaks the library in
the process that calls it, before anything of it is made.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from coherent_cache import scope
from coherent_cache.access import LedgerAccess
from coherent_cache.entry import Entry, Slot
from coherent_cache.ledger import News
from coherent_cache.ledger.mariadb import MariaDBLedger
from coherent_cache.ledger.postgresql import PostgreSQLLedger
from coherent_cache.ledger.sqlite import SQLiteLedger
from coherent_cache.loading import Loader
from coherent_cache.reader import Reader
from coherent_cache.transaction import Outcome, Transaction
from coherent_cache.watch import EngineWatch
from coherent_cache.writing import LedgerWriter

from ..broken_tiers import open_whatever_is_there

#: For how long a database that did not answer is not asked, in seconds.
_A_WHILE = 0.1

#: How long after its COMMIT an invalidation that comes late is written, in seconds.
_LATE = 0.03


def _invalidate_after_commit() -> None:
    """The rows are not written in the transaction, but right after its COMMIT, before the
    application learns of that: nobody is late, unless somebody dies in between."""
    late: weakref.WeakKeyDictionary[Transaction, list[str]] = weakref.WeakKeyDictionary()
    after_end = EngineWatch.after_end

    def write(self: Any, transaction: Transaction, *_: Any, **__: Any) -> None:
        late[transaction] = transaction.pending()

    def then(self: EngineWatch, transaction: Transaction, driver: Any, outcome: Outcome) -> None:
        keys = late.pop(transaction, [])
        if keys and outcome is Outcome.COMMITTED:
            time.sleep(_LATE)
            self._core.access.write(keys)
        after_end(self, transaction, driver, outcome)

    LedgerWriter.write = write  # type: ignore[method-assign]
    LedgerWriter.commit_with = lambda *_: False  # type: ignore[method-assign]
    EngineWatch.after_end = then  # type: ignore[method-assign]


def _old_values_while_the_database_is_away() -> None:
    """A check that fails is taken for one that brought nothing, and for a while nobody asks
    again."""
    check = LedgerAccess.check
    asks_again_at = 0.0

    def lenient(self: LedgerAccess, transactions: Any) -> None:
        nonlocal asks_again_at
        if time.monotonic() < asks_again_at:
            return
        try:
            check(self, transactions)
        except SQLAlchemyError:
            asks_again_at = time.monotonic() + _A_WHILE

    def once(self: Reader) -> None:
        with self._mutex.held():
            self._read()

    LedgerAccess.check = lenient  # type: ignore[method-assign]
    Reader.check = once  # type: ignore[method-assign]


def _old_value_for_an_error() -> None:
    """If a retriever fails, the value from before its invalidation has to do."""
    compute = Loader._compute
    before: dict[Slot, Entry] = {}

    def forgiving(self: Loader, read: Any, retriever: Callable[[], Any]) -> Entry:
        try:
            entry = compute(self, read, retriever)
        except SQLAlchemyError:
            if read.slot not in before:
                raise
            return read.keep(before[read.slot])  # type: ignore[no-any-return]
        if not entry.owners:
            before[read.slot] = entry
        return entry

    Loader._compute = forgiving  # type: ignore[method-assign]


def _commit_without_the_ledger() -> None:
    """If the ledger cannot be written, the data are committed all the same."""

    def lenient(original: Callable[..., None]) -> Callable[..., None]:
        def write(self: LedgerWriter, *args: Any, **kwargs: Any) -> None:
            try:
                original(self, *args, **kwargs)
            except SQLAlchemyError:
                pass

        return write

    LedgerWriter.write = lenient(LedgerWriter.write)  # type: ignore[method-assign]
    LedgerWriter.commit_with = lambda *_: False  # type: ignore[method-assign]


def _trust_the_old_session() -> None:
    """What was read in one session of the server is joined to what is read in the next."""

    def read(self: Reader) -> None:
        self._side.open()
        self._apply(self._ledger.read(self._side.run, self._position), None)

    read_news = PostgreSQLLedger.read

    def with_any_mark(self: PostgreSQLLedger, execute: Any, position: Any) -> News:
        if position is not None:
            ((mark,),) = execute("SELECT current_setting('coherent_cache.session', true)", ()).rows
            position = position._replace(session=mark)
        return read_news(self, execute, position)

    Reader._read = read  # type: ignore[method-assign]
    PostgreSQLLedger.read = with_any_mark  # type: ignore[method-assign]


def _join_whatever_is_there() -> None:
    """Rows that are no longer where they were are no reason to drop anything."""
    for ledger in (SQLiteLedger, PostgreSQLLedger, MariaDBLedger):

        def read(self: Any, execute: Any, position: Any, original: Any = ledger.read) -> News:
            news: News = original(self, execute, position)
            return news if position is None else news._replace(complete=True)

        ledger.read = read  # type: ignore[method-assign]


def _take_a_lost_answer_for_a_commit() -> None:
    """After a COMMIT that was not answered the request goes on with what it had computed."""
    end = Transaction.end

    def optimistic(self: Transaction, outcome: Outcome) -> None:
        private = {
            slot: Entry(slot, entry.value, entry.label, others=entry.others)
            for level in self._levels
            for (_, slot), (entry, _) in level.values.items()
        }
        views = self._views
        end(self, outcome)
        if outcome is Outcome.UNKNOWN:
            for view in views:
                view.values.update(private)

    Transaction.end = optimistic  # type: ignore[method-assign]


def _write_nothing_before_a_prepare() -> None:
    """The second phase will write the rows, as a COMMIT does."""
    write = LedgerWriter.write

    def not_yet(self: LedgerWriter, *args: Any, two_phase: bool = False) -> None:
        if not two_phase:
            write(self, *args)

    LedgerWriter.write = not_yet  # type: ignore[method-assign]


def _stay_in_the_parents_view() -> None:
    """A forked child goes on in the request of its parent."""
    views = threading.local()

    def keep() -> None:
        views.frame = scope._frame.get()

    # Hooks run after a fork in the order in which they were registered.
    os.register_at_fork(before=keep, after_in_child=lambda: scope._frame.set(views.frame))


CACHES = {
    "invalidate-after-commit": _invalidate_after_commit,
    "old-values-while-the-database-is-away": _old_values_while_the_database_is_away,
    "old-value-for-an-error": _old_value_for_an_error,
    "commit-without-the-ledger": _commit_without_the_ledger,
    "trust-the-old-session": _trust_the_old_session,
    "join-whatever-is-there": _join_whatever_is_there,
    "take-a-lost-answer-for-a-commit": _take_a_lost_answer_for_a_commit,
    "write-nothing-before-a-prepare": _write_nothing_before_a_prepare,
    "stay-in-the-parents-view": _stay_in_the_parents_view,
    "open-whatever-is-there": open_whatever_is_there,
}
