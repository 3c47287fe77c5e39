"""Where code runs: in which request's view, and in which transactions.

Both follow the context (`contextvars`): threads, tasks and greenlets that were given a copy of a
request's context share its `View` and its `Scope`; others have their own.
"""

from __future__ import annotations

import os
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import PoolProxiedConnection
from sqlalchemy.orm import Session

from .greenlets import current_owner
from .load import load_under_way
from .memo import NO_MEMO, current_memo
from .transaction import Transaction
from .view import View

if TYPE_CHECKING:
    from .watch import EngineWatch

#: A connection of a pool, and the one who watches its engine.
Taken: TypeAlias = "tuple[PoolProxiedConnection, EngineWatch]"
_ANYBODY = object()
_TakenRef: TypeAlias = "tuple[weakref.ref[PoolProxiedConnection], weakref.ref[EngineWatch]]"


class Scope:
    """The transactions, connections and sessions that code of one context may be working in.

    A request's scope is one for all its threads and tasks.  Outside a request contexts are also
    inherited by tasks that have nothing to do with each other; there everybody has his own
    transactions only, those that he began or executed something in, but an invalidation goes to
    all of them: one too many costs a reload.
    """

    # No lock: each change is one operation on a dict, and whoever walks over one takes a copy
    # first.  A list that is read, changed and put back would lose what another thread of the
    # request adds meanwhile: a transaction that `del` does not find is an old value for good.
    # (Test: test_case_14_transactions_that_begin_and_end_at_once.)

    def __init__(self, parent: Scope | None = None, *, request: bool = False) -> None:
        self.parent = parent
        self._request = request
        self.transactions_here: dict[Transaction, None] = {}
        # → the threads or tasks that work with it
        self.sessions_here: dict[weakref.ref[Session], frozenset[object]] = {}
        # By connection and the one who watches its engine.
        self._connections: dict[_TakenRef, object] = {}
        # In a request: what a `del` has named and no commit of the request has carried yet.
        self._unclaimed: dict[tuple[Any, str], None] = {}

    def end(self) -> None:
        """The request is over.  Threads and tasks that it leaves behind have a copy of its context,
        and nothing more to do with each other.

        (Test: test_a_del_of_a_task_that_outlives_its_request.)
        """
        self._request = False
        self._unclaimed = {}

    def has_open(self) -> bool:
        """Whether a transaction, or a session that has one, goes on here."""
        return bool(self.transactions_here) or any(
            session.in_transaction() for session in _living(self.sessions_here)
        )

    def take_over(self, ended: Scope) -> None:
        """What goes on after the request of *ended* is found here: its block was inside this one.

        (Test: test_a_transaction_that_outlives_the_request.)
        """
        for transaction in list(ended.transactions_here):
            self.add(transaction)
            transaction.scope = self
            if transaction.outcome is not None:  # another thread has ended it meanwhile
                self.remove(transaction)
        for reference, users in list(ended.sessions_here.items()):
            self.sessions_here.setdefault(reference, users)
        self._connections.update(list(ended._connections.items()))
        if ended.parent is None:
            ended.parent = self  # tasks that were left behind find it too

    def leave_unclaimed(self, manager: Any, keys: frozenset[str]) -> None:
        """Remember *keys* of *manager*, which were invalidated, for the rest of the request: the
        write that the ``del`` was meant for may come in a transaction of a session that nobody
        has heard of yet.  Not outside a request, which would have no end."""
        if self._request:
            self._unclaimed.update(dict.fromkeys((manager, key) for key in keys))
        if self.parent is not None:
            self.parent.leave_unclaimed(manager, keys)

    def claim(self, manager: Any, keys: frozenset[str]) -> None:
        """A transaction of the request has committed the invalidation of *keys*."""
        for key in keys:
            self._unclaimed.pop((manager, key), None)
        if self.parent is not None:
            self.parent.claim(manager, keys)

    def nobody_has_claimed(self, manager: Any, keys: frozenset[str]) -> frozenset[str]:
        """Those of *keys* that were left, in a request, and not committed since; outside a request,
        where nothing is left, all of them."""
        return keys & self.unclaimed(manager) if self._is_of_a_request() else keys

    def _is_of_a_request(self) -> bool:
        return self._request or (self.parent is not None and self.parent._is_of_a_request())

    def unclaimed(self, manager: Any) -> frozenset[str]:
        """What was left for a transaction that writes."""
        found: frozenset[str] = frozenset()
        if self._unclaimed:
            found = frozenset([key for owner, key in list(self._unclaimed) if owner is manager])
        return found if self.parent is None else found | self.parent.unclaimed(manager)

    def add(self, transaction: Transaction) -> None:
        """A transaction began in this context."""
        self.transactions_here[transaction] = None
        if not transaction.is_calm:  # `Transaction.invalidate` told of it before it was here
            transaction.manager.stir()

    def remove(self, transaction: Transaction) -> None:
        """A transaction ended."""
        self.transactions_here.pop(transaction, None)

    def add_session(self, session: Session) -> None:
        """An ORM session began a transaction of its own in this context."""
        self.sessions_here[weakref.ref(session)] = frozenset((current_owner(),))
        for reference in list(self.sessions_here):
            if reference() is None:
                self.sessions_here.pop(reference, None)

    def share_session(self, session: Session, transaction: Transaction) -> None:
        """An ORM session has begun *transaction*, which all work in who work with the session."""
        reference = weakref.ref(session)
        if reference in self.sessions_here:
            self.sessions_here[reference] |= {current_owner()}
        else:
            self.add_session(session)
        transaction.users |= self.sessions_here[reference]

    def add_connection(self, pooled: PoolProxiedConnection, watch: EngineWatch) -> None:
        """A connection was taken, in this context, from the pool that *watch* knows."""
        self._connections[weakref.ref(pooled), weakref.ref(watch)] = current_owner()
        for references in list(self._connections):
            if references[0]() is None:
                self._connections.pop(references, None)

    def transactions(self, manager: Any) -> list[Transaction]:
        """The open transactions of *manager* that this code works in: the newest first, inner
        scopes before outer ones."""
        found = self.all_transactions(manager)
        return [transaction for transaction in found if self.is_near(transaction)] if found else []

    def is_near(self, transaction: Transaction) -> bool:
        """Whether *transaction* is one of `transactions`."""
        home, scope = transaction.scope, self
        while scope is not home:
            if scope.parent is None:
                return False
            scope = scope.parent
        return scope._request or transaction.is_used_by(current_owner())

    def all_transactions(self, manager: Any) -> list[Transaction]:
        """The open transactions of *manager* that could be meant, whoever began them."""
        found = self._of(manager)
        return found if self.parent is None else found + self.parent.all_transactions(manager)

    def _of(self, manager: Any) -> list[Transaction]:
        if not self.transactions_here:
            return []
        return [t for t in reversed(list(self.transactions_here)) if t.manager is manager]

    def sessions(self) -> list[Session]:
        """The sessions that have or had a transaction."""
        found = _living(self.sessions_here)
        return found if self.parent is None else found + self.parent.sessions()

    def own_sessions(self) -> list[Session]:
        """Those that this thread or task works with."""
        found = _own(self.sessions_here)
        return found if self.parent is None else found + self.parent.own_sessions()

    def near_sessions(self) -> list[Session]:
        """The request's sessions; outside a request those of this thread or task."""
        found = _living(self.sessions_here) if self._request else _own(self.sessions_here)
        return found if self.parent is None else found + self.parent.near_sessions()

    def connections(self, manager: Any) -> list[Taken]:
        """The connections of *manager*'s pools that may still be in use."""
        found = self._taken(manager, _ANYBODY)
        return found if self.parent is None else found + self.parent.connections(manager)

    def own_connections(self, manager: Any) -> list[Taken]:
        """Those of `connections` that this thread or task took."""
        found = self._taken(manager, current_owner())
        return found if self.parent is None else found + self.parent.own_connections(manager)

    def others_connect(self, who: object) -> bool:
        """Whether another than *who* has taken a connection, of whatever manager's pools, that may
        still be in use."""
        for (pooled_ref, _), owner in list(self._connections.items()):
            pooled = pooled_ref()
            if owner != who and pooled is not None and pooled.is_valid:
                return True
        return self.parent is not None and self.parent.others_connect(who)

    def near_connections(self, manager: Any) -> list[Taken]:
        """The request's connections; outside a request those that this thread or task took."""
        found = self._taken(manager, _ANYBODY if self._request else current_owner())
        return found if self.parent is None else found + self.parent.near_connections(manager)

    def _taken(self, manager: Any, by: object) -> list[Taken]:
        found: list[Taken] = []
        for (pooled_ref, watch_ref), owner in list(self._connections.items()):
            if by is not _ANYBODY and by != owner:
                continue
            watch = watch_ref()
            if watch is None or watch.manager is not manager:
                continue
            pooled = pooled_ref()
            if pooled is not None and pooled.is_valid:
                found.append((pooled, watch))
        return found


