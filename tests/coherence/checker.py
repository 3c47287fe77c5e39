"""Judges a history: names each read that the promise does not allow, and tells how it came
about."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterable

from .anomaly import (
    ABORTED,
    LOST_COMMIT,
    LOST_OWN_WRITE,
    NAMES,
    SAVEPOINT_LEAK,
    STALE,
    TORN,
    UNCOMMITTED,
    UNSTABLE,
    Anomaly,
)
from .history import START, Event, Part, by_thread, process_of
from .request import Request
from .writes import Write, Writes

#: Of a long request so many events are told, beside how it began.
_TOLD = 12


class Checker:
    """The judgement of one history.

    :param record: the database's own list of the writes that committed, see `Writes`.
    :param bound: so many milliseconds a COMMIT may have returned before a request begins that does
        not see it; but for one that returned to the request's own process.
    """

    def __init__(
        self,
        events: Iterable[Event],
        record: Collection[str] | None = None,
        *,
        bound: float = 0.0,
    ) -> None:
        events = list(events)
        self._bound = round(bound * 1e6)
        self.writes = Writes(events, record)
        self.anomalies: list[Anomaly] = [
            Anomaly(
                LOST_COMMIT,
                f"{write.part} and the database's own record do not agree",
                tuple(write.story()),
            )
            for write in self.writes.contradictions
        ]
        self.reads = 0
        self.requests = 0
        #: How long the most outdated value that was read had been so, in milliseconds.
        self.worst_lag = 0.0
        self._faults = sorted(
            event for event in events if event.who == "fault" and event.what != "found"
        )
        for thread in by_thread(events):
            self._judge(thread)

    def count(self) -> dict[str, int]:
        """How often each anomaly was found."""
        return {name: sum(a.name == name for a in self.anomalies) for name in NAMES}

    def _judge(self, thread: list[Event]) -> None:
        request: Request | None = None
        for event in thread:
            if event.who == "fault" or event.what in ("count", "error"):
                continue
            if event.what == "request":
                request = Request(event)
                self.requests += 1
                continue
            assert request is not None, f"not in a request: {event}"
            request.story.append(event)
            if event.what == "read":
                self._judge_read(request, event)
            else:
                request.follow(event, self.writes)

    def _judge_read(self, request: Request, event: Event) -> None:
        self.reads += 1
        before = request.read(event)
        if before.parts != event.parts:
            changed = [self.writes[part.write] for part in event.parts if part not in before.parts]
            self._found(
                UNSTABLE, f"{event.name} had another value before", request, event, *changed
            )
        for part in event.parts:
            self._judge_part(request, event, part)

    def _judge_part(self, request: Request, event: Event, part: Part) -> None:
        own = request.own(part.key)
        write = self.writes[part.write]
        if own is not None:
            if own is write:
                return
            if write is not None and write.undo is not None and write.undo.at <= event.at:
                self._is_dirty(request, event, part, write)
            else:
                self._lost(request, event, own, f"{part.key} is {own.part} in this transaction")
            return
        if write is not None and request.wrote(write):
            return  # its own, not committed yet
        if self._is_dirty(request, event, part, write):
            return
        settled = request.settled(part.key)
        if settled is not None and settled.part.version > part.version:
            why = f"{part.key} was {settled.part} and committed by this request"
            self._lost(request, event, settled, why)
            return
        self._judge_age(request, event, part)

    def _judge_age(self, request: Request, event: Event, part: Part) -> None:
        outdated = self.writes.outdated_since(part)
        if outdated is None:
            return
        self.worst_lag = max(self.worst_lag, (event.at - outdated) / 1e6)
        begun = request.begin.at
        newest = self.writes.newest_before(part.key, begun - self._bound)
        if newest is None or newest.part.version <= part.version:
            newest = self.writes.newest_own(process_of(event), part.key, begun)
        if newest is not None and newest.part.version > part.version:
            assert newest.committed is not None
            late = (begun - newest.committed.at) / 1e6
            self._found(
                STALE,
                f"{part.key} was {newest.part}, whose COMMIT had returned {late:.3f} ms before "
                f"the request began",
                request,
                event,
                newest,
            )

    def _lost(self, request: Request, event: Event, own: Write, why: str) -> None:
        """The request does not see its own write: is it torn, or has it seen none?"""
        seen = [w for w in request.others(own.part.key) if request.has_seen(w, event.parts)]
        if seen:
            why = f"{why}, and so is {seen[0].part}, which it has seen"
        self._found(TORN if seen else LOST_OWN_WRITE, why, request, event, own, *seen)

    def _is_dirty(self, request: Request, event: Event, part: Part, write: Write | None) -> bool:
        """Whether nobody should have seen *part* at the time of *event*."""
        if write is None:
            if part.write == START:
                return False
            # Its writer was killed before it could write down that it had written.
            self._found(UNCOMMITTED, f"nobody says to have written {part}", request, event)
            return True
        if write.undo is not None:
            if write.undone_by_savepoint:
                name = SAVEPOINT_LEAK
            else:
                # Nobody but its own transaction may see it before, and after nobody at all.
                name = ABORTED if write.undo.at <= event.at else UNCOMMITTED
            self._found(name, f"{part} was rolled back", request, event, write)
            return True
        if write.commit is None or write.commit.at > event.at:
            self._found(UNCOMMITTED, f"{part} was not committed yet", request, event, write)
            return True
        return False

    def _found(
        self, name: str, why: str, request: Request, read: Event, *writes: Write | None
    ) -> None:
        story = [request.begin, *request.story[-_TOLD:], read]
        for write in writes:
            if write is not None:
                story += write.story()
        first = min(event.at for event in story)
        faults = self._faults[bisect(self._faults, (first,)) : bisect(self._faults, (read.at,))]
        self.anomalies.append(Anomaly(name, why, (*story, *faults[-_TOLD:])))
