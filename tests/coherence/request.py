"""One request as it goes on: what it has read, written and invalidated so far."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from .history import Event, Part
from .writes import Write, Writes


@dataclass
class _Level:
    """An open transaction or savepoint of the request, as far as its own reads depend on it."""

    name: str = ""
    writes: dict[str, Write] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)
    #: Attributes first read at this level: values computed in it vanish with it.
    read: set[str] = field(default_factory=set)


class Request:
    """What the request's next read has to agree with."""

    def __init__(self, begin: Event) -> None:
        self.begin = begin
        self.story = [begin]
        #: Attribute → its reading that is to be repeated.
        self.seen: dict[str, Event] = {}
        self._levels: list[_Level] = []
        #: Key → the own writes and invalidations whose COMMIT has returned, one transaction
        #: beside the other.
        self._settled: dict[str, Mapping[str, Write]] = {}

    # What it may see

    def own(self, key: str) -> Write | None:
        """The newest own write of *key* in the open transaction, if it was invalidated."""
        return self._written(key) if self._has_deleted(key) else None

    def settled(self, key: str) -> Write | None:
        """The own write of *key* that was invalidated and has committed."""
        return self._settled.get(key, {}).get(key)

    def wrote(self, write: Write) -> bool:
        """Whether *write* is one of the open transaction's own."""
        return any(write in level.writes.values() for level in self._levels)

    def others(self, key: str) -> Iterable[Write]:
        """The writes that belong to the same transaction as the own one of *key*."""
        if self._levels:
            keys = {key for level in self._levels for key in level.writes}
            found = [own for other in keys - {key} if (own := self.own(other))]
            if self.own(key) is not None:
                return found
        return [write for other, write in self._settled.get(key, {}).items() if other != key]

    def has_seen(self, write: Write, shown: Iterable[Part]) -> bool:
        """Whether the request has seen *write*, or something newer, in what is *shown* to it just
        now or in what it has read."""
        parts = {part for event in self.seen.values() for part in event.parts}
        return any(
            part.key == write.part.key and part.version >= write.part.version
            for part in parts.union(shown)
        )

    def _written(self, key: str) -> Write | None:
        for level in reversed(self._levels):
            if key in level.writes:
                return level.writes[key]
        return None

    def _has_deleted(self, key: str) -> bool:
        return any(key in level.deleted for level in self._levels)

    # What it does

    def read(self, event: Event) -> Event:
        """It reads; return the reading of the attribute that this one has to agree with."""
        before = self.seen.setdefault(event.name, event)
        if before is event and self._levels:
            self._levels[-1].read.add(event.name)
        self.seen[event.name] = event
        return before

    def follow(self, event: Event, writes: Writes) -> None:
        """It does something else than to read."""
        levels = self._levels
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
            self._leave(levels.pop())
        elif event.what == "write":
            write = writes[event.parts[0].write]
            assert write is not None
            levels[-1].writes[write.part.key] = write
            # What was invalidated shows what is written after: all of it that it is computed from.
            for level in levels:
                self._forget(level.deleted)
        elif event.what == "del":
            self._forget([event.name])
            if levels:
                levels[-1].deleted.add(event.name)
        elif event.what == "rollback":
            for level in levels:
                self._leave(level)
            levels.clear()
        elif event.what == "committed":
            self._settle()

    def _settle(self) -> None:
        settled = {}
        for level in self._levels:
            self._forget(level.deleted)
            settled.update({k: w for k in level.writes if (w := self.own(k))})
        self._settled |= dict.fromkeys(settled, settled)
        self._levels.clear()

    def _forget(self, keys: Collection[str]) -> None:
        """What depends on *keys* may change."""
        for name, event in list(self.seen.items()):
            if any(part.key in keys for part in event.parts):
                del self.seen[name]

    def _leave(self, level: _Level) -> None:
        """A level was rolled back."""
        for name in level.read:
            self.seen.pop(name, None)
        self._forget(level.deleted)
