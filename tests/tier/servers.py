"""Servers of a test's own: to be killed, stopped, flushed and filled."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ..databases import REQUIRED

_COMMANDS: dict[str, Callable[[int], list[str]]] = {
    "redis": lambda port: [
        "redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "",
        "--appendonly", "no",
    ],
    "memcached": lambda port: ["memcached", "-p", str(port), "-l", "127.0.0.1", "-m", "64"],
}  # fmt: skip


class Server:
    """A process on a port of its own, which it keeps when it is started again."""

    def __init__(self, kind: str, directory: Path) -> None:
        self.kind = kind
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.start()

    def start(self, *more: str) -> None:
        command = [*_COMMANDS[self.kind](self.port), *more]
        if self.kind == "memcached" and os.getuid() == 0:
            command += ["-u", "root"]
        self._process = subprocess.Popen(
            command,
            cwd=self._directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None, f"{self.kind} ended at once"
                assert time.monotonic() < end, f"{self.kind} does not answer"
                time.sleep(0.01)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Connections are made, and nobody answers."""
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # else one of its threads may still answer
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def say(self, command: str) -> bytes:
        """Say *command* to the server as it is; return the first part of the answer."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(command.encode() + b"\r\n")
            return connection.recv(4096)

    def flush(self) -> None:
        answer = self.say("FLUSHALL" if self.kind == "redis" else "flush_all")
        assert answer in (b"+OK\r\n", b"OK\r\n")


@contextmanager
def server(kind: str, directory: Path) -> Iterator[Server]:
    """A server of *kind*; if its program is not there the test skips, or fails."""
    import pytest  # here, for the benchmarks start servers too and may have none

    program = _COMMANDS[kind](0)[0]
    if shutil.which(program) is None:
        if REQUIRED:
            pytest.fail(f"{program} is required and not installed")
        pytest.skip(f"{program} is not installed")
    made = Server(kind, directory)
    try:
        yield made
    finally:
        made.kill()


@contextmanager
def nonsense(answer: bytes) -> Iterator[int]:
    """The port of a server that answers everything by *answer*."""
    listener = socket.create_server(("127.0.0.1", 0))
    connections: list[socket.socket] = []

    def answer_all(connection: socket.socket) -> None:
        try:
            while connection.recv(65536):
                connection.sendall(answer)
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            threading.Thread(target=answer_all, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        for each in [listener, *connections]:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            each.close()
