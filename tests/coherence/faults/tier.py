"""What may happen to a tier: it goes and comes back, hangs, loses all it has, is full, its
connections end, and somebody who can write to its server puts other payloads there.

Whatever happens, what is read is right: a value that is not there, or is not what was put there,
is computed.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from ...proxy import Proxy
from ..tiers import TierPlace, tier_place
from .forging import Forge
from .stage import Stage
from .striking import Striking


class _OnTier(Striking):
    """Strikes at the tier."""

    def __init__(self, place: TierPlace, every: float) -> None:
        super().__init__(every)
        self.place = place


class Down(_OnTier):
    """Kills the server, and starts it again; it has nothing then.  A file is taken away."""

    def strike(self) -> None:
        self.scene.did("tier-down")
        server = self.place.server
        if server is None:
            _remove_file(self.place.directory)
            return
        server.kill()
        self.rest(self.random.uniform(0, 0.3))
        server.start()


class Hang(_OnTier):
    """The server does not answer for a while, and then goes on where it was.  Whoever has the lock
    of a file does not let go of it."""

    def strike(self) -> None:
        self.scene.did("tier-hang")
        server = self.place.server
        stopped = _locked(self.place.directory) if server is None else server.stopped()
        with stopped:
            self.rest(self.random.uniform(0.05, 0.5))
        self.scene.did("continue")


class Flush(_OnTier):
    """It loses all it has."""

    def strike(self) -> None:
        self.scene.did("tier-flush")
        if self.place.server is None:
            _remove_file(self.place.directory)
        else:
            self.place.server.flush()


class Full(_OnTier):
    """It takes nothing more (Redis), or forgets at once what it took (memcached)."""

    def strike(self) -> None:
        server = self.place.server
        assert server is not None
        self.scene.did("tier-full")
        if server.kind == "redis":
            server.say("CONFIG SET maxmemory-policy noeviction")
            server.say("CONFIG SET maxmemory 1000")
            self.rest(self.random.uniform(0.05, 0.4))
            server.say("CONFIG SET maxmemory 0")
        else:
            with contextlib.suppress(OSError):
                _fill_memcached(server.port)
        self.scene.did("free")


class CutTier(_OnTier):
    """Connections to it end: some, or all for a while."""

    proxy: Proxy

    def strike(self) -> None:
        self.scene.did("tier-cut")
        if self.random.random() < 0.6:
            self.proxy.cut_some(lambda: self.random.random() < 0.5)
            return
        self.proxy.cut()
        self.rest(self.random.uniform(0.01, 0.2))
        self.proxy.mend()


def _remove_file(directory: Path) -> None:
    with _locked(directory):
        for path in directory.glob("tier.dbm*"):
            if "lock" not in path.name:
                path.unlink(missing_ok=True)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """The lock that dogpile.cache has for the file."""
    from dogpile.cache.backends.file import FileLock

    lock = FileLock(str(directory / "tier.dbm.rw.lock"))  # type: ignore[no-untyped-call]
    with lock.write():
        yield


def _fill_memcached(port: int) -> None:
    """Push out what it has."""
    item = b"x" * 100_000
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        for number in range(800):
            connection.sendall(b"set junk%d 0 0 %d noreply\r\n%s\r\n" % (number, len(item), item))
        connection.sendall(b"version\r\n")
        connection.recv(100)


@contextmanager
def _place_of(stage: Stage) -> Iterator[TierPlace]:
    """The run's tier; if it has none, one on Redis."""
    if stage.tier is not None:
        yield stage.tier
        return
    with tier_place("redis") as place:
        stage.tier = place
        stage.change(tier=place.text())
        yield place


def at_tier(
    kind: Callable[[TierPlace, float], Striking], every: float
) -> Callable[[Stage], AbstractContextManager[None]]:
    """How a fault of that kind sets the stage."""

    @contextmanager
    def enter(stage: Stage) -> Iterator[None]:
        with _place_of(stage) as place:
            stage.disturbers.append(kind(place, every))
            yield

    return enter


@contextmanager
def cut_tier(stage: Stage) -> Iterator[None]:
    with _place_of(stage) as place:
        if place.server is None:
            raise ValueError("a file has no connections")
        disturber = CutTier(place, 0.1)
        disturber.proxy = Proxy(("127.0.0.1", place.server.port))
        serializer = stage.plan.tier.partition("?")[2]
        stage.change(tier=place.text(serializer, disturber.proxy.port))
        stage.disturbers.append(disturber)
        yield
        disturber.proxy.close()


down = at_tier(Down, 0.3)
hang = at_tier(Hang, 0.3)
flush = at_tier(Flush, 0.05)
full = at_tier(Full, 0.3)
forge = at_tier(Forge, 0.02)
