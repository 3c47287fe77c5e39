"""A TCP proxy in front of a database server, to take the server away and bring it back."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import URL

#: What becomes of a packet: it is passed on, it is not and the connection ends, or it is passed on
#: and the connection ends before its answer.
PASS, CUT_BEFORE, CUT_AFTER = "pass", "COMMIT does not arrive", "the answer to COMMIT is lost"


class Proxy:
    """Passes bytes on, until it is told to cut; refuses connections until it is told to mend.

    *watch* is asked what becomes of each packet that comes from a client.
    """

    def __init__(
        self, target: tuple[str, int], *, watch: Callable[[bytes], str] | None = None
    ) -> None:
        self._target = target
        self._watch = watch
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """End every connection, and refuse new ones."""
        with self._lock:
            self._refuses = True
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _shut(each)

    def cut_some(self, chosen: Callable[[], bool]) -> None:
        """End each connection for which *chosen* says so."""
        with self._lock:
            sockets = [each for each in self._sockets if chosen()]
            self._sockets = [each for each in self._sockets if each not in sockets]
        for each in sockets:
            _shut(each)

    def mend(self) -> None:
        """Accept connections again."""
        with self._lock:
            self._refuses = False

    def close(self) -> None:
        self.cut()
        _shut(self._listener)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._refuses:
                    _shut(client)
                    continue
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
            for source, sink, watch in ((client, server, self._watch), (server, client, None)):
                threading.Thread(target=_pass_on, args=(source, sink, watch), daemon=True).start()


def _pass_on(
    source: socket.socket, sink: socket.socket, watch: Callable[[bytes], str] | None
) -> None:
    try:
        while data := source.recv(65536):
            verdict = PASS if watch is None else watch(data)
            if verdict != CUT_BEFORE:
                sink.sendall(data)
            if verdict != PASS:
                break
    except OSError:
        pass
    _shut(sink)
    _shut(source)


def _shut(each: socket.socket) -> None:
    try:
        each.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    each.close()


@contextmanager
def proxied(
    url: URL, *, watch: Callable[[bytes], str] | None = None
) -> Iterator[tuple[URL, Proxy]]:
    """The URL of a proxy before the server of *url*; for *watch* see `Proxy`."""
    proxy = Proxy((url.host or "127.0.0.1", url.port or 0), watch=watch)
    try:
        yield url.set(host="127.0.0.1", port=proxy.port), proxy
    finally:
        proxy.close()
