"""A real server: ``python -m example_app``, and a way to hear from each of its workers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from sqlalchemy import URL

from .person import Answer, Person, over_http

_T = TypeVar("_T")

ROOT = Path(__file__).parents[2]
WORKERS = 4
_DEADLINE_SECONDS = 45


def environment() -> dict[str, str]:
    """The environment of a started process: none of its settings come from here."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "WIKI_TIER") and not name.startswith("FLASK_")
    }
    return {**kept, "PYTHONPATH": str(ROOT)}


@dataclass
class Server:
    """A server that is running."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path
    url: URL | None  # None: a SQLite file

    def person(self) -> Person:
        return over_http(self.port)

    def everyone(self, path: str) -> dict[str, Answer]:
        """Ask until each worker has answered; returns the first answer of each.

        A sync worker takes one connection at a time: with as many connections open as there
        are workers, all of them are taken, each by another worker, before one is answered.
        That holds nearly always, and what is missing is asked again.
        """
        heard: dict[str, Answer] = {}
        person = self.person()
        end = time.monotonic() + _DEADLINE_SECONDS
        while len(heard) < WORKERS:
            assert time.monotonic() < end, f"only {sorted(heard)} answered\n{self.log.read_text()}"
            for answer in self._together(person, path):
                heard.setdefault(answer.worker, answer)
        return heard

    def _together(self, person: Person, path: str) -> Iterator[Answer]:
        sockets = [socket.create_connection(("127.0.0.1", self.port), 30) for _ in range(WORKERS)]
        request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode()
        for each in sockets:
            each.sendall(request)
        for each in sockets:
            with each, each.makefile("rb") as file:
                head, _, body = file.read().partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            headers = dict(line.split(": ", 1) for line in lines)
            yield Answer(int(status.split()[1]), headers, body.decode(), path)


@contextmanager
def serve(instance: Path, url: URL | None = None, *, tier: str | None = None) -> Iterator[Server]:
    """Start the example with four workers, on this database or on its own SQLite file."""
    command = [sys.executable, "-m", "example_app", "--port", "0", "--instance", str(instance)]
    if url is not None:
        command += ["--database-url", url.render_as_string(hide_password=False)]
    settings = {} if tier is None else {"WIKI_TIER": tier}
    instance.mkdir(parents=True, exist_ok=True)
    log = instance / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**environment(), **settings},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        found = until(lambda: _listening(process, log))
        yield Server(process, int(found[1]), log, url)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def until(look: Callable[[], _T | None]) -> _T:
    """Look again and again until there is something; fails after a while."""
    end = time.monotonic() + _DEADLINE_SECONDS
    while (seen := look()) is None:
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return seen


def _listening(process: subprocess.Popen[bytes], log: Path) -> re.Match[str] | None:
    text = log.read_text()
    assert process.poll() is None, f"the server stopped:\n{text}"
    return re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", text)
