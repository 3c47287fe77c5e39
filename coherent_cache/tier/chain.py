"""Layers of shared storage, from the most local to the most global.

Nothing here raises because a server is down, slow, full, flushed or talks nonsense: that is a miss,
and a count.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from dogpile.cache import CacheRegion
from dogpile.cache.api import CacheBackend

from ..forking import tell_after_fork
from .backends import Storage, adopt, is_answer
from .breaker import Breaker

_T = TypeVar("_T")
_COUNTS = ("hits", "misses", "errors", "puts", "skipped")


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """What a layer did in this process since it was made or forked."""

    name: str
    hits: int  # addresses that it had
    misses: int  # addresses that it did not have; those of calls that failed are in `errors`
    errors: int  # calls that failed, and values that were not bytes
    puts: int  # values that it took
    skipped: int  # calls that were not made because its breaker was open
    opened: int  # how often its breaker has opened
    last_error: str | None  # of the last call that failed


class Layer:
    """One storage behind its breaker; thread-safe.

    A call takes no longer than *timeout* seconds for each time that it waits for the server: for a
    connection, and for each part of an answer.  It is 0.25 unless the region says otherwise.
    """

    def __init__(
        self,
        source: CacheRegion | CacheBackend,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage: Storage = adopt(source)
        self.name = self._storage.name
        self.timeout = self._storage.timeout
        # A little less: two clocks measure it, and one may be coarse.
        self.breaker = Breaker(self.name, timeout=self.timeout * 0.95, clock=clock)
        # Guards the counts; a leaf.
        self._lock = threading.Lock()
        self._counts: dict[str, int] = dict.fromkeys(_COUNTS, 0)
        self._last_error: str | None = None
        tell_after_fork(self)

    def get(self, addresses: Sequence[str]) -> dict[str, bytes]:
        """Return what is there.  I/O; raises nothing for a server's sake."""
        found = self._call(lambda: self._storage.get(addresses))
        if found is None:
            return {}
        pairs = zip(addresses, found, strict=True)
        values = {address: value for address, value in pairs if type(value) is bytes}
        missing = sum(value is None for value in found)
        self._count(hits=len(values), misses=missing, errors=len(found) - len(values) - missing)
        return values

    def put(self, items: Mapping[str, bytes]) -> None:
        """Store *items*, or as many of them as it takes.  I/O; raises nothing likewise."""
        if self._call(lambda: (self._storage.set(items), True)) is not None:
            self._count(puts=len(items))

    def mutex(self, address: str) -> Mutex | None:
        """Return the lock for *address* that all processes share; None if there is none."""
        try:
            lock = self._storage.mutex(address)
        except Exception as error:
            self._erred(error)
            return None
        return None if lock is None else Mutex(self, lock)

    def statistics(self) -> LayerStatistics:
        """Return the counts.  No I/O."""
        with self._lock:
            counts = dict(self._counts)
            last_error = self._last_error
        opened = self.breaker.opened
        return LayerStatistics(name=self.name, opened=opened, last_error=last_error, **counts)

    def after_fork(self) -> None:
        """In a child: nothing of the parent's locks, connections and counts."""
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(_COUNTS, 0)
        self.breaker.after_fork()
        self.disconnect()

    def _call(self, function: Callable[[], _T]) -> _T | None:
        """Call *function*, which returns something; None if it failed or is not to be called."""
        permit = self.breaker.admit()
        if permit is None:
            self._count(skipped=1)
            return None
        try:
            answer = function()
        except Exception as error:
            self._erred(error)
            self.disconnect()
            if is_answer(error):
                # Full, or not allowed to: it still has what it has (test_full).
                self.breaker.succeeded(permit)
            else:
                self.breaker.failed(permit, error)
            return None
        except BaseException:
            # In the middle of an exchange: the answer that is still to come is nobody's.
            self.disconnect()
            self.breaker.abandoned(permit)
            raise
        self.breaker.succeeded(permit)
        return answer

    def disconnect(self) -> None:
        """Close what its client does not look after itself."""
        try:
            self._storage.disconnect()
        except Exception:
            pass  # it was on its way out

    def close(self) -> None:
        """Close its connections; they open again when they are needed."""
        try:
            self._storage.close()
        except Exception:
            pass  # it was on its way out

    def _erred(self, error: Exception) -> None:
        self._last_error = repr(error)
        self._count(errors=1)

    def _count(self, **more: int) -> None:
        with self._lock:
            for name, number in more.items():
                self._counts[name] += number


class Mutex:
    """A lock that processes and hosts share, to save work: who holds it computes.

    It excludes nobody for certain: it ends after its time-out, and who releases late may release
    another's.
    """

    def __init__(self, layer: Layer, lock: Any) -> None:
        self._layer = layer
        self._lock = lock
        self._held = False

    def acquire(self, wait: bool = False) -> bool:
        """Return whether the caller may go on: False only while another holds it.

        True also when the server is away, for then nobody else can have said that he is at work.
        It does not wait for the other: *wait* has to be False.  I/O; raises nothing.
        """
        if wait:
            raise ValueError("a shared lock is not waited for: look for the value now and then")
        answer = self._layer._call(lambda: bool(self._lock.acquire(False)))
        self._held = answer is True
        return answer is not False

    def release(self) -> None:
        """Let go, if it was acquired from the server.  I/O; raises nothing."""
        if self._held:
            self._held = False
            self._layer._call(lambda: (self._lock.release(), True))


class Chain:
    """Layers that are asked in order; thread-safe.

    *layers*, configured regions or backends of dogpile.cache, come from the most local to the most
    global.  Raises `ConfigurationError` for those that cannot be used.
    """

    def __init__(
        self,
        layers: Iterable[CacheRegion | CacheBackend],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.layers = tuple(Layer(each, clock=clock) for each in layers)

    def get(self, addresses: Sequence[str]) -> list[bytes | None]:
        """Return what is at each address, None for what no layer has.

        Each layer is asked once, for what those before it did not have; what it has is put into
        them.  I/O; raises nothing for a server's sake.
        """
        found: dict[str, bytes] = {}
        missing = list(dict.fromkeys(addresses))
        for number, layer in enumerate(self.layers):
            if not missing:
                break
            news = layer.get(missing)
            if news:
                for nearer in self.layers[:number]:
                    nearer.put(news)
                found.update(news)
                missing = [each for each in missing if each not in news]
        return [found.get(each) for each in addresses]

    def put(self, items: Mapping[str, bytes]) -> None:
        """Put *items* into every layer.  I/O; raises nothing for a server's sake."""
        if items:
            for layer in self.layers:
                layer.put(items)

    def mutex(self, address: str) -> Mutex | None:
        """Return the lock of the most global layer that has one, None if none has."""
        for layer in reversed(self.layers):
            mutex = layer.mutex(address)
            if mutex is not None:
                return mutex
        return None

    def statistics(self) -> tuple[LayerStatistics, ...]:
        """Return the counts of each layer, in their order.  No I/O."""
        return tuple(layer.statistics() for layer in self.layers)
