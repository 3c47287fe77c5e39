"""One view for one request, also where it passes several middlewares of one manager.

An application may be mounted in another one, both with the middleware.  It takes part in the outer
one's request: two views would be two values of one key.

What is open is marked in the request itself, its ASGI scope or WSGI environment, which whoever
mounts an application hands on.  A request that somebody makes in the middle of another, by a test
client, has no mark, and a view of its own.
"""

from __future__ import annotations

import weakref
from collections.abc import MutableMapping
from typing import Any

from .scope import Scope, current_scope, current_view, open_scope, open_view
from .view import View

_MARK = "coherent_cache.open"


class open_request:  # noqa: N801  (used like a function)
    """A context manager: the block has a view of *core* for *request*; without *core* a scope only.

    It opens nothing if an outer one has, for the same request and where this code runs.
    (Tests: test_mounted_*.)
    """

    def __init__(self, request: MutableMapping[str, Any], core: Any = None) -> None:
        self._request = request
        self._core = core
        self._opened: open_view | open_scope | None = None
        #: The scope that was opened, as long as the block lasts: the request may be kept longer.
        self.scope: Scope | None = None

    def __enter__(self) -> None:
        # Weak references: what is open ends with its block, whoever keeps the request.
        marks = self._request.get(_MARK, ())
        scopes = [mark.scope for reference in marks if (mark := reference()) is not None]
        if scopes and self._here() in scopes:
            return
        if self._core is None:
            self._opened = open_scope()
            self.scope = self._opened.__enter__()
        else:
            view = View()
            self._opened = open_view(self._core, view, request=True)
            self._opened.__enter__()
            self.scope = view.scope
        self._request[_MARK] = (*marks, weakref.ref(self))

    def __exit__(self, *_: object) -> None:
        self.scope = None
        if self._opened is not None:
            self._opened.__exit__()

    def _here(self) -> object:
        """The scope that a mark has to name: the context's own may be that of another request."""
        if self._core is None:
            return current_scope()
        view = current_view(self._core)
        return self if view is None else view.scope