def _own(sessions: dict[weakref.ref[Session], frozenset[object]]) -> list[Session]:
    if not sessions:
        return []
    this = current_owner()
    return [
        session
        for reference, users in list(sessions.items())
        if this in users and (session := reference()) is not None
    ]


def _living(sessions: dict[weakref.ref[Session], frozenset[object]]) -> list[Session]:
    return [found for each in list(sessions) if (found := each()) is not None]


class ViewFrame:
    """A view in the context, and the one it was opened inside of."""

    __slots__ = ("manager", "outer", "view")

    def __init__(self, manager: Any, view: View, outer: ViewFrame | None) -> None:
        self.manager = manager
        #: None once its block has ended: a thread or task that was started in the block has a
        #: copy of its context, and must not go on seeing the world of an ended request.
        self.view: View | None = view
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
            view = frame.view
            if view is not None:
                return view
        frame = frame.outer
    return None


def views_around(manager: Any) -> list[View]:
    """The views that *manager* has open in this context, the innermost first."""
    found: list[View] = []
    frame = _frame.get()
    while frame is not None:
        if frame.manager is manager:
            view = frame.view
            if view is not None:
                found.append(view)
        frame = frame.outer
    return found


class open_scope:  # noqa: N801  (used like a function)
    """A context manager: the block has a scope of its own, and whatever runs in copies of its
    context shares it (the threads of a pool, which cannot hand a variable back)."""

    def __enter__(self) -> Scope:
        self._outer = _scope.get()
        self._scope = Scope(self._outer, request=True)
        _scope.set(self._scope)
        return self._scope

    def __exit__(self, *_: object) -> None:
        self._scope.end()
        if _scope.get() is self._scope:
            _scope.set(self._outer)
            if self._scope.has_open():
                current_scope().take_over(self._scope)


