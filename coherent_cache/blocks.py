"""`CacheManager.begin` and `CacheManager.connect`: this context's transaction, or a new one."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncConnection

from .errors import SynchronousUseError
from .greenlets import current_owner, spawn
from .scope import current_scope

if TYPE_CHECKING:
    from .manager import CacheManager


class _Block:
    """A ``with`` or, on an asynchronous engine, an ``async with`` block around a connection."""

    def __init__(self, manager: CacheManager) -> None:
        self._manager = manager
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

    def __enter__(self) -> Connection:
        if self._manager.is_async:
            raise SynchronousUseError(
                "the manager's engine is asynchronous: use 'async with' instead of 'with'"
            )
        existing = self._existing()
        if existing is not None:
            return existing
        opened: AbstractContextManager[Connection] = self._new(self._manager.engine)
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

    async def __aenter__(self) -> AsyncConnection:
        engine = self._manager.async_engine
        if engine is None:
            raise SynchronousUseError(
                "the manager's engine is synchronous: use 'with' instead of 'async with'"
            )
        existing = await spawn(self._existing)
        if existing is not None:
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


class BeginBlock(_Block):
    """A transaction of this context; a block inside another one joins it."""

    def _existing(self) -> Connection | None:
        for transaction in current_scope().transactions(self._manager):
            if transaction.joinable and transaction.owner == current_owner():
                connection: Connection | None = transaction.watch.connection_of(transaction)
                return connection
        return None

    def _new(self, engine: Any) -> Any:
        return engine.begin()

    def _entered(self, connection: Connection) -> None:
        transaction = self._manager.transaction_of(connection)
        if transaction is not None:
            transaction.joinable = True


class ConnectBlock(_Block):
    """The connection of the transaction around this code, else a new one."""

    def _existing(self) -> Connection | None:
        scope = current_scope()
        sessions = self._manager.sessions
        for session in scope.sessions():
            # What the session is about to write belongs to what its own request sees.
            if sessions.has_pending(session) and not session._flushing:
                session.flush()
        found: Connection | None = None
        for transaction in scope.transactions(self._manager):
            connection: Connection | None = transaction.watch.connection_of(transaction)
            if connection is None or connection.engine.pool is not self._manager.engine.pool:
                continue
            # A clean transaction of another thread or task is left to it: a connection is not
            # for two at a time.  One that has written is where our own data are.
            if transaction.owner != current_owner() and not (
                transaction.dirty or transaction.pending()
            ):
                continue
            if transaction.joinable:
                return connection
            found = found or connection
        return found

    def _new(self, engine: Any) -> Any:
        return engine.connect()
