"""The thread of `Push`: it looks at the ledger when another process says that there is news.

It does what a request's check does and nothing else: it looks, and `LastLook` takes that down.  So
the promise of `Bounded` holds whether it runs or not, and whether notifications come or not; what
it adds is that requests find the look made.

It has a connection of its own that LISTENs.  After commits of this process it sends one NOTIFY for
all there were, there and not in their transactions: PostgreSQL takes a lock for the whole database
at a COMMIT that has notified.
"""

from __future__ import annotations

import hashlib
import logging
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine

from .errors import ConfigurationError
from .freshness import Freshness, Push
from .schema import LedgerTables
from .side import connect_beside, leave_to_parent

_log = logging.getLogger("coherent_cache")

#: Seconds after which a connection that was lost, or could not be made, is tried again.
_AGAIN_SECONDS = 1.0
#: Seconds that `Listener.stop` waits for a look to end.
_STOP_SECONDS = 10.0


def listener_for(
    engine: Engine, tables: LedgerTables, freshness: Freshness, look: Callable[[], None]
) -> Listener | None:
    """The listener that the mode asks for, not started; *look* makes a check."""
    if not isinstance(freshness, Push):
        return None
    dialect = engine.dialect
    if dialect.name != "postgresql" or dialect.driver != "psycopg" or dialect.is_async:
        raise ConfigurationError(
            f"Push(seconds=...) needs PostgreSQL and a synchronous engine with psycopg 3 "
            f"(postgresql+psycopg://), not {dialect.name}+{dialect.driver}"
            f"{' (asynchronous)' if dialect.is_async else ''}: use "
            f"Bounded(seconds={freshness.seconds!r}), which promises the same"
        )
    return Listener(engine, channel(tables), freshness.seconds / 2, look)


def channel(tables: LedgerTables) -> str:
    """The name under which processes tell each other that this table has news; it belongs to one
    database, as tables do."""
    digest = hashlib.sha256(tables.log.fullname.encode()).hexdigest()[:16]
    return f"coherent_cache_{digest}"


class _Line:
    """What a listener and its thread share.  It knows neither, so each may go."""

    def __init__(self) -> None:
        # Guards the sockets against their end, held for a few instructions.  It can be taken
        # twice: the collector may end a line in the middle of anything.
        self._lock = threading.RLock()
        self._waker, self.woken = socket.socketpair()
        self._waker.setblocking(False)
        self.woken.setblocking(False)
        #: The thread is to end.
        self.ended = False
        #: This process has committed invalidations that nobody was told of.
        self.to_tell = False
        self.connection: Any = None
        #: A look was made since something went wrong.
        self.looked = True

    def tell(self) -> None:
        if not self.to_tell:  # else the thread has not come to it yet: one word is enough
            self.to_tell = True
            self._wake()

    def end(self) -> None:
        self.ended = True
        self._wake()

    def _wake(self) -> None:
        with self._lock:
            try:
                self._waker.send(b"\0")
            except OSError:
                pass  # full: it will wake; closed: nobody is there

    def drain(self) -> None:
        """Take note that the thread is awake."""
        try:
            self.woken.recv(1024)
        except BlockingIOError:
            pass

    def hang_up(self) -> None:
        """Close the connection."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.close()

    def close(self) -> None:
        with self._lock:
            self._waker.close()
            self.woken.close()

    def leave(self) -> None:
        """In a forked child: the connection is the parent's, and a lock may be held for ever."""
        leave_to_parent(self.connection)
        self._waker.close()
        self.woken.close()


