"""What a tier keeps its values in, for benchmarks: servers of their own, and a file.

Those that are not installed are left out.
"""

from __future__ import annotations

import dbm
import importlib.util
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dogpile.cache import CacheRegion, make_region

from tests.tier.servers import Server

from .progress import Progress

TITLES = {"redis": "Redis", "memcached": "memcached", "file": "a file"}
_NEEDS = {
    "redis": ("redis-server", "redis"),
    "memcached": ("memcached", "pymemcache"),
    "file": (None, None),
}


@dataclass(frozen=True)
class Storage:
    """One that is there, with nothing in it.

    *region* makes a region of dogpile.cache for it, each with a part of its own.
    """

    kind: str
    directory: Path
    port: int = 0

    def region(self, name: str) -> CacheRegion:
        """A region whose keys begin with *name*."""
        backend, place = self._place(name)
        region = make_region(key_mangler=lambda key: f"{name}:{key}")
        return region.configure(f"dogpile.cache.{backend}", arguments=place)

    def get(self, address: str, value: bytes) -> Callable[[], Any]:
        """What reads *value* at *address*, where it puts it, by the client alone."""
        client: Any
        if self.kind == "redis":
            import redis

            client = redis.Redis(port=self.port)
        elif self.kind == "memcached":
            import pymemcache

            client = pymemcache.Client(("127.0.0.1", self.port))
        else:
            filename = str(self.directory / "alone.dbm")
            with dbm.open(filename, "c") as file:
                file[address] = value

            def read() -> bytes:
                with dbm.open(filename, "r") as file:
                    return file[address]

            return read
        client.set(address, value)
        return lambda: client.get(address)

    def _place(self, name: str) -> tuple[str, dict[str, Any]]:
        if self.kind == "redis":
            return "redis", {"host": "127.0.0.1", "port": self.port}
        if self.kind == "memcached":
            return "pymemcache", {"url": [f"127.0.0.1:{self.port}"]}
        return "dbm", {"filename": str(self.directory / f"{name}.dbm")}


def available(progress: Progress) -> list[str]:
    """The kinds that can be used here; the others are named."""
    found = []
    for kind, (program, client) in _NEEDS.items():
        if program is not None and shutil.which(program) is None:
            progress.step(f"left out: {program} is not installed")
        elif client is not None and importlib.util.find_spec(client) is None:
            progress.step(f"left out: {client} is not installed")
        else:
            found.append(kind)
    return found


@contextmanager
def fresh_storage(kind: str) -> Iterator[Storage]:
    """An empty storage of *kind*."""
    with tempfile.TemporaryDirectory(prefix="coherent_cache-") as name:
        directory = Path(name)
        if kind == "file":
            yield Storage(kind, directory)
            return
        server = Server(kind, directory)
        try:
            yield Storage(kind, directory, server.port)
        finally:
            server.kill()
