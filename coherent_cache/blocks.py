"""`CacheManager.begin` and `CacheManager.connect`: this context's transaction, or a new one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from .connections import connection_on
from .core import Core
from .errors import SynchronousUseError
from .greenlets import current_owner, spawn
from .lending import Loans
from .load import load_under_way
from .scope import current_scope
from .sessions import SessionWatch
from .transaction import Transaction

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class _Block:
    """A ``with`` or, on an asynchronous engine, an ``async with`` block around a connection."""

    def __init__(self, core: Core, sessions: SessionWatch) -> None:
        self._core = core
        self._sessions = sessions
        self._opened: AbstractContextManager[Connection] | None = None
        self._aopened: AbstractAsyncContextManager[AsyncConnection] | None = None

    def _existing(self) -> Connection | None:
        """The connection to join."""
        raise NotImplementedError

    def _new(self, engine: Any) -> Any:
        """The context manager of a new connection."""
        raise NotImplementedError

    def _entered(self, connection: Connection) -> None:
        """A new connection was opened."""

    def _left(self) -> None:
        """The block ends that joined a connection."""

    def _borrow(self) -> None:
        """A coroutine works on the connection from here to the end of the block."""

    def __enter__(self) -> Connection:
        if self._core.is_async:
            raise SynchronousUseError(
                "the manager's engine is asynchronous: use 'async with' instead of 'with'"
            )
        existing = self._existing()
        if existing is not None:
            return existing
        opened: AbstractContextManager[Connection] = self._new(self._core.engine)
        connection = opened.__enter__()
        self._opened = opened
        self._entered(connection)
        return connection

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.__exit__(kind, error, traceback)
        else:
            self._left()

    async def __aenter__(self) -> AsyncConnection:
        engine = self._core.async_engine
        if engine is None:
            raise SynchronousUseError(
                "the manager's engine is synchronous: use 'with' instead of 'async with'"
            )
        existing = await spawn(self._existing)
        if existing is not None:
            self._borrow()
            from sqlalchemy.ext.asyncio import AsyncConnection

            return AsyncConnection(engine, existing)
        opened: AbstractAsyncContextManager[AsyncConnection] = self._new(engine)
        connection = await opened.__aenter__()
        self._aopened = opened
        self._entered(connection.sync_connection)  # type: ignore[arg-type]
        return connection

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        opened, self._aopened = self._aopened, None
        if opened is not None:
            await opened.__aexit__(kind, error, traceback)
        else:
            await spawn(self._left)


class BeginBlock(_Block):
    """A transaction of this context; a block inside another one joins it."""

    def _existing(self) -> Connection | None:
        for transaction in current_scope().transactions(self._core):
            if transaction.joinable and transaction.owner == current_owner():
                connection: Connection | None = transaction.watch.connection_of(transaction)
                return connection
        return None

    def _new(self, engine: Any) -> Any:
        return engine.begin()

    def _entered(self, connection: Connection) -> None:
        transaction = self._core.transaction_of(connection)
        if transaction is not None:
            transaction.joinable = True


class ConnectBlock(_Block):
    """The connection of the transaction around this code, else a new one."""

    _lent: Connection | None = None
    _borrowed: Transaction | None = None

    def _existing(self) -> Connection | None:
        scope = current_scope()
        for session in scope.near_sessions():
            # What the session is about to write belongs to what its own request sees.
            if self._sessions.has_pending(session, current_owner()) and not session._flushing:
                session.flush()
        found: Connection | None = None
        for transaction in scope.transactions(self._core):
            connection: Connection | None = transaction.watch.connection_of(transaction)
            if connection is None or connection.engine.pool is not self._core.engine.pool:
                continue
            if transaction.is_ending or not transaction.is_at_hand():
                continue
            if found is None or transaction.joinable:
                found, self._borrowed = connection, transaction
            if transaction.joinable:
                break
        return found or self._idle_connection()

    def _borrow(self) -> None:
        transaction = self._borrowed
        if transaction is not None:
            if transaction.loans is None:
                transaction.loans = Loans()
            transaction.loans.lend(self, current_owner())
            load = load_under_way()
            if load is not None:  # which has to ask about the transaction when it ends
                load.borrow(transaction.loans, current_owner())

    def _idle_connection(self) -> Connection | None:
        """A connection in the caller's hands that has no transaction: the pool may have no other.

        It is lent for the block, and given back as it was.
        (Test: test_case_16_pool_of_one_through_everything.)
        """
        for pooled, watch in current_scope().own_connections(self._core):
            connection = connection_on(pooled)
            if (
                connection is not None
                and not connection.in_transaction()
                and watch.engine is self._core.engine
            ):
                self._lent = connection
                return connection
        return None

    def _left(self) -> None:
        borrowed, self._borrowed = self._borrowed, None
        if borrowed is not None and borrowed.loans is not None:
            borrowed.loans.give_back(self)
        lent, self._lent = self._lent, None
        if lent is None or lent.closed or not lent.in_transaction():
            return
        transaction = self._core.transaction_of(lent)
        keys = frozenset(transaction.pending()) if transaction is not None else frozenset()
        lent.rollback()
        watch = self._core.watch_of(lent)
        if keys and watch is not None:  # they wait for the transaction that the caller will begin
            watch.invalidate_early(lent.connection, keys)

    def _new(self, engine: Any) -> Any:
        return engine.connect()
