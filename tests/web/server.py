"""A small ASGI server for tests.

The application goes on from one ``send`` only when the test asks for what comes next, so a test
decides what happens between two blocks of a body.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextvars import Context
from typing import Any, TypeVar

_T = TypeVar("_T")


class Connection:
    """One HTTP request or websocket, each in a task of its own, as servers do it."""

    def __init__(self, application: Any, path: str = "/", kind: str = "http", method: str = "GET"):
        self._to_app: asyncio.Queue[Any] = asyncio.Queue()
        self._from_app: asyncio.Queue[Any] = asyncio.Queue()
        self._go_on = asyncio.Semaphore(0)
        self._held = False
        scope = {
            "type": kind,
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "subprotocols": [],
            "client": ("test", 1),
            "server": ("test", 80),
        }
        if kind == "http":
            self.tell({"type": "http.request", "body": b"", "more_body": False})
        elif kind == "websocket":
            self.tell({"type": "websocket.connect"})
        self.task = asyncio.ensure_future(application(scope, self._to_app.get, self._send))

    async def _send(self, message: Any) -> None:
        await self._from_app.put(message)
        await self._go_on.acquire()

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message to the application."""
        self._to_app.put_nowait(message)

    async def hear(self) -> dict[str, Any]:
        """The next message of the application; raises what it raised if it ended instead."""
        self._let_go_on()
        message = asyncio.ensure_future(self._from_app.get())
        await asyncio.wait({message, self.task}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if not message.done():
            message.cancel()
            await self.task
            raise EOFError("the application has ended")
        self._held = True
        return message.result()

    def _let_go_on(self) -> None:
        if self._held:
            self._held = False
            self._go_on.release()

    async def block(self) -> bytes:
        """The next block of the body that is not empty."""
        while True:
            message = await self.hear()
            body: bytes = message.get("body", b"")
            if body:
                return body
            if message["type"] == "http.response.body" and not message.get("more_body"):
                raise EOFError("the body has ended")

    async def rest(self) -> bytes:
        """What is left of the body, after the application's end."""
        found = b""
        while True:
            try:
                found += await self.block()
            except EOFError:
                self._let_go_on()
                await self.task
                return found


async def get(application: Any, path: str = "/", method: str = "GET") -> bytes:
    """A whole request."""
    return await Connection(application, path, method=method).rest()


def text(names: Iterable[str]) -> bytes:
    """A body that is never empty."""
    return b"names: " + ",".join(sorted(names)).encode()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test's coroutine in a context as empty as that of a server that starts."""
    Context().run(lambda: asyncio.run(main()))


def elsewhere(function: Callable[[], _T]) -> _T:
    """Call *function* as another process would: in a context that has nothing of ours."""
    return Context().run(function)
