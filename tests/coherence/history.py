"""What workers write down: one event after the other, with the time of one clock.

An event is told as one line, and `parse` reads such lines, so that a history can be written by
hand and an anomaly is printed in the same words::

    A request                   a request begins
    A read x: x=0:start         the attribute x gave version 0, written by `start`
    A begin                     a transaction begins
    A savepoint s / release s / undo s
    A write x=1:a1              x becomes version 1; `a1` names this write and no other
    A del x
    A commit / committed        just before COMMIT, and when it has returned
    A rollback / rolled-back    just before ROLLBACK (or for a COMMIT that failed), and after
    A end                       the request ends
    A load x                    a retriever runs
    A count checks 2            something to be added up: the request looked at the ledger twice
    A error OperationalError    the request ended by an error that was to be expected
    fault kill 1.0              somebody else interfered: a worker was killed
    fault found a1              somebody else has seen the write `a1` in the database: it committed

A derived attribute shows all it was computed from: ``A read sum: x=1:a1 y=0:start``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import NamedTuple

#: What wrote the rows that were there at the beginning.
START = "start"


class Part(NamedTuple):
    """A key's value as somebody read or wrote it."""

    key: str
    version: int  # counted up under the row's lock, so the order of a key's commits
    write: str  # the write it came from

    def __str__(self) -> str:
        return f"{self.key}={self.version}:{self.write}"


class Event(NamedTuple):
    """Something that happened in one thread of one worker."""

    at: int  # time.monotonic_ns, the same clock for all processes of a machine
    who: str
    what: str
    name: str = ""  # of an attribute, a key or a savepoint
    parts: tuple[Part, ...] = ()

    def __str__(self) -> str:
        shown = " ".join(map(str, self.parts))
        if self.what == "read":
            return f"{self.who} read {self.name}: {shown}"
        return f"{self.who} {self.what} {self.name or shown}".rstrip()


class Log:
    """The events of one thread.

    With a *path* they are appended to that file, each by a write of its own as it happens, and are
    there whatever becomes of the process.
    """

    def __init__(self, who: str, path: Path | None = None) -> None:
        self.who = who
        self.events: list[Event] = []
        self._file: int | None = None
        if path is not None:
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def add(
        self, what: str, name: str = "", parts: Iterable[Part] = (), *, at: int | None = None
    ) -> None:
        when = time.monotonic_ns() if at is None else at
        event = Event(when, self.who, what, name, tuple(parts))
        if self._file is None:
            self.events.append(event)
        else:
            os.write(self._file, f"{when} {event}\n".encode())

    def count(self, name: str, number: int = 1) -> None:
        """Write down a figure that is to be added up."""
        self.add("count", f"{name} {number}")

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


#: The log of the thread or task that runs, for retrievers.
current_log: ContextVar[Log | None] = ContextVar("current_log", default=None)


def parse(story: str) -> list[Event]:
    """Read a history told in lines; line numbers are its time."""
    lines = story.strip().splitlines()
    return [e for at, line in enumerate(lines) if (e := _event(at, line.partition("#")[0]))]


def read_logs(directory: Path) -> list[Event]:
    """Read what the logs in *directory* hold, the last line of a killed writer included if it is
    whole."""
    events = []
    for path in sorted(directory.glob("*.log")):
        *lines, _ = path.read_text().split("\n")
        for line in lines:
            at, _, told = line.partition(" ")
            event = _event(int(at), told)
            assert event is not None, line
            events.append(event)
    return events


def _event(at: int, line: str) -> Event | None:
    words = line.split()
    if not words:
        return None
    who, what, *rest = words
    if what == "read":
        name, parts = rest[0].rstrip(":"), rest[1:]
    elif what == "write":
        name, parts = "", rest
    else:
        name, parts = " ".join(rest), []
    return Event(at, who, what, name, tuple(map(_part, parts)))


def _part(text: str) -> Part:
    key, _, value = text.partition("=")
    version, _, write = value.partition(":")
    return Part(key, int(version), write)


def by_thread(events: Iterable[Event]) -> Iterator[list[Event]]:
    """Each thread's events, in the order in which it wrote them down."""
    threads: dict[str, list[Event]] = {}
    for event in events:
        threads.setdefault(event.who, []).append(event)
    yield from threads.values()


def process_of(event: Event) -> str:
    """The process that wrote *event* down."""
    return event.who.rpartition(".")[0] or event.who
