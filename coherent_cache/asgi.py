"""An ASGI middleware: one view for each HTTP request.

The view lasts until the application's coroutine ends: streaming bodies and Starlette's background
tasks are part of it.  Tasks and pool threads that it starts have copies of its context and share
the view, and the request's scope: a ``del`` in one thread finds the session that was opened in
another.  An application that is mounted in another one takes part in its request (`mounting`).

A websocket and the lifespan have no view: they last as long as the client or the process, and
would see a frozen world.  There each read of a cached attribute looks at the ledger; a handler
that wants one consistent view for the work on one message opens it: ``with manager.request():``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from .manager import CacheManager
from .mounting import open_request

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]


class CacheMiddleware:
    """Open a view of *manager* for each HTTP request to *app*.

    ::

        application = CacheMiddleware(application, manager)          # any ASGI 3 application
        app.add_middleware(CacheMiddleware, manager=manager)         # FastAPI, Starlette

    :param app: the ASGI 3 application.
    :param manager: the `CacheManager`, or a callable that returns it; it is asked at each
        connection, so it may be made in the application's lifespan.

    Opening a view does no I/O: the ledger is looked at when the request first reads a cached
    attribute.  Nothing is caught: what the application raises goes on to the server.
    """

    def __init__(
        self, app: ASGIApplication, manager: CacheManager | Callable[[], CacheManager]
    ) -> None:
        self._app = app
        self._manager = manager

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            manager = self._manager
            found = manager if isinstance(manager, CacheManager) else manager()
            with open_request(scope, found.core):
                await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            # No view, but one scope for its tasks and pool threads: without it a `del` would
            # not find a session opened in another of them, and be made before the commit.
            with open_request(scope):
                await self._app(scope, receive, send)
        else:
            # Background tasks that start in the lifespan are each on their own.
            await self._app(scope, receive, send)
