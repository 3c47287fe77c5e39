"""SQLAlchemy's bridge between synchronous code and an event loop, and what to wait with in it.

On an asynchronous engine the library's synchronous code runs inside a greenlet that SQLAlchemy
starts; whatever blocks there has to hand control back to the event loop instead, or two tasks of
one loop would wait for each other for ever.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlalchemy.util import await_only, greenlet_spawn

try:  # SQLAlchemy installs greenlet only with its extra "asyncio"
    import greenlet as _greenlet  # type: ignore[import-untyped, unused-ignore]
except ImportError:  # pragma: no cover
    _greenlet = None

_T = TypeVar("_T")


def in_greenlet() -> bool:
    """Whether this code may hand control to the event loop by `await_only`."""
    return _greenlet is not None and getattr(
        _greenlet.getcurrent(), "__sqlalchemy_greenlet_provider__", False
    )


def spawn(function: Callable[..., _T], *args: Any) -> Coroutine[Any, Any, _T]:
    """Run synchronous *function*, which does I/O on an asynchronous engine, from a coroutine."""
    return greenlet_spawn(function, *args)


def wait_in_greenlet(awaitable: Awaitable[_T]) -> _T:
    """Await *awaitable* from code that `spawn` runs."""
    result: _T = await_only(awaitable)
    return result


def wait_for(future: Future[_T], seconds: float | None = None) -> bool:
    """Wait until *future* is done, for *seconds* at most, without raising what it holds; return
    whether it is done."""
    if in_greenlet():
        return await_only(wait_for_async(future, seconds))
    return _wait_in_thread(future, seconds)


async def wait_for_async(future: Future[_T], seconds: float | None = None) -> bool:
    """`wait_for` in a coroutine.

    Cancelling the waiter leaves the future alone: others wait for it as well.
    """
    loop = asyncio.get_running_loop()
    done = loop.create_future()

    def wake() -> None:
        if not done.done():
            done.set_result(None)

    def on_done(_: Future[_T]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(wake)

    future.add_done_callback(on_done)
    await asyncio.wait((done,), timeout=seconds)
    return done.done()


def pause(seconds: float) -> None:
    """Sleep, without stopping the event loop that the caller may run in."""
    if in_greenlet():
        await_only(asyncio.sleep(seconds))
    else:
        time.sleep(seconds)


def _wait_in_thread(future: Future[Any], seconds: float | None) -> bool:
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    return done.wait(seconds)


def closed_loops(
    known: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Any],
) -> list[asyncio.AbstractEventLoop]:
    """The event loops among *known* in which nothing will run any more."""
    # Another thread may add one meanwhile: the references are a copy.
    loops = [reference() for reference in known.keyrefs()]
    return [loop for loop in loops if loop is not None and loop.is_closed()]


class Mutex:
    """A lock for code that does I/O: among threads or, on an asynchronous engine, among the tasks
    of each event loop.

    A thread's lock held by a task that is suspended would block the whole event loop, so there
    each loop has a lock of its own.  Code in two loops is not kept apart: what the lock guards must
    bear that.
    """

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async
        self._thread_lock = threading.Lock()
        self._loop_locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = (
            weakref.WeakKeyDictionary()
        )

    @property
    def of_threads(self) -> threading.Lock:
        """The lock, for code of a synchronous engine."""
        return self._thread_lock

    def run_if_free(self, function: Callable[[], None]) -> None:
        """Call *function* with the lock of threads held, unless somebody has it."""
        if self._thread_lock.acquire(blocking=False):
            try:
                function()
            finally:
                self._thread_lock.release()

    @property
    def of_tasks(self) -> asyncio.Lock:
        """The lock of the running event loop, for code of an asynchronous engine."""
        loop = asyncio.get_running_loop()
        lock = self._loop_locks.get(loop)
        if lock is None:  # another thread runs another loop
            # One that somebody had to wait for refers to its loop.
            # (Test: test_event_loops_are_let_go.)
            for closed in closed_loops(self._loop_locks):
                self._loop_locks.pop(closed, None)
            lock = self._loop_locks[loop] = asyncio.Lock()
        return lock

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock in a ``with`` block."""
        if not self._is_async:
            with self._thread_lock:
                yield
            return
        lock = self.of_tasks
        await_only(lock.acquire())
        try:
            yield
        finally:
            lock.release()


def current_owner() -> object:
    """Who runs: the task of an event loop, else the thread.  To be compared only."""
    loop = asyncio._get_running_loop()
    if loop is not None:
        task = asyncio.current_task(loop)
        if task is not None:
            return task
    return threading.get_ident()
