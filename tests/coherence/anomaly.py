"""What can be wrong with a read, by name, and how it is told.

=============== ===================================================================================
stale           a request that began after a COMMIT had returned read a value from before it
uncommitted     a value of somebody else's transaction that had not asked for its COMMIT yet
aborted         a value that had been rolled back with its transaction
savepoint leak  a value that had been rolled back with its savepoint
unstable        a second value for one attribute in one request that invalidated nothing of it
lost own write  after its `del` a request did not see its own data
torn            it saw a part of its own transaction, and of the rest what was before
lost commit     the database does not have what it said was committed (or has what was not)
=============== ===================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass

from .history import Event

STALE = "stale"
UNCOMMITTED = "uncommitted"
ABORTED = "aborted"
SAVEPOINT_LEAK = "savepoint leak"
UNSTABLE = "unstable"
LOST_OWN_WRITE = "lost own write"
TORN = "torn"
LOST_COMMIT = "lost commit"
NAMES = (
    STALE,
    UNCOMMITTED,
    ABORTED,
    SAVEPOINT_LEAK,
    UNSTABLE,
    LOST_OWN_WRITE,
    TORN,
    LOST_COMMIT,
)


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
