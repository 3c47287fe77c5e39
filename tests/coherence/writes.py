"""What became of each write: when its transaction asked for COMMIT, when that returned, or how it
was undone."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from .history import Event, Part, by_thread, process_of

_BOUNDARIES = frozenset(
    ("begin", "savepoint", "release", "undo", "commit", "committed", "rollback", "rolled-back")
)


@dataclass(eq=False)
class Write:
    """One write of one key."""

    part: Part
    event: Event
    transaction: Transaction
    #: When its COMMIT was asked for and when it returned, or when somebody has found the write in
    #: the database after that; None if that never was.
    commit: Event | None = None
    committed: Event | None = None
    #: When its savepoint or its transaction was rolled back.
    undo: Event | None = None

    @property
    def undone_by_savepoint(self) -> bool:
        return self.undo is not None and self.undo.what == "undo"

    def story(self) -> Iterator[Event]:
        """What its transaction did to its key, and how that ended."""
        for event in self.transaction.events:
            touched = [event.name, *(part.key for part in event.parts)]
            if event.what in _BOUNDARIES or self.part.key in touched:
                yield event


@dataclass(eq=False)
class Transaction:
    """The writes of an open transaction and where its savepoints began."""

    writes: list[Write] = field(default_factory=list)
    savepoints: list[tuple[str, int]] = field(default_factory=list)
    #: All that was done in it.
    events: list[Event] = field(default_factory=list)

    def savepoint(self, name: str) -> None:
        self.savepoints.append((name, len(self.writes)))

    def release(self, name: str) -> None:
        while self.savepoints and self.savepoints.pop()[0] != name:
            pass

    def undo(self, event: Event) -> None:
        start = len(self.writes)
        while self.savepoints:
            name, start = self.savepoints.pop()
            if name == event.name:
                break
        for write in self.writes[start:]:
            write.undo = event
        del self.writes[start:]


class Writes:
    """All writes of a history, by the name that each has.

    *record* is the database's own list of the writes that committed.  It decides what became of
    a COMMIT that raised; without it such a one counts as rolled back.
    """

    def __init__(self, events: Iterable[Event], record: Collection[str] | None = None) -> None:
        self._writes: dict[str, Write] = {}
        #: Writes whose COMMIT returned and that the database does not have, or the reverse.
        self.contradictions: list[Write] = []
        found = []
        for thread in by_thread(events):
            if thread[0].who == "fault":
                found += [event for event in thread if event.what == "found"]
            else:
                self._follow(thread)
        # Who was killed in his COMMIT, or lost his connection, does not say that it returned.
        for event in found:
            write = self._writes.get(event.name)
            if write is not None and write.committed is None:
                write.committed = event
        if record is not None:
            self._compare(record)
        self._returned: dict[str, tuple[list[int], list[Write]]] = {}
        #: The same of each process's own, by the process and the key.
        self._own: dict[tuple[str, str], tuple[list[int], list[Write]]] = {}
        self._order()

    def __getitem__(self, name: str) -> Write | None:
        """The write called *name*; None for what was there at the beginning."""
        return self._writes.get(name)

    def newest_before(self, key: str, at: int) -> Write | None:
        """The newest write of *key* whose COMMIT had returned before *at*."""
        return _newest(self._returned.get(key), at)

    def newest_own(self, process: str, key: str, at: int) -> Write | None:
        """The newest write of *key* that *process* made and whose COMMIT had returned to it before
        *at*."""
        return _newest(self._own.get((process, key)), at)

    def outdated_since(self, part: Part) -> int | None:
        """When the first COMMIT returned of something newer than *part*; None if none has."""
        times, newest = self._returned.get(part.key, ([], []))
        index = bisect_right(newest, part.version, key=lambda write: write.part.version)
        return times[index] if index < len(times) else None

    @property
    def commits(self) -> int:
        return sum(write.committed is not None for write in self._writes.values())

    def __len__(self) -> int:
        return len(self._writes)

    def _follow(self, thread: list[Event]) -> None:
        transaction = Transaction()
        for event in thread:
            if event.what == "begin":
                transaction = Transaction()
            transaction.events.append(event)
            if event.what == "write":
                write = Write(event.parts[0], event, transaction)
                self._writes[write.part.write] = write
                transaction.writes.append(write)
            elif event.what == "savepoint":
                transaction.savepoint(event.name)
            elif event.what == "release":
                transaction.release(event.name)
            elif event.what == "undo":
                transaction.undo(event)
            elif event.what == "commit":
                for write in transaction.writes:
                    write.commit = event
            elif event.what == "committed":
                for write in transaction.writes:
                    write.committed = event
                transaction = Transaction()
            elif event.what == "rollback":
                for write in transaction.writes:
                    write.undo = event
                transaction = Transaction()

    def _compare(self, record: Collection[str]) -> None:
        known = set(record)
        for name, write in self._writes.items():
            if name in known:
                if write.commit is None:
                    self.contradictions.append(write)
                write.undo = None
                continue
            if write.committed is not None:
                self.contradictions.append(write)
            elif write.commit is not None and write.undo is None:
                write.undo = write.commit  # the process was killed in its COMMIT, which had failed

    def _order(self) -> None:
        returned: dict[str, list[Write]] = {}
        own: dict[tuple[str, str], list[Write]] = {}
        for write in self._writes.values():
            if write.committed is not None and write.undo is None:
                key = write.part.key
                returned.setdefault(key, []).append(write)
                # What somebody else has found in the database has not returned to the process.
                own.setdefault((process_of(write.committed), key), []).append(write)
        self._returned = {key: _in_order(writes) for key, writes in returned.items()}
        self._own = {place: _in_order(writes) for place, writes in own.items()}


def _in_order(writes: Iterable[Write]) -> tuple[list[int], list[Write]]:
    """When there was something newer, and what."""
    found = [(w.committed.at, w.part.version, w) for w in writes if w.committed is not None]
    times: list[int] = []
    newest: list[Write] = []
    for at, version, write in sorted(found, key=lambda entry: entry[:2]):
        if not newest or version > newest[-1].part.version:
            times.append(at)
            newest.append(write)
    return times, newest


def _newest(found: tuple[list[int], list[Write]] | None, at: int) -> Write | None:
    times, newest = found or ([], [])
    index = bisect_left(times, at)
    return newest[index - 1] if index else None