class open_view:  # noqa: N801  (used like a function)
    """A context manager: *view* is the current one of *manager* inside the block.

    A request's block has a scope of its own as well, and a memo.  The block may end in another
    context than it began in (a response body that another thread closes, a generator that is
    collected in the middle of somebody else's request): then what is current there is not touched.
    """

    def __init__(self, manager: Any, view: View, *, request: bool) -> None:
        self._manager = manager
        self._view = view
        self._scope = open_scope() if request else None

    def __enter__(self) -> View:
        scope = self._scope.__enter__() if self._scope is not None else None
        self._outer = _frame.get()
        self._outer_memo = current_memo.get()
        self._frame = ViewFrame(self._manager, self._view, self._outer)
        _frame.set(self._frame)
        if scope is not None:
            self._view.begin(self._manager, scope)
        if current_memo.get() is not NO_MEMO or load_under_way() is None:
            current_memo.set(self._view.memo)
        # Else a retriever has begun the request: its load has to be told of what is read.
        # (Test: test_a_request_within_a_retriever.)
        return self._view

    def __exit__(self, *_: object) -> None:
        self._frame.view = None
        self._view.end()
        if _frame.get() is self._frame:
            _frame.set(self._outer)
            current_memo.set(self._outer_memo)
        if self._scope is not None:
            self._scope.__exit__()


def _leave_everything() -> None:
    """In a forked child the parent's request, transactions and connections are not ours."""
    _scope.set(None)
    _frame.set(None)
    current_memo.set(NO_MEMO)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_everything)
