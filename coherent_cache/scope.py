"""Where code runs: the view of its request, and the transactions open around it.

Both follow the context (`contextvars`): threads, tasks and greenlets that were given a copy of a
request's context share its `View` and its `Scope`; others have their own.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

from sqlalchemy.orm import Session

from .entry import Entries
from .transaction import Transaction


class View:
    """What one request sees: a position in the ledger, and the values it has read.

    The figures are for showing: how many values came from memory (*hits*) or had to be computed
    (*misses*), how many checks of the ledger were made and how long they took together.
    """

    __slots__ = (
        "__weakref__",
        "check_seconds",
        "checked",
        "checks",
        "hits",
        "label",
        "misses",
        "values",
    )

    def __init__(self) -> None:
        self.values: Entries = {}
        #: The ledger was looked at, and this request committed nothing since.
        self.checked = False
        #: `Store.label` at that look: nothing older may be handed to this request.
        self.label = 0
        self.hits = 0
        self.misses = 0
        self.checks = 0
        self.check_seconds = 0.0


class Scope:
    """The transactions and sessions that code of one context may be working in."""

    # No lock: the tuple is replaced, never changed, so whoever walks over it sees one state.

    def __init__(self, parent: Scope | None = None) -> None:
        self._parent = parent
        self._transactions: tuple[Transaction, ...] = ()
        self._sessions: weakref.WeakSet[Session] = weakref.WeakSet()

    def add(self, transaction: Transaction) -> None:
        """A transaction began in this context."""
        self._transactions = (*self._transactions, transaction)

    def remove(self, transaction: Transaction) -> None:
        """A transaction ended."""
        self._transactions = tuple(t for t in self._transactions if t is not transaction)

    def add_session(self, session: Session) -> None:
        """An ORM session began a transaction of its own in this context."""
        self._sessions.add(session)

    def transactions(self, manager: Any) -> Iterator[Transaction]:
        """The open transactions of *manager*: the newest first, inner scopes before outer."""
        for transaction in reversed(self._transactions):
            if transaction.manager is manager:
                yield transaction
        if self._parent is not None:
            yield from self._parent.transactions(manager)

    def sessions(self) -> Iterator[Session]:
        """The sessions that may have a transaction open."""
        yield from list(self._sessions)
        if self._parent is not None:
            yield from self._parent.sessions()


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
            _scope.set(Scope(self._outer_scope))
        return self._view

    def __exit__(self, *_: object) -> None:
        _frame.set(self._outer_frame)
        if self._request:
            _scope.set(self._outer_scope)
