"""Judges a history: names each read that the promise does not allow, and tells how it came about.

=============== ===================================================================================
stale           a request that began after a COMMIT had returned read a value from before it
uncommitted     a value of somebody else's transaction that had not asked for its COMMIT yet
aborted         a value that had been rolled back with its transaction
savepoint leak  a value that had been rolled back with its savepoint
unstable        a second value for one attribute in one request that invalidated nothing of it
lost own write  after its `del` a request did not see its own data
lost commit     the database does not have what it said was committed (or has what was not)
=============== ===================================================================================
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from .history import Event, Part, by_thread
from .writes import Write, Writes

STALE = "stale"
UNCOMMITTED = "uncommitted"
ABORTED = "aborted"
SAVEPOINT_LEAK = "savepoint leak"
UNSTABLE = "unstable"
LOST_OWN_WRITE = "lost own write"
LOST_COMMIT = "lost commit"
NAMES = (STALE, UNCOMMITTED, ABORTED, SAVEPOINT_LEAK, UNSTABLE, LOST_OWN_WRITE, LOST_COMMIT)


@dataclass(frozen=True)
class Anomaly:
    """What was wrong, why, and the events that show it."""

    name: str
    why: str
    events: tuple[Event, ...]

    def __str__(self) -> str:
        """A story: one line for each event, in milliseconds from the first."""
        told = sorted(set(self.events), key=lambda event: event.at)
        start = told[0].at
        lines = [f"  {(event.at - start) / 1e6:10.3f} ms  {event}" for event in told]
        return "\n".join([f"{self.name}: {self.why}", *lines])


@dataclass
class _Level:
    """An open transaction or savepoint of the request, as far as its own reads depend on it."""

    name: str = ""
    writes: dict[str, Write] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    #: Attributes first read at this level: values computed in it vanish with it.
    read: set[str] = field(default_factory=set)


class _Request:
    """One request as it goes on: what it has read, written and invalidated."""

    def __init__(self, begin: Event) -> None:
        self.begin = begin
        self.story = [begin]
        self.seen: dict[str, Event] = {}
        self.levels: list[_Level] = []
        #: Key → the own write that was invalidated and whose COMMIT has returned.
        self.settled: dict[str, Write] = {}

    def own(self, key: str) -> Write | None:
        """The newest own write of *key* that was not undone, in the open transaction."""
        for level in reversed(self.levels):
            if key in level.writes:
                return level.writes[key]
        return None

    def has_deleted(self, key: str) -> bool:
        return any(key in level.deleted for level in self.levels)

    def forget(self, keys: Collection[str]) -> None:
        """What depends on *keys* may change."""
        for name, event in list(self.seen.items()):
            if any(part.key in keys for part in event.parts):
                del self.seen[name]

    def leave(self, level: _Level) -> None:
        """A level was rolled back."""
        for name in level.read:
            self.seen.pop(name, None)
        self.forget(level.deleted)


class Checker:
    """The judgement of one history."""

    def __init__(self, events: Iterable[Event], record: Collection[str] | None = None) -> None:
        events = list(events)
        self.writes = Writes(events, record)
        self.anomalies: list[Anomaly] = [
            Anomaly(
                LOST_COMMIT,
                f"{write.part} and the database's own record do not agree",
                tuple(filter(None, (write.event, write.commit, write.committed))),
            )
            for write in self.writes.contradictions
        ]
        self.reads = 0
        self.requests = 0
        for thread in by_thread(events):
            self._judge(thread)

    def count(self) -> dict[str, int]:
        """How often each anomaly was found."""
        return {name: sum(a.name == name for a in self.anomalies) for name in NAMES}

    def _judge(self, thread: list[Event]) -> None:
        request: _Request | None = None
        for event in thread:
            if event.who == "fault" or event.what in ("count", "error"):
                continue
            if event.what == "request":
                request = _Request(event)
                self.requests += 1
                continue
            assert request is not None, f"not in a request: {event}"
            request.story.append(event)
            if event.what == "read":
                self._read(request, event)
            else:
                self._follow(request, event)

    # What the request itself does

    def _follow(self, request: _Request, event: Event) -> None:
        levels = request.levels
        if event.what == "begin":
            levels[:] = [_Level()]
        elif event.what == "savepoint":
            levels.append(_Level(event.name))
        elif event.what == "release":
            inner = levels.pop()
            levels[-1].writes |= inner.writes
            levels[-1].deleted |= inner.deleted
            levels[-1].read |= inner.read
        elif event.what == "undo":
            request.leave(levels.pop())
        elif event.what == "write":
            part = event.parts[0]
            write = self.writes[part.write]
            assert write is not None
            levels[-1].writes[part.key] = write
            if request.has_deleted(part.key):
                request.forget([part.key])
        elif event.what == "del":
            request.forget([event.name])
            if levels:
                levels[-1].deleted.add(event.name)
        elif event.what == "rollback":
            for level in levels:
                request.leave(level)
            levels.clear()
        elif event.what == "committed":
            for level in levels:
                request.forget(level.deleted)
                request.settled |= {
                    key: write
                    for key, write in level.writes.items()
                    if any(key in other.deleted for other in levels)
                }
            levels.clear()

    # What it reads

    def _read(self, request: _Request, event: Event) -> None:
        self.reads += 1
        before = request.seen.setdefault(event.name, event)
        if before is event and request.levels:
            request.levels[-1].read.add(event.name)
        if before.parts != event.parts:
            self._found(UNSTABLE, f"{event.name} had another value before", request, event, before)
            request.seen[event.name] = event
        for part in event.parts:
            self._judge_part(request, event, part)

    def _judge_part(self, request: _Request, event: Event, part: Part) -> None:
        own = request.own(part.key)
        if own is not None and request.has_deleted(part.key):
            if own.part.write != part.write:
                self._found(
                    LOST_OWN_WRITE,
                    f"{part.key} is {own.part} in this transaction",
                    request,
                    event,
                    own.event,
                )
            return
        write = self.writes[part.write]
        if write is not None and any(write in level.writes.values() for level in request.levels):
            return  # its own, not committed yet
        if write is not None and self._is_dirty(request, event, write):
            return
        settled = request.settled.get(part.key)
        if settled is not None and settled.part.version > part.version:
            self._found(
                LOST_OWN_WRITE,
                f"{part.key} was {settled.part} and committed by this request",
                request,
                event,
                settled.event,
                settled.committed,
            )
            return
        newest = self.writes.newest_before(part.key, request.begin.at)
        if newest is not None and newest.part.version > part.version:
            assert newest.committed is not None
            late = (request.begin.at - newest.committed.at) / 1e6
            self._found(
                STALE,
                f"{part.key} was {newest.part}, whose COMMIT had returned {late:.3f} ms before "
                f"the request began",
                request,
                event,
                newest.event,
                newest.committed,
            )

    def _is_dirty(self, request: _Request, event: Event, write: Write) -> bool:
        """Whether nobody should have seen *write* at the time of *event*."""
        if write.undo is not None:
            if write.undone_by_savepoint:
                name = SAVEPOINT_LEAK
            else:
                # Nobody but its own transaction may see it before, and after nobody at all.
                name = ABORTED if write.undo.at <= event.at else UNCOMMITTED
            self._found(
                name, f"{write.part} was rolled back", request, event, write.event, write.undo
            )
            return True
        if write.commit is None or write.commit.at > event.at:
            self._found(
                UNCOMMITTED,
                f"{write.part} was not committed yet",
                request,
                event,
                write.event,
                write.commit,
            )
            return True
        return False

    def _found(
        self, name: str, why: str, request: _Request, read: Event, *others: Event | None
    ) -> None:
        # Of a long request its end is told, and how it began.
        story = (request.begin, *request.story[-12:], read, *others)
        self.anomalies.append(Anomaly(name, why, tuple(filter(None, story))))
