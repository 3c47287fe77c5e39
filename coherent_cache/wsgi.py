"""A WSGI middleware: one view for each request, until its response body is closed.

A body may read cached attributes after the application returned: a generator that a server
iterates, perhaps in another thread.  So each request runs in a copy of the server's context: the
call of the application, every step of the body and its ``close`` see the request's view, and the
server's own thread never does.

What ends a view depends on no server: its body's ``close``, an exception of the application, or
that nobody refers to the body any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from .manager import CacheManager
from .mounting import open_request

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_P = ParamSpec("_P")
_T = TypeVar("_T")


class CacheMiddleware:
    """Open a view of *manager* for each request to *app*, and end it with the response.

    ::

        application = CacheMiddleware(application, manager)

    :param app: the WSGI application.
    :param manager: the `CacheManager`, or a callable that returns it; it is asked at each
        request, before the application runs.

    Opening a view does no I/O: the ledger is looked at when the request first reads a cached
    attribute.  Nothing is caught: what the application raises goes on to the server.
    """

    def __init__(
        self, app: WSGIApplication, manager: CacheManager | Callable[[], CacheManager]
    ) -> None:
        self._app = app
        self._manager = manager

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve one request."""
        manager = self._manager
        found = manager if isinstance(manager, CacheManager) else manager()
        request = _Request(found, environ)
        try:
            body = request.run(self._app, environ, start_response)
        except BaseException:
            request.end()
            raise
        if _is_finished(body, environ):
            request.end()
            return body
        return _SizedBody(body, request) if hasattr(body, "__len__") else _Body(body, request)


class _Request:
    """A context of its own, with a view open in it: of an application that is mounted in another
    one, that one's (`mounting`)."""

    def __init__(self, manager: CacheManager, environ: WSGIEnvironment) -> None:
        self._context = copy_context()
        # a2wsgi hands the ASGI scope on, to a WSGI application that is mounted there.
        self._view = open_request(environ.get("asgi.scope", environ), manager.core)
        self._context.run(self._view.__enter__)

    def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._context.run(function, *args, **kwargs)

    def end(self) -> None:
        """End the view, from whatever thread and context."""
        self._view.__exit__()

    def __del__(self) -> None:
        # A server that never closes the body.  What the request started and left running has
        # copies of its context, and must not see its view for ever.
        self.end()


class _Body:
    """A response body, each step of which runs in its request's context."""

    def __init__(self, body: Iterable[bytes], request: _Request) -> None:
        self._body = body
        self._request = request
        self._iterator: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._iterator is None:
            self._iterator = self._request.run(iter, self._body)
        return self._request.run(next, self._iterator)

    def close(self) -> None:
        """Close the application's body, then end the view."""
        try:
            close: Any = getattr(self._body, "close", None)
            if close is not None:
                self._request.run(close)
        finally:
            self._request.end()


class _SizedBody(_Body):
    """A body of a known number of blocks: servers set Content-Length if there is one only."""

    def __len__(self) -> int:
        return self._request.run(len, self._body)  # type: ignore[arg-type]


def _is_finished(body: object, environ: WSGIEnvironment) -> bool:
    """Whether *body* reads nothing any more and can be handed to the server as it is: blocks in
    a list, or a file that the server sends by itself if it sees its own wrapper."""
    if type(body) in (list, tuple):
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    return isinstance(wrapper, type) and isinstance(body, wrapper)
