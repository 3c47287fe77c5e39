"""Which transactions a ``del`` belongs to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import Connection
from sqlalchemy.orm import Session

from .core import Core
from .errors import ConfigurationError
from .greenlets import current_owner
from .points import point
from .scope import Scope, Taken, current_scope, views_around
from .sessions import SessionWatch
from .source import SourceWatch
from .transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, async_scoped_session
    from sqlalchemy.orm import scoped_session

AnySession: TypeAlias = "Session | scoped_session[Any] | AsyncSession | async_scoped_session[Any]"
AnyConnection: TypeAlias = "Connection | AsyncConnection"


class _Put(NamedTuple):
    """Where the keys of a ``del`` were put."""

    #: The transactions that have them.
    targets: Sequence[Transaction]
    #: Those that the caller works in.
    near: Sequence[Transaction]
    #: One that will invalidate them, which need not be done by itself.
    carried: bool
    #: Those whose next transaction may be the one that is meant.
    connections: Sequence[Taken]
    sessions: Sequence[Session]


class Invalidator:
    """Hands keys to the transactions they belong to."""

    def __init__(self, core: Core, sessions: SessionWatch, source: SourceWatch | None) -> None:
        self._core = core
        self._sessions = sessions
        self._source = source

    def invalidate(
        self,
        keys: frozenset[str],
        session: AnySession | None = None,
        connection: AnyConnection | None = None,
    ) -> None:
        """See `CacheManager.invalidate`."""
        if connection is None and session is None:
            put = self._put_here(keys)
        else:
            put = self._put_where_told(keys, session, connection)
        views = views_around(self._core)
        for transaction in put.targets:
            if self._source is not None and transaction.watch is self._source:
                self._source.write(transaction, sorted(keys))
            for view in views:
                if transaction in put.near:
                    transaction.concerns(view)
                elif not put.near:
                    transaction.concerns(view, keys)
        one_has_ended = any(not transaction.is_open for transaction in put.targets)
        for view in views:
            if one_has_ended:
                view.uncheck()  # it may have done so before the view was known to it
            view.forget(keys)
        if not put.carried:
            self._core.invalidate_now(sorted(keys))
        self._also_with_the_next(keys, put.connections, put.sessions)

    def _put_where_told(
        self, keys: frozenset[str], session: AnySession | None, connection: AnyConnection | None
    ) -> _Put:
        """Let *keys* be invalidated with the transaction of *connection* or *session*."""
        connections: Sequence[Taken] = ()
        targets: list[Transaction] = []
        waits: list[Session] = []
        if connection is not None:
            sync_connection = _sync_connection(connection)
            found = self._core.transaction_of(sync_connection)
            if found is not None and _may_take(found):
                targets = _put_into([found], keys)
            connections = self._pooled(sync_connection)
        elif session is not None:
            sync_session = _sync_session(session)
            found_there = self._transactions_of(sync_session)
            if found_there:
                targets = _put_into(found_there, keys)
            else:  # also with what it begins in itself, if that has ended then
                targets = _put_into(self._sessions.will_join(sync_session), keys)
                if self._sessions.invalidate(sync_session, keys):
                    waits = self._not_by_themselves([sync_session])
        carried = any(not transaction.is_resting for transaction in targets) or bool(waits)
        for transaction in current_scope().transactions(self._core):
            transaction.drop(keys)
        return _Put(targets, targets, carried, connections, ())

    def _put_here(self, keys: frozenset[str]) -> _Put:
        """Let *keys* be invalidated with whatever is open in this context."""
        scope = current_scope()
        targets, waiting = self._open_here(scope)
        targets = _put_into(targets, keys)
        near_sessions = scope.near_sessions()
        if waiting:
            own = _to_flush(scope, waiting, targets)
            waiting = [s for s in waiting if self._sessions.invalidate(s, keys, own=s in own)]
        # Others may be another task's, which is no business of the request but for these keys.
        near = [t for t in targets if not t.is_resting and scope.is_near(t)]
        # Where the request has a transaction that carries the keys, the write is in that one.  What
        # becomes of them in another's is its own business: it may go on after this one was undone,
        # and the request would see a second value.
        # (Test: test_a_del_that_was_undone_here_and_stays_in_anothers_transaction.)
        # Outside a request all may be those of other threads or tasks, which have a copy of the
        # same context: an invalidation that is meant is theirs as well, and one that is not may
        # be rolled back with them.  (Test: test_a_del_beside_a_job_that_rolls_back.)
        waits = self._not_by_themselves(waiting)
        carried = bool(near) or any(s in near_sessions for s in waits)
        if not any(t.dirty for t in near) and not any(_has_changes(s) for s in waiting):
            # Those that are open may only read, and the write come in another.
            # (Test: test_session_that_was_never_used_beside_an_open_one.)
            scope.leave_unclaimed(self._core, keys)
            begun = self._put_into_what_began(keys, scope, targets)
            targets, near = targets + begun, near + begun
        if carried:
            return _Put(targets, near, True, scope.near_connections(self._core), near_sessions)
        return _Put(targets, near, False, scope.connections(self._core), scope.sessions())

    def _put_into_what_began(
        self, keys: frozenset[str], scope: Scope, found: Sequence[Transaction]
    ) -> list[Transaction]:
        """Let *keys* be invalidated, too, with what has begun since the others were *found*.

        The interleaving this guards against: in another thread of the request a transaction begins,
        writes and asks what was left for it, and only then the keys are left; they are invalidated
        alone, somebody loads the old value, and the transaction commits.  One that asks later finds
        them; and one that is not open any more has committed before they are invalidated.
        (Test: test_one_that_begins_and_commits_around_a_lone_del.)
        """
        near = scope.transactions(self._core)
        return _put_into([t for t in near if t not in found and _may_take(t)], keys)

    @point(after="del: transactions found, nothing pending")
    def _open_here(self, scope: Scope) -> tuple[list[Transaction], list[Session]]:
        """The transactions of this context that can carry an invalidation, and the sessions that
        are in one but have no connection yet."""
        if self._source is not None:
            self._source.notice()
        targets = [t for t in scope.all_transactions(self._core) if _may_take(t)]
        waiting: list[Session] = []
        for session in scope.sessions():
            found = self._transactions_of(session)
            targets += [t for t in found if t not in targets]
            if not found and session.in_transaction() and self._sessions.may_carry(session):
                waiting.append(session)
        return targets, waiting

    def _also_with_the_next(
        self,
        keys: frozenset[str],
        connections: Sequence[Taken],
        sessions: Sequence[Session],
    ) -> None:
        """Connections and sessions are at hand that have no transaction and will begin one with
        their next statement, which may be the write that the ``del`` was meant for.

        ``with engine.connect() as c: del obj.attr; c.execute(...); c.commit()``: invalidated only
        now, the key would be loaded anew before the write commits, and stay old; and a transaction
        that is open beside this one may roll back.
        (Tests: test_connection_that_has_not_begun, test_one_that_has_not_begun_beside_an_open_one.)
        """
        for pooled, watch in connections:
            if watch.begun_on(pooled) is None:
                watch.invalidate_early(pooled, keys)
        for session in sessions:
            if not session.in_transaction() and self._sessions.may_carry(session):
                self._sessions.invalidate(session, keys)

    def _pooled(self, connection: Connection) -> list[Taken]:
        watch = self._core.watch_of(connection)
        if watch is None or connection.closed or connection.invalidated:
            return []
        return [(connection.connection, watch)]

    def _not_by_themselves(self, sessions: Sequence[Session]) -> list[Session]:
        """Those of *sessions* that commit when they say so."""
        return [session for session in sessions if not self._commits_by_itself(session)]

    def _commits_by_itself(self, session: Session) -> bool:
        """Whether *session* has a connection in autocommit mode: its writes may be committed
        already, whatever the session will say.  Or it only reads there, and writes elsewhere later.
        (Tests: test_case_19_session, test_session_that_reads_in_autocommit.)"""
        return session.in_transaction() and any(
            not transaction.prepared and not transaction.watch.is_replica
            for transaction in self._sessions.transactions_of(session)
        )

    def _transactions_of(self, session: Session) -> list[Transaction]:
        return [t for t in self._sessions.transactions_of(session) if _may_take(t)]


def _may_take(transaction: Transaction) -> bool:
    """Whether *transaction* is to be told of a `del`: it will carry it, or is prepared, and then
    has to repeat it when it ends.  (Test: test_a_del_between_the_phases.)"""
    return transaction.prepared or transaction.watch.carries(transaction)


def _put_into(targets: Sequence[Transaction], keys: frozenset[str]) -> list[Transaction]:
    """Let *keys* be invalidated with *targets*; return those that will do so: one that has come to
    its end meanwhile, in another thread, is none that was found."""
    return [transaction for transaction in targets if transaction.invalidate(keys)]


def _to_flush(
    scope: Scope, waiting: Sequence[Session], targets: Sequence[Transaction]
) -> list[Session]:
    """Those of *waiting* whose objects a caller who reads has to flush to see what he has written.

    His own; those of other threads of the request only if he has nothing of his own, since a
    framework may begin a session in one thread and hand it to another.  A session is not for two
    threads at a time.  (Test: test_g03_the_session_of_another_thread_is_not_flushed.)
    """
    own = [session for session in scope.own_sessions() if session in waiting]
    user = current_owner()
    if own or any(transaction.is_used_by(user) for transaction in targets):
        return own
    return [session for session in scope.near_sessions() if session in waiting]


def _has_changes(session: Session) -> bool:
    return bool(session.new or session.deleted or session.dirty)


def _sync_connection(connection: AnyConnection) -> Connection:
    found = getattr(connection, "sync_connection", connection)
    if not isinstance(found, Connection):
        raise ConfigurationError(f"not a Connection that has been started: {connection!r}")
    return found


def _sync_session(session: AnySession) -> Session:
    found: Any = session
    if hasattr(found, "registry") and callable(found):  # both kinds of scoped session
        found = found()
    found = getattr(found, "sync_session", found)
    if not isinstance(found, Session):
        raise ConfigurationError(f"not a Session: {session!r}")
    return found
