"""The tiers of a run: a server of its own, or a directory, and what the workers make of it.

A plan names its tier by a text, so that it can be handed to other processes::

    redis://127.0.0.1:6380?typed        memcached://127.0.0.1:11311?pickle      file:/tmp/x?typed

The word behind the question mark is the serializer; values are sealed with keys by either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..tier.servers import Server, server
from .history import Part

#: The kinds of tiers, and the serializers that are tried with them.
KINDS = ("redis", "memcached", "file")
SERIALIZERS = ("typed", "pickle")

_KEYS = ["a key of the tests, not a secret"]

#: Seconds that a server is not asked again after it did not answer, in place of one at first and
#: then more: runs are short.
_PAUSE = 0.1


class TierPlace:
    """Where a run has its tier."""

    def __init__(self, kind: str, directory: Path, own: Server | None) -> None:
        self.kind = kind
        #: That of a file.
        self.directory = directory
        #: That of the other kinds.
        self.server = own

    def text(self, serializer: str = "typed", port: int | None = None) -> str:
        """What a plan says of it; *port* is that of somebody in front of the server."""
        if self.server is None:
            return f"file:{self.directory}?{serializer}"
        return f"{self.kind}://127.0.0.1:{port or self.server.port}?{serializer}"


@contextmanager
def tier_place(kind: str) -> Iterator[TierPlace]:
    """A fresh place for a tier of *kind*."""
    with tempfile.TemporaryDirectory(prefix="coherent_cache_tier_") as name:
        if kind == "file":
            yield TierPlace(kind, Path(name), None)
            return
        with server(kind, Path(name)) as own:
            yield TierPlace(kind, Path(name), own)


def make_region(text: str) -> Any:
    """The region of dogpile.cache that *text* stands for."""
    from dogpile.cache import make_region as region

    where, _, _ = text.partition("?")
    kind, _, place = where.partition(":")
    place = place.removeprefix("//")
    if kind == "file":
        arguments: dict[str, Any] = {"filename": f"{place}/tier.dbm"}
        return region().configure("dogpile.cache.dbm", arguments=arguments)
    if kind == "memcached":
        return region().configure("dogpile.cache.pymemcache", arguments={"url": place})
    host, _, port = place.partition(":")
    return region().configure("dogpile.cache.redis", arguments={"host": host, "port": int(port)})


def make_tier(text: str) -> Any:
    """The `Tier` that *text* stands for."""
    from coherent_cache.tier import PickleSerializer, Tier, TypedSerializer

    pickles = text.endswith("?pickle")
    serializer = PickleSerializer() if pickles else TypedSerializer(classes=[Part])
    tier = Tier(make_region(text), serializer=serializer, keys=_KEYS)
    for layer in tier._chain.layers:
        layer.breaker._first_pause = layer.breaker._longest_pause = _PAUSE
    return tier
