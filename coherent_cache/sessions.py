"""Invalidations of ORM sessions that have no database connection yet.

``session.add(x); del obj.attr; session.commit()``: at the ``del`` nothing was flushed, so there is
no connection whose transaction could carry the key.  It waits with the session and moves over when
the session's transaction begins on a connection of the manager's engine.  If it never does, there
was nothing to be atomic with and the key is invalidated by itself after the commit.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from .core import Core
from .greenlets import current_owner
from .load import Load
from .scope import current_scope, views_around
from .transaction import Outcome, Transaction
from .work import Draft


class SessionWatch:
    """What sessions have to invalidate for one manager."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._pending: weakref.WeakKeyDictionary[SessionTransaction, set[str]] = (
            weakref.WeakKeyDictionary()
        )
        # They have a connection in autocommit mode: whatever their end, something may be committed.
        # (Test: test_session_in_autocommit_that_had_no_connection.)
        self._commit_by_themselves: weakref.WeakSet[SessionTransaction] = weakref.WeakSet()
        # Who let keys wait with the session's outermost transaction, and may flush it.
        self._owners: weakref.WeakKeyDictionary[SessionTransaction, set[object]] = (
            weakref.WeakKeyDictionary()
        )
        # What of a session's work is not flushed, or in a savepoint that is not sent.
        self._drafts: weakref.WeakKeyDictionary[SessionTransaction, Draft] = (
            weakref.WeakKeyDictionary()
        )
        self._labels: weakref.WeakKeyDictionary[Session, int] = weakref.WeakKeyDictionary()
        # Invalidated while the session had no transaction yet.
        self._early: weakref.WeakKeyDictionary[Session, set[str]] = weakref.WeakKeyDictionary()
        self._connections: weakref.WeakKeyDictionary[
            Session, weakref.WeakKeyDictionary[Connection, None]
        ] = weakref.WeakKeyDictionary()
        # On the class, so that every session is seen however it was made.  The listeners hold
        # this weakly: they stay when it goes.
        this = weakref.ref(self)

        def listen(name: str) -> None:
            def listener(*arguments: Any) -> None:
                watch = this()
                if watch is not None:
                    getattr(watch, "_" + name)(*arguments)

            event.listen(Session, name, listener)

        for name in (
            "after_transaction_create",
            "after_begin",
            "after_commit",
            "after_soft_rollback",
            "after_transaction_end",
        ):
            listen(name)

    # What the manager asks

    def transactions_of(self, session: Session) -> list[Transaction]:
        """The manager's transactions that *session* has open."""
        known = self._connections.get(session)
        if known is None:
            return []
        # References, which are copied at once: another thread may be adding to them.
        connections = [connection for each in known.keyrefs() if (connection := each()) is not None]
        found = [self._core.transaction_of(connection) for connection in connections]
        return [transaction for transaction in found if transaction is not None]

    def will_join(self, session: Session) -> list[Transaction]:
        """Transactions that are open on a Connection that *session* is bound to, and has not begun
        on yet: it will work in them."""
        binds = {session.bind, *getattr(session, "_Session__binds", {}).values()}
        found = [self._core.transaction_of(bind) for bind in binds if isinstance(bind, Connection)]
        return [each for each in found if each is not None and each.watch.carries(each)]

    def may_carry(self, session: Session) -> bool:
        """Whether *session* may come to write to the manager's engine."""
        return _may_bind(session, self._core.engine)

    def invalidate(self, session: Session, keys: Iterable[str], *, own: bool = True) -> bool:
        """Let *keys* wait with the session's innermost transaction, or for its next one; return
        whether they wait with one.

        *own* says whether the caller may flush it."""
        keys = frozenset(keys)
        outermost = session.get_transaction()
        if outermost is None:
            self._early.setdefault(session, set()).update(keys)
            return False
        if own:
            self._owners.setdefault(outermost, set()).add(current_owner())
        transaction = session.get_nested_transaction() or outermost
        while True:
            waiting = self._pending.setdefault(transaction, set())
            waiting.update(keys)
            if self._pending.get(transaction) is waiting or not transaction.is_active:
                break
            # Taken by `_after_begin` in another thread, perhaps before these were there.
        self._core.stir()
        # Asked after they were put there: in another thread SQLAlchemy may have ended it, and told
        # us, who took what waited.  (Test: test_case_14_a_del_while_another_threads_session_ends.)
        return transaction.is_active

    def hides(self, session: Session, keys: frozenset[str]) -> bool:
        """Whether one of *keys* waits with *session*."""
        return not keys.isdisjoint(self._waiting(session))

    def is_calm(self, session: Session) -> bool:
        """Whether no key waits with *session*."""
        return not self._waiting(session)

    def has_pending(self, session: Session, owner: object) -> bool:
        """Whether *owner*, a thread or task, has let a key wait with *session* and may flush it."""
        outermost = session.get_transaction()
        owners = () if outermost is None else self._owners.get(outermost, ())
        return owner in owners and bool(self._waiting(session))

    def _waiting(self, session: Session) -> set[str]:
        found: set[str] = set()
        transaction = session.get_nested_transaction() or session.get_transaction()
        while transaction is not None:
            found |= self._pending.get(transaction, set())
            transaction = transaction.parent
        return found

    def settle(self, load: Load) -> None:
        """Take down what a retriever may have read from the objects of the sessions around it.

        ``session.get()`` and a loaded attribute execute nothing, so no event tells that they were
        used.  The interleavings this guards against: an object is changed, perhaps flushed, a
        retriever reads it, and the session rolls back; or an object was loaded before another
        process committed.  (Tests: test_case_02_orm_*, test_case_06_object_*.)
        """
        scope = current_scope()
        near = scope.own_sessions()
        for session in scope.sessions():
            if not (session.identity_map or session.new) or not self.may_carry(session):
                continue
            if session.identity_map:
                load.labels.add(self._labels.get(session, -1))
            if session not in near:
                # Its own thread or task may be using its connection: nothing is asked there, which
                # might wait for its statement, and that for us.  Nor can the value be kept with its
                # transaction, where the caller does not look.
                # (Tests: test_g02_a_job_beside_it_uses_a_session,
                # test_a_read_does_not_wait_for_the_session_of_another_thread.)
                if self._may_have_changed(session):
                    load.owners.add(Outcome.UNKNOWN)
                continue
            changed = bool(session.new or session.deleted) or any(
                session.is_modified(each) for each in session.dirty
            )
            transactions = self.transactions_of(session)
            if changed:
                load.owners.add(self._draft_of(session))
            for transaction in transactions:
                # One that the retriever executed something in is asked by the loader.
                asked = transaction in load.touched
                if changed or (not asked and transaction.watch.probe(transaction).written):
                    load.owners.add(transaction)

    def _draft_of(self, session: Session) -> Draft | Outcome:
        """What *session* has not flushed.  A value that was computed from it vanishes with the
        innermost savepoint, sent or not, or with the session's transaction.

        (Tests: test_a_value_of_a_session_that_had_nothing_flushed, and before it.)
        """
        transaction = session.get_nested_transaction() or session.get_transaction()
        if transaction is None:
            return Outcome.UNKNOWN
        draft = self._draft(transaction)
        draft.used = True
        return draft

    def _draft(self, transaction: SessionTransaction) -> Draft:
        found = self._drafts.get(transaction)
        return self._drafts.setdefault(transaction, Draft()) if found is None else found

    def _may_have_changed(self, session: Session) -> bool:
        """Whether a session that others use may have objects that are not committed."""
        if any(transaction.dirty for transaction in self.transactions_of(session)):
            return True
        try:
            return bool(session.new or session.deleted or session.identity_map.check_modified())
        except RuntimeError:  # it is being changed at this moment
            return True

    # Events

    def _after_transaction_create(self, session: Session, transaction: SessionTransaction) -> None:
        if transaction.parent is None:
            current_scope().add_session(session)
            early = self._early.pop(session, None)
            if early:
                self._owners.setdefault(transaction, set()).add(current_owner())
                self._pending.setdefault(transaction, set()).update(early)
                self._core.stir()
                for view in views_around(self._core):  # what comes next may be the write
                    view.forget(frozenset(early))
        elif transaction.nested:
            for each in self.transactions_of(session):
                each.unsent_savepoint(self._draft(transaction))

    def _after_begin(
        self, session: Session, transaction: SessionTransaction, connection: Connection
    ) -> None:
        found = self._core.transaction_of(connection)
        if found is None:
            return
        if transaction.parent is None and found.keeps_objects:
            found.has_sessions = True
        self._label(session, found)
        self._connections.setdefault(session, weakref.WeakKeyDictionary())[connection] = None
        # A session opened elsewhere: what works with it here works in its transaction.
        current_scope().share_session(session, found)
        if self._pending:  # and what waits with it, waits here too
            self._core.stir()
        if found.watch.carries(found):
            found.invalidate(self._pending.pop(transaction, ()))
        elif not found.watch.is_replica and not found.prepared:
            self._commit_by_themselves.add(transaction)

    def _label(self, session: Session, transaction: Transaction) -> None:
        """Note how old the objects of *session* may be that a retriever gets from it.

        The interleaving it guards against: the session loads an object, another process changes
        its row and commits, the ledger is looked at, and a retriever selects the row: the session
        hands out the object it has, older than any snapshot of that moment.  So what is read
        through a session is as old as the session's transaction, or, where objects outlive that,
        as the first transaction since it was empty.  (Test: test_case_06_identity_map.)
        """
        # Looking at the ledger first lets the values be published that are read later on.
        self._core.check_early()
        label = self._core.store.label
        if transaction.label is not None:
            label = min(label, transaction.label)
        if not session.expire_on_commit and session.identity_map:
            label = min(label, self._labels.get(session, -1))
        self._labels[session] = transaction.label = label
        transaction.keeps_objects = True

    def _after_commit(self, session: Session) -> None:
        nested = session.get_nested_transaction()
        if nested is not None:  # a savepoint was released
            # Put there before they are taken from here: nobody finds that none are waiting.
            keys = self._pending.get(nested)
            if keys and nested.parent is not None:
                self._pending.setdefault(nested.parent, set()).update(keys)
            self._pending.pop(nested, None)
            draft = self._drafts.pop(nested, None)
            if draft is not None:
                for each in self.transactions_of(session):
                    each.forget_savepoint(draft)
                if draft.used and nested.parent is not None:
                    outer = self._draft(_boundary(nested.parent))
                    outer.used = True
                    outer.add_part(draft)
            return
        transaction = session.get_transaction()
        if transaction is None:
            return
        keys = self._pending.pop(transaction, None)
        if keys and not [t for t in self.will_join(session) if t.invalidate(keys)]:
            self._core.invalidate_now(sorted(keys))
        draft = self._drafts.pop(transaction, None)
        if draft is not None and draft.used:
            # On a Connection that was in a transaction already that one goes on.
            # (Test: test_a_value_of_a_session_within_a_transaction.)
            going_on = self.transactions_of(session)
            if going_on:
                going_on[0].add_part(draft)
            else:
                draft.commit()

    def _after_soft_rollback(
        self, session: Session, previous_transaction: SessionTransaction
    ) -> None:
        self._drop(session, previous_transaction)
        # A flush that failed has undone what is around it, which ends later.
        # (Test: test_a_value_of_objects_that_could_not_be_flushed.)
        draft = self._drafts.get(_boundary(previous_transaction))
        if draft is not None:
            draft.undo()

    def _after_transaction_end(self, session: Session, transaction: SessionTransaction) -> None:
        self._drop(session, transaction)

    def _drop(self, session: Session, transaction: SessionTransaction) -> None:
        keys = self._pending.pop(transaction, None)
        if keys and transaction in self._commit_by_themselves:
            self._core.invalidate_now(sorted(keys))
        elif keys and transaction.parent is None:
            # It had no connection: what they were meant for may have been committed by another, if
            # it had nothing to flush either.  See `Transaction.end`.
            left = keys & current_scope().unclaimed(self._core)
            if left:
                self._core.hand_on(sorted(left))
        draft = self._drafts.pop(transaction, None)
        if draft is not None:  # else it was committed
            draft.undo()
            if transaction.nested:
                for each in self.transactions_of(session):
                    each.undo_unsent(draft)


def _boundary(transaction: SessionTransaction) -> SessionTransaction:
    """The savepoint, or the outermost transaction, that a flush's *transaction* is part of."""
    while transaction.parent is not None and not transaction.nested:
        transaction = transaction.parent
    return transaction


def _may_bind(session: Session, engine: Engine) -> bool:
    """Whether the session could write through *engine*: if that cannot be told, it could."""
    if type(session).get_bind is not Session.get_bind:
        return True  # routing of the application's own
    try:
        bind = session.get_bind()
    except SQLAlchemyError:
        return True  # bound by mapper only
    if bind.engine.pool is engine.pool:
        return True
    return bool(getattr(session, "_Session__binds", True))
