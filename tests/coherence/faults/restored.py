"""Judges a history in which the database was restored from an older dump.

Before the restore, by the whole promise.  After it, for requests that began when it had ended:

- by the whole promise, for what was committed since, and for what is in the dump, as if that had
  been committed at the moment of the restore;
- and nothing may be read that the restore undid, or that had never committed; but for one thing: a
  value from a commit that a process had not read of in the ledger cannot be noticed by it, see "The
  moment of a restore" in docs/guarantees.md.  So it is forgiven to a process that had not looked
  between that commit and the restore; but not on PostgreSQL, where rows that are restored are
  others.

What was read by requests that were under way meanwhile is not judged: they have seen two worlds.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..anomaly import ABORTED, Anomaly
from ..checker import Checker
from ..history import START, Event, Part, by_thread, process_of
from ..writes import Writes

_NOW_OR_NEVER = frozenset(("begin", "del"))


@dataclass(frozen=True)
class Restored:
    """From when to when it took, which rows were in the dump, and the record there."""

    began: int
    ended: int
    items: Mapping[str, Part]
    record: Collection[str]
    #: Whether what a process had not read of is forgiven.
    forgives: bool = True

    def judge(self, events: Sequence[Event], record: Collection[str]) -> list[Anomaly]:
        """The anomalies in *events*, with the database's record at the end of all."""
        old = [event for event in events if event.at < self.began]
        undone = _Undone(self, events, record)
        new = [*self._dump(), *self._since(events, frozenset(record) - set(self.record), undone)]
        return [*Checker(old).anomalies, *undone.anomalies, *Checker(new, record).anomalies]

    def _dump(self) -> Iterator[Event]:
        """What is in the dump, as a commit at the end of the restore."""
        for what in ("request", "begin"):
            yield Event(self.ended, "dump", what)
        for part in self.items.values():
            if part.write != START:
                yield Event(self.ended, "dump", "write", "", (part,))
        for what in ("commit", "committed", "end"):
            yield Event(self.ended, "dump", what)

    def _since(
        self, events: Sequence[Event], committed: Collection[str], undone: _Undone
    ) -> Iterator[Event]:
        """What happened in requests that began after the restore, and the writes of others that
        committed after it."""
        for thread in by_thread(events):
            if thread[0].who == "fault":
                yield from (event for event in thread if event.at > self.ended)
                continue
            for request in _split(thread, "request"):
                if request[0].at > self.ended:
                    yield from (event for event in request if not undone.is_seen_by(event, request))
                    continue
                head, *transactions = _split(request, "begin")
                yield head[0]
                for transaction in transactions:
                    if any(part.write in committed for e in transaction for part in _written(e)):
                        yield from (e for e in transaction if e.what != "read")


class _Undone:
    """The writes of the old world that are not in the new one, and who has seen them there."""

    def __init__(
        self, restored: Restored, events: Sequence[Event], record: Collection[str]
    ) -> None:
        self._writes = Writes(events)
        self._there = frozenset(record) | frozenset(restored.record)
        self._restored = restored
        #: Process → when its requests began that have looked at the ledger before the restore.
        self._looks: dict[str, list[int]] = {}
        for thread in by_thread(event for event in events if event.at < restored.began):
            for request in _split(thread, "request"):
                for event in request:
                    if event.what == "read":
                        self._looks.setdefault(process_of(event), []).append(request[0].at)
                    if event.what == "read" or event.what in _NOW_OR_NEVER:
                        break  # what comes later may have been read without a look
        self.anomalies: list[Anomaly] = []

    def is_seen_by(self, event: Event, request: Sequence[Event]) -> bool:
        """Whether *event* is a read of something that is undone; it is not judged any further."""
        if event.what != "read":
            return False
        for part in event.parts:
            write = self._writes[part.write]
            if write is None or part.write in self._there or write.event.at > self._restored.ended:
                continue
            if not self._is_forgiven(event, part):
                story = (request[0], event, write.event, write.commit, write.committed, write.undo)
                self.anomalies.append(
                    Anomaly(
                        ABORTED, f"{part} was undone by the restore", tuple(filter(None, story))
                    )
                )
            return True
        return False

    def _is_forgiven(self, event: Event, part: Part) -> bool:
        write = self._writes[part.write]
        assert write is not None
        if write.commit is None or write.undo is not None:
            return False  # it had never committed
        if not self._restored.forgives:
            return False
        looks = self._looks.get(process_of(event), [])
        return write.committed is None or all(at < write.committed.at for at in looks)


def _written(event: Event) -> tuple[Part, ...]:
    return event.parts if event.what == "write" else ()


def _split(events: Sequence[Event], what: str) -> Iterator[list[Event]]:
    """Cut before each event called *what*."""
    piece: list[Event] = []
    for event in events:
        if event.what == what and piece:
            yield piece
            piece = []
        piece.append(event)
    if piece:
        yield piece
