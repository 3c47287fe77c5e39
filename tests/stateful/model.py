"""What a database without a cache would show: versions, transactions, and what may be read."""

from __future__ import annotations

from dataclasses import dataclass, field


class Truth:
    """The committed values of each page, in the order of the commits."""

    def __init__(self, names: str) -> None:
        self.history: dict[str, list[tuple[int, str | None]]] = {n: [(0, "start")] for n in names}
        self.now = 0

    def commit(self, values: dict[str, str | None]) -> None:
        self.now += 1
        for name, value in values.items():
            self.history[name].append((self.now, value))

    def since(self, name: str, moment: int) -> set[str | None]:
        """The values that a committed reader could have seen at *moment* or later."""
        versions = self.history[name]
        first = max(at for at, _ in versions if at <= moment)
        return {value for at, value in versions if at >= first}


@dataclass
class Level:
    """A transaction, or one of its savepoints: what was written and invalidated in it."""

    values: dict[str, str | None] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    #: Without a `del` a value that was read before a later write stays what it is.
    earlier: set[tuple[str, str | None]] = field(default_factory=set)


class Expected:
    """What one client may read."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.levels: list[Level] = []
        self.in_request = False
        self._began = 0
        self._floor: dict[str, int] = {}
        self._seen: dict[str, tuple[object, str]] = {}

    # What the client does

    def begin_request(self) -> None:
        self.in_request = True
        self._began = self.truth.now

    def end_request(self) -> None:
        self.in_request = False
        self._floor.clear()
        self._seen.clear()

    def begin(self) -> None:
        self.levels = [Level()]
        if not self.in_request:
            self._began = self.truth.now

    def write(self, name: str, value: str) -> None:
        self.levels[-1].values[name] = value
        self.levels[-1].earlier.add((name, value))

    def delete(self, name: str) -> None:
        if self.levels:
            self.levels[-1].dropped.add(name)
        self._forget({name})

    def not_yet_dropped(self) -> set[str]:
        """What was written and still has to be invalidated before the commit."""
        written = {name for level in self.levels for name in level.values}
        return written - {name for level in self.levels for name in level.dropped}

    def savepoint(self) -> None:
        self.levels.append(Level())

    def release(self) -> None:
        inner = self.levels.pop()
        self.levels[-1].values.update(inner.values)
        self.levels[-1].dropped |= inner.dropped
        self.levels[-1].earlier |= inner.earlier

    def rollback_to(self) -> None:
        self.levels[-1] = Level()
        self._seen.clear()

    def commit(self) -> None:
        values: dict[str, str | None] = {}
        dropped: set[str] = set()
        for level in self.levels:
            values.update(level.values)
            dropped |= level.dropped
        if values:
            self.truth.commit(values)
        self._forget(dropped)
        for name in values:
            self._floor[name] = self.truth.now
        self._end()

    def rollback(self) -> None:
        self._seen.clear()
        self._end()

    def _end(self) -> None:
        self.levels = []
        if not self.in_request:
            self.end_request()

    def _forget(self, names: set[str]) -> None:
        for slot in [s for s, (_, of) in self._seen.items() if not names.isdisjoint(of)]:
            del self._seen[slot]

    # What it may see

    def start_read(self) -> int:
        """The moment whose commits have to be seen."""
        return self._began if self.in_request or self.levels else self.truth.now

    def allowed(self, name: str, moment: int) -> set[str | None]:
        own = [level.values[name] for level in self.levels if name in level.values]
        if own and name not in self.not_yet_dropped():
            return {own[-1]}
        found = self.truth.since(name, max(moment, self._floor.get(name, 0)))
        return found | {text for level in self.levels for of, text in level.earlier if of == name}

    def check(self, slot: str, names: str, value: object, moment: int) -> None:
        """*slot* was read, and computed from the pages *names*; *value* has one text for each."""
        texts = value if isinstance(value, tuple) else (value,)
        for name, text in zip(names, texts, strict=True):
            allowed = self.allowed(name, moment)
            assert text in allowed, (
                f"{name} is {text!r}, which is none of {sorted(map(str, allowed))}"
            )
        if self.in_request and slot in self._seen:
            before, _ = self._seen[slot]
            assert value == before, f"{slot} was {before!r}, and is {value!r}"
        if self.in_request:
            self._seen[slot] = value, names