class Listener:
    """Keeps this process fresh by a daemon thread, and tells the others what it committed."""

    def __init__(
        self, engine: Engine, channel: str, heartbeat: float, look: Callable[[], None]
    ) -> None:
        self.engine = engine
        self.channel = channel
        #: Seconds between two looks where nobody says anything.
        self.heartbeat = heartbeat
        self.look = look
        self._line: _Line | None = None
        self._finalizer: Any = None
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew: the parent's thread is not there."""
        # Guards what is made when the thread starts.  No other lock is taken meanwhile.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        if self._finalizer is not None:
            self._finalizer.detach()
        if self._line is not None:
            self._line.leave()
        self._line = None

    def start(self) -> None:
        """Have a thread, unless there is one.  Never at construction: a process that is about to
        fork has none if it has not looked."""
        if self._thread is not None and self._thread.is_alive():
            return
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                return
            try:
                line = _Line()
            except OSError:  # no more files: requests look for themselves
                return
            # The thread knows neither us nor the engine, whose listeners know us: a manager that
            # goes takes its thread along.  (Test: test_a_manager_takes_its_thread_along.)
            thread = threading.Thread(
                target=_run,
                args=(line, weakref.ref(self)),
                name="coherent_cache listening",
                daemon=True,
            )
            try:
                thread.start()
            except RuntimeError:  # the interpreter is about to end, or there are too many
                line.close()
                return
            if self._finalizer is not None:
                self._finalizer.detach()
            self._line, self._thread = line, thread
            self._finalizer = weakref.finalize(self, line.end)

    def committed(self) -> None:
        """This process has committed an invalidation: tell the others soon.  No I/O here; what
        fails is nobody's error, since the others find out by their heartbeat."""
        self.start()
        line = self._line
        if line is not None:
            line.tell()

    def stop(self) -> None:
        """End the thread and its connection, and wait for that."""
        with self._lock:
            line, thread = self._line, self._thread
        if line is None or thread is None:
            return
        line.end()
        if thread is not threading.current_thread():
            thread.join(_STOP_SECONDS)


_Reference = Callable[[], "Listener | None"]


def _run(line: _Line, listener: _Reference) -> None:
    try:
        while not line.ended:
            try:
                _listen(line, listener)
            except Exception as error:
                if line.looked and not line.ended:  # once for each time that it stops to work
                    _log.warning(
                        "the listener does not work (%s): requests look at the ledger themselves "
                        "until it does",
                        error,
                    )
                line.looked = False
            finally:
                line.hang_up()
            _rest(line, _AGAIN_SECONDS)
    finally:
        line.close()


def _listen(line: _Line, listener: _Reference) -> None:
    """Look whenever there is a reason, until the line ends or an error comes."""
    it = listener()
    if it is None:
        return
    heartbeat, name = it.heartbeat, it.channel
    connection = line.connection = connect_beside(it.engine)
    it.engine.dialect.set_isolation_level(connection, "AUTOCOMMIT")
    del it
    connection.execute(f"LISTEN {name}", prepare=False)
    own = connection.info.backend_pid
    due = 0.0
    with selectors.DefaultSelector() as selector:
        selector.register(connection.fileno(), selectors.EVENT_READ)
        selector.register(line.woken, selectors.EVENT_READ)
        while not line.ended:
            if line.to_tell:
                # First: what is committed from here on is told once more.
                line.to_tell = False
                connection.execute(f"NOTIFY {name}", prepare=False)
                due = 0.0
            # Whatever was read from the connection before this is covered by this look.
            now = time.monotonic()
            if now >= due:
                if not _look(listener):
                    return
                line.looked = True
                due = now + heartbeat
            selector.select(max(0.0, due - time.monotonic()))
            line.drain()
            heard = list(connection.notifies(timeout=0))  # all of them, or some would wait
            if any(said.pid != own for said in heard):
                due = 0.0


def _look(listener: _Reference) -> bool:
    it = listener()
    if it is None:
        return False
    it.look()
    return True


def _rest(line: _Line, seconds: float) -> None:
    """Wait so long, or until the line ends."""
    end = time.monotonic() + seconds
    with selectors.DefaultSelector() as selector:
        selector.register(line.woken, selectors.EVENT_READ)
        while not line.ended and (left := end - time.monotonic()) > 0:
            selector.select(left)
            line.drain()
