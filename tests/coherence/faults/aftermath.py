"""What went on after the last fault of a run: a fault that stops everything would look clean."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..history import Event

#: What disturbers write down that does no harm.
HARMLESS = ("found", "continue", "free", "reuse", "restored")


@dataclass(frozen=True)
class Aftermath:
    """What requests that began after the last fault have done."""

    faults: int
    requests: int
    reads: int
    commits: int


def aftermath(events: Iterable[Event]) -> Aftermath:
    events = list(events)
    harm = [event for event in events if event.who == "fault" and event.what not in HARMLESS]
    last = max(
        (event.at for event in events if event.who == "fault" and event.what != "found"), default=0
    )
    counts = {"request": 0, "read": 0, "committed": 0}
    late: set[str] = set()
    for event in events:
        if event.what == "request" and event.at > last:
            late.add(event.who)
        if event.who in late and event.what in counts:
            counts[event.what] += 1
    return Aftermath(len(harm), counts["request"], counts["read"], counts["committed"])
