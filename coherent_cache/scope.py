"""Where code runs: the view of its request, and the transactions open around it.

Both follow the context (`contextvars`): threads, tasks and greenlets that were given a copy of a
request's context share its `View` and its `Scope`; others have their own.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from .entry import Entries, Entry, Slot, forget
from .greenlets import current_owner
from .transaction import Transaction

_T = TypeVar("_T")


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


class Scope:
    """The transactions, connections and sessions that code of one context may be working in.

    A request's scope is one for all its threads and tasks.  Outside a request contexts are also
    inherited by tasks that have nothing to do with each other; there everybody has his own
    transactions only, but an invalidation goes to all of them: one too many costs a reload.
    """

    # No lock, which a fork could catch in another thread's hands: what changes is a single step
    # on a dict, and who walks over one takes a copy first.
    # (Test: test_g04_transactions_of_several_threads_of_a_request.)

    def __init__(self, parent: Scope | None = None, *, request: bool = False) -> None:
        self._parent = parent
        self._request = request
        self._transactions: dict[Transaction, None] = {}
        self._sessions: dict[int, weakref.ref[Session]] = {}
        self._connections: dict[int, weakref.ref[Connection]] = {}

    def add(self, transaction: Transaction) -> None:
        """A transaction began in this context."""
        self._transactions[transaction] = None

    def remove(self, transaction: Transaction) -> None:
        """A transaction ended."""
        self._transactions.pop(transaction, None)

    def add_session(self, session: Session) -> None:
        """An ORM session began a transaction of its own in this context."""
        _add(self._sessions, session)

    def add_connection(self, connection: Connection) -> None:
        """A connection was taken from the pool in this context."""
        _add(self._connections, connection)

    def transactions(self, manager: Any) -> Iterator[Transaction]:
        """The open transactions of *manager* that this code works in: the newest first, inner
        scopes before outer ones."""
        owner = None if self._request else current_owner()
        for transaction in reversed(list(self._transactions)):
            if transaction.manager is manager and (self._request or transaction.owner == owner):
                yield transaction
        if self._parent is not None:
            yield from self._parent.transactions(manager)

    def all_transactions(self, manager: Any) -> Iterator[Transaction]:
        """The open transactions of *manager* that could be meant, whoever began them."""
        for transaction in reversed(list(self._transactions)):
            if transaction.manager is manager:
                yield transaction
        if self._parent is not None:
            yield from self._parent.all_transactions(manager)

    def sessions(self) -> Iterator[Session]:
        """The sessions that have or had a transaction."""
        yield from _living(self._sessions)
        if self._parent is not None:
            yield from self._parent.sessions()

    def connections(self) -> Iterator[Connection]:
        """The connections that may still be open."""
        yield from _living(self._connections)
        if self._parent is not None:
            yield from self._parent.connections()


def _add(references: dict[int, weakref.ref[_T]], item: _T) -> None:
    """Add a reference to *item* that goes when it goes."""
    number = id(item)
    references[number] = weakref.ref(item, lambda _: references.pop(number, None))


def _living(references: dict[int, weakref.ref[_T]]) -> Iterator[_T]:
    for reference in list(references.values()):
        found = reference()
        if found is not None:
            yield found


class ViewFrame:
    """A view in the context, and the one it was opened inside of."""

    __slots__ = ("manager", "outer", "view")

    def __init__(self, manager: Any, view: View, outer: ViewFrame | None) -> None:
        self.manager = manager
        self.view = view
        self.outer = outer


_scope: ContextVar[Scope | None] = ContextVar("coherent_cache.scope", default=None)
_frame: ContextVar[ViewFrame | None] = ContextVar("coherent_cache.view", default=None)


def current_scope() -> Scope:
    """The scope of this context; made at its first use."""
    scope = _scope.get()
    if scope is None:
        scope = Scope()
        _scope.set(scope)
    return scope


def current_view(manager: Any) -> View | None:
    """The view that *manager* has open in this context."""
    frame = _frame.get()
    while frame is not None:
        if frame.manager is manager:
            return frame.view
        frame = frame.outer
    return None


def views_around(manager: Any) -> Iterator[View]:
    """The views that *manager* has open in this context, the innermost first."""
    frame = _frame.get()
    while frame is not None:
        if frame.manager is manager:
            yield frame.view
        frame = frame.outer


class open_view:  # noqa: N801  (used like a function)
    """A context manager: *view* is the current one of *manager* inside the block.

    A request's block has a scope of its own as well.  What it restores at the end is set, not
    reset by a token: a response body may be closed in another context than it was opened in.
    """

    def __init__(self, manager: Any, view: View, *, request: bool) -> None:
        self._manager = manager
        self._view = view
        self._request = request

    def __enter__(self) -> View:
        self._outer_frame = _frame.get()
        _frame.set(ViewFrame(self._manager, self._view, self._outer_frame))
        if self._request:
            self._outer_scope = _scope.get()
            _scope.set(Scope(self._outer_scope, request=True))
        return self._view

    def __exit__(self, *_: object) -> None:
        _frame.set(self._outer_frame)
        if self._request:
            _scope.set(self._outer_scope)


def _leave_everything() -> None:
    """In a forked child the parent's request, transactions and connections are not ours."""
    _scope.set(None)
    _frame.set(None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_everything)
